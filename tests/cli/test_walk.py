"""The headless walk with the shipped model: a prompt goes in at the terminal, a picture lies in the folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipelines.library.metadata.read import read_request

ROOT = Path(__file__).resolve().parents[2]

# N7: counts every connection attempt of the whole process and says so at its end.
OFFLINE = """
import socket, sys
calls = []

def refused(self, address):
    calls.append(address)
    raise OSError("offline")

socket.socket.connect = socket.socket.connect_ex = refused
from main import main
status = main(sys.argv[1:])
print("connections:", len(calls), file=sys.stderr)
qt = {"PySide6", "shiboken6"} & set(sys.modules)
assert not qt, qt
sys.exit(status)
"""


@pytest.mark.slow
@pytest.mark.parametrize("xformers", ["as installed", "broken"])
def test_generate_makes_a_picture_offline_without_qt(tmp_path, xformers):
    environ = dict(os.environ)
    if xformers == "broken":  # W8: built for another torch
        (tmp_path / "fake" / "xformers").mkdir(parents=True)
        (tmp_path / "fake" / "xformers" / "__init__.py").write_text("raise OSError('libcudart.so.12')")
        environ["PYTHONPATH"] = str(tmp_path / "fake")
    arguments = ["generate", "--prompt", "a red circle", "--steps", "4", "--seed", "11", "--device", "cpu"]
    command = [sys.executable, "-c", OFFLINE, *arguments, "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "connections: 0" in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "finished"
    (path,) = events[-1]["paths"]
    stored = read_request(Path(path))
    assert stored is not None
    assert stored.request is not None
    assert stored.request.to_dict() == events[0]["request"]
    with Image.open(path) as picture:
        assert picture.size == (events[0]["request"]["size"]["width"], events[0]["request"]["size"]["height"])
