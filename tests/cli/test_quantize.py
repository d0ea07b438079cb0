"""`quantize` on the command line: what it writes, and how it says no."""

from __future__ import annotations

import json

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
