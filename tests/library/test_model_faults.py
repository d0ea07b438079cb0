"""The faults that model files have: each is told in a sentence that says what it is, and none ends a scan.

M8, M9 and M10 (what goes with a model, but not with this one) are told when they are chosen: tests/spec/test_adding.py
and tests/runtime/conditioning.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.cli.commands import main
from pipelines.library import header as header_module
from pipelines.library.hashes import Hashes
from pipelines.library.header import header_of, read_header, read_start
from pipelines.library.index import ModelIndex, scan
from pipelines.library.walk import stamp_of
from pipelines.spec.errors import IncompleteModel, ModelError
from tests.library.test_detect import SD2, flux, under, unet, vae
from tests.library.test_models import model
from tests.library.test_parts import file, kohya

ROOT = Path(__file__).resolve().parents[2]


def small(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The sides that nothing is told by cut short, so that the file is."""
    return {name: (1, *shape[1:]) if "token_embedding" in name else shape for name, shape in shapes.items()}


def written(root: Path, data: bytes) -> None:
    (root / "a.safetensors").write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(file(path, kohya(768)), 10_000)


def code(folder: Path) -> None:
    model(folder, unet=["my_code", "MyUNet"])
    (folder / "my_code.py").write_text("open('PWNED', 'w')")


def without_a_part(folder: Path) -> None:
    shutil.rmtree(model(folder) / "vae")


# (what is made under a root, the state, words of the reason)
FAULTS: dict[str, tuple[Callable[[Path], object], str, tuple[str, ...]]] = {
    "M1 cut off": (lambda root: cut(root / "a.safetensors"), "incomplete", ("incomplete: 10000 of", "again")),
    "M2 a web page": (lambda root: written(root, b"<!DOCTYPE html>"), "broken", ("web page",)),
    "M2 a pointer": (
        lambda root: written(root, b"version https://git-lfs.github.com/spec/v1\noid"),
        "incomplete",
        ("Git LFS pointer",),
    ),
    "M2 an answer": (lambda root: written(root, b'{"error": 1}'), "broken", ("message of a web server",)),
    "M2 a pickle": (
        lambda root: written(root, pickle.dumps({}, 2)),
        "unsafe",
        ("is a pickle", "main.py convert"),
    ),
    "M3 a header": (lambda root: written(root, b"\x08" + bytes(7) + b"{broken]" * 3), "broken", ("damaged",)),
    "M4 a pickle": (
        lambda root: (root / "a.ckpt").write_bytes(pickle.dumps({}, 2)),
        "unsafe",
        ("which can run code", "main.py convert FILE --out NEW.safetensors"),
    ),
    "M5 code": (lambda root: code(root / "m"), "unsafe", ("code",)),
    "M6 a family": (lambda root: model(root / "m", _class_name="KolorsPipeline"), "unsupported", ("'KolorsPipeline'",)),
    "M6 a stranger": (lambda root: file(root / "a.safetensors", {"w": (2, 2)}), "unsupported", ("not known",)),
    "M11 a piece": (
        lambda root: file(root / "a-00001-of-00002.safetensors", unet(768)),
        "incomplete",
        ("a-00002-of-00002.safetensors cannot be found",),
    ),
    "M11 a part": (lambda root: without_a_part(root / "m"), "incomplete", ("missing: vae",)),
    "M11 empty weights": (
        lambda root: (model(root / "m") / "unet" / "model.safetensors").write_bytes(b""),
        "incomplete",
        ("empty",),
    ),
}  # fmt: skip


