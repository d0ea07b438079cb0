"""From a pickle to safetensors: the same bits, and no payload ever runs (M4)."""

from __future__ import annotations

import collections
import json
import os
import pickle
import re
import subprocess
import sys
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.cli.commands import main
from pipelines.library.folders import demo_root
from pipelines.library.header import read_header
from pipelines.library.models import record_of
from pipelines.spec.errors import BrokenModel, EngineError, UnsafeModel
from pipelines.spec.record import Kind, State
from pipelines.workshop.convert import convert
from pipelines.workshop.unpickle import unpickle
from pipelines.workshop.unpickle_child import Refused, weights_of

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = Path(__file__).resolve().parents[3] / "shared" / "acceptance" / "hostile"
W = torch.arange(12, dtype=torch.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def no_payload_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("PWNED"))
    assert not (ROOT / "PWNED").exists()


def equal(tensors: dict[str, torch.Tensor], path: Path) -> bool:
    found = load_file(path)
    return found.keys() == tensors.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        for name, tensor in tensors.items()
    )


def test_the_demo_as_a_ckpt_comes_back_bit_for_bit(tmp_path, capsys):
    convert(record_of(demo_root() / "sd"), tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    torch.save({"state_dict": tensors, "global_step": 7, "callbacks": [1]}, tmp_path / "a.ckpt")
    assert record_of(tmp_path / "a.ckpt").state is State.UNSAFE
    assert (
        main(["convert", str(tmp_path / "a.ckpt"), "--out", str(tmp_path / "b.safetensors"), "--json"]) == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert (answer["event"], answer["left_out"]) == ("finished", ["callbacks"])
    assert equal(tensors, tmp_path / "b.safetensors")
    assert read_header(tmp_path / "b.safetensors").metadata == {"format": "pt", "global_step": "7"}
    record = record_of(tmp_path / "b.safetensors")
    assert (record.kind, record.family) == (Kind.CHECKPOINT, "sd1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "a.safetensors", "b.safetensors"]


def test_the_old_format_of_torch_and_shared_and_turned_tensors(tmp_path):
    tensors = {
        "a": W,
        "again": W,
        "turned": W.t(),
        "part": W[1:, :2],
        "half": W.half(),
        "one": torch.tensor(3),
    }
    torch.save(tensors, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    done = unpickle(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert (done.tensors, done.left_out) == (6, ())
    assert equal(tensors, tmp_path / "a.safetensors")


# What becomes of the table.


def test_the_weights_are_found_where_trainers_put_them():
    tensors, metadata, left_out = weights_of(
        {"state_dict": {"a.b": W}, "epoch": 3, "optimizer": {"x": W}, "lr": None}
    )
    assert (list(tensors), metadata, left_out) == (["a.b"], {"format": "pt", "epoch": "3"}, ["optimizer"])
    tensors, _, left_out = weights_of({"params": {"a": W}, "params_ema": {"b": W}})
    assert (list(tensors), left_out) == (["b"], ["params"])
    tensors, _, _ = weights_of({"unet": {"a": W, "b": {"c": W}}, "vae": {"a": W}})
    assert list(tensors) == ["unet.a", "unet.b.c", "vae.a"]
    assert list(weights_of(W)[0]) == ["weight"]


def test_an_embedding_of_a1111_has_its_name():
    table = {"string_to_token": {"*": 265}, "string_to_param": {"*": W}, "name": "ink", "step": 500}
    tensors, metadata, _ = weights_of(table)
    assert list(tensors) == ["emb_params"]
    assert (metadata["name"], metadata["step"]) == ("ink", "500")


def test_what_the_format_cannot_hold_is_left_out_and_named():
    table = {
        "a": W,
        "sparse": W.to_sparse(),
        "complex": W.to(torch.complex64),
        "list": [W],
        "deep": {"none": None},
    }
    tensors, _, left_out = weights_of(table)
    assert list(tensors) == ["a"]
    assert left_out == ["sparse", "complex", "list", "deep.none"]


@pytest.mark.parametrize(
    "loaded", [{}, [], None, 7, "text", {"a": 1}, {"state_dict": {}}, {1: {2: {}}}], ids=str
)
def test_a_file_without_tensors_is_none(loaded):
    with pytest.raises(Refused):
        weights_of(loaded)


# What is refused, and that nothing of it runs.


class Touch:
    def __reduce__(self):
        return exec, ("open('PWNED', 'w').write('unsafe load')",)


class Call:
    def __init__(self, call: Callable, *arguments: object) -> None:
        self._made = call, arguments

    def __reduce__(self):
        return self._made


def huge() -> torch.Tensor:
    """A kilobyte that says it is a petabyte."""
    return torch.zeros(1).expand(1 << 48)


MADE: dict[str, Callable[[Path], object]] = {
    "legacy.ckpt": lambda path: path.write_bytes(pickle.dumps(Touch(), 2)),
    "nested.pt": lambda path: path.write_bytes(pickle.dumps({"state_dict": Touch()}, 4)),
    "zip.ckpt": lambda path: torch.save({"state_dict": {"a": W}, "x": Touch()}, path),
    "old.pt": lambda path: torch.save({"a": W, "x": Touch()}, path, _use_new_zipfile_serialization=False),
    "a.safetensors": lambda path: path.write_bytes(pickle.dumps(Touch(), 2)),
    "embedding.bin": lambda path: path.write_bytes(pickle.dumps({"string_to_param": {"*": Touch()}}, 2)),
    "system.ckpt": lambda path: torch.save({"a": W, "x": Call(os.system, "touch PWNED")}, path),
    "process.ckpt": lambda path: torch.save({"a": W, "x": Call(subprocess.call, ["touch", "PWNED"])}, path),
    "open.ckpt": lambda path: torch.save({"a": W, "x": Call(open, "PWNED", "w")}, path),
    "module.pt": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "expanded.pt": lambda path: torch.save({"a": huge()}, path),
    "bomb.ckpt": lambda path: path.write_bytes(b"\x80\x02" + b"(" * 10 + bytes(range(1, 40)) + b"."),
    "deep.ckpt": lambda path: path.write_bytes(b"\x80\x02" + b"]" * 1_000_000 + b"."),
    "list.ckpt": lambda path: torch.save([1, 2], path),
    "cut.ckpt": lambda path: (torch.save({"a": W}, path), os.truncate(path, path.stat().st_size // 2)),
}  # fmt: skip
UNSAFE = ("zip.ckpt", "system.ckpt", "process.ckpt", "open.ckpt", "module.pt")

# All in one process, as each has to open torch; a file at a time, as `unpickle` asks for it.
ALL = """
import json, sys, os
sys.path.append(sys.argv[1])
from pipelines.workshop.unpickle_child import Refused, unpickled, _bound
_bound(sum(os.path.getsize(path) for path in sys.argv[2:]), 600)
for path in sys.argv[2:]:
    out = path + ".out"
    open(out, "xb").close()
    try:
        answer = unpickled(path, out, os.path.getsize(path))
    except Refused as error:
        answer = {"kind": error.kind, "what": str(error)}
    os.remove(out)
    print(json.dumps([path, answer]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What the child says of each file by itself, without the parent's looks at archives before."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, make in MADE.items():
        make(folder / name)
    (folder / "PWNED").unlink(missing_ok=True)
    theirs = sorted((HOSTILE / "picklescan").iterdir()) if HOSTILE.is_dir() else []
    for path in theirs:
        (folder / path.name).write_bytes(path.read_bytes())
    paths = [str(folder / name) for name in (*MADE, *(path.name for path in theirs))]
    command = [sys.executable, "-I", "-c", ALL, str(ROOT), *paths]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not (folder / "PWNED").exists()
    lines = [
        json.loads(line) for line in done.stdout.splitlines()
    ]  # a payload that printed would break a line
    assert [path for path, _ in lines] == paths
    return {Path(path).name: answer for path, answer in lines}


@pytest.mark.parametrize("name", MADE)
def test_no_hostile_file_is_opened(answers, name):
    assert answers[name]["kind"] == ("unsafe" if name in UNSAFE else answers[name]["kind"])
    assert answers[name]["kind"] in ("unsafe", "broken", "nothing")


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="the acceptance material is not here")
def test_the_hostile_pickles_of_the_collection_are_refused(answers):
    names = [path.name for path in (HOSTILE / "picklescan").iterdir()]
    assert len(names) == 19
    assert {answers[name].get("kind") for name in names} <= {"unsafe", "broken", "nothing"}


@pytest.mark.parametrize("name", ["zip.ckpt", "a.safetensors"])
def test_the_whole_way_of_a_hostile_file_ends_in_one_sentence(tmp_path, capsys, name):
    MADE[name](tmp_path / name)
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(tmp_path / name), "--out", str(out), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["message"].startswith(name)
    assert answer["hint"]
    if name == "zip.ckpt":
        assert answer["kind"] == "UnsafeModel"
        assert "exec'" in answer["message"], "it says what the file calls for"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def zipped(path: Path, how: int, name: str = "a/data.pkl") -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("a/data/0", bytes(1 << 24))
        archive.writestr(name, b"\x80\x02}q\x00.")


ARCHIVES: dict[str, Callable[[Path], object]] = {
    "a packed bomb": lambda path: zipped(path, zipfile.ZIP_DEFLATED),
    "no weights": lambda path: zipped(path, zipfile.ZIP_STORED, "a/other"),
    "a broken zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(60)),
    "a web page": lambda path: path.write_bytes(b"<html>"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_what_shows_at_a_look_needs_no_process(tmp_path, monkeypatch, name):
    monkeypatch.setattr(subprocess, "Popen", lambda *_args, **_more: pytest.fail("a process was started"))
    path = tmp_path / "x.ckpt"
    ARCHIVES[name](path)
    with pytest.raises(BrokenModel, match=r"^x\.ckpt is "):
        unpickle(path, tmp_path / "x.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]


def test_trainers_extras_are_left_out_and_do_nothing(tmp_path):
    """A stand-in takes the place of what PyTorch Lightning and numpy leave in checkpoints."""
    numbers = collections.OrderedDict(a=W)
    torch.save({"state_dict": numbers, "callbacks": {"x": 1}, "best": numpy_scalar()}, tmp_path / "a.ckpt")
    done = unpickle(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert set(done.left_out) == {"callbacks", "best"}
    assert equal({"a": W}, tmp_path / "a.safetensors")


def test_the_first_checkpoints_of_stable_diffusion_name_a_class_of_lightning(tmp_path, monkeypatch):
    """sd-v1-4.ckpt has it among the keys of 'callbacks'."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    made = type("ModelCheckpoint", (), {"__module__": name})
    module.ModelCheckpoint = made  # pyright: ignore[reportAttributeAccessIssue]
    for each in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, each, types.ModuleType(each))
    monkeypatch.setitem(sys.modules, name, module)
    callbacks = {made: {"monitor": "loss", "best": W, "object": made()}}
    torch.save({"callbacks": callbacks, "state_dict": {"a": W}}, tmp_path / "a.ckpt")
    done = unpickle(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert (done.tensors, done.left_out) == (1, ("callbacks",))


def numpy_scalar() -> object:
    import numpy

    return numpy.float64(0.5)


def test_cancel_timeout_and_a_file_that_is_there_leave_nothing(tmp_path):
    torch.save({"a": W}, tmp_path / "a.ckpt")
    out = tmp_path / "a.safetensors"

    def cancel() -> None:
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        unpickle(tmp_path / "a.ckpt", out, check=cancel)
    with pytest.raises(EngineError, match="not read in time"):
        unpickle(tmp_path / "a.ckpt", out, timeout_s=0.1)
    assert time.monotonic() - begin < 60
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    out.write_text("mine")
    assert main(["convert", str(tmp_path / "a.ckpt"), "--out", str(out)]) == 2
    assert out.read_text() == "mine"


def test_a_safetensors_file_needs_no_conversion(tmp_path, capsys):
    from tests.library.test_parts import file, kohya

    path = file(tmp_path / "a.safetensors", kohya(768))
    assert main(["convert", str(path), "--out", str(tmp_path / "b.safetensors"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["field"] == "model"


def test_the_library_says_how_an_unsafe_file_is_made_safe(tmp_path):
    torch.save({"a": W}, tmp_path / "a.ckpt")
    record = record_of(tmp_path / "a.ckpt")
    assert record.state is State.UNSAFE
    assert "Convert it: python main.py convert FILE --out NEW.safetensors" in record.problem
    with pytest.raises(UnsafeModel):
        read_header(tmp_path / "a.ckpt")


def test_no_line_of_the_program_opens_a_pickle_in_any_other_way():
    """M4."""
    never = re.compile(
        r"weights_only\s*=\s*False|pickle\.loads?\b|Unpickler\(|trust_remote_code\s*=\s*True|joblib\.load"
    )
    loads = re.compile(r"\btorch\.load\(")
    for folder in ("pipelines", "desktop", "widgets", "installer", "assets"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not never.search(text), path
            if path.name != "unpickle_child.py" and "recipes" not in path.parts:
                assert not loads.search(text), path
