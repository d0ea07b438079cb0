"""Names: ids of models and names of picture files that are legal on every system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

MAX_STEM_BYTES = (
    150  # leaves room below the 255 bytes of a name and for the folders in Windows' 260 characters
)

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f]')
_TAG = re.compile(r"\[([a-z_]+)\]")
# COM¹ is COM1 to Windows; a reserved name stays reserved with any ending.
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³])(\.|$)", re.IGNORECASE)


def slug(name: str) -> str:
    """'My Model v1.5' becomes 'my-model-v1.5'; letters of every script stay; never empty."""
    return re.sub(r"[^\w.]+", "-", name.lower()).strip("-.") or "model"


def filled(pattern: str, values: Mapping[str, str]) -> str:
    """`pattern` with each [tag] replaced once by its value; an unknown tag stays as it is typed."""
    return _TAG.sub(lambda found: values.get(found[1], found[0]), pattern)


def safe_stem(text: str, ending: str = "") -> str:
    """`text` as one file name without suffix: no folder, legal on Windows, at most MAX_STEM_BYTES in UTF-8.

    `ending` is kept whole at the end, whatever has to be cut for it.
    """
    text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
    # Invisible controls, such as the one that turns the reading direction round, hide what a name says.
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = re.sub(r"\s+", " ", _FORBIDDEN.sub("_", text)).lstrip(" .~-")
    text = cut(text, MAX_STEM_BYTES - len(ending.encode()) - 1).rstrip(" .-") or "picture"
    return f"_{text}{ending}" if _RESERVED.match(text) else f"{text}{ending}"


def cut(text: str, size: int) -> str:
    """`text` in at most `size` bytes of UTF-8, never through a character."""
    return text.encode()[:size].decode("utf-8", "ignore")
