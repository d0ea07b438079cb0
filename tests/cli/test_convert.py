"""`convert`: what it writes, and that it never replaces or leaves half a file."""

from __future__ import annotations

import json
import re

import pytest

from pipelines.cli.commands import main
from pipelines.library.folders import demo_root
from pipelines.library.header import read_header
from tests.cli.test_progress import Terminal


def asked(capsys, *arguments: object) -> tuple[int, dict]:
    status = main(["convert", "--json", *map(str, arguments)])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("model", ["demo-sd", demo_root() / "sd"])
def test_a_model_by_its_id_or_its_folder(tmp_path, capsys, model):
    out = tmp_path / "a.safetensors"
    status, answer = asked(capsys, model, "--out", out)
    assert (status, answer["event"], answer["path"]) == (0, "finished", str(out))
    assert answer["size"] == out.stat().st_size
    header = read_header(out)
    assert header.metadata["emulsion.family"] == "sd1"
    assert header.dtype == "float16"
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_file_that_is_there_stays(tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    status, answer = asked(capsys, "demo-sd", "--out", out)
    assert (status, answer["field"]) == (2, "out")
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("model", "name", "field"),
    [
        ("demo-sd", "a.ckpt", "out"),
        ("demo-sd", "no/folder/a.safetensors", "out"),
        ("no-such-model", "a.safetensors", "model"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(tmp_path, capsys, model, name, field):
    status, answer = asked(capsys, model, "--out", tmp_path / name)
    assert (status, answer["event"], answer["field"]) == (2, "failed", field)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_leaves_nothing(tmp_path, capsys, monkeypatch):
    from pipelines.workshop import convert

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert, "write", full)
    status, answer = asked(capsys, "demo-sd", "--out", tmp_path / "a.safetensors")
    assert status == 1
    assert "No space left" in answer["message"]
    assert not list(tmp_path.iterdir())


def test_on_a_terminal_it_tells_how_far_it_is_and_cleans_up_after_itself(tmp_path, capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert main(["convert", "demo-sd", "--out", str(tmp_path / "a.safetensors")]) == 0
    assert re.search(r"[\d.]+ \w+ of 7\.\d+ MB", terminal.getvalue())
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert "a.safetensors" in capsys.readouterr().out
