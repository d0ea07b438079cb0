"""`Client`: asks a host for an address. The one place that opens a connection.

Redirects are followed here, one hop at a time, because a token belongs to one host and to no other.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import certifi
import urllib3
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    SSLError,
    TimeoutError,
)
from urllib3.util import parse_url

from pipelines.library.download.answers import refusal
from pipelines.library.download.control import Control
from pipelines.library.download.errors import DownloadError, LostConnection
from pipelines.library.download.hosts import Hosts, checked, host_of
from pipelines.library.download.wakeable import wakeable, with_wakeable_pools
from pipelines.library.version import program

OFFLINE_VARIABLE = "EMULSION_OFFLINE"
STALL_S = 30.0  # without a byte
CONNECT_S = 15.0
PIECE = 1 << 20
MAX_HOPS = 8
MAX_JSON_BYTES = 50_000_000
_AGAIN = "Check the connection and try again; what has come so far is kept."
_REDIRECTS = (301, 302, 303, 307, 308)

TokenOf = Callable[[str], str]


def no_token(name: str) -> str:
    return ""


@dataclass(slots=True)
class Answer:
    """An open answer, its body not read yet. `url` is where the redirects ended, `token` whether one was sent there."""

    url: str
    status: int
    headers: Mapping[str, str]
    token: bool
    raw: urllib3.BaseHTTPResponse
    stall_s: float

    @property
    def host(self) -> str:
        return host_of(self.url)

    @property
    def encoded(self) -> bool:
        return self.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")

    def length(self) -> int | None:
        """Of the body in bytes; None when it is not told, or told of something else."""
        text = self.headers.get("Content-Length", "").strip()
        return int(text) if text.isascii() and text.isdigit() and not self.encoded else None

    def chunks(self, control: Control) -> Iterator[bytes]:
        """The body as it comes, decoded. Raises LostConnection when it ends too early, Cancelled when stopped."""
        with _told(self.host, self.stall_s, control), control.closing(self.raw.shutdown):
            while data := self.raw.read1(PIECE, decode_content=self.encoded):
                control.check()
                yield data
            control.check()  # a connection that stop() has shut ends like a whole one


class Client:
    """Safe from every thread. `token_of` is asked with the name of a host of `hosts`, never for another.

    Raises DownloadError where the program was told to stay offline.
    """

    def __init__(
        self,
        hosts: Hosts | None = None,
        token_of: TokenOf = no_token,
        *,
        stall_s: float = STALL_S,
        connect_s: float = CONNECT_S,
    ) -> None:
        if os.environ.get(OFFLINE_VARIABLE, "").strip() not in ("", "0"):
            text = f"Downloads are off: {OFFLINE_VARIABLE} is set."
            raise DownloadError(text, "Unset it and start the program again.")
        self.hosts = hosts or Hosts()
        self._token_of, self._stall_s = token_of, stall_s
        self._settings: dict[str, Any] = {
            "num_pools": 8,
            "maxsize": 4,
            "retries": False,
            "timeout": urllib3.Timeout(connect=connect_s, read=stall_s),
            "ssl_context": _trust(),
        }
        self._pools: dict[str, urllib3.PoolManager] = {}

    @contextlib.contextmanager
    def open(
        self,
        url: str,
        control: Control,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> Iterator[Answer]:
        """The answer behind all redirects, whatever its status. Raises LostConnection or DownloadError."""
        answer = self._answer(url, dict(headers or {}), method, control)
        try:
            yield answer
        finally:
            answer.raw.close()  # the rest of a body that was not read is not waited for

    def json(self, url: str, control: Control, what: str) -> tuple[Any, str]:
        """What the host says at `url`, and where its next page is, '' for the last one.

        `what` is asked for, in words. Raises DownloadError.
        """
        with self.open(url, control, {"Accept": "application/json"}) as answer:
            if answer.status != 200:
                raise refusal(answer, what, self.hosts)
            body = bytearray()
            for data in answer.chunks(control):
                body += data
                if len(body) > MAX_JSON_BYTES:
                    raise DownloadError(f"{answer.host} says more about {what} than can be read.")
            link = _next_page(answer)
        try:
            return json.loads(body), link
        except (ValueError, RecursionError) as error:
            text = f"{answer.host} did not say in a readable way what {what} is."
            raise DownloadError(text, "Try again later.") from error

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()

    def _answer(self, url: str, headers: dict[str, str], method: str, control: Control) -> Answer:
        asked = url
        for _ in range(MAX_HOPS):
            control.check()
            answer = self._one(url, headers, method, control)
            target = answer.headers.get("Location", "")
            if answer.status not in _REDIRECTS or not target:
                return answer
            answer.raw.close()
            url = _next_hop(answer, target, self.hosts)
        raise DownloadError(f"{host_of(asked)} sends from one address to the next without end.")

    def _one(self, url: str, headers: dict[str, str], method: str, control: Control) -> Answer:
        """One request to one host. The token is chosen here, for this address alone."""
        host = checked(url).hostname or ""
        sent = {**headers, "User-Agent": program().replace(" ", "/"), "Accept-Encoding": "identity"}
        name = self.hosts.token_name(url)
        token = self._token_of(name) if name else ""
        if token:
            sent["Authorization"] = f"Bearer {token}"
        with _told(host, self._stall_s, control), wakeable(control):
            raw = self._pool(url, host).request(
                method, url, headers=sent, redirect=False, preload_content=False
            )
        return Answer(url, raw.status, raw.headers, bool(token), raw, self._stall_s)

    def _pool(self, url: str, host: str) -> urllib3.PoolManager:
        """Through the proxy of this computer, where there is one for this host."""
        scheme = url.partition(":")[0].lower()
        proxies = {} if urllib.request.proxy_bypass(host) else urllib.request.getproxies()
        proxy = proxies.get(scheme) or proxies.get("all") or ""
        if proxy not in self._pools:
            self._pools[proxy] = _manager(proxy, self._settings)
        return self._pools[proxy]


def _manager(proxy: str, settings: dict[str, Any]) -> urllib3.PoolManager:
    if not proxy:
        return with_wakeable_pools(urllib3.PoolManager(**settings))
    try:
        parts = parse_url(proxy if "://" in proxy else f"http://{proxy}")
        headers = urllib3.make_headers(proxy_basic_auth=parts.auth) if parts.auth else None
        manager = urllib3.ProxyManager(parts._replace(auth=None).url, proxy_headers=headers, **settings)
        return with_wakeable_pools(manager)
    except (HTTPError, ValueError) as error:
        text = "The proxy that this computer's settings name cannot be used."
        raise DownloadError(text, "Look at HTTPS_PROXY or the system's proxy settings.") from error


def _trust() -> ssl.SSLContext:
    """The system's authorities, where a company may have added its own, and Mozilla's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _next_hop(answer: Answer, target: str, hosts: Hosts) -> str:
    url = _joined(answer.url, target)
    parts = checked(url)
    if answer.url.lower().startswith("https:") and parts.scheme == "http":
        raise DownloadError(
            f"{answer.host} sends on to {parts.hostname} without encryption; that is not followed."
        )
    if parts.path.rstrip("/").endswith("/login") and hosts.token_name(url):
        raise refusal(answer, "this file", hosts, status=401)
    return url


