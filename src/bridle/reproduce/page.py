"""The files of a reproduction: for each figure or table its numbers and picture, and one page of all of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from bridle.files import write_whole
from bridle.reports.pieces import environment, number, png
from bridle.reproduce.exhibit import Drawn, Exhibit

__all__ = ["write_exhibit", "write_page"]

_DPI = 150


def write_exhibit(exhibit: Exhibit, drawn: Drawn, out: Path, quick: bool) -> None:
    """Writes ``NAME.png``, ``NAME.csv`` and last ``NAME.json`` (caption, claims, and the table again) into a folder."""
    if drawn.picture is not None:
        with write_whole(out / f"{exhibit.name}.png") as file:
            file.write(_png(drawn.picture))
    if drawn.table is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(drawn.table.columns)
        writer.writerows(drawn.table.rows)
        with write_whole(out / f"{exhibit.name}.csv") as file:
            file.write(text.getvalue().encode())
    record = {
        "title": exhibit.title,
        "quick": quick,
        "caption": list(drawn.caption),
        "notes": list(drawn.notes),
        "claims": [asdict(claim) for claim in drawn.claims],
        "table": None if drawn.table is None else asdict(drawn.table),
    }
    with write_whole(out / f"{exhibit.name}.json") as file:
        file.write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def write_page(names: Sequence[str], out: Path, left_out: Sequence[str] = ()) -> Path:
    """Writes ``index.html``, one file with the pictures in it, of all figures and tables that a folder holds, made now
    or before; returns its path.

    Arguments:
        names: All figures and tables that there may be, in their order.
        out: The folder.
        left_out: One line on each that was asked for and could not be made.
    """
    sections = [_section(name, out) for name in names if (out / f"{name}.json").is_file()]
    # A run that several figures share is put to the same test in each of them: that counts once.
    tests = {claim["text"]: claim["holds"] for section in sections for claim in section["claims"]}
    page = (
        environment()
        .get_template("reproduction.html.j2")
        .render(
            title="Taming VAEs, reproduced",
            quick=any(section["quick"] for section in sections),
            verdict=_verdict(list(tests.values())),
            left_out=left_out,
            sections=sections,
        )
    )
    with write_whole(out / "index.html") as file:
        file.write(page.encode())
    return out / "index.html"


def _section(name: str, out: Path) -> dict[str, Any]:
    section: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    section |= {"name": name, "heading": f"{name[:-1].capitalize()} {name[-1]}"}
    section["picture"] = png(picture) if (picture := out / f"{name}.png").is_file() else None
    if section["table"] is not None:
        section["table"]["rows"] = [[_cell(cell) for cell in row] for row in section["table"]["rows"]]
    return section


def _verdict(holds: Sequence[bool | None]) -> str:
    """All tests in one sentence.

    Example:
        >>> _verdict([True, False, None, True])
        'Of 4 tests of what the paper says, each counted once, 2 hold, 1 does not, and 1 is not decided by the numbers.'
    """
    if not holds:
        return "Nothing was put to the test."
    yes, no, open_ = (sum(h is value for h in holds) for value in (True, False, None))
    return (
        f"Of {len(holds)} test{'s' * (len(holds) > 1)} of what the paper says, each counted once, "
        f"{yes} hold{'s' * (yes == 1)}, {no} {'does' if no == 1 else 'do'} not, "
        f"and {open_} {'is' if open_ == 1 else 'are'} not decided by the numbers."
    )


def _cell(value: str | float | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else number(value)


def _png(picture: Figure | Image.Image) -> bytes:
    buffer = io.BytesIO()
    if isinstance(picture, Image.Image):
        picture.save(buffer, format="PNG")
    else:
        picture.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
