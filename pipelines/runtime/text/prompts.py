"""`PromptEncoder`: a request's prompts -> keyword arguments of the pipeline call, each text encoded once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch

from pipelines.runtime.loader import Model
from pipelines.runtime.text import clip
from pipelines.runtime.text.clean import TOO_LONG, clean
from pipelines.spec.families.base import Family, Feature
from pipelines.spec.job import Job

_REMEMBERED = 256  # an SD 1.x prompt is 0.24 MB


@dataclass(frozen=True, slots=True)
class Conditioning:
    """`call` goes to the pipeline as it is. `notes` are sentences for the user."""

    call: dict[str, torch.Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Embedded:
    embeds: torch.Tensor  # [1, tokens, width], on the CPU
    notes: tuple[str, ...]


class PromptEncoder:
    """`encodes` counts the texts that really went through an encoder."""

    def __init__(self) -> None:
        self._cache: OrderedDict[tuple[object, ...], _Embedded] = OrderedDict()
        self.encodes = 0

    def encode(self, job: Job, model: Model, family: Family) -> Conditioning:
        """prompt_embeds and, with guidance, as long negative_prompt_embeds, on the model's device."""
        prompt = job.request.prompt
        guided = Feature.GUIDANCE in family.supports and job.request.sampling.guidance_scale > 1
        texts = {"prompt_embeds": prompt.text} | (
            {"negative_prompt_embeds": prompt.negative} if guided else {}
        )
        embedded = {name: self._embedded(job, model, text) for name, text in texts.items()}
        padded = self._same_length(job, model, {name: e.embeds for name, e in embedded.items()})
        device = model.text_encoder.device
        notes = dict.fromkeys(note for e in embedded.values() for note in e.notes)
        return Conditioning({name: embeds.to(device) for name, embeds in padded.items()}, tuple(notes))

    def clear(self) -> None:
        self._cache.clear()

    def _embedded(self, job: Job, model: Model, text: str) -> _Embedded:
        key = (model.keys["text_encoder"], model.keys["tokenizer"], text)
        if key not in self._cache:
            job.check()
            self._cache[key] = self._encoded(model, text)
        self._cache.move_to_end(key)
        while len(self._cache) > _REMEMBERED:
            self._cache.popitem(last=False)
        return self._cache[key]

    def _encoded(self, model: Model, text: str) -> _Embedded:
        cleaned = clean(text)
        chunks, cut = clip.chunks_of(model.tokenizer, cleaned.text)
        self.encodes += 1
        notes = dict.fromkeys((*cleaned.notes, *((TOO_LONG,) if cut else ())))
        return _Embedded(clip.embed(model.text_encoder, chunks).cpu(), tuple(notes))

    def _same_length(
        self, job: Job, model: Model, embeds: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The pipeline wants both alike: the shorter one gets chunks of the empty prompt behind it."""
        longest = max(e.shape[1] for e in embeds.values())
        if all(e.shape[1] == longest for e in embeds.values()):
            return embeds
        empty = self._embedded(job, model, "").embeds
        return {
            name: torch.cat([e, *[empty] * ((longest - e.shape[1]) // empty.shape[1])], dim=1)
            for name, e in embeds.items()
        }
