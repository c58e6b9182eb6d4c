"""Runs the shell examples of the documentation as written: every `sh` block of a page, from top to bottom, in a folder
of the page's own. Blocks marked `console` need files that the page does not make, and are left out.

    python docs/examples.py [docs/cli.md ...]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    pages = [Path(page) for page in sys.argv[1:]] or sorted(Path(__file__).parent.glob("*.md"))
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    failed = 0
    for page in pages:
        blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        blocks = [block for block in blocks if "COMMAND" not in block]  # a placeholder is no example
        if not blocks:
            continue
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            for block in blocks:
                done = subprocess.run(["bash", "-ec", block], cwd=folder, env=env, capture_output=True, text=True)
                if done.returncode:
                    failed += 1
                    print(f"{page}: exit status {done.returncode} from\n{block}{done.stdout}{done.stderr}")
        print(f"{page}: {len(blocks)} blocks, {time.monotonic() - began:.0f} s", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
