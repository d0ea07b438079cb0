"""Headers are read once for as long as the files are the same."""

import os
import shutil

import pytest

from pipelines.library.folders import demo_root
from pipelines.library.known_sizes import KnownSizes
from pipelines.library.models import record_of
from pipelines.library.weights import sizes_of
from pipelines.spec.errors import ModelError


@pytest.mark.parametrize("model", ["sd", "sdxl", "flux"])
def test_the_same_sizes_with_one_read(model):
    record, sizes = record_of(demo_root() / model), KnownSizes()
    assert [sizes([record], (), 4, False) for _ in range(3)] == [sizes_of([record], (), 4, False)] * 3
    assert sizes.reads == 1
    assert sizes([record], (), 2, False) != sizes([record], (), 4, False)
    assert sizes.reads == 2


def test_a_file_that_changed_is_read_anew(tmp_path):
    shutil.copytree(demo_root() / "sd", tmp_path / "sd")
    record, sizes = record_of(tmp_path / "sd"), KnownSizes()
    sizes([record])
    weights = next((tmp_path / "sd" / "unet").glob("*.safetensors"))
    os.utime(weights, ns=(1, 1))
    sizes([record])
    assert sizes.reads == 2
    shutil.rmtree(tmp_path / "sd")
    with pytest.raises(ModelError):
        sizes([record])
