"""What a model is, in words: kind, family, size, state, and why it cannot be used."""

from __future__ import annotations

from functools import cache

from pipelines.spec import families
from pipelines.spec.errors import EngineError
from pipelines.spec.families.others import OTHERS
from pipelines.spec.model_note import ModelDefaults
from pipelines.spec.record import Format, Kind, ModelRecord, State
from pipelines.spec.schedulers import SCHEDULERS
from widgets.metrics import Tone

KINDS: dict[Kind, str] = {
    Kind.CHECKPOINT: "Checkpoint",
    Kind.TRANSFORMER: "Transformer",
    Kind.UNET: "U-Net",
    Kind.LORA: "LoRA",
    Kind.CONTROL_LORA: "Control LoRA",
    Kind.CONTROLNET: "ControlNet",
    Kind.T2I_ADAPTER: "T2I-Adapter",
    Kind.IP_ADAPTER: "IP-Adapter",
    Kind.VAE: "VAE",
    Kind.TINY_VAE: "Preview VAE",
    Kind.TEXT_ENCODER: "Text encoder",
    Kind.IMAGE_ENCODER: "Image encoder",
    Kind.EMBEDDING: "Embedding",
    Kind.UPSCALER: "Upscaler",
    Kind.OTHER: "Other part",
    Kind.UNKNOWN: "Unknown",
}
STATES: dict[State, str] = {
    State.READY: "Ready",
    State.INCOMPLETE: "Incomplete",
    State.UNSUPPORTED: "Not supported",
    State.BROKEN: "Broken",
    State.UNSAFE: "Unsafe",
}
STATE_MARKS: dict[State, tuple[str, Tone]] = {
    State.READY: ("success", Tone.INFO),
    State.INCOMPLETE: ("warning", Tone.WARNING),
    State.UNSUPPORTED: ("info", Tone.WARNING),
    State.BROKEN: ("error", Tone.ERROR),
    State.UNSAFE: ("error", Tone.ERROR),
}
NO_FAMILY = "Unknown"
_OTHERS = {other.id: other.name for other in OTHERS}
_SAMPLERS = {row.id: row.name for row in SCHEDULERS}
_BASES = {"sd1": "SD 1.x", "sd2": "SD 2.x", "sdxl": "SDXL", "flux": "FLUX.1"}


_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}
_DRAWS = (Kind.CHECKPOINT, Kind.TRANSFORMER, Kind.UNET, Kind.OTHER)


@cache
def _family_name(family: str, base: str) -> str:
    """Short, as it stands in a narrow column."""
    try:
        name = families.by_id(family).name if family else _base_name(base)
        return name.replace("Stable Diffusion XL", "SDXL").replace("Stable Diffusion", "SD")
    except EngineError:
        return _base_name(base)


@cache
def _base_name(base: str) -> str:
    """'sd1/sdxl' names several that fit."""
    return " or ".join(_OTHERS.get(b) or _BASES.get(b, b) for b in base.split("/")) if base else NO_FAMILY


def family_name(record: ModelRecord) -> str:
    """Of what goes with a model the common word: a LoRA for FLUX.1 dev goes with schnell as well."""
    alone = record.kind not in _DRAWS and record.base
    return _base_name(record.base) if alone else _family_name(record.family, record.base)


def precision(record: ModelRecord) -> str:
    """How the numbers are stored, in the short words of the field: 'fp16', 'Q4_K'."""
    return record.quantisation or _SHORT.get(record.dtype, record.dtype)


def size_text(size_bytes: int) -> str:
    """In the units that download pages use, of a thousand; '' for none."""
    if size_bytes <= 0:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return (
                f"{size_bytes / scale:.1f} {unit}"
                if size_bytes < 100 * scale
                else f"{size_bytes / scale:.0f} {unit}"
            )
    return f"{max(1, round(size_bytes / 1e3))} KB"


def count_text(number: int) -> str:
    """Parameters: '2.6 billion', '860 million', '3,072'."""
    if number < 100_000:
        return f"{number:,}"
    if number >= 1e9:
        return f"{number / 1e9:.1f} billion"
    return f"{number / 1e6:.0f} million" if number >= 1e7 else f"{number / 1e6:.2f} million"


def sentence(record: ModelRecord) -> str:
    """Such as 'A LoRA for SDXL (pony).'"""
    if record.kind is Kind.UNKNOWN:
        return "What this file is could not be told."
    kind = record.kind.named
    family = family_name(record)
    told = kind[:1].upper() + kind[1:]
    if family != NO_FAMILY:
        told += f" {'of' if record.kind in _DRAWS else 'for'} {family}"
    if record.variant not in ("", "normal"):
        told += f" ({record.variant})"
    return f"{told}, as a folder." if record.format is Format.DIFFUSERS else f"{told}, in one file."


def can_draw(record: ModelRecord) -> bool:
    return record.draws and not record.problem


def use_tip(record: ModelRecord) -> str:
    """What the button that takes a model does, or why it does nothing."""
    if record.problem:
        return "It cannot be used; the reason is written below."
    if not can_draw(record):
        return f"{sentence(record)} It goes with a model that draws, from the command line for now."
    return "Draw with this model and go back to the picture (Enter)."


def defaults_text(defaults: ModelDefaults) -> str:
    sampling, size = defaults.sampling, defaults.size
    sampler = _SAMPLERS.get(sampling.scheduler, sampling.scheduler)
    return (
        f"{sampler}, {sampling.num_inference_steps} steps, guidance {sampling.guidance_scale:g}, "
        f"{size.width} × {size.height}"
    )
