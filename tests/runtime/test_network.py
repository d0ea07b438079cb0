"""Text and image encoders built empty: bit for bit what transformers loads, and no weight drawn at random."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pipelines.library.folders import demo_root
from pipelines.runtime.components import ComponentStore
from pipelines.runtime.loader import network_plan
from pipelines.runtime.meter import Meter
from pipelines.spec.errors import Cancelled, ModelError
from tests.runtime.conftest import job_of

PLACES = {
    "sd/text_encoder": "CLIPTextModel",
    "sd-v/text_encoder": "CLIPTextModel",
    "sdxl/text_encoder": "CLIPTextModel",
    "sdxl/text_encoder_2": "CLIPTextModelWithProjection",
    "flux/text_encoder": "CLIPTextModel",
    "flux/text_encoder_2": "T5EncoderModel",
    "sd-ip-adapter/image_encoder": "CLIPVisionModelWithProjection",
}


@pytest.fixture(params=PLACES)
def folder(request, tmp_path) -> Path:
    return Path(shutil.copytree(demo_root() / request.param, tmp_path / request.param))


def class_of(folder: Path) -> Any:
    return getattr(transformers, PLACES[f"{folder.parent.name}/{folder.name}"])


def load(folder: Path, dtype: torch.dtype = torch.float32, meter: Meter | None = None) -> Any:
    store = ComponentStore(lambda: 2**40, lambda: None)
    return network_plan(folder, dtype, torch.device("cpu")).load(store, meter or Meter(job_of(folder)))[1]


def answers(network: Any) -> tuple[torch.Tensor, ...]:
    """All hidden states, and what is made of them at the end."""
    with torch.no_grad():
        if isinstance(network, transformers.CLIPVisionModelWithProjection):
            side: Any = network.config.image_size
            pixels = torch.linspace(-1, 1, 3 * side * side).view(1, 3, side, side)
            output = network(pixels, output_hidden_states=True)
        else:
            ids = torch.arange(3, 3 + 20).unsqueeze(0) % network.config.vocab_size
            output = network(ids, output_hidden_states=True)
    return (output[0], *output.hidden_states)


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(answers(one), answers(other), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_answers_what_transformers_own_loading_answers(folder, dtype):
    theirs = class_of(folder).from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
    ours = load(folder, dtype)
    mine, expected = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == expected.keys()
    assert all(torch.equal(mine[name], expected[name]) for name in expected)
    assert {p.dtype for p in ours.parameters()} == {dtype}
    buffers = dict(theirs.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in ours.named_buffers())
    if dtype is torch.float32:
        assert same(ours, theirs)


@pytest.mark.parametrize("place", [name for name, kind in PLACES.items() if kind.startswith("CLIPText")])
def test_names_of_older_files_are_known(place, tmp_path):
    """Before transformers 5 every CLIP had `text_model.`, and before 4.31 the positions were a tensor."""
    folder = Path(shutil.copytree(demo_root() / place, tmp_path / place))
    before = load(folder)
    (path,) = folder.glob("*.safetensors")
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in load_file(path).items()}
    old = {name if "projection." in name and "text_projection" in name else f"text_model.{name}": tensor
           for name, tensor in tensors.items()}  # fmt: skip
    old["text_model.embeddings.position_ids"] = torch.arange(77).unsqueeze(0)
    save_file(old, path)
    assert same(load(folder), before)


@pytest.mark.parametrize("kept", ["shared.weight", "encoder.embed_tokens.weight"])
def test_t5_needs_its_words_under_one_of_two_names(kept, tmp_path):
    folder = Path(shutil.copytree(demo_root() / "flux/text_encoder_2", tmp_path / "flux" / "text_encoder_2"))
    before = load(folder)
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    table = tensors.get("shared.weight", tensors.get("encoder.embed_tokens.weight"))
    assert table is not None
    rest = {n: t for n, t in tensors.items() if n not in ("shared.weight", "encoder.embed_tokens.weight")}
    save_file({**rest, kept: table.clone()}, path)
    after = load(folder)
    assert same(after, before)
    assert after.encoder.embed_tokens.weight is after.shared.weight
    save_file(rest, path)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "shared.weight" in caught.value.message


def test_a_missing_weight_is_an_error_and_no_random_number(folder):
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    gone = next(name for name in tensors if name.endswith("weight") and "layer" in name)
    save_file({name: t for name, t in tensors.items() if name != gone}, path)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert gone.removeprefix("text_model.") in caught.value.message
    assert str(folder) in caught.value.message


def test_a_cancel_is_seen_between_tensors(folder):
    class Impatient(Meter):
        calls = 0

        def read(self, count: int) -> None:
            self.calls += 1
            if self.calls == 3:
                raise Cancelled

    meter = Impatient(job_of(folder))
    with pytest.raises(Cancelled):
        load(folder, meter=meter)
    assert meter.calls == 3
