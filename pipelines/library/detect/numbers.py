"""How the numbers of a file are stored: their type, whether they are quantised, and how many there are."""

from __future__ import annotations

from math import prod

from pipelines.library.contents import count
from pipelines.library.detect.tensors import lines
from pipelines.library.header import Header

Shape = tuple[int, ...]
# What the quantisers put beside a weight: facts about it, no numbers of the model's own.
_BESIDE = (
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
    ".scale_weight",
    ".scale_input",
    ".weight_scale",
    ".input_scale",
    "scaled_fp8",
)
_SCALES = (".scale_weight", ".weight_scale", "scaled_fp8")
_PLAIN = {"F64", "F32", "F16", "BF16"}
_FP8 = {"F8_E4M3": "fp8_e4m3", "F8_E5M2": "fp8_e5m2"}
_PACKED = {"nf4": ".quant_state.bitsandbytes__nf4", "fp4": ".quant_state.bitsandbytes__fp4"}


def quantisation(header: Header) -> str:
    """'fp8_e4m3', 'fp8_e4m3_scaled', 'nf4', 'svdquant', GGUF's own word, or empty for plain numbers."""
    kinds = {*header.dtypes.values()}
    if kinds <= _PLAIN:  # as most files are: no search in thousands of names
        return ""
    names = lines(header.shapes)
    for word, mark in _PACKED.items():
        if _any(names, (mark,)):
            return word
    if _any(names, (".wscales", ".qweight")):
        return "svdquant" if _any(names, (".smooth_factor", ".proj_down")) else "int4"
    if header.container == "gguf":
        return _most_quantised(header)
    amounts = {word: _amount(header, kind) if kind in kinds else 0 for kind, word in _FP8.items()}
    word = max(amounts, key=lambda name: amounts[name])
    if not amounts[word]:
        return "int8" if _any(names, (".SCB", ".weight_scale")) and "I8" in header.dtypes.values() else ""
    return f"{word}_scaled" if _any(names, _SCALES) else word


def _any(names: str, ends: tuple[str, ...]) -> bool:
    """Whether a line ends so: one search over all names is a hundred times as fast as one each."""
    return any(f"{end}\n" in names for end in ends)


def _amount(header: Header, kind: str) -> int:
    return sum(count(header.shapes[name]) for name, own in header.dtypes.items() if own == kind)


def _most_quantised(header: Header) -> str:
    """GGUF keeps small tensors as they are; the type of the most numbers among the others names the file."""
    kinds = {kind for kind in header.dtypes.values() if kind not in _PLAIN}
    return max(kinds, key=lambda kind: _amount(header, kind), default="")


def dtype(header: Header, quantised: str) -> str:
    """In torch's words; of packed numbers, which torch has no word for, the quantiser's."""
    return quantised if quantised in (*_PACKED, "svdquant", "int4") else header.dtype


def parameters(header: Header, quantised: str) -> int:
    """The numbers of the model itself: without a running average of it and what the quantisers put beside."""
    packed = 2 if quantised in _PACKED else 1
    names = lines(header.shapes)
    if packed == 1 and "\nmodel_ema." not in names and not _any(names, _BESIDE):
        return sum(map(prod, header.shapes.values()))
    total = 0
    for name, shape in header.shapes.items():
        if not name.startswith("model_ema.") and not name.endswith(_BESIDE):
            total += count(shape) * (packed if header.dtypes.get(name) == "U8" else 1)
    return total


def shapes(header: Header, quantised: str) -> dict[str, Shape]:
    """As the model has them. Of a weight that is packed into bytes its bias and its size tell, else 0 stands there."""
    if quantised not in (*_PACKED, "svdquant", "int4"):
        return dict(header.shapes)
    packed = {name for name, kind in header.dtypes.items() if kind in ("U8", "I8", "I32")}
    return {
        n: _unpacked(header, n, quantised) if n in packed else shape for n, shape in header.shapes.items()
    }


def _unpacked(header: Header, name: str, quantised: str) -> Shape:
    bias = header.shapes.get(f"{name.removesuffix('.weight')}.bias", ())
    out = bias[0] if bias else 0
    total = 2 * count(header.shapes[name])
    return (out, total // out) if out and quantised in _PACKED and total % out == 0 else (0, 0)
