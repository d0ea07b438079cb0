"""LoRAs and their relatives: of which kind one is, whose names it has, and which family's layers it changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

from pipelines.library.detect.tensors import Tensors, lines

Shape = tuple[int, ...]

# How the two halves of a LoRA's layer are called: by kohya, by peft, by diffusers before peft.
HALVES = (
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_A.weight", ".lora_B.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
)
# The end of a tensor's name -> the kind of adapter. The first kind that any name shows is the file's.
_KINDS = (
    ("hada_w1_a", "LoHa"),
    ("lokr_w1", "LoKr"),
    ("lokr_w1_a", "LoKr"),
    ("lora_mid.weight", "LoCon with Tucker decomposition"),
    ("dora_scale", "DoRA"),
    ("lora_magnitude_vector", "DoRA"),
    ("lora_magnitude_vector.weight", "DoRA"),
    ("oft_blocks", "OFT"),
    ("oft_diag", "OFT"),
    ("oft_R.weight", "OFT"),
    ("on_input", "IA3"),
)
# The tensors of a layer end like this; what is before is the name of the layer.
_END = re.compile(
    r"(?:\.processor)?[._](?:lora_down|lora_up|lora_mid|lora_A|lora_B|lora\.down|lora\.up|hada_w[12]_[ab]|hada_t[12]|"
    r"lokr_w[12](?:_[ab])?|lokr_t2|dora_scale|lora_magnitude_vector|oft_blocks|oft_diag|oft_R|a[12]|b[12]|on_input|"
    r"alpha|rescale|diff|diff_b)(?:\.default)?(?:\.weight|\.bias)?$|(?<=_lora[12])\.(?:down|up)\.weight$"
)
_LONGEST_END = 60
_SHOWS = re.compile(
    r"[._]lora[._](?:down|up|A|B|mid)\b|_lora[12]?\.(?:down|up)\.|hada_w1|lokr_w1|oft_(?:blocks|diag|R)\b|lora_magnitude|"
    r"dora_scale|on_input"
)
# Whose program wrote the names.
_LAYOUTS = (
    ("lora_transformer_", "onetrainer"),
    ("lora_unet_", "kohya"),
    ("lora_te", "kohya"),
    ("lycoris_", "lycoris"),
    ("base_model.model.", "peft"),
    ("diffusion_model.", "ai-toolkit"),
    ("transformer.", "diffusers"),
    ("unet.", "diffusers"),
)
# What begins the name of a layer, and the part of a pipeline that it belongs to.
_PARTS = {
    "lora_te3_": "text_encoder_3",
    "lora_te2_": "text_encoder_2",
    "lora_te1_": "text_encoder",
    "lora_te_": "text_encoder",
    "lora_unet_": "",
    "lora_transformer_": "",
    "lycoris_": "",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "text_encoders.": "text_encoder",
    "base_model.model.": "",
    "diffusion_model.": "",
    "transformer.": "",
    "unet.": "",
}

_START = re.compile("|".join(map(re.escape, _PARTS)))


def is_of_text(layer: str) -> bool:
    """Whether a layer by this name is a text encoder's."""
    return _part(layer)[0] != ""


def is_lora(names: Mapping[str, Shape]) -> bool:
    return _SHOWS.search("\n".join(names)) is not None


@dataclass(frozen=True)
class Adapter:
    """A file of changes to the layers of a model."""

    shapes: Mapping[str, Shape]

    @cached_property
    def _names(self) -> _Names:
        return _names(tuple(self.shapes))

    @property
    def lycoris(self) -> str:
        """The kind that is no plain LoRA, empty for a plain one."""
        return self._names.lycoris

    @property
    def layout(self) -> str:
        return self._names.layout

    @property
    def parts(self) -> tuple[str, ...]:
        return self._names.parts

    @cached_property
    def denoiser(self) -> Tensors:
        """The layers of the denoiser by their names with '_' for '.', as (out, in); 0 where a side does not show."""
        shapes, sides = self.shapes, dict[str, Shape]()
        for layer, halves in self._names.layers.items():
            up, down = halves.get("up"), halves.get("down")
            if (
                up is not None and down is not None
            ):  # as nearly all have them: no call for each of a million layers
                last, first = shapes[up], shapes[down]
                sides[layer] = last[0] if len(last) > 1 else 0, first[1] if len(first) > 1 else 0
            else:
                sides[layer] = _sides({half: shapes[name] for half, name in halves.items()})
        return Tensors(sides)

    @property
    def is_control(self) -> bool:
        """Its changes make a model take a control picture: more goes into the first layer, or it says so itself."""
        if "lora_controlnet" in self.shapes:
            return True
        first = self.denoiser.shape_of("img_in") or self.denoiser.shape_of("x_embedder")
        return first is not None and (first[1] in (128, 320) or (self._names.has_norms and first[1] > 64))


