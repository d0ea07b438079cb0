"""Which small VAE draws the previews of a family, of those that the library knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from pipelines.spec import families
from pipelines.spec.errors import ModelError
from pipelines.spec.families.base import Family
from pipelines.spec.record import Kind, ModelRecord

PREVIEWS = ("fast", "tiny")  # a linear map of the latents, or a small VAE where there is one
# Their makers' names (madebyollin/taesd), where the shapes fit several families alike.
_NAMES = (("taesdxl", "sdxl"), ("taesd", "sd1"))


def tiny_vae_of(family: Family, records: Iterable[ModelRecord]) -> ModelRecord | None:
    """The first that decodes latents of this family for certain."""
    usable = (r for r in records if r.kind is Kind.TINY_VAE and r.variant != "encoder" and not r.problem)
    return next((record for record in usable if _space(record) == family.latent.space), None)


def _space(record: ModelRecord) -> str:
    """The latents that it was made for, as in `LatentFormat.space`; empty when nothing tells."""
    path = PurePath(record.path)
    told = f"{path.parent.name} {path.name} {record.title}".lower()
    name = record.family or next((family for word, family in _NAMES if word in told), "")
    try:
        return families.by_id(name).latent.space if name else ""
    except ModelError:
        return ""
