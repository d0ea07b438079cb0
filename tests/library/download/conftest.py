import threading

import keyring
import pytest
from keyring.backends.fail import Keyring as NoKeyring

from pipelines.library.download.client import Client
from pipelines.library.download.control import Control
from pipelines.library.download.hosts import Hosts
from tests.library.download.site import Site

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch):
    """No proxy, no token and no keyring of this computer; no thread is left behind."""
    for name in (*PROXIES, *map(str.upper, PROXIES), "HF_TOKEN", "CIVITAI_TOKEN", "EMULSION_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    before, keys = set(threading.enumerate()), keyring.get_keyring()
    keyring.set_keyring(NoKeyring())
    yield
    keyring.set_keyring(keys)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive(), thread


@pytest.fixture
def site():
    made = Site()
    yield made
    made.close()


@pytest.fixture
def other_site():
    """On another port, and so another host."""
    made = Site()
    yield made
    made.close()


class Unhurried(Control):
    """Writes down how long it would have waited."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, seconds):
        self.waits.append(seconds)
        self.check()


@pytest.fixture
def control():
    return Unhurried()


@pytest.fixture
def hosts(site):
    """Both sites are the local one."""
    return Hosts(huggingface=site.base, civitai=f"{site.base.replace('127.0.0.1', 'localhost')}")


@pytest.fixture
def client(hosts):
    made = Client(hosts, stall_s=5.0)
    yield made
    made.close()
