"""What lies on disk becomes `ModelRecord`s: diffusers folders and single files; no weight is loaded, no code is run."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.library.beside import ends_of
from pipelines.library.completing import completed
from pipelines.library.controlnets import controlnet_record
from pipelines.library.detect.finding import Finding
from pipelines.library.detect.folder import folder_finding
from pipelines.library.detect.model import Evidence
from pipelines.library.findings import with_error, with_finding
from pipelines.library.folder_checks import check_folder, refuse_code
from pipelines.library.folders import demo_root
from pipelines.library.hub_cache import repository_name
from pipelines.library.names import slug
from pipelines.library.own_facts import own_facts, read_json, without_misfits
from pipelines.library.parts import file_record
from pipelines.library.seen_tables import SeenTables
from pipelines.library.trees import expanded
from pipelines.library.walk import INDEX, walk
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family, FolderFacts, Prediction
from pipelines.spec.record import Format, Kind, ModelRecord, State

FIRST_DEMO = "demo-sd"
_LOG = logging.getLogger(__name__)


def scan(roots: Iterable[Path]) -> tuple[ModelRecord, ...]:
    """A record of all that `walk` finds under `roots`, read anew; `index.scan` remembers.

    What is broken or not supported is listed too, with its reason in `problem`. Never raises for a bad file.
    """
    tables = SeenTables()
    found = walk(expanded(roots))
    return with_own_ids(completed(record_of(Path(each.path), tables, each.ends) for each in found))


def first_choice(records: Iterable[ModelRecord]) -> ModelRecord | None:
    """Who draws when nobody was named: the first model that can be used, and of the demos the plainest."""
    usable = [r for r in records if r.draws and not r.problem]
    first = next(iter(usable), None)
    if first is not None and demo_root() in Path(first.path).parents:
        return next((record for record in usable if record.id == FIRST_DEMO), first)
    return first


def with_own_ids(records: Iterable[ModelRecord]) -> tuple[ModelRecord, ...]:
    """No two of one id: the later one gets a mark that is its path's."""
    by_id: dict[str, ModelRecord] = {}
    for record in records:
        if record.id in by_id:
            mark = hashlib.sha256(record.path.encode("utf-8", "surrogateescape")).hexdigest()[:6]
            record = dataclasses.replace(record, id=f"{record.id}-{mark}")
        by_id[record.id] = record
    return tuple(by_id.values())


def record_of(path: Path, seen: SeenTables | None = None, ends: tuple[str, ...] | None = None) -> ModelRecord:
    """Of a weight file, or of a folder for which `walk.is_model` holds. Never raises for a bad one.

    `seen` is what the files before it were; `ends` are those of what lies beside a file, where that is known.
    """
    bare = _bare_record(path)
    if not path.is_dir():
        return file_record(bare, seen, ends_of(path) if ends is None else ends)
    return _record(path, bare) if (path / INDEX).is_file() else controlnet_record(bare)


def _bare_record(path: Path) -> ModelRecord:
    """Of a folder or a file, by its name alone."""
    demo = _ships(str(path.parent))
    folder = path.is_dir()
    name = (repository_name(path) or path.name) if folder else path.stem
    return ModelRecord(
        id=f"demo-{slug(name)}" if demo else slug(name),
        path=str(path.absolute()),
        title=name.encode("utf-8", "replace").decode(),
        kind=Kind.CHECKPOINT if folder else Kind.UNKNOWN,
        format=Format.DIFFUSERS if folder else Format.SINGLE_FILE,
    )


@lru_cache(256)  # a folder may hold thousands
def _ships(folder: str) -> bool:
    """Whether what lies there came with the program."""
    real = Path(folder).resolve()
    return demo_root() in (real, *real.parents)


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
