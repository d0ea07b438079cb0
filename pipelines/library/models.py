"""What lies on disk becomes `ModelRecord`s: diffusers folders and single files; no weight is loaded, no code is run."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.library.controlnets import CONFIG, controlnet_record, is_controlnet
from pipelines.library.detect.finding import Finding
from pipelines.library.detect.folder import folder_finding
from pipelines.library.detect.model import Evidence
from pipelines.library.findings import with_error, with_finding
from pipelines.library.folder_checks import check_folder, refuse_code
from pipelines.library.folders import models_dir
from pipelines.library.header import PICKLES, WEIGHTS
from pipelines.library.names import slug
from pipelines.library.own_facts import own_facts, read_json, without_misfits
from pipelines.library.parts import file_record
from pipelines.library.pieces import is_later_piece
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family, FolderFacts, Prediction
from pipelines.spec.record import Format, Kind, ModelRecord, State

MAX_DEPTH = 4
INDEX = "model_index.json"
_LOG = logging.getLogger(__name__)


def demo_root() -> Path:
    """The folder of the models that ship with the program."""
    return Path(__file__).resolve().parents[2] / "assets" / "demo"


def default_roots() -> tuple[Path, ...]:
    return demo_root(), models_dir()


def scan(roots: Iterable[Path]) -> tuple[ModelRecord, ...]:
    """Every diffusers folder and weight file under `roots`, at most MAX_DEPTH folders down.

    In order of root and name.

    What is broken or not supported is listed too, with its reason in `problem`. Never raises for a bad file.
    """
    seen: set[Path] = set()
    records: dict[str, ModelRecord] = {}
    for root in roots:
        for path in _found(root, MAX_DEPTH, seen):
            record = record_of(path)
            if record.id in records:
                mark = hashlib.sha256(record.path.encode("utf-8", "surrogateescape")).hexdigest()[:6]
                record = dataclasses.replace(record, id=f"{record.id}-{mark}")
            records[record.id] = record
    return tuple(records.values())


def record_of(path: Path) -> ModelRecord:
    """Of a weight file, or of a folder for which `is_model` holds. Never raises for a bad one."""
    bare = _bare_record(path)
    if not path.is_dir():
        return file_record(bare)
    return _record(path, bare) if (path / INDEX).is_file() else controlnet_record(bare)


def is_model(folder: Path) -> bool:
    """Whether the folder is one model, rather than a place where models lie."""
    return (folder / INDEX).is_file() or ((folder / CONFIG).is_file() and is_controlnet(folder))


def _found(folder: Path, depth: int, seen: set[Path]) -> Iterator[Path]:
    """Links are followed, but each real folder is visited once, so a loop of links ends.

    A folder with a config.json is a part of a model, and so are the files in it.
    """
    try:
        real = folder.resolve(strict=True)
        if real in seen:
            return
        seen.add(real)
        part = (folder / CONFIG).is_file()
        if is_model(folder):
            yield folder
            return
        with os.scandir(folder) as entries:
            paths = sorted((entry.name, entry.path) for entry in entries)
        below = [name for name, path in paths if depth and os.path.isdir(path)]
        files = [] if part else [n for n, p in paths if _is_weights(n, p)]
    except (OSError, RuntimeError) as error:
        _LOG.info("not scanned: %s (%s)", folder, error)
        return
    yield from (folder / name for name in files)
    for name in below:
        yield from _found(folder / name, depth - 1, seen)


def _is_weights(name: str, path: str) -> bool:
    """A pipe is no file: reading it would never end."""
    ends = (*WEIGHTS, *PICKLES)
    listed = name.lower().endswith(ends) and not name.startswith(".") and os.path.isfile(path)
    return listed and not is_later_piece(Path(path))


def _bare_record(path: Path) -> ModelRecord:
    """Of a folder or a file, by its name alone."""
    demo = demo_root() in path.resolve().parents
    name = path.name if path.is_dir() else path.stem
    return ModelRecord(
        id=f"demo-{slug(name)}" if demo else slug(name),
        path=str(path.absolute()),
        title=name.encode("utf-8", "replace").decode(),
        kind=Kind.CHECKPOINT if path.is_dir() else Kind.UNKNOWN,
        format=Format.DIFFUSERS if path.is_dir() else Format.SINGLE_FILE,
    )


def _record(folder: Path, record: ModelRecord) -> ModelRecord:
    try:
        index = read_json(folder / INDEX)
        own = own_facts(folder / "emulsion.json")
        record = dataclasses.replace(record, **{k: v for k, v in own.items() if k != "family"})
        record = with_finding(record, finding_of(folder, index, own.get("family", "")))
        if not record.family:
            return record
        family = by_id(record.family)
        channels = _json_or_nothing(folder / "vae" / "config.json").get("latent_channels")
        record = without_misfits(record, family, channels or family.latent.channels)
        side = record.native_size or _native_size(folder, family)
        record = dataclasses.replace(record, native_size=side)
        if record.state is not State.READY:
            return record
        record = dataclasses.replace(record, prediction=_prediction(folder))
        return dataclasses.replace(record, **dataclasses.asdict(check_folder(folder, index, family)))
    except EngineError as error:
        return with_error(record, error)
    except OSError as error:
        return with_error(record, ModelError(f"The folder cannot be read: {error.strerror}."))


def finding_of(folder: Path, index: dict[str, Any], told: str = "") -> Finding:
    """Raises UnsafeModel when it would run code of its own, unless it is of a family that is refused anyway."""
    finding = folder_finding(_facts(folder, index), index, Evidence(name=folder.name, told=told))
    if finding.family or not finding.base:
        refuse_code(index)
    return finding


def _facts(folder: Path, index: dict[str, Any]) -> FolderFacts:
    """What the folder says it is. A part without a readable config says nothing; `check_folder` tells of it."""
    parts = [
        name for name, value in index.items() if isinstance(value, list) and len(value) == 2 and value[1]
    ]
    configs = {name: _json_or_nothing(folder / name / "config.json") for name in parts}
    configs["scheduler"] = _json_or_nothing(folder / "scheduler" / "scheduler_config.json")
    return FolderFacts(class_name=str(index.get("_class_name")), parts=frozenset(parts), configs=configs)


def _json_or_nothing(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
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
