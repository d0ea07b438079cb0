"""M13: a file that is cut, changed or gone while it is read fails its load with a sentence, and never the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.library.places import table_of
from pipelines.runtime.conditioning import tensors as files
from pipelines.runtime.meter import Meter
from pipelines.runtime.reading import tensors
from pipelines.runtime.stored import stored_at
from pipelines.spec.errors import IncompleteModel, ModelError
from tests.runtime.conftest import job_of

ROOT = Path(__file__).parents[2]
# A load that a vandal comes by in the middle of: what is done to which file -> how the load ends.
_SCRIPT = """
import json, os, shutil, sys
from pathlib import Path
from pipelines.library.folders import demo_root
from pipelines.library.models import record_of
from pipelines.runtime.engine import build
from pipelines.runtime.meter import Meter
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.request import GenerationRequest
from pipelines.workshop.convert import convert

def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)

def overwritten(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\\1" * size)

def replaced(path):
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes()[:-1000])
    os.replace(other, path)

class Vandal(Meter):
    def __init__(self, job, act, path):
        super().__init__(job)
        self.left, self.act, self.path = 40, act, path

    def read(self, count):
        super().read(count)
        self.left -= 1
        if self.left == 0:
            self.act(self.path)

home = Path(sys.argv[1])
engine = build(EngineOptions(output_dir=str(home), device="cpu", threads=1))
family, ends = by_id("sd1"), {}
for form in ("folder", "file"):
    for act in (cut, overwritten, replaced):
        place = home / f"{form}-{act.__name__}{'.safetensors' if form == 'file' else ''}"
        if form == "folder":
            shutil.copytree(demo_root() / "sd", place)
            (path,) = (place / "unet").glob("*.safetensors")
        else:
            convert(record_of(demo_root() / "sd"), place)
            path = place
        record = record_of(place)
        job = Job(id=1, request=GenerationRequest(model=record.id), model=record)
        vandal = Vandal(job, act, path)
        try:
            parts = engine.compute._loader.load(job, record, family, vandal).parts
            parts.ready(parts)
            ends[place.stem] = "loaded"
        except ModelError as error:
            ends[place.stem] = str(error)
        assert vandal.left <= 0, place
        engine.compute.drop_caches()
print(json.dumps(ends))
"""


def test_a_file_that_is_cut_or_replaced_during_a_load_fails_it_and_not_the_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    for form in ("folder", "file"):
        assert "ended while it was read" in ends[f"{form}-cut"]
        assert "was changed while it was read" in ends[f"{form}-overwritten"]
        assert str(tmp_path) in ends[f"{form}-cut"]
    # A name that means another file now: of a folder this was the last to read, and it was read whole.
    assert ends["folder-replaced"] == "loaded"
    assert "was changed while it was read" in ends["file-replaced"]


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "Ü 空间.safetensors"
    save_file({"a": torch.arange(300.0), "b": torch.ones(7, 3, dtype=torch.float16)}, path)
    return path


def test_a_file_that_was_replaced_since_its_table_was_read_is_not_read_by_it(path, tiny_model):
    source, table = table_of(path)
    names = {name: stored_at(name, place, source) for name, place in table.items()}
    save_file({"b": torch.zeros(300), "a": torch.ones(7, 3, dtype=torch.float16)}, path)
    os.utime(path, ns=(0, source.mtime_ns + 10**9))  # a file system counts in hundredths of a second
    with pytest.raises(ModelError) as caught:
        dict(tensors(names, lambda own: own, torch.device("cpu"), Meter(job_of(tiny_model))))
    assert str(path) in caught.value.message
    path.unlink()
    with pytest.raises(ModelError) as caught:
        dict(tensors(names, lambda own: own, torch.device("cpu"), Meter(job_of(tiny_model))))
    assert str(path) in caught.value.message


def test_the_files_of_a_request_are_read_as_they_are_and_refused_when_cut(path, tiny_model):
    content = files.read(path, job_of(tiny_model))
    assert torch.equal(content.tensors["a"], torch.arange(300.0))
    assert content.tensors["b"].dtype is torch.float32
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(IncompleteModel) as caught:
        files.read(path, job_of(tiny_model))
    assert str(path) in caught.value.message
