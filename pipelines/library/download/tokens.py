"""`Tokens`: the access tokens of the two sites, in the system keyring and nowhere else.

Where no keyring works, the environment is read instead. A keyring may ask the person to unlock it, so never on the
window's thread.
"""

from __future__ import annotations

import os
import threading

from pipelines.library.download.answers import TITLES
from pipelines.library.download.errors import DownloadError
from pipelines.library.download.hosts import CIVITAI, HUGGINGFACE

SERVICE = "emulsion"
VARIABLES = {HUGGINGFACE: "HF_TOKEN", CIVITAI: "CIVITAI_TOKEN"}
NAMES = tuple(VARIABLES)


class Tokens:
    """Safe from every thread. The keyring is asked once for each name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def get(self, name: str) -> str:
        """'' where there is none. Never raises: without a token the host says what it wants."""
        with self._lock:
            if name not in self._known:
                self._known[name] = _stored(name) or _of_environment(name)
            return self._known[name]

    def set(self, name: str, token: str, *, keep: bool = True) -> None:
        """Keeps it in the keyring, or with `keep` False until the program ends. Raises DownloadError."""
        token = _checked(_known_name(name), token)
        if keep:
            _store(name, token)
        with self._lock:
            self._known[name] = token

    def forget(self, name: str) -> None:
        """Raises DownloadError when the keyring does not let go of it."""
        _known_name(name)
        with self._lock:
            self._known.pop(name, None)
        _delete(name)


def keyring_note() -> str:
    """One sentence when no keyring works here; '' when one does."""
    import keyring  # with its backends it takes a tenth of a second to import

    backend = keyring.get_keyring()
    if getattr(backend, "priority", 0) > 0:
        return ""
    names = " and ".join(VARIABLES.values())
    return f"This system has no keyring that works; tokens are read from {names} of the environment instead."


def _known_name(name: str) -> str:
    if name not in NAMES:
        raise DownloadError(f"There is no token called '{name[:40]}'.", f"There are {' and '.join(NAMES)}.")
    return name


def _checked(name: str, token: str) -> str:
    """The token itself must not come into the message."""
    token = token.strip()
    if not token or len(token) > 1000 or not all("!" <= c <= "~" for c in token):
        raise DownloadError(f"This is no token of {TITLES[name]}.", "Copy it whole, without blanks.")
    return token


def _of_environment(name: str) -> str:
    try:
        return _checked(name, os.environ.get(VARIABLES[name], ""))
    except DownloadError:
        return ""


def _stored(name: str) -> str:
    import keyring

    try:
        return _checked(name, keyring.get_password(SERVICE, name) or "")
    except Exception:  # backends are plug-ins of others and raise what they like
        return ""


def _store(name: str, token: str) -> None:
    import keyring

    try:
        keyring.set_password(SERVICE, name, token)
        kept = keyring.get_password(SERVICE, name) == token  # some backends take everything and keep nothing
    except Exception:
        kept = False
    if not kept:
        raise DownloadError(
            f"The system's keyring does not keep the token of {TITLES[name]}.",
            f"Unlock it, or set {VARIABLES[name]} in the environment before the program starts.",
        ) from None  # a keyring's own words could repeat what it was given


def _delete(name: str) -> None:
    import keyring
    from keyring.errors import NoKeyringError, PasswordDeleteError

    try:
        keyring.delete_password(SERVICE, name)
    except (PasswordDeleteError, NoKeyringError):
        pass  # there was none
    except Exception:
        text = f"The system's keyring does not let go of the token of {TITLES[name]}."
        raise DownloadError(text, "Unlock it and try again.") from None