def asked(capsys, *paths: object) -> list[dict]:
    assert main(["inspect", "--json", *map(str, paths)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_sentence_and_the_scan_goes_on(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    make, state, words = FAULTS[name]
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    file(root / "z good.safetensors", kohya(768))
    bad, good = asked(capsys, root) if "m" not in os.listdir(root) else reversed(asked(capsys, root))
    assert bad["state"] == state, bad
    assert all(word in bad["reason"] for word in words), bad["reason"]
    assert bad["reason"].endswith("."), "a sentence"
    assert (good["state"], good["reason"]) == ("ready", None)
    assert not list(tmp_path.rglob("PWNED"))


def test_what_a_file_does_not_say_is_shown_as_assumed(tmp_path, capsys):
    """M7."""
    two = file(tmp_path / "v2.safetensors", small(SD2))
    (answer,) = asked(capsys, two)
    assert answer["assumed"]
    (answer,) = asked(capsys, file(tmp_path / "vae.safetensors", vae(4)))
    assert answer["assumed"]


def test_a_denoiser_alone_names_what_it_needs(tmp_path, capsys):
    """M12."""
    for shapes in (unet(768), {name: (1, *shape[1:]) for name, shape in flux().items()}):
        (answer,) = asked(capsys, file(tmp_path / "x.safetensors", shapes))
        assert "vae" in answer["needs"]
        assert answer["reason"]
    (answer,) = asked(capsys, file(tmp_path / "y.safetensors", under("model.diffusion_model.", unet(768))))
    assert "vae" in answer["needs"]


def test_a_file_that_is_cut_while_it_is_read_is_told_of(tmp_path):
    """M13. Headers are read with plain reads, so that no page of a mapping can be missing."""
    path = file(tmp_path / "a.safetensors", kohya(768))
    start = read_start(path)
    os.truncate(path, 20)
    assert header_of(start).shapes, "what was read holds"
    with pytest.raises(ModelError):
        read_header(path)
    for each in (ROOT / "pipelines" / "library").rglob("*.py"):
        assert "mmap" not in each.read_text(encoding="utf-8"), each


def test_a_file_that_vanishes_or_cannot_be_read_during_a_scan_is_told_of(tmp_path, monkeypatch):
    """M13: a drive that is unplugged."""
    for name in "abc":
        file(tmp_path / "m" / f"{name}.safetensors", kohya(768))
    read = header_module.safetensors_file.read

    def unplugged(stream, size):
        if stream.name.endswith("b.safetensors"):
            raise OSError(5, "Input/output error")
        return read(stream, size)

    monkeypatch.setattr(header_module.safetensors_file, "read", unplugged)
    found = scan([tmp_path / "m"], database=tmp_path / "index.sqlite")
    assert [bool(record.problem) for record in found] == [False, True, False]
    assert (
        found[1].problem == "b.safetensors cannot be read: Input/output error. Check the file and its drive."
    )


def test_an_empty_download_is_not_taken_for_the_file_it_replaced(tmp_path):
    """M13: what the index knew of a file does not outlive it."""
    path = file(tmp_path / "m" / "a.safetensors", kohya(768))
    assert scan([tmp_path / "m"], database=tmp_path / "index.sqlite")[0].problem == ""
    path.write_bytes(b"")
    (record,) = scan([tmp_path / "m"], database=tmp_path / "index.sqlite")
    assert record.problem.startswith("a.safetensors is empty.")
    with pytest.raises(IncompleteModel):
        read_header(path)


@pytest.mark.parametrize("how", ["another of the same size", "another time"])
def test_hashes_of_a_file_that_was_replaced_are_forgotten(tmp_path, how):
    """M16."""
    path = file(tmp_path / "a.safetensors", kohya(768))
    with contextlib.closing(ModelIndex(tmp_path / "index.sqlite")) as index:
        index.keep_hashes(path, stamp_of(path.stat()), Hashes("ab" * 32, "cd" * 32))
        assert index.hashes(path) is not None
        if how == "another time":
            os.utime(path, ns=(1, 1))
        else:
            new = tmp_path / "new"
            new.write_bytes(path.read_bytes()[:-1] + b"x")
            os.utime(new, ns=(5, 5))
            os.replace(new, path)
        assert index.hashes(path) is None


def test_names_that_differ_by_case_alone_are_two_models(tmp_path):
    """M15."""
    for name in ("Ink", "ink"):
        file(tmp_path / f"{name}.safetensors", kohya(768))
    if len(os.listdir(tmp_path)) == 1:
        pytest.skip("this file system does not tell them apart")
    records = scan([tmp_path], database=tmp_path / "index.sqlite")
    assert len({record.id.lower() for record in records}) == 2
    assert {record.title for record in records} == {"Ink", "ink"}


def test_a_huge_tree_ends(tmp_path):
    """M14: 60 levels, and thousands of empty files."""
    deep = tmp_path / "/".join(["d"] * 60)
    deep.mkdir(parents=True)
    (deep / "a.safetensors").write_bytes(b"")
    for n in range(2000):
        (tmp_path / f"{n:04d}.safetensors").write_bytes(b"")
    records = scan([tmp_path], database=tmp_path / "index.sqlite")
    assert len(records) == 2000
    assert all("is empty" in record.problem for record in records)
