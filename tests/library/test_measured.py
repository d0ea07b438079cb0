"""What computing took, on disk: by device, the newest for as much work, and after damage anew."""

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
