"""`quantize` on the command line: what it writes, and how it says no."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.cli import commands
from pipelines.library import compiled_dir
from pipelines.library.folders import demo_root
from pipelines.library.reports import report_rows
from pipelines.workshop import quantize_report


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
        (["demo-sd", "--to", "int8", "--scorer", "clip"], "scorer", "--report"),
        (["demo-sd", "--to", "int8", "--report", "--scorer", "nowhere"], "scorer", "nowhere"),
        (["demo-sd", "--to", "int8", "--report", "--scorer", str(demo_root() / "sd")], "scorer", "CLIP"),
        (["demo-sd", "--to", "nf4", "--out", "x.gguf"], "out", ".safetensors"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, monkeypatch, capsys, arguments, field, words):
    monkeypatch.chdir(tmp_path)
    assert commands.main(["quantize", *arguments, "--json"]) == 2
    answer = told(capsys)
    assert answer["field"] == field
    assert words in answer["message"] + answer["hint"]
    assert not list(tmp_path.iterdir())


def test_the_report_is_scored_by_the_clip_that_was_chosen(tmp_path, capsys):
    """One that knows nothing answers other scores than the demos' own."""
    scorer = Path(shutil.copytree(demo_root() / "scorer", tmp_path / "my-clip"))
    weights = {name: torch.ones_like(t) for name, t in load_file(scorer / "model.safetensors").items()}
    save_file(weights, scorer / "model.safetensors", {"format": "pt"})
    out = tmp_path / "small.safetensors"
    told_to = ["--report", "--prompts", "1", "--scorer", str(scorer), "--out", str(out), "--json"]
    assert commands.main(["quantize", "demo-sd", "--to", "nf4", *told_to]) == 0
    written = capsys.readouterr()
    assert written.err == "", "no library's bars"
    report = json.loads(written.out.splitlines()[-1])["report"]
    assert report["scorer"] == "my-clip"
    before, after = report["clip_score"]
    assert before == pytest.approx(after, abs=1e-4)  # it sees no picture
    assert dict(report_rows(out))["CLIP score"] == f"{after:.3f}, was {before:.3f} (my-clip)"


def test_a_scorer_that_cannot_be_read_is_named_before_anything_is_drawn(tmp_path, capsys, monkeypatch):
    """With the file, which is there: nobody could guess."""
    monkeypatch.delattr(quantize_report, "_apart")
    scorer = Path(shutil.copytree(demo_root() / "scorer", tmp_path / "my-clip"))
    (scorer / "tokenizer.json").write_text("{}")
    out = tmp_path / "small.gguf"
    told_to = ["--report", "--prompts", "1", "--scorer", str(scorer), "--out", str(out), "--json"]
    assert commands.main(["quantize", "demo-sd", "--to", "int8", *told_to]) == 1
    answer = told(capsys)
    assert str(scorer) in answer["message"]
    assert f"{out} is whole" in answer["hint"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-clip", "small.gguf"]


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


def test_a_folder_for_compiled_programs_that_cannot_be_made_stops_nothing(tmp_path, monkeypatch):
    """Torch would fail at its import."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(compiled_dir.VARIABLE, str(tmp_path / "file" / "programs"))
    out = tmp_path / "small.gguf"
    assert commands.main(["quantize", "demo-sd", "--to", "int4", "--out", str(out), "--json"]) == 0
    assert Path(os.environ[compiled_dir.VARIABLE]).is_dir()
