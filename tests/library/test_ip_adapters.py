"""IP-Adapters under the model folders: their kind, their family and their image encoder, or the reason why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.library.models import scan
from pipelines.spec.record import Kind, ModelRecord, State
from tests.library.test_parts import Shapes, file


def layers(width: int) -> Shapes:
    return {f"ip_adapter.1.{half}.weight": (320, width) for half in ("to_k_ip", "to_v_ip")}


def plain(width: int = 768, seen: int = 1024) -> Shapes:
    return {"image_proj.proj.weight": (4 * width, seen), "image_proj.norm.weight": (width,)} | layers(width)


def plus(width: int = 768, seen: int = 1280) -> Shapes:
    return {"image_proj.latents": (1, 16, 768), "image_proj.proj_in.weight": (768, seen)} | layers(width)


def full(width: int = 768, seen: int = 1280) -> Shapes:
    return {
        "image_proj.proj.0.weight": (seen, seen), "image_proj.proj.3.weight": (width,)
    } | layers(width)  # fmt: skip


FACE = {
    "image_proj.proj.0.weight": (1024, 512), "image_proj.norm.weight": (768,),
    "ip_adapter.0.to_k_lora.down.weight": (128, 320), "ip_adapter.0.to_k_lora.up.weight": (320, 128),
} | layers(768)  # fmt: skip
FLUX = {
    "ip_adapter_proj_model.proj.weight": (16384, 768),
    "double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight": (3072, 4096),
}


def encoder(folder: Path, projection: int = 1024, hidden: int = 1280, **changes: object) -> Path:
    file(folder / "model.safetensors", {"visual_projection.weight": (projection, hidden)})
    config = {
        "architectures": ["CLIPVisionModelWithProjection"], "projection_dim": projection, "hidden_size": hidden
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def found(root: Path, name: str = "eyes") -> ModelRecord:
    return next(record for record in scan([root]) if record.id == name)


@pytest.mark.parametrize("shapes", [plain(), plus(), full()], ids=["plain", "plus", "full"])
@pytest.mark.parametrize(
    "place", ["ipadapter/image_encoder", "image_encoder", "models/image_encoder", "clip_vision/ViT-H"]
)
def test_the_encoder_is_found_where_the_tools_put_it(tmp_path, shapes, place):
    path = file(tmp_path / "ipadapter" / "Eyes.safetensors", shapes)
    eye = encoder(tmp_path / place)
    record = found(tmp_path)
    assert (record.kind, record.family, record.problem) == (Kind.IP_ADAPTER, "sd1", "")
    assert (record.image_encoder, record.state, record.needs) == (str(eye), State.READY, ())
    assert record.size_bytes == path.stat().st_size + (eye / "model.safetensors").stat().st_size
    assert [each.id for each in scan([tmp_path])] == ["eyes"], (
        "the encoder is a part, and not listed by itself"
    )


@pytest.mark.parametrize(("width", "family"), [(768, "sd1"), (1024, "sd2"), (2048, "sdxl")])
def test_the_shapes_tell_the_family(tmp_path, width, family):
    file(tmp_path / "eyes.safetensors", plain(width), {"emulsion.family": "flux"})
    encoder(tmp_path / "image_encoder")
    assert found(tmp_path).family == family


def test_a_reduced_one_says_it_itself(tmp_path):
    file(
        tmp_path / "eyes.safetensors", plain(128, 96), {"emulsion.family": "sd1", "modelspec.title": "Eyes!"}
    )
    encoder(tmp_path / "image_encoder", 96, 96)
    assert (found(tmp_path).family, found(tmp_path).title) == ("sd1", "Eyes!")


def test_of_two_encoders_the_one_of_its_width(tmp_path):
    """h94's SDXL folder: one adapter for each of two encoders."""
    encoder(tmp_path / "sdxl_models" / "image_encoder", 1280, 1664)
    right = encoder(tmp_path / "models" / "image_encoder", 1024, 1280)
    file(tmp_path / "sdxl_models" / "eyes.safetensors", plain(2048, 1024))
    assert found(tmp_path).image_encoder == str(right)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (FACE, "FaceID"),
        (FLUX, "for FLUX cannot be used yet"),
        ({"image_proj.x": (1,), **layers(768)}, "of a kind that is not known"),
        ({"image_proj.proj.weight": (3072, 1024), "ip_adapter.x": (1,)}, "without 'ip_adapter.1.to_k_ip.weight'"),
        ({"image_proj.proj.weight": (3072,), **layers(768)}, "without 'image_proj.proj.weight'"),
        (plain(96), "does not show which models it was made for"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path, shapes, said):
    file(tmp_path / "eyes.safetensors", shapes)
    encoder(tmp_path / "image_encoder")
    record = found(tmp_path)
    assert record.kind is Kind.IP_ADAPTER
    assert record.state is (State.INCOMPLETE if "without" in said else State.UNSUPPORTED)
    assert said in record.problem


def test_without_its_encoder_it_says_which_one_it_needs(tmp_path):
    file(tmp_path / "eyes.safetensors", plain())
    record = found(tmp_path)
    assert "a CLIP vision model with projection_dim 1024." in record.problem
    assert "beside the file as 'image_encoder'" in record.problem
    assert (record.state, record.needs) == (State.INCOMPLETE, ("image_encoder",))
    encoder(tmp_path / "image_encoder", 1280)
    assert "(image_encoder has 1280)" in found(tmp_path).problem
    assert record.family == "sd1"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["CLIPModel"]}, "was not found"),
        ({"architectures": None}, "was not found"),
        ({"projection_dim": "much"}, "was not found"),
    ],
)
def test_other_networks_are_no_image_encoders(tmp_path, config, said):
    file(tmp_path / "eyes.safetensors", plain())
    encoder(tmp_path / "image_encoder", **config)
    assert said in found(tmp_path).problem


def test_an_encoder_without_weights_or_with_a_pickle_is_refused(tmp_path):
    file(tmp_path / "eyes.safetensors", plain())
    eye = encoder(tmp_path / "image_encoder")
    (eye / "model.safetensors").rename(eye / "pytorch_model.bin")
    assert "is a pickle" in found(tmp_path).problem
    assert found(tmp_path).state is State.UNSAFE
    (eye / "pytorch_model.bin").unlink()
    assert "has no weights" in found(tmp_path).problem
    assert found(tmp_path).state is State.INCOMPLETE
