"""A model folder to choose from and an engine that follows a script, so that no torch is imported here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli.commands import main
from pipelines.spec.events import ImageSaved, MemoryChanged, Stage, StageChanged, StepDone
from pipelines.spec.job import Job
from pipelines.spec.machine import Machine
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import Sampling

STEPS = 12
DEMO = ModelRecord(
    id="demo-sd",
    path="/models/demo-sd",
    title="Demo",
    family="sd1",
    native_size=256,
    sampling=Sampling(scheduler="dpmpp_2m_karras", num_inference_steps=STEPS, guidance_scale=4.5),
)
BROKEN = ModelRecord(id="broken", path="/models/broken", title="Bad\x1b[2Jtitle", problem="unet is missing.")
RECORDS = (BROKEN, DEMO)


class ScriptedEngine:
    """`script` runs in place of the model; without one it draws each picture in its steps."""

    device = "cpu"
    machine = Machine()

    def __init__(self, options: Any, script: Callable[[Job, Any], None] | None) -> None:
        self.options = options
        self._script = script or self._draw

    def run(self, job: Job, emit: Any) -> None:
        self._script(job, emit)

    def _draw(self, job: Job, emit: Any) -> None:
        request, size = job.request, job.request.size
        for image in range(request.count):
            emit(StageChanged(job_id=job.id, stage=Stage.DENOISE, image=image))
            for step in range(request.sampling.num_inference_steps):
                job.check()
                steps = request.sampling.num_inference_steps
                # A time left that no JSON can hold: it must not come out as NaN.
                emit(StepDone(job_id=job.id, step=step + 1, steps=steps, image=image, eta_s=float("nan")))
            path = str(Path(self.options.output_dir) / f"{image}.png")
            seed = request.sampling.seed + image
            emit(
                ImageSaved(
                    job_id=job.id, path=path, seed=seed, width=size.width, height=size.height, image=image
                )
            )

    def memory(self) -> MemoryChanged:
        return MemoryChanged(device_name="Scripted processor")

    def free(self) -> None:
        pass

    def close(self) -> None:
        pass


class Headless:
    """Runs main.py's commands in this process. `script` and `options` are the engine's."""

    def __init__(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = out
        self.script: Callable[[Job, Any], None] | None = None
        self.options: Any = None
        self._capsys = capsys

    def build(self, options: Any) -> ScriptedEngine:
        self.options = options
        return ScriptedEngine(options, self.script)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        status = main(arguments)
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    def generate(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit status and the JSON lines; anything else on stdout is an error here."""
        status, out, _ = self.run("generate", "--out", str(self.out), "--json", *arguments)
        return status, [json.loads(line, parse_constant=_refused) for line in out.splitlines()]


def _refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture
def headless(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Headless:
    command = Headless(tmp_path / "out", capsys)
    monkeypatch.setattr("pipelines.cli.models.scan", lambda roots, **_: RECORDS)
    monkeypatch.setattr("pipelines.runtime.engine.build", command.build)
    return command
