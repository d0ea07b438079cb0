"""Single weight files become `ModelRecord`s by their headers and by what is written beside them; no tensor is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pipelines.library.beside import CONFIG_A1111, beside, read_small
from pipelines.library.completing import LENT, incomplete
from pipelines.library.controlnets import controlnet_file_record
from pipelines.library.detect.embedding import A1111, SDXL_PAIR
from pipelines.library.detect.file import detect
from pipelines.library.detect.finding import Finding
from pipelines.library.detect.numbers import quantisation
from pipelines.library.findings import not_yet, with_error, with_finding
from pipelines.library.header import Header, header_of, read_start
from pipelines.library.ip_adapters import ip_adapter_record
from pipelines.library.own_facts import without_misfits
from pipelines.library.pieces import pieces, read_pieces
from pipelines.library.places import whole_shapes
from pipelines.library.seen_tables import SeenTables
from pipelines.library.side_facts import Told, brought_facts, described, told_beside
from pipelines.library.single_file import CONFIGS, WIDENED, can_load, lacking, latent_channels, widened
from pipelines.spec.errors import EngineError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.record import Kind, ModelRecord, State

MAX_YAML = 100_000


def file_record(
    record: ModelRecord, seen: SeenTables | None = None, ends: tuple[str, ...] = ()
) -> ModelRecord:
    """`record` of a weight file, with all that its header tells; the reason in `problem` if it is of no use.

    `seen` is what the files before it were, `ends` those of what lies beside it.
    """
    path = Path(record.path)
    if every := pieces(path):
        return _pieces_record(record, every, ends)
    try:
        start = read_start(path)
        told = told_beside(path, ends)
        family = told.family(start.metadata)
        if seen is not None and (finding := seen.finding(start, family)):
            return not_yet(_told_record(record, start.metadata, told, finding, start.size_bytes))
        header = header_of(start)
        whole = whole_shapes(path) if quantisation(header) == "nf4" else {}
    except EngineError as error:
        # What cannot be read still has its notes and its picture.
        return with_error(described(record, {}, told_beside(path, ends)), error)
    finding = detect(header, path.stem, family, _yaml(path, ends), whole)
    if seen is not None:
        seen.keep(start, family, finding)
    return _header_record(record, header, told, finding)


def _pieces_record(record: ModelRecord, every: tuple[Path, ...], ends: tuple[str, ...]) -> ModelRecord:
    path = Path(record.path)
    try:
        header = read_pieces(every)
    except EngineError as error:
        return with_error(record, error)
    told = told_beside(path, ends)
    finding = detect(header, path.stem, told.family(header.metadata), _yaml(path, ends))
    return _header_record(dataclasses.replace(record, sharded=True), header, told, finding)


def _header_record(record: ModelRecord, header: Header, told: Told, finding: Finding) -> ModelRecord:
    record = _told_record(record, header.metadata, told, finding, header.size_bytes)
    if finding.kind is Kind.EMBEDDING:
        words = (_word(Path(record.path).stem, header.shapes),)
        record = dataclasses.replace(record, trigger_words=words)
    if finding.kind is Kind.IP_ADAPTER:
        return ip_adapter_record(record, header)
    if finding.kind is Kind.CONTROLNET and _loads(record, header) and record.family:
        return controlnet_file_record(record, header)
    loads = _loads(record, header)
    if loads and record.kind in LENT and (header.container == "safetensors" or record.variant == "t5xxl"):
        return record
    family = by_id(record.family) if record.family else None
    if not loads or not record.draws or family is None or not _has_denoiser(header, family):
        return not_yet(record)
    brought = brought_facts(Path(record.path), header.metadata)
    # What the detector says of needs is no measure: it takes encoders for their widths.
    needs = tuple(family.file_parts[part].need for part in lacking(header, family))
    record = without_misfits(
        dataclasses.replace(record, needs=needs, **brought), family, latent_channels(header, family)
    )
    if widened(record.quantisation):
        record = dataclasses.replace(record, assumed=(*record.assumed, WIDENED))
    brings_words = not family.lent_words or CONFIGS in header.metadata
    return record if brings_words and not needs else incomplete(record, family)


def _loads(record: ModelRecord, header: Header) -> bool:
    """Whether its numbers can be read, and nothing else is the matter with it."""
    return can_load(header, record.quantisation) and not record.sharded and record.state is State.READY


def _has_denoiser(header: Header, family: Family) -> bool:
    return bool(family.file_parts) and family.denoiser not in lacking(header, family)


def _told_record(
    record: ModelRecord, metadata: Mapping[str, str], told: Told, finding: Finding, size: int
) -> ModelRecord:
    return with_finding(described(record, metadata, told), finding, size)


def _yaml(path: Path, ends: tuple[str, ...]) -> str:
    """What the settings of A1111 beside the file say; a model of SD 2.x needs them to say what it predicts."""
    if CONFIG_A1111 not in ends:
        return ""
    try:
        return read_small(beside(path, CONFIG_A1111), MAX_YAML).decode("utf-8", "replace")
    except OSError:
        return ""


def _word(stem: str, names: Mapping[str, object]) -> str:
    """Of an embedding: the name that it was saved with; A1111 goes by the file's name."""
    name = next(iter(names))
    word = stem if name == A1111 or names.keys() == SDXL_PAIR else name
    return word.strip()[:100] or stem
