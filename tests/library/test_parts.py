"""LoRAs and ControlNets under the model folders: understood by their headers and configs, or listed with the reason."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from pipelines.library.models import scan
from pipelines.spec.record import Format, Kind, State
from tests.library.test_models import model

Shapes = dict[str, tuple[int, ...]]


def file(path: Path, shapes: Shapes, metadata: dict[str, str] | None = None) -> Path:
    """A whole safetensors file of zeros."""
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(end))
    return path


def only(root: Path):
    (record,) = scan([root])
    return record


def kohya(width: int, te: str = "lora_te_") -> Shapes:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    text = f"{te}text_model_encoder_layers_0_mlp_fc1"
    return {
        f"{layer}.lora_down.weight": (4, width),
        f"{layer}.lora_up.weight": (320, 4),
        f"{layer}.alpha": (),
        f"{text}.lora_down.weight": (4, 768),
        f"{text}.lora_up.weight": (3072, 4),
    }


def peft(width: int) -> Shapes:
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    return {f"{layer}.lora_A.weight": (8, width), f"{layer}.lora_B.weight": (320, 8)}


def old(width: int) -> Shapes:
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora"
    return {f"{layer}.down.weight": (8, width), f"{layer}.up.weight": (320, 8)}


def flux(layer: str, width: int = 3072, down: str = "lora_A") -> Shapes:
    return {f"{layer}.{down}.weight": (16, width), f"{layer}.lora_up.weight": (3072, 16)}


CASES = {
    "kohya sd1": (kohya(768), "sd1"),
    "kohya sd2": (kohya(1024), "sd2"),
    "kohya sdxl": (kohya(2048, "lora_te1_"), "sdxl"),
    "peft sd1": (peft(768), "sd1"),
    "peft sdxl": (peft(2048), "sdxl"),
    "peft refiner": (peft(1280), "sdxl-refiner"),
    "old sd1": (old(768), "sd1"),
    "flux peft": (flux("transformer.single_transformer_blocks.0.attn.to_q"), "flux-schnell"),
    "flux kohya": (flux("lora_unet_double_blocks_0_img_attn_qkv", down="lora_down"), "flux-schnell"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_header_tells_the_family(tmp_path, name):
    shapes, family = CASES[name]
    path = file(tmp_path / "Ink Style.safetensors", shapes)
    record = only(tmp_path)
    assert (record.kind, record.family, record.problem) == (Kind.LORA, family, "")
    assert (record.id, record.title, record.format) == ("ink-style", "Ink Style", Format.SINGLE_FILE)
    assert (record.dtype, record.size_bytes) == ("float16", path.stat().st_size)
    assert record.path == str(path)


def test_the_shapes_go_before_what_the_metadata_say(tmp_path):
    file(tmp_path / "a.safetensors", kohya(768), {"ss_base_model_version": "sdxl_base_v1-0"})
    assert only(tmp_path).family == "sd1"


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"ss_base_model_version": "sd_v1"}, "sd1"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        (
            {"modelspec.architecture": "stable-diffusion-v2-768-v/lora", "ss_base_model_version": "sd_v1"},
            "sd2",
        ),
        ({"emulsion.family": "sdxl", "ss_base_model_version": "sd_v1"}, "sdxl"),
    ],
    ids=str,
)
def test_of_a_reduced_model_the_metadata_tell(tmp_path, metadata, family):
    file(tmp_path / "a.safetensors", kohya(96), metadata)
    assert (only(tmp_path).family, only(tmp_path).problem) == (family, "")


def test_a_side_file_tells_too_and_what_it_is_called(tmp_path):
    metadata = {
        "modelspec.title": "Theirs",
        "modelspec.trigger_phrase": "inkstyle",
        "ss_base_model_version": "sd_v1",
    }
    file(tmp_path / "a.safetensors", kohya(96), metadata)
    facts = {"title": "Mine", "family": "sdxl", "description": "Ink on paper.", "id": "x", "native_size": 512}
    (tmp_path / "a.emulsion.json").write_text(json.dumps(facts))
    record = only(tmp_path)
    assert (record.title, record.family, record.description) == ("Mine", "sdxl", "Ink on paper.")
    assert (record.trigger_words, record.id, record.native_size) == (("inkstyle",), "a", 0)


UNSUPPORTED = {
    "LoHa": "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a",
    "LoKr": "lora_unet_mid_block_attentions_0_proj_in.lokr_w1",
    "DoRA": "lora_unet_mid_block_attentions_0_proj_in.dora_scale",
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_relatives_that_would_be_wrong_are_named(tmp_path, name):
    """M9: diffusers drops the scale of a DoRA without a word."""
    file(tmp_path / "a.safetensors", {**kohya(768), UNSUPPORTED[name]: (4, 4)})
    record = only(tmp_path)
    assert record.kind is Kind.LORA
    assert record.problem.startswith(f"It is a {name}, which cannot be used yet")


CHECKPOINT = {
    "model.diffusion_model.input_blocks.0.0.weight": (32, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (32, 768),
    "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
}


def test_what_is_not_understood_is_listed_with_its_reason(tmp_path):
    file(tmp_path / "1 nothing.safetensors", {"weight": (2, 2)})
    file(tmp_path / "2 whole.safetensors", CHECKPOINT)
    file(tmp_path / "3 unknown base.safetensors", kohya(96))
    file(tmp_path / "4 other.safetensors", flux("transformer.transformer_blocks.0.attn.to_q", 1536))
    (tmp_path / "5 page.safetensors").write_text("<html>Sign in</html>")
    os.truncate(file(tmp_path / "6 cut.safetensors", kohya(768)), 900)
    records = scan([tmp_path])
    reasons = (
        "not known what this file is for",
        "needs besides: the text encoder CLIP-L",
        "(it is 96 wide)",
        "1536 wide",
        "is a web page",
        "is incomplete",
    )
    for record, reason in zip(records, reasons, strict=True):
        assert reason in record.problem
        assert record.family == ("sd1" if record.title == "2 whole" else "")
    assert [record.base for record in records] == ["", "sd1", "", "sd3", "", ""]
    not_here = State.UNSUPPORTED
    states = (not_here, State.INCOMPLETE, not_here, not_here, State.BROKEN, State.INCOMPLETE)
    assert tuple(record.state for record in records) == states
    assert [record.kind for record in records[:4]] == [Kind.UNKNOWN, Kind.CHECKPOINT, Kind.LORA, Kind.LORA]


@pytest.mark.parametrize(
    "metadata", [{"modelspec.title": " "}, {"ss_base_model_version": ""}, {"emulsion.family": "x" * 100_000}]
)
def test_metadata_of_no_use_do_no_harm(tmp_path, metadata):
    file(tmp_path / "a.safetensors", kohya(768), metadata)
    assert (only(tmp_path).title, only(tmp_path).problem) == ("a", "")


@pytest.mark.parametrize("metadata", ["[1]", '"text"', "3", '{"a": {"b": [1]}}'])
def test_metadata_of_a_wrong_kind_damage_one_file_only(tmp_path, metadata):
    header = f'{{"__metadata__": {metadata}, "w": {{"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}}}'.encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    file(tmp_path / "b.safetensors", kohya(768))
    broken, whole = scan([tmp_path])
    assert broken.problem
    assert whole.problem == ""


def test_the_files_of_a_model_are_no_loras(tmp_path):
    model(tmp_path / "models" / "m")
    file(tmp_path / "models" / "m" / "unet" / "extra.safetensors", kohya(768))
    file(tmp_path / "part" / "weights.safetensors", kohya(768))
    (tmp_path / "part" / "config.json").write_text("{}")
    file(tmp_path / "loras" / "style" / "Ink.safetensors", kohya(768))
    file(tmp_path / "loras" / ".hidden.safetensors", kohya(768))
    assert [(record.id, record.kind) for record in scan([tmp_path])] == [
        ("ink", Kind.LORA),
        ("m", Kind.CHECKPOINT),
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no os.mkfifo: no pipe can lie in a folder there")
def test_a_pipe_is_not_opened(tmp_path):
    """M14."""
    os.mkfifo(tmp_path / "a.safetensors")
    file(tmp_path / "b.safetensors", kohya(768))
    assert [record.id for record in scan([tmp_path])] == ["b"]


def control(folder: Path, **config: object) -> Path:
    """The folder of a ControlNet, with weights of no worth."""
    file(folder / "diffusion_pytorch_model.safetensors", {"w": (8, 8)})
    (folder / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel", **config}))
    return folder


CONTROLS = {
    "sd1": {"cross_attention_dim": 768},
    "sd2": {"cross_attention_dim": 1024},
    "sdxl": {"cross_attention_dim": 2048},
    "flux-schnell": {
        "_class_name": "FluxControlNetModel",
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_mode": None,
    },
}


@pytest.mark.parametrize("family", CONTROLS)
def test_a_controlnet_is_known_by_its_config(tmp_path, family):
    control(tmp_path / "control v11p canny", **CONTROLS[family])
    record = only(tmp_path)
    assert (record.kind, record.family, record.problem) == (Kind.CONTROLNET, family, "")
    assert (record.control, record.format, record.dtype) == ("canny", Format.DIFFUSERS, "float16")
    assert record.size_bytes > 128


def test_of_a_reduced_controlnet_its_own_facts_tell(tmp_path):
    folder = control(tmp_path / "depth", cross_attention_dim=96)
    assert "(it is 96 wide)" in only(tmp_path).problem
    (folder / "emulsion.json").write_text(json.dumps({"family": "sd1", "title": "Depth", "id": "Mine"}))
    record = only(tmp_path)
    assert (record.family, record.title, record.id, record.control) == ("sd1", "Depth", "mine", "depth")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"_class_name": "ControlNetUnionModel"}, "'ControlNetUnionModel' are not supported"),
        ({"_class_name": "FluxControlNetModel", "num_mode": 10}, "several modes"),
        ({"cross_attention_dim": 768, "controlnet_conditioning_channel_order": "bgr"}, "another order"),
        ({"cross_attention_dim": [768]}, "does not show which models"),
    ],
    ids=str,
)
def test_a_controlnet_of_no_use_says_why(tmp_path, config, reason):
    control(tmp_path / "c", **config)
    assert reason in only(tmp_path).problem


def test_a_controlnet_without_weights_or_with_a_pickle(tmp_path):
    folder = control(tmp_path / "c", cross_attention_dim=768)
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert "is a pickle" in only(tmp_path).problem
    weights.with_suffix(".bin").unlink()
    assert "has no weights" in only(tmp_path).problem


@pytest.mark.parametrize(
    ("shapes", "metadata", "family", "word"),
    [
        ({"<cat-toy>": (768,)}, {}, "sd1", "<cat-toy>"),
        ({"midjourney": (4, 1024)}, {}, "sd2", "midjourney"),
        ({"emb_params": (8, 768)}, {}, "sd1", "My Style"),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, {}, "sdxl", "My Style"),
        ({"<ink>": (1, 96)}, {"emulsion.family": "sd1"}, "sd1", "<ink>"),
    ],
    ids=str,
)
def test_an_embedding_tells_its_word(tmp_path, shapes, metadata, family, word):
    file(tmp_path / "My Style.safetensors", shapes, metadata)
    record = only(tmp_path)
    assert (record.kind, record.family, record.problem) == (Kind.EMBEDDING, family, "")
    assert record.trigger_words == (word,)


@pytest.mark.parametrize(
    "shapes", [{"w": (76, 768)}, {"w": (2, 2, 768)}, {"w": ()}, {"a": (1, 768), "b": (1, 768)}, {}], ids=str
)
def test_vectors_that_are_no_embedding(tmp_path, shapes):
    file(tmp_path / "a.safetensors", shapes)
    assert only(tmp_path).kind is Kind.UNKNOWN
