"""How a family and its variants show themselves on disk. Data; who evaluates it is in the library."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.families.layers import Conditions
from pipelines.spec.families.prediction import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A kind of model within a family, told by its denoiser, by tensors beside it (`marks`), or by words in its name.

    `words` decide where the shapes allow several. `classes` are the pipeline classes of its folders, `scheduler` how
    the class begins that only its folders have. `problem` says why it cannot be used; empty when it can. `beside` is
    what its denoiser sees besides the latents, a row in BESIDE of `runtime/beside.py`; its width alone tells it then.
    """

    id: str
    denoiser: Conditions = ()
    marks: Conditions = ()
    words: tuple[str, ...] = ()
    classes: frozenset[str] = frozenset()
    scheduler: str = ""
    problem: str = ""
    beside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """How a family shows itself: each tuple of alternatives is a tuple of conditions, of which all must hold.

    `denoiser` and `vae` speak of those parts; `lora` of what a LoRA changes. `architectures` are GGUF's words for it.
    `classes` are names that only its pipelines and networks have. `needs` is what a picture takes beside the denoiser.
    `variants` are tried in order; a model that is none of them is a `plain` one. `unsure`: the file does not say what
    it predicts; words in the name that do (`hints`) come before the family's own.
    """

    denoiser: tuple[Conditions, ...] = ()
    vae: tuple[Conditions, ...] = ()
    text: tuple[Conditions, ...] = ()
    lora: tuple[Conditions, ...] = ()
    architectures: tuple[str, ...] = ()
    classes: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    unsure: bool = False
    hints: tuple[tuple[str, Prediction], ...] = ()
    plain: str = "normal"
    guidance: str = ""  # 'distilled' where a number of the denoiser's own takes the place of guidance
