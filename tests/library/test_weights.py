"""What LoRAs change of a model, by the headers of their files alone."""

from __future__ import annotations

from pipelines.library.folders import demo_root
from pipelines.library.models import record_of
from pipelines.library.weights import sizes_of
from pipelines.spec.families import by_id
from tests.runtime.conditioning.add_ons import found, kohya, peft


def lora(name: str):
    return record_of(demo_root() / "loras" / f"{name}.safetensors")


def test_the_weights_that_loras_change_are_counted_once_and_no_packed_ones():
    model = record_of(demo_root() / "sd")
    one = sizes_of([model], [lora("sd-neon")], 4).merged
    assert one == 6_248_448, "48 layers: 32 × 32 × 3 × 3 numbers and so on"
    assert sizes_of([model], [lora("sd-neon"), lora("sd-crayon")], 4).merged == one
    assert sizes_of([model], [lora("sd-neon")], 2).merged == one // 2
    assert sizes_of([model], [lora("sd-neon")], 4, weights="int8").merged == 0
    assert sizes_of([model], [], 4).merged == 0


def test_of_what_loras_change_the_text_encoders_share_is_told(tmp_path):
    """It lies where they do, which may be a device of their own."""
    model = record_of(demo_root() / "sd")
    for name, state in (
        ("peft", peft(model, ("unet", "text_encoder"))),
        ("kohya", kohya(model, ("unet", "text_encoder"))),
    ):
        both = found(tmp_path / name / "both.safetensors", by_id("sd1"), state)
        only = found(tmp_path / f"{name}-unet" / "one.safetensors", by_id("sd1"), _of_unet(state))
        sizes = sizes_of([model], [both], 4)
        assert sizes_of([model], [only], 4).merged == sizes.merged - sizes.merged_text
        assert 0 < sizes.merged_text < min(sizes.merged, sizes.encoders[0].size_bytes)
    assert sizes_of([model], [lora("sd-neon")], 4).merged_text == 0, "it changes the U-Net alone"
    assert sizes_of([model], [both], 4, weights="int8").merged_text == 0


def _of_unet(state):
    return {name: tensor for name, tensor in state.items() if name.startswith(("unet.", "lora_unet_"))}


def test_they_are_never_more_than_the_model():
    """kohya's names are others than peft's for the same layers."""
    model = record_of(demo_root() / "sd")
    sizes = sizes_of([model], [lora("sd-neon"), lora("sd-mosaic"), lora("flux-neon"), lora("sdxl-neon")], 4)
    assert sizes.merged <= sum(n.size_bytes for n in (*sizes.encoders, *sizes.denoisers))
