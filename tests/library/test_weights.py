"""What LoRAs change of a model, by the headers of their files alone."""

from __future__ import annotations

from pipelines.library.folders import demo_root
from pipelines.library.models import record_of
from pipelines.library.weights import sizes_of


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


def test_they_are_never_more_than_the_model():
    """kohya's names are others than peft's for the same layers."""
    model = record_of(demo_root() / "sd")
    sizes = sizes_of([model], [lora("sd-neon"), lora("sd-mosaic"), lora("flux-neon"), lora("sdxl-neon")], 4)
    assert sizes.merged <= sum(n.size_bytes for n in (*sizes.encoders, *sizes.denoisers))
