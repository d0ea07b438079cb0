"""From flags, a request file and the model's own defaults to one `GenerationRequest`."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
from dataclasses import dataclass
from typing import Any

from pipelines.library.models import first_choice
from pipelines.spec.adding import added
from pipelines.spec.errors import RequestError, shortened
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import MAX_SEED, GenerationRequest
from pipelines.spec.schedulers import find, scheduler_by_id
from pipelines.spec.speed import SWITCHES
from pipelines.spec.validate import problems

MAX_FILE_BYTES = 10_000_000

# Flag -> dotted path of the field.
FIELDS = {
    "prompt": "prompt.text",
    "negative": "prompt.negative",
    "model": "model",
    "weights": "weights",
    "steps": "sampling.num_inference_steps",
    "guidance": "sampling.guidance_scale",
    "seed": "sampling.seed",
    "count": "count",
    "true_cfg": "true_cfg_scale",
    "crop_left": "size_conditioning.crop_left",
    "crop_top": "size_conditioning.crop_top",
    "refiner": "refiner.model",
    "switch_at": "refiner.switch_at",
    "refiner_steps": "refiner.num_inference_steps",
    "refiner_prompt": "refiner.prompt",
    "aesthetic_score": "refiner.aesthetic_score",
    "negative_aesthetic_score": "refiner.negative_aesthetic_score",
}
_SIZES = {
    "size": "size",
    "original_size": "size_conditioning.original",
    "target_size": "size_conditioning.target",
}
_TEXT = ("prompt", "negative", "model", "weights", "refiner", "refiner_prompt")


def compose(args: argparse.Namespace, records: tuple[ModelRecord, ...]) -> Job:
    """The request, complete and valid, with the records of all that it names.

    Flags win over the file, the file over the defaults.

    Raises RequestError with the field for everything that is missing or wrong.
    """
    data = {} if args.request is None else _read_file(args.request)
    for flag, path in FIELDS.items():
        if (value := getattr(args, flag)) is not None:
            _set(data, path, _read(value) if flag in _TEXT else _number(value))
    for flag, path in _SIZES.items():
        if (value := getattr(args, flag)) is not None:
            _set(data, path, _size(value, flag))
    if _get(data, "prompt.text") is None:
        raise RequestError("prompt.text", "is missing.", "Say what to draw: --prompt 'a red circle'.")
    record = _model(data.get("model"), records)
    data["model"] = record.id
    _add_defaults(data, record)
    if args.sampler is not None or args.schedule is not None:
        _set(data, "sampling.scheduler", _scheduler(args, data))
    if _seed_is_open(data):
        _set(data, "sampling.seed", random.randrange(MAX_SEED - 64))
    refiner = _refiner(data.get("refiner"), records)
    _add_speed(args, data)
    if args.lora is not None:
        data["loras"] = [_lora(text) for text in args.lora]
    if args.control is not None:
        data["controls"] = [_pictured(_CONTROL, words, n) for n, words in enumerate(args.control)]
    if args.embedding is not None:
        data["embeddings"] = [{"model": _read(name)} for name in args.embedding]
    if args.ip_adapter is not None:
        data["ip_adapters"] = [_pictured(_IP_ADAPTER, words, n) for n, words in enumerate(args.ip_adapter)]
    for field in ("loras", "controls", "embeddings", "ip_adapters"):
        _name_by_id(data.get(field), records)
    request = GenerationRequest.from_dict(data)
    parts = added(request, {record.id: record for record in records})
    for problem in problems(request, record, by_id(record.family), refiner, parts):
        raise RequestError(problem.field, problem.message, problem.hint)
    return Job(id=1, request=request, model=record, refiner=refiner, parts=parts)


def _read_file(name: str) -> dict[str, Any]:
    """The fields of a JSON file; the whole JSON that a picture carries is taken as well."""
    try:
        with open(os.path.expanduser(name), "rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        data = json.loads(text) if len(text) <= MAX_FILE_BYTES else None
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise RequestError("request", f"the file '{name}' cannot be read: {reason}.") from error
    except (ValueError, RecursionError) as error:
        raise RequestError("request", f"the file '{name}' is not JSON: {error}.") from error
    if isinstance(data, dict) and isinstance(data.get("request"), dict):
        data = data["request"]
    if not isinstance(data, dict):
        raise RequestError("request", f"the file '{name}' must hold one JSON object with the fields.")
    for field in ("prompt", "sampling", "size"):
        if not isinstance(data.get(field, {}), dict):
            raise RequestError(field, "must be an object with named fields.")
    for field in ("refiner", "size_conditioning", "speed"):  # what is set from flags may be absent, or null
        if not isinstance(data.get(field) or {}, dict):
            raise RequestError(field, "must be an object with named fields.")
    return data


def _read(text: str) -> str:
    """Under LC_ALL=C Python takes the bytes of an argument for no text; they are UTF-8 all the same."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


