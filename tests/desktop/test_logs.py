"""W11: the log rotates, is bounded, holds no secrets and no control characters of foreign text."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from desktop import logs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def log_file(tmp_path):
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    path = logs.configure(tmp_path)
    yield path
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_foreign_text_cannot_forge_a_line_or_drive_a_terminal(log_file):
    logging.getLogger("x").info("name: %s", "a\r\n2026-01-01 INFO x: forged\x1b[2J\u202egnp\x00\x9b\u2028z")
    lines = log_file.read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("    | 2026-01-01 INFO x: forged")
    assert "\\u001b" in lines[1]
    assert not set("".join(lines)) & set("\x1b\x00\r\u202e\u2028\x9b")


@pytest.mark.parametrize(
    "text",
    [
        "hf_CANARYCANARYCANARY1234",
        "Authorization: Bearer CANARYCANARY",
        "api_key=CANARYCANARY",
        '"token": "CANARYCANARY"',
    ],
)
def test_no_secret_is_written(log_file, text):
    logging.getLogger("x").warning("request with %s failed", text)
    assert "CANARY" not in log_file.read_text("utf-8")


def test_the_home_folder_is_not_named(log_file):
    logging.getLogger("x").info("reading %s", Path.home() / "models")
    assert str(Path.home()) not in log_file.read_text("utf-8")


def test_it_rotates_and_stays_bounded(log_file):
    logger = logging.getLogger("x")
    for _ in range(600):
        logger.info("y" * 30_000)
    files = list(log_file.parent.glob("emulsion.log*"))
    assert len(files) == logs.BACKUPS + 1
    assert sum(file.stat().st_size for file in files) <= (logs.BACKUPS + 1) * (
        logs.MAX_BYTES + logs.MAX_RECORD
    )


def test_a_folder_that_cannot_be_written_costs_only_the_file(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    before = list(logging.getLogger().handlers)
    try:
        assert logs.configure(blocker / "logs") is None
    finally:
        for handler in [h for h in logging.getLogger().handlers if h not in before]:
            logging.getLogger().removeHandler(handler)


CRASH = """
import os, sys
from pathlib import Path
from desktop.logs import CrashFile
file = CrashFile(Path(sys.argv[1]))
file.open()
os.abort() if sys.argv[2] == "abort" else file.close()
"""


@pytest.mark.parametrize("end", ["abort", "close"])
def test_w2_an_abort_is_told_at_the_next_start(tmp_path, end):
    command = [sys.executable, "-c", CRASH, str(tmp_path), end]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, env={**os.environ})
    texts = logs.CrashFile(tmp_path).left_behind()
    if end == "abort":
        assert done.returncode != 0
        assert len(texts) == 1
        assert "Aborted" in texts[0]
    else:
        assert texts == []
    assert logs.CrashFile(tmp_path).left_behind() == []
    assert list(tmp_path.iterdir()) == []
