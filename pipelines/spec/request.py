"""`GenerationRequest`: everything that decides the pixels, as one frozen value. Plain JSON both ways."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from dataclasses import dataclass
from typing import Any

from pipelines.spec.errors import RequestError, shortened

MAX_SEED = 2**32 - 1
# Characters of a prompt that are read, some 40 chunks of 75 tokens. Tokenizing a megabyte takes seconds, a text field
# with one in it minutes, and one word of 24,000 letters still 75 ms of the window's thread.
MAX_PROMPT = 12_000
MAX_LEFT_OUT = 32  # of the fields that cannot be read, so many are named


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`text` says what to draw, `negative` what to keep out (only where guidance_scale > 1)."""

    text: str = ""
    negative: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """`scheduler` is the id of a row in `SCHEDULERS`; `seed` of the first picture, the next ones count up."""

    scheduler: str = "euler"
    num_inference_steps: int = 20
    guidance_scale: float = 7.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Pixels of the picture; each side a multiple of the family's `sizes.step`."""

    width: int = 512
    height: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeConditioning:
    """What the model is told about the picture it draws, as of those it learned from (SDXL, section 2.2).

    `original`: the size before it was scaled, small ones look soft; `crop_left`, `crop_top`: pixels cut off there,
    0 gives a centred subject; `target`: the size after the crop. None is the size of the picture itself.
    """

    original: Size | None = None
    target: Size | None = None
    crop_left: int = 0
    crop_top: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refiner:
    """`model` finishes the picture from `switch_at` on, 0 (all of it) to 1 (nothing), on the same schedule.

    `num_inference_steps` None is the base's; other ones cut the schedule elsewhere, so that the levels of noise meet
    only nearly. `prompt` None is the request's. The scores, 0 to 10, are of the pictures to come near to and to keep
    away from, for a refiner that learned them.
    """

    model: str
    switch_at: float = 0.8
    num_inference_steps: int | None = None
    prompt: str | None = None
    aesthetic_score: float = 6.0
    negative_aesthetic_score: float = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """A picture to start from. `path` is a stored copy; `strength` 0 (keep) to 1 (ignore)."""

    path: str
    strength: float = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlInput:
    """A picture that steers the composition through the ControlNet `model`, from `start` to `end` (0..1) of the steps.

    It is scaled to fill the size of the request, and cut to it at the middle. `preprocess` is who draws the control
    picture from a plain one ('canny'); empty: the picture is a control picture already.
    """

    model: str
    path: str
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    preprocess: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraInput:
    """A LoRA by record id, with its weight (1.0 = as trained)."""

    model: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingInput:
    """A textual inversion by record id: the prompt may use its word, the first of the record's `trigger_words`."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IpAdapterInput:
    """A picture prompt: a picture that the IP-Adapter `model` reads beside the text.

    `scale` weighs it against the text: 0 is none, 1 as trained. The middle square of the picture is seen.
    """

    model: str
    path: str
    scale: float = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What makes a step quicker, by the rows of spec/speed.py; all off is the model as it is.

    `step_cache` is the id of a row in `STEP_CACHES`, which changes the picture; `cache_limit` how far it goes, None for
    the row's own. The switches after it change no more of a picture than rounding does.
    """

    step_cache: str = ""
    cache_limit: float | None = None
    compile: bool = False
    channels_last: bool = False
    fused_qkv: bool = False

    @property
    def drawn(self) -> Speed:
        """Of it what the picture shows."""
        return Speed(step_cache=self.step_cache, cache_limit=self.cache_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """`model` is a record id; `count` pictures are made, picture i with seed + i.

    `weights` is the id of a row in `WEIGHTS`, what the model is packed into while it is loaded; empty: as its file is.

    `true_cfg_scale` weighs the prompt against the negative one where `sampling.guidance_scale` is distilled into the
    model (FLUX); 1 is off, and above it each step takes twice the time.
    """

    model: str
    weights: str = ""
    prompt: Prompt = Prompt()
    sampling: Sampling = Sampling()
    size: Size = Size()
    true_cfg_scale: float = 1.0
    size_conditioning: SizeConditioning = SizeConditioning()
    refiner: Refiner | None = None
    image: ImageInput | None = None
    controls: tuple[ControlInput, ...] = ()
    loras: tuple[LoraInput, ...] = ()
    embeddings: tuple[EmbeddingInput, ...] = ()
    ip_adapters: tuple[IpAdapterInput, ...] = ()
    speed: Speed = Speed()
    count: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict(to_dict())` equals the request."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: object) -> GenerationRequest:
        """Raises RequestError, naming the field, for a missing, unknown or wrongly typed one."""
        return _read(cls, data, "request")

    @classmethod
    def readable(cls, data: object) -> tuple[GenerationRequest, tuple[RequestError, ...]]:
        """What `from_dict` would refuse stays at its default ('' for the model), and is answered by name.

        Of a list only the items that cannot be read are missing. Raises RequestError where `data` is no object.
        """
        left_out: list[RequestError] = []
        if isinstance(data, dict):
            data = {**data, "model": _model(data, left_out)}
        return _read(cls, data, "request", left_out), tuple(left_out[:MAX_LEFT_OUT])


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


_LEFT = object()  # in the place of what could not be read


def _read(kind: Any, data: Any, path: str, left_out: list[RequestError] | None = None) -> Any:
    """`data`, checked and built as the annotation `kind`. A list takes the errors within it that need not end it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType or origin is typing.Union:
        if data is None:
            return None
        return _read(next(a for a in arguments if a is not type(None)), data, path, left_out)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise RequestError(path, f"must be a list, not {_named(data)}.")
        items = (_read_or_leave(arguments[0], item, f"{path}[{i}]", left_out) for i, item in enumerate(data))
        return tuple(item for item in items if item is not _LEFT)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, data, path, None if kind is Size else left_out)  # half a size is none
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        data = float(data) if abs(data) <= sys.float_info.max else math.inf
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise RequestError(path, f"must be {_KINDS.get(kind, kind.__name__)}, not {_named(data)}.")
    if kind is float and not math.isfinite(data):
        raise RequestError(path, "must be a finite number.")
    return data


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _named(data: Any) -> str:
    return shortened(repr(data))


def _read_dataclass(kind: Any, data: Any, path: str, left_out: list[RequestError] | None) -> Any:
    if not isinstance(data, dict):
        raise RequestError(path, f"must be an object with named fields, not {_named(data)}.")
    hints = typing.get_type_hints(kind)
    prefix = "" if path == "request" else f"{path}."
    for name in (name for name in data if name not in hints):
        known = f"Known here: {', '.join(hints)}."
        _refuse(RequestError(f"{prefix}{shortened(name)}", "is not a field.", known), left_out)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in data:
            raise RequestError(f"{prefix}{field.name}", "is missing.")
        if field.name in data:
            read = _read if required else _read_or_leave
            values[field.name] = read(hints[field.name], data[field.name], f"{prefix}{field.name}", left_out)
    return kind(**{name: value for name, value in values.items() if value is not _LEFT})


def _read_or_leave(kind: Any, data: Any, path: str, left_out: list[RequestError] | None) -> Any:
    try:
        return _read(kind, data, path, left_out)
    except RequestError as error:
        _refuse(error, left_out)
        return _LEFT


def _refuse(error: RequestError, left_out: list[RequestError] | None) -> None:
    if left_out is None:
        raise error
    left_out.append(error)


def _model(data: dict[str, Any], left_out: list[RequestError]) -> str:
    """The one field without a default."""
    if "model" not in data:
        left_out.append(RequestError("model", "is missing."))
        return ""
    model = _read_or_leave(str, data["model"], "model", left_out)
    return "" if model is _LEFT else model
