"""What may lie beside a weight file `x.safetensors` and tell of it: our own facts, other tools' notes, a picture.

All are known by their ending behind the file's stem. They are read only, and never written but for our own.
"""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from stat import S_ISREG

OWN = ".emulsion.json"
REPORT = ".report.json"  # what `quantize --report` measured
CONFIG_A1111 = ".yaml"
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
# In the order of their trust.
NOTES = (".civitai.info", ".cm-info.json", ".metadata.json", ".json", ".swarm.json")
TEXTS = (".description.txt", ".txt")
PREVIEWS = (*_PICTURES, *(f".preview{end}" for end in _PICTURES), ".thumb.jpg")
ENDS = (OWN, CONFIG_A1111, *NOTES, *TEXTS, *PREVIEWS)


def ends_among(stem: str, names: Container[str]) -> tuple[str, ...]:
    """Which of ENDS are there, by the names of the files in the folder; none of them is touched."""
    return tuple([end for end in ENDS if stem + end in names])


def ends_of(path: Path) -> tuple[str, ...]:
    """The same of a file that is looked at alone."""
    return tuple(end for end in ENDS if beside(path, end).is_file())


def beside(path: Path, end: str) -> Path:
    return path.with_name(f"{path.stem}{end}")


def read_small(path: Path, most: int) -> bytes:
    """At most `most` bytes. Raises OSError; also for a pipe or a device, which is opened without waiting."""
    with open(path, "rb", opener=opened) as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "it is not a file", str(path))
        return file.read(most)


def opened(path: str, flags: int) -> int:
    """A pipe in a file's place answers at once, instead of waiting for a writer for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