def _set(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if data.get(parent) is None:
            data[parent] = {}
        data = data[parent]
    data[name] = value


def _get(data: dict[str, Any], path: str) -> Any:
    parent, _, name = path.rpartition(".")
    return (data.get(parent, {}) if parent else data).get(name)


def _number(text: str) -> int | float | str:
    """A word that is no number stays one: `from_dict` refuses it and names the field."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _size(text: str, flag: str) -> dict[str, Any]:
    width, by, height = text.lower().replace("×", "x").partition("x")
    if not by:
        raise RequestError(flag, f"must be WIDTHxHEIGHT such as 512x768, not '{text}'.")
    return {"width": _number(width), "height": _number(height)}


def _model(wanted: Any, records: tuple[ModelRecord, ...]) -> ModelRecord:
    """The record of this id, or `first_choice` without one."""
    if wanted is None:
        if (chosen := first_choice(records)) is None:
            raise RequestError("model", "there is no model.", "Name its folder: --models DIR.")
        return chosen
    for record in records:
        if str(wanted).lower() in (record.id.lower(), record.path.lower()):
            if record.problem:
                raise RequestError("model", f"'{record.id}' cannot be used: {record.problem}")
            if not record.draws:
                text = f"'{record.id}' is {record.kind.named}, which draws nothing by itself."
                raise RequestError("model", text, "Name the model that it goes with.")
            return record
    ids = [r.id for r in records if r.draws and not r.problem]
    name = shortened(wanted)
    close = difflib.get_close_matches(name, ids, n=3, cutoff=0.4) or ids[:3]
    hint = f"There are: {', '.join(close)}." if close else "Name its folder: --models DIR."
    raise RequestError("model", f"there is no model '{name}'.", hint)


def _refiner(data: Any, records: tuple[ModelRecord, ...]) -> ModelRecord | None:
    """The record of the refiner that is asked for, its id put in place; None is told of by the check."""
    wanted = data.get("model") if isinstance(data, dict) else None
    record = _record(wanted, records)
    if record is not None:
        data["model"] = record.id
    return record


def _record(wanted: Any, records: tuple[ModelRecord, ...]) -> ModelRecord | None:
    """The one of this id or at this path; None when there is none, or none is asked for."""
    name = str(wanted).lower()
    same = (r for r in records if wanted is not None and name in (r.id.lower(), r.path.lower()))
    return next(same, None)


def _name_by_id(inputs: Any, records: tuple[ModelRecord, ...]) -> None:
    """A request names parts by id; people may name them by their path. What isn't found is told of by the check."""
    for given in inputs if isinstance(inputs, list) else ():
        if isinstance(given, dict) and (record := _record(given.get("model"), records)):
            given["model"] = record.id


@dataclass(frozen=True, slots=True)
class _Pictured:
    """A flag of MODEL PICTURE and then NAME=VALUE for these `numbers` and `words` of the field's inputs."""

    flag: str
    field: str
    what: str
    numbers: tuple[str, ...]
    words: tuple[str, ...] = ()


_CONTROL = _Pictured("--control", "controls", "a ControlNet", ("weight", "start", "end"), ("preprocess",))
_IP_ADAPTER = _Pictured("--ip-adapter", "ip_adapters", "an IP-Adapter", ("scale",))


def _pictured(kind: _Pictured, words: list[str], place: int) -> dict[str, Any]:
    """Number `place` of the field's inputs, as `from_dict` takes it."""
    if len(words) < 2:
        hint = f"Name both: {kind.flag} MODEL PICTURE."
        raise RequestError(f"{kind.field}[{place}].path", f"{kind.what} needs a picture.", hint)
    model, path, *more = (_read(word) for word in words)
    given: dict[str, Any] = {"model": model, "path": os.path.abspath(os.path.expanduser(path))}
    fields = (*kind.numbers, *kind.words)
    for word in more:
        name, equals, value = word.partition("=")
        if not equals or name in given or name not in fields:
            known = ", ".join(f"{field}=" for field in fields)
            raise RequestError(f"{kind.field}[{place}]", f"'{word}' is not understood.", f"Known: {known}")
        given[name] = value if name in kind.words else _number(value)
    return given


def _lora(text: str) -> dict[str, Any]:
    """ID or ID:WEIGHT. A path may hold colons: only a number behind the last one is a weight."""
    name, colon, weight = _read(text).rpartition(":")
    value = _number(weight) if colon and name else weight
    return {"model": _read(text)} if isinstance(value, str) else {"model": name, "weight": value}


def _add_speed(args: argparse.Namespace, data: dict[str, Any]) -> None:
    """A switch can only be switched on; a cache takes its limit along, or has its own."""
    if args.step_cache is not None:
        name, colon, limit = _read(args.step_cache).partition(":")
        _set(data, "speed.step_cache", name)
        _set(data, "speed.cache_limit", _number(limit) if colon else None)
    for row in SWITCHES:
        if row.id != "step_cache" and getattr(args, row.id):
            _set(data, f"speed.{row.id}", True)


def _add_defaults(data: dict[str, Any], record: ModelRecord) -> None:
    family = by_id(record.family)
    sampling = record.sampling or family.sampling
    own = {name: getattr(sampling, name) for name in ("scheduler", "num_inference_steps", "guidance_scale")}
    data["sampling"] = own | data.get("sampling", {})
    side = record.native_size
    size = {"width": side or family.size.width, "height": side or family.size.height}
    data["size"] = size | data.get("size", {})


def _scheduler(args: argparse.Namespace, data: dict[str, Any]) -> str:
    """--schedule alone keeps the sampler and changes its schedule."""
    if args.sampler is not None:
        return find(args.sampler, args.schedule or "").id
    current = scheduler_by_id(str(data["sampling"]["scheduler"]))
    return find(current.sampler, args.schedule).id


def _seed_is_open(data: dict[str, Any]) -> bool:
    seed = _get(data, "sampling.seed")
    return seed is None or (isinstance(seed, int) and seed < 0)
