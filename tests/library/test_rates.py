"""How quick a device is, on disk: by device and driver, and worth nothing where it cannot be true."""

import contextlib
import sqlite3

import pytest

from pipelines.library.rates import FILE, keep, rates_of
from pipelines.spec.measured import Rates

SEEN = Rates(copied=12.8e9, flops=30e12)


def test_it_is_kept_by_device_and_holds_for_its_driver(tmp_path):
    path = tmp_path / "data" / FILE
    assert rates_of(path, "card", "driver 1") is None
    assert not path.exists(), "to look makes nothing"
    keep(path, "card", "driver 1", SEEN)
    assert rates_of(path, "card", "driver 1") == SEEN
    assert rates_of(path, "card", "driver 2") is None
    assert rates_of(path, "card") == SEEN
    assert rates_of(path, "other", "driver 1") is None
    newer = Rates(copied=25e9, flops=31e12)
    keep(path, "card", "driver 2", newer)
    assert rates_of(path, "card", "driver 2") == newer
    assert rates_of(path, "card", "driver 1") is None


def test_a_damaged_file_is_as_none_and_set_aside_by_what_is_kept_next(tmp_path):
    path = tmp_path / FILE
    path.write_bytes(b"not a database" * 100)
    assert rates_of(path, "card") is None
    keep(path, "card", "", SEEN)
    assert rates_of(path, "card") == SEEN
    assert [each.name for each in tmp_path.glob("rates.damaged-*")]


@pytest.mark.parametrize("copied", [0.0, -1.0, "quick"])
def test_a_speed_that_cannot_be_is_none(tmp_path, copied):
    path = tmp_path / FILE
    keep(path, "card", "", SEEN)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rates SET copied = ?", (copied,))
    assert rates_of(path, "card") is None
