"""Foreign text made plain: no markup, no control characters, and never more than was asked for."""

from __future__ import annotations

import re
from html.parser import HTMLParser

MAX_HTML = 10_000
_SILENT = ("script", "style", "template")
_BREAKS = ("br", "p", "div", "li", "ul", "ol", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "hr")
_CUT_OFF = re.compile(r"<[^<>]*$")
# html.parser takes a time that is quadratic in the number of tags that are begun and not ended.
_UNENDED = re.compile(r"<(?![^<>]*>)")
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]{0,500}>|&[#a-zA-Z0-9]{1,31};")


def plain(text: str, most: int) -> str:
    """Lines stay lines; at most `most` characters."""
    text = text[: 4 * most].encode("utf-8", "replace").decode()
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    text = "".join(c for c in text if c == "\n" or c.isprintable())
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" *\n *", "\n", text)).strip()[:most].rstrip()


def line(text: str, most: int) -> str:
    return " ".join(plain(text, 2 * most).split())[:most].rstrip()


def without_html(text: str, most: int) -> str:
    """The words of a description as Civitai keeps it; what holds no markup comes back as plain text."""
    text = text[:MAX_HTML]
    if not _MARKUP.search(text):
        return plain(text, most)
    reader = _Words()
    try:
        reader.feed(_UNENDED.sub("", _CUT_OFF.sub("", _without_comments(text))))
        reader.close()
    except (AssertionError, ValueError):  # some broken declarations
        return plain(_MARKUP.sub(" ", text), most)
    return plain("".join(reader.words), most)


def _without_comments(text: str) -> str:
    """In one pass, also where thousands begin and none ends."""
    first, *rest = text.split("<!--")
    return first + "".join(part.partition("-->")[2] for part in rest)


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag in _BREAKS:
            self.words.append("\n- " if tag == "li" else "\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _BREAKS and tag not in ("li", "br", "hr"):
            self.words.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            # Line ends within a paragraph are none.
            self.words.append(re.sub(r"\s+", " ", data))
