"""The parts that a denoiser in a file of its own takes from other files: their words, and where they are had."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LentPart:
    """`id` is the word of `ModelRecord.needs`; `title` has its article and stands in sentences, `short` on a button.

    `folder` lies below the models folder. `source` names the file as the downloads take it, the one that most people
    have; empty where the right one depends on the model.
    """

    id: str
    title: str
    short: str
    folder: str
    source: str = ""


WORDS = "words"
_ENCODERS = "comfyanonymous/flux_text_encoders"
LENT_PARTS = (
    LentPart(id="vae", title="a VAE", short="a VAE", folder="vae"),
    LentPart(
        id="clip_l", title="the text encoder CLIP-L", short="CLIP-L", folder="text_encoders",
        source=f"{_ENCODERS}/clip_l.safetensors",
    ),
    LentPart(id="clip_g", title="the text encoder CLIP-G", short="CLIP-G", folder="text_encoders"),
    LentPart(id="clip_h", title="the text encoder CLIP-H", short="CLIP-H", folder="text_encoders"),
    LentPart(
        id="t5xxl", title="the text encoder T5-XXL", short="T5-XXL", folder="text_encoders",
        source=f"{_ENCODERS}/t5xxl_fp16.safetensors",
    ),
    LentPart(
        id=WORDS, title="T5's list of words (tokenizer.json)", short="T5's words", folder="tokenizers/t5",
        source="black-forest-labs/FLUX.1-schnell/tokenizer_2/tokenizer.json",
    ),
)  # fmt: skip
BY_NEED = {row.id: row for row in LENT_PARTS}
