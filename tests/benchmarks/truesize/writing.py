"""A part with random weights, counted on the meta device or written straight to disk, a block at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from tests.benchmarks.truesize.configs import CLIP_VOCABULARY, T5_VOCABULARY, Part, TrueSize

SPREAD = 0.02
SHARD_BYTES = 500_000_000  # what is in memory at once
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def on_meta(part: Part) -> torch.nn.Module | None:
    """The module without memory; None for a tokenizer or a scheduler."""
    with torch.device("meta"):
        match part.class_name:
            case "CLIPTextModel" | "CLIPTextModelWithProjection":
                config = transformers.CLIPTextConfig(**part.config)
                return getattr(transformers, part.class_name)(config)
            case "T5EncoderModel":
                return transformers.T5EncoderModel(transformers.T5Config(**part.config))
            case "UNet2DConditionModel" | "AutoencoderKL" | "FluxTransformer2DModel":
                return getattr(diffusers, part.class_name)(**part.config)
    return None


def parameters(module: torch.nn.Module) -> int:
    """Tied ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def write(size: TrueSize, folder: Path, dtype: torch.dtype, seed: int = 0) -> int:
    """A diffusers folder; the bytes of its weights. The same seed gives the same bytes."""
    generator = torch.Generator().manual_seed(seed)
    write_configs(size, folder)
    written = 0
    for name, part in size.parts.items():
        module = on_meta(part)
        if module is not None:
            written += _write_weights(module, folder / name, dtype, generator, part.library)
    return written


def write_configs(size: TrueSize, folder: Path) -> None:
    """The folder without its weights."""
    for name, part in size.parts.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        module = on_meta(part)
        if module is None:
            _write_plain(part, place)
        else:
            _write_config(module, place)
    index = {name: [part.library, part.class_name] for name, part in size.parts.items()}
    data = {
        "_class_name": size.class_name,
        "_diffusers_version": diffusers.__version__,
        **size.settings,
        **index,
    }
    (folder / "model_index.json").write_text(json.dumps(data, indent=2))


def _write_config(module: Any, place: Path) -> None:
    if isinstance(module, transformers.PreTrainedModel):
        module.config.save_pretrained(place)
    else:
        module.save_config(place)


def _write_weights(
    module: torch.nn.Module, place: Path, dtype: torch.dtype, generator: torch.Generator, library: str
) -> int:
    """In shards, so that a 24 GB model needs one in memory."""
    stem = "model" if library == "transformers" else "diffusion_pytorch_model"
    shards = list(_shards(module, dtype))
    places, total = {}, 0
    for number, shard in enumerate(shards, 1):
        file = (
            f"{stem}.safetensors"
            if len(shards) == 1
            else f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        )
        tensors = {name: _random(name, shape, dtype, generator) for name, shape in shard}
        save_file(tensors, place / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (place / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    return total


def _shards(module: torch.nn.Module, dtype: torch.dtype) -> Iterator[list[tuple[str, torch.Size]]]:
    """Names and shapes, each parameter once."""
    shard: list[tuple[str, torch.Size]] = []
    held = 0
    for name, parameter in module.named_parameters():
        size = parameter.numel() * dtype.itemsize
        if shard and held + size > SHARD_BYTES:
            yield shard
            shard, held = [], 0
        shard.append((name, parameter.shape))
        held += size
    yield shard


def _random(name: str, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """N(0, 0.02); the weights of norms around 1, or the signal would be gone after a few layers."""
    values = torch.empty(shape).normal_(0, SPREAD, generator=generator)
    return (values + 1 if name.endswith("weight") and len(shape) == 1 else values).to(dtype)


def _write_plain(part: Part, place: Path) -> None:
    if part.class_name.endswith("Scheduler"):
        getattr(diffusers, part.class_name)(**part.config).save_pretrained(place)
    else:
        _TOKENIZERS[part.class_name]().save_pretrained(place)


def _clip_tokenizer() -> Any:
    """CLIP's bytes and marks at their places, and nothing but fillers between them."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += [f"<filler{i}>" for i in range(CLIP_VOCABULARY - 2 - len(names))]
    names += ["<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=77
    )


def _t5_tokenizer() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(ord("!"), ord("~") + 1)]
    pieces += [(f"<filler{i}>", -99.0) for i in range(T5_VOCABULARY - 128 - len(pieces))]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=100, model_max_length=512)


_TOKENIZERS = {"CLIPTokenizer": _clip_tokenizer, "T5Tokenizer": _t5_tokenizer}
