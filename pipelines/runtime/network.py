"""A network built empty and given the tensors of its files: no weight is initialised, or converted twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights

from pipelines.runtime import gguf_weights
from pipelines.runtime.meter import Meter
from pipelines.runtime.precision import Precision, settle
from pipelines.runtime.reading import tensors
from pipelines.runtime.stored import Stored
from pipelines.spec.errors import ModelError

_TEXT = "text_model."
# Of transformers' configs: which code computes, and in which precision, is not for a file to say.
_NOT_SETTINGS = ("_", "attn_implementation", "dtype", "torch_dtype", "auto_map", "experts_implementation")
_CONFIGS: Mapping[str, Any] = {
    "CLIPTextModel": transformers.CLIPTextConfig,
    "CLIPTextModelWithProjection": transformers.CLIPTextConfig,
    "CLIPVisionModelWithProjection": transformers.CLIPVisionConfig,
    "T5EncoderModel": transformers.T5Config,
}
_INNER = ("text_config", "vision_config")  # in the config of a whole CLIP
_DIFFUSERS = (
    "UNet2DConditionModel", "ControlNetModel", "FluxTransformer2DModel", "FluxControlNetModel", "AutoencoderKL",
)  # fmt: skip
CLASSES = frozenset((*_CONFIGS, *_DIFFUSERS))


@dataclass(frozen=True, slots=True)
class Sketch:
    """`module` on the meta device, and where each of its weights lies. `place` is what messages name."""

    module: Any
    names: Mapping[str, Stored]
    place: Path


def empty(class_name: str, config: Mapping[str, Any]) -> Any:
    """On the meta device: no weight is initialised; what is no weight (a buffer) is computed."""
    with init_empty_weights(include_buffers=False):
        if class_name not in _CONFIGS:
            return getattr(diffusers, class_name).from_config(dict(config))
        inner = next((config[name] for name in _INNER if isinstance(config.get(name), dict)), config)
        own = {name: value for name, value in inner.items() if not name.startswith(_NOT_SETTINGS)}
        module = getattr(transformers, class_name)(_CONFIGS[class_name](**own))
    return _tied(module)


def _tied(module: Any) -> Any:
    """T5's encoder has its table of words a second time, under a name that files leave out."""
    if isinstance(module, transformers.T5EncoderModel):
        module.encoder.embed_tokens.weight = module.shared.weight
    return module


def settings_of(module: Any) -> dict[str, Any]:
    """All that decides what the network computes with its weights."""
    config = module.config if hasattr(module, "save_config") else module.config.to_dict()
    told = (*_NOT_SETTINGS, "transformers_version", "architectures")
    return {name: value for name, value in dict(config).items() if not name.startswith(told)}


def as_named(names: Mapping[str, Any], module: Any) -> dict[str, Any]:
    """The names of a folder or a file as the module has them now.

    transformers 5 has `text_model.` only in the class with a projection, NovelAI's files nowhere; T5's table of words
    has two names, of which a file needs one; attention of VAEs before diffusers 0.15 has other names.
    """
    if isinstance(module, transformers.T5EncoderModel):
        table = names.get("shared.weight", names.get("encoder.embed_tokens.weight"))
        return {**names, **({"shared.weight": table} if table is not None else {})}
    if hasattr(module, "_fix_state_dict_keys_on_load"):
        return dict(module._fix_state_dict_keys_on_load(dict(names)))
    if not isinstance(module, transformers.CLIPTextModel | transformers.CLIPTextModelWithProjection):
        return dict(names)
    inner = _TEXT if hasattr(module, "text_model") else ""
    return {
        name if name.startswith("text_projection") else inner + name.removeprefix(_TEXT): stored
        for name, stored in names.items()
    }


def filled(
    sketch: Sketch, precision: Precision, device: torch.device, lands: torch.device, meter: Meter
) -> torch.nn.Module:
    """The network, in the precision, ready to compute on `device`; `lands` is where it lies so far.

    Raises ModelError for weights that are missing or cannot be read, RuntimeError for those that do not fit, Cancelled.
    """
    module, names = sketch.module, sketch.names
    wanted = {name: names[name] for name in module.state_dict() if name in names}
    read = tensors(wanted, precision.of, lands, meter)
    state = dict(gguf_weights.narrowed(read, module, precision.weights))
    state = gguf_weights.settled(module, state, precision.weights, precision.compute)
    _tied(module).load_state_dict(state, strict=False, assign=True)
    if missing := [name for name, weight in _tied(module).state_dict().items() if weight.is_meta]:
        text = f"{len(missing)} weights are missing, such as '{missing[0]}': {sketch.place}"
        raise ModelError(text, "Get the model again.")
    module = module.to(lands).eval().requires_grad_(False)  # what is no weight is on the CPU still
    settle(module, precision)
    return module
