from __future__ import annotations

import csv
import json

import pytest
from PIL import Image

from bridle.reproduce import EXHIBITS
from bridle.reproduce.exhibit import Claim, Drawn, Table
from bridle.reproduce.page import write_exhibit, write_page

TABLE = Table(("data", "KL (nats)"), (("a < b", 12.3456), ("c", None)))
DRAWN = Drawn(
    Image.new("RGB", (30, 20)), ["One.", "Two."], [Claim("Yes.", True), Claim("No.", False)], TABLE, ["Note."]
)


def test_what_is_written_beside_the_page(tmp_path):
    write_exhibit(EXHIBITS["figure2"], DRAWN, tmp_path, quick=False)
    assert Image.open(tmp_path / "figure2.png").size == (30, 20)
    assert list(csv.reader((tmp_path / "figure2.csv").open())) == [
        ["data", "KL (nats)"],
        ["a < b", "12.3456"],
        ["c", ""],
    ]
    record = json.loads((tmp_path / "figure2.json").read_text())
    assert record["claims"] == [{"text": "Yes.", "holds": True}, {"text": "No.", "holds": False}]


def test_the_page_holds_what_was_made_before_too(tmp_path):
    for name, quick in (("table2", True), ("figure2", False)):
        write_exhibit(EXHIBITS[name], DRAWN, tmp_path, quick=quick)
    text = write_page(list(EXHIBITS), tmp_path, ["figure5 is left out: no files."]).read_text()
    assert text.index("Figure 2. Information plane") < text.index("Table 2. Marginal KL")
    assert "Of 2 tests of what the paper says, each counted once, 1 holds, 1 does not, and 0 are not decided" in text
    assert "✓ holds" in text and "✕ does not hold" in text and "Note." in text and "One. Two." in text
    assert "a &lt; b" in text and "12.35" in text and "figure5 is left out: no files." in text
    assert "A few steps a run, to see that everything works. Nothing here says anything about the paper." in text
    assert text.count("data:image/png;base64,") == 2 and "http" not in text


@pytest.mark.parametrize("quick", [True, False])
def test_the_quick_form_is_said_to_be_one(tmp_path, quick):
    write_exhibit(EXHIBITS["figure2"], DRAWN, tmp_path, quick=quick)
    assert ("quick form" in write_page(list(EXHIBITS), tmp_path).read_text()) is quick
