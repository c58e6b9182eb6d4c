"""The package as a whole: what imports what."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import bridle

SOURCE = Path(bridle.__file__).parent
LAYERS = [
    {"errors", "files", "geco", "dial", "judge", "ruler"},
    {"constraints", "likelihood"},
    {"models"},
    {"objectives"},
    {"data"},
    {"classifiers"},
    {"evaluation"},
    {"training"},
    {"sweeps"},
    {"reports"},
    {"reproduce"},
    {"cli"},
]


def _imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_a_lower_layer_never_imports_an_upper_one() -> None:
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    checked = 0
    for file in SOURCE.rglob("*.py"):
        own = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        assert own in level, f"{own} belongs to no layer"
        for name in _imports(file):
            if name.startswith("bridle."):
                assert level[name.split(".")[1]] <= level[own], f"{file} imports {name}"
                checked += 1
    assert checked > 50


def test_the_core_imports_torch_only() -> None:
    standard = set(sys.stdlib_module_names)
    assert {name.split(".")[0] for name in _imports(SOURCE / "geco.py")} - standard == {"torch"}


def test_help_needs_no_torch() -> None:
    code = "import sys; from bridle.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_public_names() -> None:
    core = {bridle.GECO, bridle.Constraint, bridle.Dial, bridle.DialledGECO, bridle.Judge}
    public = core | {bridle.load, bridle.load_dialled}
    assert {thing.__name__ for thing in public} == set(bridle.__all__)
