"""ControlNets on disk, in folders and in single files, become `ModelRecord`s; no weight is loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pipelines.library.control_files import row_of
from pipelines.library.findings import with_error
from pipelines.library.folder_checks import check_part
from pipelines.library.header import Header
from pipelines.library.own_facts import own_facts, read_json
from pipelines.spec.controls import control_kind
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.families import by_id, fitting
from pipelines.spec.families.base import AddOnFacts
from pipelines.spec.record import Kind, ModelRecord

CONFIG = "config.json"
# The class of its config.json -> the part of the pipeline it goes with.
_DENOISERS = {"ControlNetModel": "unet", "FluxControlNetModel": "transformer"}
_FACTS = ("id", "title", "family", "description")


def is_controlnet(folder: Path) -> bool:
    """Whether its config.json names a class of ControlNet, also one that cannot be used."""
    return "ControlNet" in _class_name(folder)


def _class_name(folder: Path) -> str:
    try:
        return str(read_json(folder / CONFIG).get("_class_name"))
    except ModelError:
        return ""


def controlnet_record(record: ModelRecord) -> ModelRecord:
    """`record` of such a folder, with all that its files tell; the reason in `problem` if it is of no use."""
    folder = Path(record.path)
    own = {name: value for name, value in own_facts(folder / "emulsion.json").items() if name in _FACTS}
    told = own.pop("family", "")
    record = dataclasses.replace(
        record, kind=Kind.CONTROLNET, layout="diffusers", control=control_kind(folder.name), **own
    )
    try:
        config = read_json(folder / CONFIG)
        family = fitting(_facts(config, told))
        record = dataclasses.replace(record, family=family.id, base=family.add_ons.base)
        return dataclasses.replace(record, **dataclasses.asdict(check_part(folder)))
    except EngineError as error:
        return with_error(record, error)
    except OSError as error:
        return with_error(record, ModelError(f"The folder cannot be read: {error.strerror}."))


def controlnet_file_record(record: ModelRecord, header: Header) -> ModelRecord:
    """`record` of one in a file, which is ready by its header so far; the reason in `problem` if it is of no use."""
    try:
        row_of(header, by_id(record.family))
    except EngineError as error:
        return with_error(record, error)
    return dataclasses.replace(record, control=control_kind(Path(record.path).stem))


def _facts(config: dict[str, Any], told: str) -> AddOnFacts:
    name = str(config.get("_class_name"))
    if name not in _DENOISERS:
        raise ModelError(f"ControlNets of the kind '{name[:60]}' are not supported.")
    if config.get("num_mode") is not None:
        raise ModelError("A ControlNet of several modes in one cannot be used yet.")
    if config.get("controlnet_conditioning_channel_order", "rgb") != "rgb":
        raise ModelError("A ControlNet that takes its colours in another order cannot be used yet.")
    denoiser = _DENOISERS[name]
    width = config.get("cross_attention_dim") if denoiser == "unet" else _inner_width(config)
    return AddOnFacts(denoiser=denoiser, width=width if isinstance(width, int) else 0, told=told)


def _inner_width(config: dict[str, Any]) -> int:
    heads, each = config.get("num_attention_heads"), config.get("attention_head_dim")
    return heads * each if isinstance(heads, int) and isinstance(each, int) else 0
