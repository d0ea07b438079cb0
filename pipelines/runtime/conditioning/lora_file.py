"""The key formats of LoRA files -> one: `MODULE.lora_A.weight` and `MODULE.lora_B.weight` by part of the pipeline."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import diffusers
import torch

from pipelines.library.detect.lora import HALVES
from pipelines.runtime.conditioning.tensors import Content, Tensors
from pipelines.spec.errors import ModelError, shortened
from pipelines.spec.families.base import Family, Task

A, B = ".lora_A.weight", ".lora_B.weight"
PEFT_METADATA = "lora_adapter_metadata"


def layers_of(content: Content, family: Family, config: Any, title: str) -> dict[str, Tensors]:
    """The layers by part ('unet', 'text_encoder' ...), their alpha folded in, so that a weight of 1 is as trained.

    `config` is the denoiser's, which tells how kohya's SDXL numbers of blocks are to be read. Raises ModelError for
    keys that nothing here knows.
    """
    plain = _without_alpha(content)
    build = getattr(diffusers, family.pipelines[Task.TEXT])
    more = {"unet_config": config} if family.denoiser == "unet" else {}
    try:
        converted = build.lora_state_dict(plain, **more)
    except Exception as error:  # they raise whatever a name that is not expected leads to
        reason = " ".join(str(error).split())[:200]
        text = f"The LoRA '{title}' cannot be read: {type(error).__name__}: {reason}"
        raise ModelError(text, "It may be of a kind that is not supported yet.") from error
    state = converted[0] if isinstance(converted, tuple) else converted
    return _by_part(state, family)


def _by_part(state: Tensors, family: Family) -> dict[str, Tensors]:
    parts: dict[str, Tensors] = {}
    for key, tensor in state.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[_peft_name(name, part == family.denoiser)] = tensor
    return parts


def _peft_name(name: str, denoiser: bool) -> str:
    """From the names of diffusers before peft. Its own converters give up on a file without output layers."""
    name = name.replace(".processor.", ".")
    if old := _OLD.search(name):
        layer, half = old.groups()
        real = {"out": "to_out.0"}.get(layer, f"to_{layer}") if denoiser else f"{layer}_proj"
        return f"{name[: old.start()]}.{real}{_PEFT[half]}"
    if new := _NEW.search(name):
        return f"{name[: new.start()]}{_PEFT[new[1]]}"
    return name


_OLD = re.compile(r"\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
_NEW = re.compile(r"\.(?:lora|lora_linear_layer)\.(down|up)\.weight$")
_PEFT = {"down": A, "up": B}
_DOWNS = tuple(down for down, _ in HALVES)
_NO_NAME = set("*+?[](){}|\\^$")


def _without_alpha(content: Content) -> Tensors:
    """Each layer times alpha / rank, and no alpha any more: the converters lose that of text encoders."""
    plain = {k: v for k, v in content.tensors.items() if not k.endswith(".alpha")}
    settings = _settings_of(content.json(PEFT_METADATA))
    if not settings and len(plain) == len(content.tensors):
        return plain
    by_scale: dict[float, list[str]] = {}
    for base, down, up in _pairs(content.tensors):
        rank = content.tensors[down].shape[0]
        alpha = content.tensors.get(f"{base}.alpha")
        scale = _peft_scale(settings, base, rank) if alpha is None else float(alpha) / rank
        by_scale.setdefault(scale, []).append(up)
    by_scale.pop(1.0, None)
    for scale, ups in by_scale.items():
        plain |= zip(ups, torch._foreach_mul([plain[up] for up in ups], torch.tensor(scale)), strict=True)
    return plain


def _pairs(found: Tensors) -> Iterator[tuple[str, str, str]]:
    """(name of the layer, key of its down half, key of its up half)."""
    for key in found:
        if not key.endswith(_DOWNS):  # all of them at once
            continue
        for down, up in HALVES:
            if not key.endswith(down):
                continue
            base = key.removesuffix(down)
            if f"{base}{up}" in found:
                yield base, key, f"{base}{up}"
                break


def _settings_of(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that diffusers writes beside the layers, as `unet.lora_alpha`, by part of the pipeline."""
    parts: dict[str, dict[str, Any]] = {}
    for key, value in config.items():
        part, dot, name = key.partition(".")
        if dot:
            parts.setdefault(part, {})[name] = value
    return parts


def _peft_scale(settings: Mapping[str, dict[str, Any]], base: str, rank: int) -> float:
    """1 where there are no settings."""
    part, _, name = base.partition(".")
    own = settings.get(part, {})
    if "lora_alpha" not in own:
        return 1.0
    patterns = own.get("alpha_pattern")
    of_layer = patterns.items() if isinstance(patterns, dict) else ()
    alpha = next((alpha for key, alpha in of_layer if _is_of(key, name)), own["lora_alpha"])
    if not isinstance(alpha, int | float):
        raise ModelError(f"The LoRA's alpha '{shortened(str(alpha))}' is no number.", "Save it again.")
    return float(alpha) / (math.sqrt(rank) if own.get("use_rslora") else rank)


def _is_of(key: str, name: str) -> bool:
    """Whether the layer is one that a key of peft's patterns means: its name, or the end of it.

    peft takes the key for a regular expression, which out of a foreign file could run for ever; names are what there is
    in LoRAs. Raises ModelError for anything else.
    """
    plain = key.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not set(plain).isdisjoint(_NO_NAME):
        text = f"The LoRA's alpha_pattern '{shortened(key)}' is no name of a layer."
        raise ModelError(text, "Save it again with an alpha for each layer.")
    return name == plain or (not key.startswith("^") and name.endswith(f".{plain}"))
