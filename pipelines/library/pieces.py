"""A weight file that is cut into pieces, `NAME-00001-of-00003.safetensors`: known as one by any of them."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.library.header import Header, read_header
from pipelines.spec.errors import IncompleteModel

_PIECE = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})(\.safetensors)", re.IGNORECASE)
MAX_PIECES = 1000


def pieces(path: Path) -> tuple[Path, ...]:
    """All that belong to the file, whether they are there or not; none when it is no piece."""
    match = _PIECE.fullmatch(path.name)
    if match is None or not 1 <= int(match[3]) <= MAX_PIECES:
        return ()
    names = (f"{match[1]}-{n:05d}-of-{match[3]}{match[4]}" for n in range(1, int(match[3]) + 1))
    return tuple(path.with_name(name) for name in names)


def is_later_piece(path: Path) -> bool:
    """Whether the first piece speaks for it."""
    every = pieces(path)
    return bool(every) and path.name != every[0].name and every[0].is_file()


def read_pieces(every: tuple[Path, ...]) -> Header:
    """One header for all. Raises ModelError when one is missing or not whole."""
    missing = [piece.name for piece in every if not piece.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        text = (
            f"The model is in {len(every)} pieces, of which {', '.join(missing[:3])}{more} cannot be found."
        )
        raise IncompleteModel(text, "Download what is missing into the same folder.")
    headers = [read_header(piece) for piece in every]
    biggest = max(headers, key=lambda header: header.size_bytes)
    return Header(
        dtype=biggest.dtype,
        size_bytes=sum(header.size_bytes for header in headers),
        shapes={name: shape for header in headers for name, shape in header.shapes.items()},
        metadata=headers[0].metadata,
        dtypes={name: kind for header in headers for name, kind in header.dtypes.items()},
    )
