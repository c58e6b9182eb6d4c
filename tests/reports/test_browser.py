"""The report in a real browser: no error on the console, every picture drawn, nothing blank."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bridle.reports.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the report was not opened")

# Put into a copy of the page: gathers errors from the start, and leaves the findings in the page's own text.
WATCH = """<script>
window.found = [];
addEventListener("error", e => found.push(e.message || "cannot load " + e.target.outerHTML.slice(0, 80)), true);
console.error = (...a) => found.push(a.join(" "));
</script>"""
TELL = """<script>
addEventListener("load", () => {
  const images = [...document.images];
  const p = document.createElement("p");
  p.id = "findings";
  p.textContent = encodeURIComponent(JSON.stringify({
    errors: found, natural: images.map(i => i.naturalWidth), shown: images.map(i => i.getBoundingClientRect().width),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth}));
  document.body.append(p);
});
</script>"""


def browse(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000",
        *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


@pytest.fixture(scope="module")
def report(write_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_run(folder / "digits")
    write_run(folder / "elbo", objective="elbo", rmse=0.079, kl=19.9)
    return write_report([folder / "digits", folder / "elbo"], folder / "report.html")


@pytest.mark.parametrize("width", [1200, 500])
def test_every_picture_is_drawn_and_the_console_is_silent(report, tmp_path, width):
    watched = tmp_path / "watched.html"
    text = report.read_text(encoding="utf-8")
    watched.write_text(text.replace("<head>", "<head>" + WATCH).replace("</body>", TELL + "</body>"), encoding="utf-8")
    result = browse(watched, tmp_path / "profile", "--dump-dom", f"--window-size={width},900")
    found = re.search(r'<p id="findings">([^<]+)</p>', result.stdout)
    assert found is not None, result.stderr
    findings = json.loads(re.sub(r"%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), found[1]))
    assert findings["errors"] == [] and ":CONSOLE" not in result.stderr
    assert len(findings["natural"]) == 7 and min(findings["natural"]) > 0 and min(findings["shown"]) > 200
    assert findings["overflow"] <= 0


def test_the_page_is_not_blank_and_follows_a_dark_reader(report, tmp_path):
    shots = {}
    for name, scheme in (("light", 1), ("dark", 0)):
        shot = tmp_path / f"{name}.png"
        options = (f"--screenshot={shot}", "--window-size=1200,1500", f"--blink-settings=preferredColorScheme={scheme}")
        browse(report, tmp_path / name, *options)
        with Image.open(shot) as image:
            shots[name] = np.asarray(image.convert("L"), dtype=np.float64)
    assert shots["light"].std() > 10 and shots["dark"].std() > 10
    assert np.median(shots["light"]) > 240 and np.median(shots["dark"]) < 40
    # The figure's own letters and lines change too: below the header, little is left as dark as the dark page.
    figure = shots["dark"][400:750, 150:1090]
    assert figure.max() > 200
