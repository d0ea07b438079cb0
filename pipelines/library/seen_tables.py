"""LoRAs by one trainer with one setting hold tensors of the same names and shapes: what one is, all of them are."""

from __future__ import annotations

from pipelines.library.detect.finding import Finding
from pipelines.library.header import Start
from pipelines.library.safetensors_file import Unread
from pipelines.spec.record import Kind

# What a LoRA is, its tensors and its maker's word for the family say; of other kinds the name and the metadata too.
_KINDS = (Kind.LORA, Kind.CONTROL_LORA)


class SeenTables:
    """What the files of one scan were found to be, by the digest of their table of tensors. Not for several threads."""

    def __init__(self) -> None:
        self._found: dict[tuple[bytes, str], tuple[int, Finding]] = {}

    def finding(self, start: Start, told: str) -> Finding | None:
        """None when it has to be looked at itself; `told` is the family that its maker names."""
        if not isinstance(start.found, Unread) or not start.found.table:
            return None
        size, finding = self._found.get((start.found.table, told), (0, None))
        return finding if start.size_bytes == start.found.begin + size else None

    def keep(self, start: Start, told: str, finding: Finding) -> None:
        """Of a file that is whole."""
        if isinstance(start.found, Unread) and start.found.table and finding.kind in _KINDS:
            size = start.size_bytes - start.found.begin
            self._found[start.found.table, told] = size, finding
