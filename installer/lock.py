"""Renews the two lock files from pyproject.toml: `python3 installer/lock.py` (needs uv, `pip install uv`).

The locks hold for Python 3.11 to 3.13 on Linux, macOS and Windows, with PyPI's hashes and no index address.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What the ranges of pyproject.toml leave open and these versions were measured together.
PINS = """\
torch==2.10.0
torchvision==0.25.0
# the last whose kernels load with torch 2.10.0 from PyPI
xformers==0.0.35
diffusers==0.42.1
transformers==5.23.*
peft==0.21.2
"""

LOCKS = {"requirements.lock": [], "requirements-test.lock": ["--extra", "test"]}

HEADER = """\
# Made by `python3 installer/lock.py` from pyproject.toml; do not edit.
# Installed with hashes by installer/bootstrap.py.
"""


def compile_lock(name: str, extras: list[str], constraints: Path) -> None:
    """Raises subprocess.CalledProcessError when uv finds no solution."""
    lock = ROOT / "installer" / name
    # --no-config and --default-index: a mirror set up on this machine must not decide versions or hashes.
    command = ["uv", "pip", "compile", "pyproject.toml", *extras, "--constraints", str(constraints)]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade"]
    command += ["--no-config", "--default-index", "https://pypi.org/simple"]
    command += ["--no-header", "--no-annotate", "--quiet"]
    made = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    lock.write_text(HEADER + made.stdout, encoding="utf-8", newline="\n")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "pins.txt"
        constraints.write_text(PINS, encoding="utf-8")
        for name, extras in LOCKS.items():
            compile_lock(name, extras, constraints)
            # The test lock repeats the program's versions, so that tests run what users run.
            constraints.write_text(PINS + pins_of(ROOT / "installer" / name), encoding="utf-8")
    return 0


def pins_of(lock: Path) -> str:
    """The `name==version ; marker` lines of a lock, without hashes."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return "".join(line.removesuffix("\\").strip() + "\n" for line in lines if line[:1].isalnum())


if __name__ == "__main__":
    sys.exit(main())
