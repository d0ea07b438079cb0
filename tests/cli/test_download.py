"""`download`: shown, confirmed, fetched, and gone on after it was killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import keyring
import pytest

from pipelines.cli import download as command
from pipelines.library.download.hosts import Hosts
from tests.library.download.conftest import PROXIES
from tests.library.download.site import ETAG, Site, cutting, safetensors, says, sha256, whole
from tests.library.download.test_lane import Memory
from tests.library.download.test_look import COMMIT, repository

pytestmark = pytest.mark.local_server
DATA = safetensors()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(monkeypatch):
    for name in (*PROXIES, *map(str.upper, PROXIES), "HF_TOKEN", "CIVITAI_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    made, before = Site(), keyring.get_keyring()
    keyring.set_keyring(Memory())
    monkeypatch.setattr(command, "HOSTS", Hosts(huggingface=made.base, civitai="http://localhost:1"))
    made.pages["/a.safetensors"] = whole(DATA)
    yield made
    keyring.set_keyring(before)
    made.close()


@pytest.fixture
def address(site):
    """Of a plain file: on the other name of this computer, since 127.0.0.1 stands for Hugging Face here."""
    return site.url("/a.safetensors").replace("127.0.0.1", "localhost")


class Terminal:
    """stdin with a person at it."""

    def __init__(self, answer):
        self.answer = answer

    def isatty(self):
        return True

    def readline(self):
        return f"{self.answer}\n"


def test_fetched(headless, site, address, tmp_path):
    status, out, err = headless.run(
        "download", address, "--to", str(tmp_path), "--yes", "--sha256", sha256(DATA)
    )
    assert (status, out) == (0, f"{tmp_path / 'a.safetensors'}  200 kB\n")
    assert "a.safetensors  200 kB" in err
    assert (tmp_path / "a.safetensors").read_bytes() == DATA


def test_into_the_models_folder_when_no_other_is_named(headless, site, tmp_path, monkeypatch):
    monkeypatch.setenv("EMULSION_HOME", str(tmp_path / "home"))
    repository(site, {"lora.safetensors": DATA})
    assert headless.run("download", "org/repo", "--yes")[0] == 0
    assert (tmp_path / "home" / "data" / "models" / "lora.safetensors").read_bytes() == DATA


def test_as_json(headless, site, tmp_path):
    repository(site, {"lora.safetensors": DATA, "other.safetensors": DATA})
    arguments = (
        "download",
        "org/repo",
        "--file",
        "lora.safetensors",
        "--to",
        str(tmp_path),
        "--yes",
        "--json",
    )
    status, out, _ = headless.run(*arguments)
    first, *_, last = lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert first["event"] == "plan"
    assert first["files"][0]["sha256"] == sha256(DATA)
    assert first["target"] == str(tmp_path / "lora.safetensors")
    assert {line["event"] for line in lines[1:-1]} <= {"progress"}
    assert last == {"event": "finished", "path": str(tmp_path / "lora.safetensors"), "size": len(DATA)}


@pytest.mark.parametrize(
    ("answer", "fetched"), [("y", True), ("YES", True), ("n", False), ("", False), ("yo", False)]
)
def test_nothing_of_the_file_is_asked_for_before_it_is_confirmed(
    headless, site, tmp_path, monkeypatch, answer, fetched
):
    repository(site, {"lora.safetensors": DATA})
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    status, _, err = headless.run("download", "org/repo", "--to", str(tmp_path))
    asked = [each for each in site.seen if "/resolve/" in each.path and each.method == "GET"]
    assert status == 0
    assert bool(asked) is fetched
    assert (tmp_path / "lora.safetensors").exists() is fetched
    assert ("Nothing was fetched." in err) is not fetched


def test_without_a_terminal_it_must_be_confirmed_beforehand(headless, site, address, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    status, _, err = headless.run("download", address, "--to", str(tmp_path))
    assert status == 2
    assert "Give --yes" in err
    assert [each.method for each in site.seen] == ["HEAD"]
    sys.stdin.close()


WRONG = {
    "nonsense": (("nonsense",), "source"),
    "nothing": ((), "source"),
    "folder": (("org/repo", "--to", "/not/there"), "to"),
    "sum": (("org/repo", "--sha256", "12"), "sha256"),
    "token": (("--token-set", "github"), "--token-set"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_send_nothing(headless, site, case):
    arguments, field = WRONG[case]
    status, out, _ = headless.run("download", *arguments, "--json")
    last = json.loads(out.splitlines()[-1])
    assert (status, last["event"], last["field"]) == (2, "failed", field)
    assert not site.seen


def test_a_failure_says_what_and_what_to_do(headless, site, tmp_path):
    site.pages["/api/models/org/repo/revision/main"] = says(401)
    status, _, err = headless.run("download", "org/repo", "--to", str(tmp_path), "--yes")
    assert status == 1
    assert "only to those with a token (401)" in err
    assert "huggingface.co/settings/tokens" in err


def test_several_files_are_named(headless, site, tmp_path):
    repository(site, {"a.safetensors": DATA, "b.safetensors": DATA})
    status, _, err = headless.run("download", "org/repo", "--to", str(tmp_path), "--yes")
    assert status == 1
    assert "a.safetensors, b.safetensors" in err


def test_ctrl_c_keeps_what_has_come(headless, site, address, tmp_path, monkeypatch):
    site.pages["/a.safetensors"] = cutting(DATA, 5000)

    def interrupted(self, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.library.download.control.Control.wait", interrupted)
    status, _, err = headless.run("download", address, "--to", str(tmp_path), "--yes")
    assert status == 130
    assert "the same command goes on from there" in err
    assert (tmp_path / "a.safetensors.part").read_bytes() == DATA[:5000]
    monkeypatch.undo()
    monkeypatch.setattr(command, "HOSTS", Hosts(huggingface=site.base))
    assert headless.run("download", address, "--to", str(tmp_path), "--yes")[0] == 0
    assert (tmp_path / "a.safetensors").read_bytes() == DATA
    assert site.seen[-1].range == "bytes=5000-"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_in_the_middle_the_next_run_ends_bit_equal(site, tmp_path):
    """A real process, a real SIGKILL, twice at different places."""
    go_on = threading.Event()

    def stuck(request, seen):
        begin = int(seen.range.removeprefix("bytes=").partition("-")[0] or 0)
        if seen.method == "HEAD" or begin > 100_000:
            whole(DATA)(request, seen)
            return
        rest = DATA[begin:]
        span = {"Content_Range": f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}"} if begin else {}
        request.say(206 if begin else 200, rest[:60_000], Content_Length=str(len(rest)), ETag=ETAG, **span)
        request.wfile.flush()
        go_on.wait(60)
        request.cut()

    site.pages["/a.safetensors"] = stuck
    part = tmp_path / "a.safetensors.part"
    line = [sys.executable, "main.py", "download", site.url("/a.safetensors"), "--to", str(tmp_path), "--yes"]
    came = [0]
    for _ in range(2):
        with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            while part.stat().st_size - came[-1] < 60_000 if part.exists() else True:
                assert process.poll() is None
                threading.Event().wait(0.02)
            came.append(part.stat().st_size)
            process.send_signal(signal.SIGKILL)
    assert came == [0, 60_000, 120_000]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    go_on.set()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.safetensors").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert site.gets("/a.safetensors")[-1].range == "bytes=120000-"


def test_a_token_is_typed_kept_and_forgotten(headless, site, monkeypatch):
    ring = keyring.get_keyring()
    monkeypatch.setattr("sys.stdin", Terminal(""))
    monkeypatch.setattr("getpass.getpass", lambda prompt: "hf_CANARY")
    status, out, err = headless.run("download", "--token-set", "huggingface")
    assert status == 0
    assert "CANARY" not in out + err
    assert list(getattr(ring, "kept").values()) == ["hf_CANARY"]  # noqa: B009
    assert headless.run("download", "--token-forget", "huggingface")[0] == 0
    assert not getattr(ring, "kept")  # noqa: B009
    assert not site.seen


def test_a_token_is_not_read_from_a_pipe(headless, site, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    status, _, err = headless.run("download", "--token-set", "civitai")
    assert status == 2
    assert "no terminal" in err


def test_offline(headless, site, address, tmp_path, monkeypatch):
    monkeypatch.setenv("EMULSION_OFFLINE", "1")
    status, _, err = headless.run("download", address, "--to", str(tmp_path), "--yes")
    assert status == 1
    assert "EMULSION_OFFLINE is set" in err
    assert not site.seen


def test_control_characters_of_a_host_do_not_reach_the_terminal(headless, site, tmp_path):
    repository(site, {"a\x1b[2J.safetensors": DATA})
    site.pages[f"/org/repo/resolve/{COMMIT}/a%1B%5B2J.safetensors"] = whole(DATA)
    status, out, err = headless.run("download", "org/repo", "--to", str(tmp_path), "--yes")
    assert status == 0, err
    assert "\x1b" not in out + err
