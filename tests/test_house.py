"""The house rules: linters, types, and who may import whom, on paper and at run time."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INSIDE = ("spec", "library", "runtime", "workshop", "cli")
LAYERS = ("desktop", "widgets", "pipelines", *(f"pipelines/{name}" for name in INSIDE))

LINTERS = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    # The one that comes from PyPI with its node; nothing is downloaded at run time.
    "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
    # Its command has no module of its own.
    "import-linter": [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
}

# Refuses the names in argv[2] (comma separated), then imports every module under the names in argv[1].
IMPORT_ALL = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"{name} must not be imported here", name=name)

wanted, refused = sys.argv[1].split(","), set(sys.argv[2].split(","))
sys.meta_path.insert(0, Refuse())
for top in wanted:
    module = importlib.import_module(top)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), top + "."):
        if not found.name.endswith(".__main__"):
            importlib.import_module(found.name)
"""

QT = "PySide6,shiboken6"
TORCH = "torch,torchvision,diffusers,transformers,accelerate,peft,xformers"


def run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", LINTERS)
def test_linter(name):
    run(LINTERS[name])


def test_pipelines_import_without_qt():
    run([sys.executable, "-c", IMPORT_ALL, "pipelines", QT])


def test_all_but_runtime_and_workshop_import_without_torch():
    run([sys.executable, "-c", IMPORT_ALL, "pipelines.spec,pipelines.library,widgets,desktop.app", TORCH])


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_package_is_empty(layer):
    """import-linter does not see the import of a parent package, so there must be nothing in it."""
    assert (ROOT / layer / "__init__.py").read_bytes() == b""


def test_spec_needs_only_the_standard_library():
    allowed = sys.stdlib_module_names | {"pipelines"}
    strangers = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "pipelines" / "spec").rglob("*.py")
        for name in imported(path)
        if name.partition(".")[0] not in allowed
    }
    assert not strangers


def imported(path: Path) -> set[str]:
    """The absolute imports of a file, also those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names
