"""Checkpoints and denoisers: which family's they are, in which variant, and what is beside the denoiser."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from pipelines.library.detect.finding import Finding
from pipelines.library.detect.kinds import KINDS
from pipelines.library.detect.refusal import refused, unsupported
from pipelines.library.detect.tensors import Tensors, split
from pipelines.library.detect.words import fits_name, named_families
from pipelines.spec.families import FAMILIES
from pipelines.spec.families.base import Family
from pipelines.spec.families.layers import missing
from pipelines.spec.families.others import OTHERS, Other
from pipelines.spec.families.prediction import Prediction
from pipelines.spec.families.signs import Variant
from pipelines.spec.families.unet_layers import CONTEXT
from pipelines.spec.record import Kind, State

_V_MARK = "v_pred"  # a tensor that makers of SDXL models add to say what their files cannot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a file beside its tensors: its `name` without the suffix, the family that its maker names, the
    text of the .yaml beside it, the metadata in it; of a folder the classes of its pipeline and scheduler."""

    name: str
    told: str = ""
    yaml: str = ""
    pipeline: str = ""
    scheduler: str = ""
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        """All that it is called."""
        words = (self.metadata.get(f"modelspec.{word}", "") for word in ("title", "architecture"))
        return " ".join((self.name, *words))


def model_finding(parts: dict[str, Tensors], evidence: Evidence) -> Finding | None:
    """A checkpoint, or a denoiser alone."""
    denoiser = parts.get("denoiser") or parts.get("", Tensors({}))
    extra = parts.get("", Tensors({}))
    owner = owner_of(denoiser, evidence.told)
    if owner is None:
        return _unknown_model(parts) if "denoiser" in parts else None
    encoders = tuple(sorted(_encoder(p) for key, p in parts.items() if key.startswith("text")))
    kept = tuple(key for key in ("vae", "depth") if key in parts)
    found = ("transformer" if _is_transformer(owner) else "unet", *kept, *encoders)
    alone = not kept and not encoders
    kind = Kind.CHECKPOINT if not alone else Kind(found[0]) if isinstance(owner, Family) else Kind.OTHER
    layout = _layout(parts, denoiser, alone)
    base = Finding(kind=kind, layout=layout, parts=found)
    if isinstance(owner, Other):
        return unsupported(base, owner)
    needs = tuple(part for part in owner.signs.needs if part not in found)
    base = dataclasses.replace(base, needs=needs, guidance=owner.signs.guidance)
    return varied(base, owner, denoiser, extra, evidence)


def owner_of(denoiser: Tensors, told: str) -> Family | Other | None:
    """The families that are not supported come first: their conditions are those that tell them from the others."""
    owners = (
        owner
        for owner in (*OTHERS, *FAMILIES)
        if any(not missing(each, denoiser.shape_of) for each in owner.signs.denoiser)
    )
    owner = next(owners, None)
    if owner is not None and not (isinstance(owner, Family) and _is_reduced(owner, denoiser)):
        return owner
    # A reduced model has other widths, and its maker says what it is.
    named = [family for family in named_families(told) if _alike(family, denoiser)]
    return named[0] if named else owner


def _is_reduced(family: Family, denoiser: Tensors) -> bool:
    """Whether it reads text of another width than published models do; those of SD 1.x and 2.x look alike then."""
    shapes = (denoiser.shape_of(name) for name in CONTEXT)
    return any(
        shape[1] and shape[1] not in family.add_ons.widths for shape in shapes if shape and len(shape) > 1
    )


def _alike(family: Family, denoiser: Tensors) -> bool:
    """All the layers are there, whatever their widths."""

    def shape_of(name: str) -> tuple[int, ...] | None:
        shape = denoiser.shape_of(name)
        return None if shape is None else (0,) * len(shape)

    return any(not missing(each, shape_of) for each in family.signs.denoiser)


def _is_transformer(owner: Family | Other) -> bool:
    return owner.denoiser == "transformer" if isinstance(owner, Family) else True


def _layout(parts: dict[str, Tensors], denoiser: Tensors, alone: bool) -> str:
    """Whose names the tensors have."""
    if denoiser.has("double_blocks.0.img_attn.qkv.weight"):
        return "bfl" if alone else "comfy"
    if denoiser.has("input_blocks.0.0.weight"):
        return "sgm" if any(key in parts for key in ("text 0", "text 1")) else "ldm"
    return "diffusers" if denoiser.has("conv_in.weight", "x_embedder.weight") else ""


def _encoder(tensors: Tensors) -> str:
    own = next(iter(split(tensors.shapes).values()), tensors)
    rows = (row for row in KINDS if row.kind is Kind.TEXT_ENCODER)
    return next((row.which for row in rows if not missing(row.layers, own.shape_of)), "text_encoder")


def varied(
    finding: Finding,
    family: Family,
    denoiser: Tensors,
    extra: Tensors,
    evidence: Evidence,
) -> Finding:
    signs, assumed = family.signs, []
    variant = next((v for v in signs.variants if _is_variant(v, denoiser, extra, evidence)), None)
    prediction, sure = _prediction(family, extra, evidence)
    if not sure:
        assumed.append(f"The file does not say what it predicts; '{prediction}' is taken.")
    if variant is not None and variant.words:
        assumed.append(f"That it is '{variant.id}' is taken from its name.")
    problem = "" if variant is None else variant.problem
    return dataclasses.replace(
        finding,
        family=family.id,
        base=family.add_ons.base,
        variant=signs.plain if variant is None else variant.id,
        prediction=str(prediction),
        assumed=tuple(assumed),
        state=State.UNSUPPORTED if problem else State.READY,
        reason=problem,
    )


def _is_variant(variant: Variant, denoiser: Tensors, extra: Tensors, evidence: Evidence) -> bool:
    if evidence.pipeline in variant.classes and not variant.beside:
        return not variant.words or any(fits_name(word, evidence.title) for word in variant.words)
    if variant.scheduler and evidence.scheduler.startswith(variant.scheduler):
        return True
    return bool(
        (variant.denoiser or variant.marks or variant.words)
        and not missing(variant.denoiser, denoiser.shape_of)
        and not missing(variant.marks, extra.shape_of)
        and (not variant.words or any(fits_name(word, evidence.title) for word in variant.words))
    )


def _prediction(family: Family, extra: Tensors, evidence: Evidence) -> tuple[Prediction, bool]:
    """What the model predicts, and whether anything says so."""
    told = evidence.metadata.get("modelspec.prediction_type", "").lower()
    if _V_MARK in extra.shapes or told in ("v", "v_prediction"):
        return Prediction.V, True
    if told == "epsilon":
        return Prediction.EPSILON, True
    if evidence.yaml and family.prediction is not Prediction.FLOW:
        return (
            Prediction.V if re.search(r"parameterization:\s*[\"']?v\b", evidence.yaml) else Prediction.EPSILON
        ), True
    if not family.signs.unsure:
        return family.prediction, True
    hinted = next(
        (value for word, value in family.signs.hints if fits_name(word, evidence.name)), family.prediction
    )
    return hinted, False


def _unknown_model(parts: dict[str, Tensors]) -> Finding:
    kind = Kind.CHECKPOINT if len(parts) > 1 else Kind.OTHER
    return refused(Finding(kind=kind), "It is a model of a family that is not known, so it cannot be used.")
