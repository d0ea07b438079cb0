"""A web server on 127.0.0.1 whose every answer a test decides."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ETAG = '"first"'


@dataclass(frozen=True, slots=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


class Request(BaseHTTPRequestHandler):
    """What an answer is made of. HTTP/1.1, so that a length that is not kept is noticed."""

    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        super().setup()
        self.server.site.connections.append(self.connection)

    def _any(self) -> None:
        site: Site = self.server.site
        names = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, names)
        site.seen.append(seen)
        answer = site.pages.get(self.path.partition("?")[0], not_found)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # some tests want the client to go
            answer(self, seen)

    do_GET = do_HEAD = _any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Headers by their names with _ for -; Content-Length is right unless it is given; '' leaves one out."""
        self.send_response(status)
        told = {"Content-Length": str(len(body)), "Content-Type": "application/octet-stream"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in told.items():
            if value:
                self.send_header(name, value)
        if not told["Content-Length"] and "Transfer-Encoding" not in told:
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        """The connection ends here, whatever was promised."""
        self.wfile.flush()
        self.close_connection = True


Page = Callable[[Request, Seen], None]


@dataclass(slots=True)
class Site:
    """`pages` by path; `seen` is every request that came."""

    pages: dict[str, Page] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    connections: list[Any] = field(default_factory=list)
    server: Any = None

    def __post_init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        self.server.site = self
        self.server.daemon_threads = True
        self.server.block_on_close = True
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), name="site")
        self._thread.start()

    _thread: Any = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def url(self, path: str) -> str:
        return f"{self.base}{path}"

    def gets(self, path: str) -> list[Seen]:
        return [each for each in self.seen if each.path == path and each.method == "GET"]

    def close(self) -> None:
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(2)
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(60)


def not_found(request: Request, seen: Seen) -> None:
    request.say(404, b"no such page", Content_Type="text/plain")


def whole(data: bytes, etag: str = ETAG, **headers: str) -> Page:
    """A good host: ranges, If-Range, a strong ETag."""

    def page(request: Request, seen: Seen) -> None:
        begin = seen.range.removeprefix("bytes=").partition("-")[0]
        if begin and seen.headers.get("if-range", etag) == etag:
            if int(begin) >= len(data):
                request.say(416, b"", Content_Range=f"bytes */{len(data)}", ETag=etag)
                return
            end = seen.range.partition("-")[2]
            last = min(int(end), len(data) - 1) if end else len(data) - 1
            span = f"bytes {begin}-{last}/{len(data)}"
            request.say(206, data[int(begin) : last + 1], Content_Range=span, ETag=etag, **headers)
            return
        request.say(200, data, ETag=etag, Accept_Ranges="bytes", **headers)

    return page


def cutting(data: bytes, after: int, times: int = 1, etag: str = ETAG) -> Page:
    """As `whole`, but the first `times` answers end after `after` bytes of what is asked for."""
    left = [times]
    good = whole(data, etag)

    def page(request: Request, seen: Seen) -> None:
        if not left[0] or seen.method == "HEAD":
            good(request, seen)
            return
        left[0] -= 1
        begin = int(seen.range.removeprefix("bytes=").partition("-")[0] or 0)
        rest = data[begin:]
        if begin:
            span = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            request.say(206, rest[:after], Content_Length=str(len(rest)), Content_Range=span, ETag=etag)
        else:
            request.say(200, rest[:after], Content_Length=str(len(rest)), ETag=etag)
        request.cut()

    return page


def says(status: int, body: bytes = b"", **headers: str) -> Page:
    return lambda request, seen: request.say(status, body, **headers)


def as_json(data: Any, **headers: str) -> Page:
    return says(200, json.dumps(data).encode(), Content_Type="application/json", **headers)


def safetensors(size: int = 200_000, seed: int = 1) -> bytes:
    """A whole file with one tensor of `size` bytes."""
    entry = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
