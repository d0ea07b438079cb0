"""What computing took, on disk: by device, the newest for as much work, and after damage anew."""

import contextlib
import sqlite3

import pytest

from pipelines.library.measured import FILE, keep, measured_on
from pipelines.spec.errors import EngineError
from pipelines.spec.measured import Measured

SEEN = Measured(family="sd1", stage="denoise", units=1000, size_bytes=2000)


def test_the_newest_for_as_much_work_is_kept_for_its_device(tmp_path):
    path = tmp_path / "data" / FILE
    assert measured_on(path, "card") == ()
    newer = Measured(family="sd1", stage="denoise", units=1000, size_bytes=2500)
    keep(path, "card", SEEN)
    keep(path, "card", newer)
    keep(path, "other", SEEN)
    assert measured_on(path, "card") == (newer,)
    assert measured_on(path, "other") == (SEEN,)


def test_a_damaged_file_is_told_and_set_aside_by_what_is_kept_next(tmp_path):
    path = tmp_path / FILE
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(EngineError) as caught:
        measured_on(path, "card")
    assert str(path) in caught.value.message
    keep(path, "card", SEEN)
    assert measured_on(path, "card") == (SEEN,)
    assert [each.name for each in tmp_path.glob("measured.damaged-*")], "it stays for a repair"


def test_what_was_kept_in_other_units_is_not_read(tmp_path):
    """Version 1 counted by larger numbers: its sizes would be too small a share of the work."""
    path = tmp_path / FILE
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute(
            "CREATE TABLE measured (device TEXT, family TEXT, stage TEXT, units INTEGER, size_bytes INTEGER)"
        )
        old.execute("INSERT INTO measured VALUES ('card', 'sd1', 'denoise', 1000, 2000)")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    assert measured_on(path, "card") == ()
    keep(path, "card", SEEN)
    assert measured_on(path, "card") == (SEEN,)