@dataclass(frozen=True, slots=True)
class _Names:
    """What the names alone say. `layers` of the denoiser: what a tensor is of its layer -> the tensor's name."""

    lycoris: str
    layout: str
    parts: tuple[str, ...]
    layers: Mapping[str, Mapping[str, str]]
    has_norms: bool


@lru_cache(16)  # one trainer's LoRAs have the same names whatever their rank, and there are thousands of them
def _names(names: tuple[str, ...]) -> _Names:
    text = lines(names)
    layers: dict[str, dict[str, str]] = {}
    parts: set[str] = set()
    for name in names:
        part, layer, half = _place(name)
        parts.add(part or "denoiser")
        if not part and half:
            layers.setdefault(layer, {})[half] = name
    lycoris = next((kind for end, kind in _KINDS if f".{end}\n" in text or f"\n{end}\n" in text), "")
    norms = "norm.query_norm.scale\n" in text or "norm.key_norm.scale\n" in text
    return _Names(lycoris, _layout(text), tuple(sorted(parts)), layers, norms)


def _layout(text: str) -> str:
    if "_lora1." in text or "_lora2." in text:
        return "xlabs"
    for start, layout in _LAYOUTS:
        if f"\n{start}" in text:
            return layout
    bfl = "\ndouble_blocks." in text or "\nsingle_blocks." in text
    return "bfl" if bfl else "diffusers"


def _part(name: str) -> tuple[str, str]:
    """The part of a pipeline, empty for the denoiser, and the name without what stands before it."""
    match = _START.match(name)
    if match is None:
        return "", name
    own = name[match.end() :]
    return _part(own) if match[0] == "base_model.model." else (_PARTS[match[0]], own)


def _place(name: str) -> tuple[str, str, str]:
    """(part, name of the layer with '_' for '.', what the tensor is of it); the last is empty for what is of none."""
    part, own = _part(name)
    match = _END.search(own, max(0, len(own) - _LONGEST_END))
    return (
        (part, "", "") if match is None else (part, own[: match.start()].replace(".", "_"), _half(match[0]))
    )


@cache
def _half(end: str) -> str:
    """What a tensor is of its layer, by the end of its name."""
    words = re.split(r"[._]", end.removesuffix(".weight").removesuffix(".default"))
    last = "_".join(word for word in words if word not in ("", "processor", "lora", "hada", "lokr"))
    return (
        {"A": "down", "B": "up", "w1_b": "down", "w1_a": "up"}.get(last, last) if "lokr" not in end else last
    )


def _sides(halves: Mapping[str, Shape]) -> Shape:
    """(out, in) of a layer: what comes out of its second half, what goes into its first one; a LoKr is a product."""
    up, down = halves.get("up", ()), halves.get("down", ())
    if not (up and down):
        one, two = _factor(halves, "w1"), _factor(halves, "w2")
        if one and two:
            return one[0] * two[0], one[1] * two[1]
    return up[0] if len(up) > 1 else 0, down[1] if len(down) > 1 else 0


def _factor(halves: Mapping[str, Shape], name: str) -> Shape:
    """The sides of one factor of a LoKr, which may be two halves itself; empty when it does not show."""
    whole = halves.get(name, ())
    first, second = halves.get(f"{name}_a", ()), halves.get(f"{name}_b", ())
    if len(whole) >= 2:
        return whole[0], whole[1]
    return (first[0], second[1]) if len(first) >= 2 and len(second) >= 2 else ()
