"""The texts that a PNG, JPEG or WebP file carries, found without decoding a pixel.

PNG: W3C PNG 11.3.3 (tEXt, zTXt, iTXt, also behind IDAT, where Pillow shows them only after a full decode).
JPEG: EXIF in APP1. WebP: RIFF chunk EXIF. All is bounded; a broken file gives what stands before the break.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pipelines.library.metadata.write import EXIF_IFD, MAKER_NOTE, OWN, OWN_MARK, PARAMETERS, USER_COMMENT

MAX_TEXT_BYTES = 8_000_000
MAX_TEXTS = 16
MAX_CHUNKS = 100_000
_PNG = b"\x89PNG\r\n\x1a\n"
_LOG = logging.getLogger(__name__)


def texts(path: Path) -> dict[str, str]:
    """Keyword -> text; of JPEG and WebP under the names that PNG uses. Empty when there is none.

    Raises OSError when the file cannot be read, and nothing else.
    """
    if not path.is_file():  # opening a pipe would wait for ever
        return {}
    with path.open("rb") as file:
        head = file.read(12)
        try:
            return dict(_texts(file, head))
        except OSError:
            raise
        except Exception as error:  # Pillow's EXIF reader raises all kinds for damaged blocks
            _LOG.info("%s: no generation data: %s", path.name, error)
            return {}


def _texts(file: BinaryIO, head: bytes) -> Iterator[tuple[str, str]]:
    if head.startswith(_PNG):
        file.seek(8)
        yield from _png_texts(file)
    elif head.startswith(b"\xff\xd8"):
        file.seek(2)
        yield from _exif_texts(_jpeg_exif(file))
    elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
        yield from _exif_texts(_webp_exif(file))


def _png_texts(file: BinaryIO) -> Iterator[tuple[str, str]]:
    found = 0
    for _ in range(MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8 or found >= MAX_TEXTS:
            return
        size, kind = int.from_bytes(header[:4], "big"), header[4:]
        if kind not in _READERS or size > MAX_TEXT_BYTES:
            file.seek(size + 4, os.SEEK_CUR)
            continue
        data = file.read(size)
        file.seek(4, os.SEEK_CUR)
        keyword, _, rest = data.partition(b"\0")
        try:
            text = _READERS[kind](rest)
        except (ValueError, zlib.error):
            continue
        found += 1
        yield keyword.decode("latin-1"), text


def _plain(rest: bytes) -> str:
    # The standard says Latin-1, but tools write UTF-8 here, and Latin-1 text is hardly ever valid UTF-8.
    try:
        return rest.decode("utf-8")
    except UnicodeDecodeError:
        return rest.decode("latin-1")


def _compressed(rest: bytes) -> str:
    return _plain(_inflated(rest[1:]))


def _international(rest: bytes) -> str:
    packed, rest = rest[:1] == b"\1", rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, rest = rest.partition(b"\0")
    return (_inflated(rest) if packed else rest).decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(data, MAX_TEXT_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"a text of more than {MAX_TEXT_BYTES} bytes")
    return data


_READERS = {b"tEXt": _plain, b"zTXt": _compressed, b"iTXt": _international}


def _jpeg_exif(file: BinaryIO) -> bytes:
    """The EXIF block, which stands before the picture data; empty when there is none."""
    for _ in range(MAX_CHUNKS):
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != 0xFF or marker[1] in (0xDA, 0xD9):
            return b""
        size = max(int.from_bytes(marker[2:], "big") - 2, 0)
        data = file.read(size)
        if marker[1] == 0xE1 and data.startswith(b"Exif\0"):
            return data
    return b""


def _webp_exif(file: BinaryIO) -> bytes:
    for _ in range(MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return b""
        size = int.from_bytes(header[4:], "little")
        if header[:4] == b"EXIF" and size <= MAX_TEXT_BYTES:
            return file.read(size)
        file.seek(size + size % 2, os.SEEK_CUR)
    return b""


def _exif_texts(data: bytes) -> Iterator[tuple[str, str]]:
    if not data:
        return
    block = Image.Exif()
    block.load(data)
    tags = block.get_ifd(EXIF_IFD)
    comment, own = tags.get(USER_COMMENT), tags.get(MAKER_NOTE)
    if isinstance(comment, bytes | str) and (text := _comment(comment)):
        yield PARAMETERS, text
    if isinstance(own, bytes) and own.startswith(OWN_MARK):
        yield OWN, own.removeprefix(OWN_MARK).decode("utf-8", "replace")


def _comment(value: bytes | str) -> str:
    """UserComment: eight bytes name the encoding, but not the byte order, and tools do not keep to TIFF's."""
    if isinstance(value, str):
        return value
    code, data = value[:8], value[8:]
    if not code.startswith(b"UNICODE"):
        return _plain(data if code.strip(b"\0") in (b"", b"ASCII") else value).strip("\0")
    # Most characters of a prompt are Latin, so the zeros tell which byte is the high one.
    little = data[1::2].count(0) > data[0::2].count(0)
    return data.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\0\ufeff")
