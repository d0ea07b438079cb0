"""The names and shapes of a file's tensors, and of the parts in it, to be asked by pattern."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache, cached_property

Shape = tuple[int, ...]
_BREAK = "\n"
_NUMBER = re.compile(r"\d+")

# What stands before the names of a part in a bigger file -> the part. The first that fits holds.
PREFIXES: tuple[tuple[str, str], ...] = (
    ("model.diffusion_model.", "denoiser"),
    ("model_ema.", "ema"),
    ("first_stage_model.", "vae"),
    ("cond_stage_model.", "text"),
    ("conditioner.embedders.0.", "text 0"),
    ("conditioner.embedders.1.", "text 1"),
    ("text_encoders.", "text"),
    ("control_model.", "control"),
    ("depth_model.", "depth"),
    ("vae.", "vae"),
)
# What a file of one part alone may have before every name.
_WRAPPERS = frozenset(
    {"model", "module", "net", "transformer", "unet", "diffusion_model", "params", "params_ema", "state_dict"}
    | {"adapter", "controlnet"}
)


class Tensors:
    """`shapes` by name. Asked for 'a.#.b', '#' being any number and '*' any text, it gives the first that fits."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = shapes

    def __len__(self) -> int:
        return len(self.shapes)

    def shape_of(self, name: str) -> Shape | None:
        if "*" in name:
            found = self._search(name)
            return None if found is None else self.shapes[found]
        if "#" not in name:
            return self.shapes.get(name)
        if _NUMBER.search(name):
            found = self._search(name)
            return None if found is None else self.shapes[found]
        return self._by_pattern.get(name)

    def has(self, *names: str) -> bool:
        return any(self.shape_of(name) is not None for name in names)

    @cached_property
    def _lines(self) -> str:
        return lines(self.shapes)

    @cached_property
    def _names(self) -> dict[str, str]:
        """The names as in `_lines` -> as they are."""
        return {name.replace(_BREAK, " "): name for name in self.shapes}

    @cached_property
    def _by_pattern(self) -> dict[str, Shape]:
        patterns = _NUMBER.sub("#", self._lines).split("\n")[1:-1]
        first: dict[str, Shape] = {}
        for pattern, shape in zip(patterns, self.shapes.values(), strict=True):
            first.setdefault(pattern, shape)
        return first

    def _search(self, pattern: str) -> str | None:
        match = _compiled(pattern).search(self._lines)
        if match is None:
            return None
        begin = self._lines.rfind("\n", 0, match.start() + 1) + 1
        end = self._lines.find("\n", begin)
        return self._names[self._lines[begin:end]]


def lines(names: Collection[str]) -> str:
    """All names in one text, with a break before and behind each."""
    text = f"{_BREAK}{_BREAK.join(names)}{_BREAK}" if names else _BREAK
    if text.count(_BREAK) > len(names) + 1:
        return lines([name.replace(_BREAK, " ") for name in names])
    return text


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A search over lines. An open end is not written out: a search needs none."""
    begin = "" if pattern.startswith("*") else "\n"
    end = "" if pattern.endswith("*") else "\n"
    inner = "".join(_MARKS.get(part) or re.escape(part) for part in re.split(r"([#*])", pattern.strip("*")))
    return re.compile(f"{begin}{inner}{end}")


_MARKS = {"#": r"\d+", "*": "[^\n]*"}


def split(shapes: Mapping[str, Shape]) -> dict[str, Tensors]:
    """The parts of a file by what they are; one that is a single part has the key ''."""
    parts: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        part, own = _placed(name)
        parts.setdefault(part, {})[own] = shape
    if "text" in parts:
        parts |= _named_encoders(parts.pop("text"))
    if set(parts) == {""}:
        parts[""] = _unwrapped(parts[""])
    return {part: Tensors(found) for part, found in parts.items()}


def _placed(name: str) -> tuple[str, str]:
    for prefix, part in PREFIXES:
        if name.startswith(prefix):
            return part, name[len(prefix) :]
    return "", name


def _named_encoders(found: Mapping[str, Shape]) -> dict[str, dict[str, Shape]]:
    """ComfyUI's bundles name each encoder (`t5xxl.transformer.…`); older files have one without a name."""
    parts: dict[str, dict[str, Shape]] = {}
    for name, shape in found.items():
        first, _, rest = name.partition(".")
        named = first not in ("transformer", "model", "text_model", "logit_scale")
        parts.setdefault(f"text {first}" if named else "text", {})[rest if named else name] = shape
    return parts


def _unwrapped(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Without what stands before nearly every name; a mark or two of its own may stand beside."""
    names = dict(shapes)
    while names:
        ((first, times),) = Counter(name.partition(".")[0] for name in names).most_common(1)
        if (
            first not in _WRAPPERS
            or times < 0.9 * len(names)
            or any(n.startswith("model.layers.") for n in names)
        ):
            break
        names = {name.removeprefix(f"{first}."): shape for name, shape in names.items()}
    return names
