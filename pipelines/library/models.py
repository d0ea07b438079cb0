"""Models on disk: diffusers folders become `ModelRecord`s; no weight is loaded, no line of theirs is run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.library.folder_checks import check_folder
from pipelines.library.folders import models_dir
from pipelines.library.names import slug
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.families import detected
from pipelines.spec.families.base import Family, FolderFacts, Prediction
from pipelines.spec.record import Format, Kind, ModelRecord
from pipelines.spec.request import GenerationRequest, Sampling
from pipelines.spec.validate import problems

MAX_DEPTH = 4
MAX_JSON_BYTES = 1_000_000
INDEX = "model_index.json"
_LOG = logging.getLogger(__name__)


def demo_root() -> Path:
    """The folder of the models that ship with the program."""
    return Path(__file__).resolve().parents[2] / "assets" / "demo"


def default_roots() -> tuple[Path, ...]:
    return demo_root(), models_dir()


def scan(roots: Iterable[Path]) -> tuple[ModelRecord, ...]:
    """Every diffusers folder under `roots`, at most MAX_DEPTH folders down, in order of root and name.

    What is broken or not supported is listed too, with its reason in `problem`. Never raises for a bad file.
    """
    seen: set[Path] = set()
    records: dict[str, ModelRecord] = {}
    for root in roots:
        for folder in _model_folders(root, MAX_DEPTH, seen):
            record = _record(folder)
            if record.id in records:
                mark = hashlib.sha256(record.path.encode("utf-8", "surrogateescape")).hexdigest()[:6]
                record = dataclasses.replace(record, id=f"{record.id}-{mark}")
            records[record.id] = record
    return tuple(records.values())


def _model_folders(folder: Path, depth: int, seen: set[Path]) -> Iterator[Path]:
    """Links are followed, but each real folder is visited once, so a loop of links ends."""
    try:
        real = folder.resolve(strict=True)
        if real in seen:
            return
        seen.add(real)
        if (folder / INDEX).is_file():
            yield folder
            return
        with os.scandir(folder) as entries:
            below = sorted(entry.name for entry in entries if depth and os.path.isdir(entry.path))
    except (OSError, RuntimeError) as error:
        _LOG.info("not scanned: %s (%s)", folder, error)
        return
    for name in below:
        yield from _model_folders(folder / name, depth - 1, seen)


def _record(folder: Path) -> ModelRecord:
    demo = folder.resolve().parent == demo_root()
    record = ModelRecord(
        id=f"demo-{slug(folder.name)}" if demo else slug(folder.name),
        path=str(folder.absolute()),
        title=folder.name.encode("utf-8", "replace").decode(),
        kind=Kind.CHECKPOINT,
        format=Format.DIFFUSERS,
    )
    try:
        index = _json(folder / INDEX)
        own = _own_facts(folder)
        record = dataclasses.replace(record, **{k: v for k, v in own.items() if k != "family"})
        family = detected(_facts(folder, index), own.get("family", ""))
        record = dataclasses.replace(record, family=family.id, prediction=_prediction(folder))
        record = _without_misfits(record, family)
        side = record.native_size or _native_size(folder, family)
        record = dataclasses.replace(record, native_size=side)
        weights = check_folder(folder, index, family)
        return dataclasses.replace(record, dtype=weights.dtype, size_bytes=weights.size_bytes)
    except EngineError as error:
        return dataclasses.replace(record, problem=str(error))
    except OSError as error:
        return dataclasses.replace(record, problem=f"The folder cannot be read: {error.strerror}.")


def _facts(folder: Path, index: dict[str, Any]) -> FolderFacts:
    """What the folder says it is. A part without a readable config says nothing; `check_folder` tells of it."""
    parts = [
        name for name, value in index.items() if isinstance(value, list) and len(value) == 2 and value[1]
    ]
    configs = {name: _json_or_nothing(folder / name / "config.json") for name in parts}
    return FolderFacts(class_name=str(index.get("_class_name")), parts=frozenset(parts), configs=configs)


def _json_or_nothing(path: Path) -> dict[str, Any]:
    try:
        return _json(path)
    except ModelError:
        return {}


def _native_size(folder: Path, family: Family) -> int:
    """The side in pixels by the denoiser's own config, as SD 2.x comes for 512 and for 768; 0 when it is silent."""
    cells = _json_or_nothing(folder / family.denoiser / "config.json").get("sample_size")
    if not isinstance(cells, int) or isinstance(cells, bool):
        return 0
    side = cells * family.latent.scale
    rule = family.sizes
    return side if rule.minimum <= side <= rule.maximum and side % rule.step == 0 else 0


def _prediction(folder: Path) -> str:
    """What the model's own scheduler says it predicts; empty when it says nothing.

    Raises ModelError for what no sampler here can use: taken for noise it would draw nonsense.
    """
    value = _json_or_nothing(folder / "scheduler" / "scheduler_config.json").get("prediction_type")
    if value is None:
        return ""
    if value not in tuple(Prediction):
        raise ModelError(f"Models that predict '{str(value)[:40]}' are not supported.")
    return str(value)


def _json(path: Path) -> dict[str, Any]:
    """Raises ModelError when the file is missing, too big, or not a JSON object."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        value = json.loads(data) if len(data) <= MAX_JSON_BYTES else None
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} is damaged.", "Download the model again.")
    return value


def _own_facts(folder: Path) -> dict[str, Any]:
    """The fields of `emulsion.json` beside the model; one that is wrong is left out, the others hold."""
    try:
        facts = _json(folder / "emulsion.json")
    except ModelError:
        return {}
    fields: dict[str, Any] = {}
    for name, read in _FACTS.items():
        if name in facts:
            try:
                fields[name] = read(facts[name])
            except (EngineError, ValueError, TypeError, OverflowError) as error:
                _LOG.warning("%s: emulsion.json: %s is left out: %s", folder.name, name, error)
    return fields


def _without_misfits(record: ModelRecord, family: Family) -> ModelRecord:
    """Of its own facts those that this family can use: the others would fail every picture."""
    rule, side = family.sizes, record.native_size
    if side and (side % rule.step or not rule.minimum <= side <= rule.maximum):
        _LOG.warning("%s: emulsion.json: native_size is left out: %s does not fit", record.id, side)
        record = dataclasses.replace(record, native_size=0)
    if record.latent_rgb and len(record.latent_rgb) != family.latent.channels:
        _LOG.warning("%s: emulsion.json: latent_rgb is left out: it needs a row a channel", record.id)
        record = dataclasses.replace(record, latent_rgb=())
    return record


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text")
    return value.encode("utf-8", "replace").decode()[:2000]


def _side(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 8 <= value <= 16384:
        raise ValueError("must be a number of pixels")
    return value


def _sampling(value: Any) -> Sampling:
    request = GenerationRequest.from_dict({"model": "", "sampling": value})
    for problem in problems(request, None, None):
        if problem.field.startswith("sampling."):
            raise ValueError(problem.message)
    return request.sampling


def _colour(value: Any) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in value)
    if not all(abs(v) < 1000 for v in (red, green, blue)):  # also true for NaN
        raise ValueError("must be three plain numbers")
    return red, green, blue


_FACTS = {
    "id": lambda value: slug(_text(value)),
    "title": _text,
    "family": _text,
    "description": _text,
    "native_size": _side,
    "sampling": _sampling,
    "latent_rgb": lambda value: tuple(_colour(row) for row in value),
    "latent_rgb_bias": _colour,
}
