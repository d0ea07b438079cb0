"""What the tests of the library share: a request, a record, and saving with few words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipelines.library.outputs import save_picture
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Sampling, Size

REQUEST = GenerationRequest(
    model="demo-sd",
    prompt=Prompt(text="a red circle, centred", negative="blue"),
    sampling=Sampling(scheduler="dpmpp_2m_karras", num_inference_steps=12, guidance_scale=6.5, seed=41),
    size=Size(width=64, height=48),
    count=3,
)
RECORD = ModelRecord(id="demo-sd", path="/models/sd", title="Demo")


@pytest.fixture
def request_() -> GenerationRequest:
    return REQUEST


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the folders of the person who runs it."""
    monkeypatch.setenv("EMULSION_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(request: GenerationRequest = REQUEST, **changes) -> Path:
        settings = {
            "record": RECORD,
            "seed": 42,
            "image_index": 1,
            "output_dir": tmp_path / "outputs",
            "pattern": "[number]-[seed]",
            "seconds": 1.25,
        } | changes
        picture = settings.pop("image", Image.new("RGB", (64, 48), "red"))
        return save_picture(picture, request, **settings)

    return save
