"""The folder of compiled programs: one that can be written whatever the environment says, and a word on what is off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.library import compiled_dir
from pipelines.library.compiled_dir import VARIABLE, prepare


@pytest.fixture
def blocked(tmp_path) -> Path:
    """A folder that cannot be made: a file stands in its way. Rights would not stop the owner of the machine."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "inside"


def test_ours_is_made_and_the_one_that_the_user_names_goes_first(tmp_path):
    environ, ours, own = {}, tmp_path / "cache" / "compiled", tmp_path / "own"
    assert prepare(str(ours), environ) == ""
    assert environ == {VARIABLE: str(ours)}
    assert ours.is_dir()
    environ = {VARIABLE: str(own)}
    assert prepare(str(ours), environ) == ""
    assert environ == {VARIABLE: str(own)}
    assert [*own.iterdir()] == [], "nothing of the trial is left"


def test_one_that_cannot_be_made_is_told_and_another_taken(tmp_path, blocked):
    ours, environ = tmp_path / "compiled", {VARIABLE: str(blocked)}
    said = prepare(str(ours), environ)
    assert environ[VARIABLE] == str(ours)
    assert str(blocked) in said
    assert VARIABLE in said
    assert str(ours) in said


def test_where_none_can_be_made_one_serves_this_run(tmp_path, blocked, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environ = {}
    said = prepare(str(blocked), environ)
    assert "anew at each start" in said
    assert Path(environ[VARIABLE]).parent == tmp_path
    assert prepare(str(blocked), environ).startswith(said.split(" (")[0]), "the next engine says it as well"
    assert prepare(str(tmp_path / "free"), environ) == ""
    assert environ[VARIABLE] == str(tmp_path / "free")


def test_without_a_wish_it_is_torchs_own():
    for environ in ({}, {VARIABLE: ""}):
        before = dict(environ)
        assert prepare("", environ) == ""
        assert environ == before


def test_torch_can_be_imported_where_the_named_folder_cannot_be_made(tmp_path, blocked):
    """It makes the folder while it is imported, and no engine would start."""
    code = (
        "import os; from pipelines.library.compiled_dir import prepare;"
        f"print(bool(prepare({str(tmp_path / 'ours')!r}))); import torch._dynamo"
    )
    environ = {**os.environ, VARIABLE: str(blocked)}
    bare = subprocess.run([sys.executable, "-c", "import torch._dynamo"], env=environ, capture_output=True)
    assert bare.returncode, "torch copes by itself: this can go"
    root = Path(compiled_dir.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env=environ, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr
