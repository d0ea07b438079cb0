"""Single weight files become `ModelRecord`s by their headers and by what is written beside them; no tensor is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pipelines.library.detect.embedding import A1111, SDXL_PAIR
from pipelines.library.detect.file import detect
from pipelines.library.detect.finding import Finding
from pipelines.library.findings import not_yet, with_error, with_finding
from pipelines.library.header import Header, read_header
from pipelines.library.ip_adapters import ip_adapter_record
from pipelines.library.own_facts import without_misfits
from pipelines.library.pieces import pieces, read_pieces
from pipelines.library.side_facts import brought_facts, described, side_facts, told_family
from pipelines.library.single_file import can_load
from pipelines.spec.errors import EngineError
from pipelines.spec.families import by_id
from pipelines.spec.record import Kind, ModelRecord

MAX_YAML = 100_000


def file_record(record: ModelRecord) -> ModelRecord:
    """`record` of a weight file, with all that its header tells; the reason in `problem` if it is of no use."""
    path = Path(record.path)
    every = pieces(path)
    try:
        header = read_pieces(every) if every else read_header(path)
    except EngineError as error:
        return with_error(record, error)
    own = side_facts(path)
    finding = file_finding(path, header, own.get("family", ""))
    record = with_finding(described(record, header, own), finding)
    record = dataclasses.replace(record, size_bytes=header.size_bytes, sharded=bool(every))
    if finding.kind is Kind.EMBEDDING:
        record = dataclasses.replace(record, trigger_words=(_word(path.stem, header.shapes),))
    if finding.kind is Kind.IP_ADAPTER:
        return ip_adapter_record(record, header)
    if not _is_whole(record, header):
        return not_yet(record)
    family = by_id(record.family)
    return without_misfits(
        dataclasses.replace(record, needs=(), **brought_facts(path, header)), family, family.latent.channels
    )


def _is_whole(record: ModelRecord, header: Header) -> bool:
    """Whether it is a checkpoint that can be drawn with. `needs` is no measure: it takes encoders for their widths."""
    if record.kind is not Kind.CHECKPOINT or not record.family or record.sharded:
        return False
    return can_load(header, by_id(record.family), record.quantisation)


def file_finding(path: Path, header: Header, own: str = "") -> Finding:
    """`own` is the family that the facts beside it name."""
    return detect(header, path.stem, told_family(header, own), _yaml(path))


def _yaml(path: Path) -> str:
    """What the settings of A1111 beside the file say; a model of SD 2.x needs them to say what it predicts."""
    try:
        with path.with_suffix(".yaml").open("rb") as file:
            return file.read(MAX_YAML).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _word(stem: str, names: Mapping[str, object]) -> str:
    """Of an embedding: the name that it was saved with; A1111 goes by the file's name."""
    name = next(iter(names))
    word = stem if name == A1111 or names.keys() == SDXL_PAIR else name
    return word.strip()[:100] or stem
