"""`PromptEncoder`: a request's prompts -> keyword arguments of the pipeline call, each text encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch

from pipelines.runtime.loader import Model
from pipelines.runtime.text.clean import TOO_LONG, clean
from pipelines.runtime.text.schemes import SCHEMES
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.request import Prompt

_REMEMBERED_BYTES = 256_000_000  # a prompt is 0.24 MB for SD 1.x and 8 MB for FLUX

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """`call` goes to the pipeline as it is. `notes` are sentences for the user."""

    call: Tensors
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Encoded:
    tensors: Tensors  # on the CPU
    notes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


class PromptEncoder:
    """`encodes` counts the texts that really went through an encoder."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cache: OrderedDict[tuple[object, ...], _Encoded] = OrderedDict()
        self.encodes = 0

    def encode(
        self,
        job: Job,
        model: Model,
        family: Family,
        prompt: Prompt | None = None,
        before: Callable[[Model], None] = lambda model: None,
    ) -> Conditioning:
        """prompt_embeds and, with guidance, as long negative_prompt_embeds, on the device that computes.

        So with the pooled ones where the family has them. `prompt` is the request's own unless given. `before` is
        called when the text encoders are to work; where every text was read before, they are not even asked for.
        """
        prompt = prompt or job.request.prompt
        read = partial(self._encoded, job, model, family, before)
        positive = read(prompt.text)
        tensors, notes = dict(positive.tensors), positive.notes
        if family.cfg_scale(job.request) > 1:
            negative = _negative(model, prompt.negative, positive, read)
            tensors, opposite = _same_length(tensors, negative.tensors, read)
            tensors |= {f"negative_{name}": tensor for name, tensor in opposite.items()}
            notes += negative.notes
        return Conditioning(
            {name: t.to(self._device, model.dtype) for name, t in tensors.items()},
            tuple(dict.fromkeys(notes)),
        )

    @property
    def size_bytes(self) -> int:
        """Of all that is remembered, in RAM."""
        return sum(encoded.size_bytes for encoded in self._cache.values())

    def clear(self) -> None:
        self._cache.clear()

    def knows(self, model: Model, family: Family, texts: Iterable[str]) -> bool:
        """Whether all of them were read with this model, as it is."""
        return all(_key(model, family, text) in self._cache for text in texts)

    def _encoded(
        self, job: Job, model: Model, family: Family, before: Callable[[Model], None], text: str
    ) -> _Encoded:
        key = _key(model, family, text)
        if key not in self._cache:
            job.check()
            before(model)
            key = _key(model, family, text)  # now that they are there, they may be known from another model
        if key not in self._cache:
            self._cache[key] = self._encode(model, family, text)
        self._cache.move_to_end(key)
        while len(self._cache) > 1 and self.size_bytes > _REMEMBERED_BYTES:
            self._cache.popitem(last=False)
        return self._cache[key]

    def _encode(self, model: Model, family: Family, text: str) -> _Encoded:
        cleaned = clean(text)
        tensors, cut = SCHEMES[family.text](model, family, cleaned.text)
        self.encodes += 1
        notes = dict.fromkeys((*cleaned.notes, *((TOO_LONG,) if cut else ())))
        return _Encoded({name: tensor.cpu() for name, tensor in tensors.items()}, tuple(notes))


def _key(model: Model, family: Family, text: str) -> tuple[object, ...]:
    files = [key for name, key in sorted(model.keys.items()) if name.startswith(("text_", "tokenizer"))]
    return (family.id, *files, *model.reading, text)


def _negative(model: Model, text: str, positive: _Encoded, read: Callable[[str], _Encoded]) -> _Encoded:
    """SDXL learned "no prompt" as zeros, not as the encoding of an empty text."""
    if not text and model.settings.get("force_zeros_for_empty_prompt"):
        return _Encoded({name: torch.zeros_like(t) for name, t in positive.tensors.items()}, ())
    return read(text)


def _same_length(one: Tensors, other: Tensors, read: Callable[[str], _Encoded]) -> tuple[Tensors, Tensors]:
    """The pipeline wants both alike: the shorter one gets chunks of the empty prompt behind it."""
    longest = max(tensors["prompt_embeds"].shape[1] for tensors in (one, other))
    if all(tensors["prompt_embeds"].shape[1] == longest for tensors in (one, other)):
        return one, other
    empty = read("").tensors["prompt_embeds"]
    return _lengthened(one, longest, empty), _lengthened(other, longest, empty)


def _lengthened(tensors: Tensors, length: int, empty: torch.Tensor) -> Tensors:
    embeds = tensors["prompt_embeds"]
    pieces = [embeds, *[empty] * ((length - embeds.shape[1]) // empty.shape[1])]
    return {**tensors, "prompt_embeds": torch.cat(pieces, dim=1)}
