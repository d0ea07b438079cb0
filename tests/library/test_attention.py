"""Trials of attention kernels on disk: by all that can change them, and after damage anew."""

from dataclasses import replace

import pytest

from pipelines.library.attention import FILE, keep, tried_at
from pipelines.spec.attention import Shape, Tried
from pipelines.spec.errors import EngineError

SHAPE = Shape(device="card", versions="torch 2.10", dtype="float16", width=64, tokens=4096)
FOUND = (
    Tried(id="", ms=1.5),
    Tried(id="flash", ms=1.25, repeats=False),
    Tried(id="math", ms=1.5, own=True),
    Tried(id="sage", why="the package is not installed"),
)


def test_what_was_found_is_kept_for_its_shape_alone(tmp_path):
    path = tmp_path / "data" / FILE
    assert tried_at(path, SHAPE) == ()
    keep(path, SHAPE, FOUND)
    assert tried_at(path, SHAPE) == FOUND
    for other in (
        replace(SHAPE, device="other"),
        replace(SHAPE, versions="torch 2.11"),
        replace(SHAPE, dtype="float32"),
        replace(SHAPE, width=40),
        replace(SHAPE, tokens=1024),
    ):
        assert tried_at(path, other) == ()


def test_a_new_trial_takes_the_place_of_the_former(tmp_path):
    path = tmp_path / FILE
    keep(path, SHAPE, FOUND)
    keep(path, SHAPE, FOUND[:2])
    assert tried_at(path, SHAPE) == FOUND[:2]


def test_a_damaged_file_is_told_and_set_aside_by_what_is_kept_next(tmp_path):
    path = tmp_path / FILE
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(EngineError) as caught:
        tried_at(path, SHAPE)
    assert str(path) in caught.value.message
    keep(path, SHAPE, FOUND)
    assert tried_at(path, SHAPE) == FOUND
    assert [each.name for each in tmp_path.glob("attention.damaged-*")], "it stays for a repair"