def _joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target)
    except ValueError:
        return target  # `checked` has the words for it


def _next_page(answer: Answer) -> str:
    """By the Link header; only on the same host, since the rest of the list is as trusted as its start."""
    for link in answer.headers.get("Link", "").split(","):
        address, _, relation = link.strip().partition(">")
        if 'rel="next"' in relation and address.startswith("<"):
            url = _joined(answer.url, address[1:])
            return url if checked(url)[:2] == checked(answer.url)[:2] else ""
    return ""


@contextlib.contextmanager
def _told(host: str, stall_s: float, control: Control) -> Iterator[None]:
    """What a connection can die of, in words."""
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        control.check()  # stop() shut the connection
        raise _in_words(host, stall_s, error) from error


def _in_words(host: str, stall_s: float, error: Exception) -> DownloadError:
    match error:
        case SSLError():
            hint = (
                "Check the clock of this computer, and whether a program or proxy looks into its connections."
            )
            return DownloadError(f"{host} does not prove who it is: its certificate is not trusted.", hint)
        case NameResolutionError():
            return LostConnection(f"{host} is not found.", "Check the address and the connection.")
        case NewConnectionError() | urllib3.exceptions.ConnectTimeoutError():
            return LostConnection(f"{host} cannot be reached.", _AGAIN)
        case TimeoutError():
            return LostConnection(f"{host} has sent nothing for {stall_s:g} seconds.", _AGAIN)
        case IncompleteRead() | ProtocolError() | OSError():
            return LostConnection(f"The connection to {host} was lost.", _AGAIN)
        case DecodeError():
            return LostConnection(f"{host} has sent a damaged answer.", _AGAIN)
        case _:
            return LostConnection(f"{host} cannot be asked ({type(error).__name__}).", _AGAIN)
