"""The table of what the weights of a model may be packed into while they are loaded, and which of them are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.spec.families.base import Family
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest

# Numbers that share a scale; a block is their scale and they (ggml-org/llama.cpp, gguf-py/gguf/quants.py).
BLOCK = 32
_LEAST = 1024  # numbers; of smaller tensors nothing is saved
# First and last layers and the embeddings of time and words, by diffusers' names and by those of files: they are a
# hundredth of a network, and what they lose goes through all of it.
_WHOLE = (
    "conv_in.", "conv_out.", "time_embedding.", "add_embedding.", "class_embedding.",  # U-Net
    "input_blocks.0.", "out.", "time_embed.", "label_emb.",  # in files
    "x_embedder.", "context_embedder.", "time_text_embed.", "norm_out.", "proj_out.",  # FLUX
    "img_in.", "txt_in.", "time_in.", "vector_in.", "guidance_in.", "final_layer.",  # in files
    "shared.", "encoder.embed_tokens.",  # T5
)  # fmt: skip
_EMBEDDINGS = ("relative_attention_bias.weight", "embedding.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """`id` as in `GenerationRequest.weights`; `kind` as headers name the numbers; `block` are the bytes of 32 of them.

    `numbers` share a scale; `end` is that of a file that has them. `matrices`: in files of other programs only linear
    layers are so, in memory all that is packable. `words` tell a person what it means; `forge` is Forge's word for it
    in the text of a picture.
    """

    id: str
    title: str
    bits: int
    kind: str
    block: int
    words: str
    forge: str
    numbers: int = BLOCK
    end: str = ".gguf"
    matrices: bool = False

    def is_kind(self, dtype: str) -> bool:
        """Whether numbers of this `ModelRecord.dtype` are these already."""
        return dtype.startswith("float8") if self.id == "fp8" else dtype.upper() == self.kind


_PARTS = "The denoiser and, in FLUX, the T5 text encoder are packed while they are loaded; CLIP and VAE stay."
NF4 = Weights(
    id="nf4", title="4 bits (NF4)", bits=4, kind="NF4", block=18, forge="bnb-nf4",
    numbers=64, end=".safetensors", matrices=True,
    words="A tenth less memory than int4, and quicker to widen; pictures differ more. A saved file is one that "
    f"programs with bitsandbytes read. {_PARTS}",
)  # fmt: skip
WEIGHTS = (
    Weights(
        id="fp8", title="8 bits (fp8)", bits=8, kind="F8_E4M3", block=32, forge="float8-e4m3fn", end=".safetensors",
        words=f"Half the memory of 16 bits, in numbers with a floating point. {_PARTS}",
    ),
    Weights(
        id="int8", title="8 bits (int8)", bits=8, kind="Q8_0", block=34, forge="int8",
        words=f"Half the memory of 16 bits, and pictures that are nearly the same. {_PARTS}",
    ),
    Weights(
        id="int4", title="4 bits (int4)", bits=4, kind="Q4_1", block=20, forge="int4",
        words=f"A third of the memory of 16 bits; pictures differ in details, and a step takes longer. {_PARTS}",
    ),
    NF4,
)  # fmt: skip
_BY_ID = {row.id: row for row in WEIGHTS}
NAMES = tuple(_BY_ID)


def weights_of(name: str) -> Weights | None:
    """The row of this id; None for the empty one, which is the weights as the file has them, and for unknown ones."""
    return _BY_ID.get(name)


def is_packed_part(family: Family, part: str) -> bool:
    """The denoiser, and T5, which is as large as one; CLIP and the VAE are small, and what they lose shows."""
    row = family.file_parts.get(part)
    return part == family.denoiser or (row is not None and row.class_name == "T5EncoderModel")


def is_packable(name: str, shape: tuple[int, ...], row: Weights) -> bool:
    """Whether a tensor of this name, which has no file's prefix before it, is one that is packed so."""
    size = math.prod(shape)
    return (
        len(shape) >= 2
        and name.endswith(".weight")
        and size >= _LEAST
        and size % row.numbers == 0
        and not name.startswith(_WHOLE)
        and not name.endswith(_EMBEDDINGS)
    )


def packed_bytes(row: Weights, shape: tuple[int, ...]) -> int:
    return math.prod(shape) // BLOCK * row.block


def bits_of(dtype: str) -> int:
    """Of a stored number, by `ModelRecord.dtype`."""
    name = dtype.lower()
    if name.startswith(("float8", "fp8", "int8", "q8", "i8", "f8")):
        return 8
    if name.startswith(("q5", "q6")):
        return int(name[1])
    if name.startswith(("q", "iq", "nf4", "fp4", "int4", "mxfp4", "svdquant")):
        return 4
    return 32 if name in ("float32", "fp32", "f32") else 16


def bits_now(request: GenerationRequest, record: ModelRecord) -> int:
    """Of a stored number of the model, with what the request packs it into."""
    row = weights_of(request.weights)
    return row.bits if row else min(16, bits_of(record.dtype))
