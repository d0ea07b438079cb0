"""`quantize` on the command line: what it writes, and how it says no."""

from __future__ import annotations

import json
import sys

import pytest

from pipelines.cli import commands


def told(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_file_is_written_and_told_as_one_object(tmp_path, capsys):
    out = tmp_path / "small.gguf"
    assert commands.main(["quantize", "demo-sd", "--to", "int4", "--out", str(out), "--json"]) == 0
    assert told(capsys) == {"event": "finished", "path": str(out), "size": out.stat().st_size, "report": None}
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        (["demo-sd", "--to", "int3"], "to", "int8"),
        (["no-model", "--to", "int8"], "model", "no-model"),
        (["demo-sd-neon", "--to", "int8"], "model", "draws"),  # a LoRA
        (["demo-sd", "--to", "int8", "--out", "x.safetensors"], "out", ".gguf"),
        (["demo-sd", "--to", "fp8", "--out", "nowhere/x.safetensors"], "out", "nowhere"),
        (["demo-sd", "--to", "int8", "--prompts", "0"], "prompts", "1 to 1000"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, monkeypatch, capsys, arguments, field, words):
    monkeypatch.chdir(tmp_path)
    assert commands.main(["quantize", *arguments, "--json"]) == 2
    answer = told(capsys)
    assert answer["field"] == field
    assert words in answer["message"] + answer["hint"]
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays(tmp_path, capsys):
    out = tmp_path / "x.gguf"
    out.write_bytes(b"mine")
    assert commands.main(["quantize", "demo-sd", "--to", "int8", "--out", str(out), "--json"]) == 2
    assert "there already" in told(capsys)["message"]
    assert out.read_bytes() == b"mine"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of a file")
@pytest.mark.parametrize(("bits", "end"), [("int4", "gguf"), ("fp8", "safetensors")])
def test_a_drive_that_takes_no_more_is_told_as_such_and_nothing_is_left(tmp_path, capsys, bits, end):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))
    try:
        command = ["quantize", "demo-sd", "--to", bits, "--out", str(tmp_path / f"x.{end}"), "--json"]
        assert commands.main(command) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    answer = told(capsys)
    assert "None" not in answer["message"]
    assert "full" in answer["hint"]
    assert not list(tmp_path.iterdir())
