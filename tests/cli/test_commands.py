import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli.commands import main
from tests.cli.conftest import RECORDS

ROOT = Path(__file__).resolve().parents[2]


def test_an_unknown_command_names_those_there_are(headless):
    status, out, err = headless.run("generat")
    assert (status, out) == (2, "")
    assert "'generat'" in err
    assert "generate, models, inspect, plan, convert, quantize, download, doctor" in err
    status, out, _ = headless.run("generat", "--json")
    assert (status, json.loads(out)["field"]) == (2, "command")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["generate", "--help"], ["models", "-h"], ["convert", "-h"], ["doctor", "-h"]]
)
def test_help_is_there(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "usage: python main.py" in capsys.readouterr().out


def test_models_as_json_are_the_records(headless):
    status, out, _ = headless.run("models", "--json")
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["id"] for line in lines] == [record.id for record in RECORDS]
    assert lines[0]["problem"] == "unet is missing."
    assert lines[1]["sampling"]["scheduler"] == "dpmpp_2m_karras"


def test_models_for_people_say_what_cannot_be_used(headless):
    _, out, _ = headless.run("models")
    assert "demo-sd" in out
    assert "Cannot be used: unet is missing." in out
    assert "\x1b" not in out  # a title out of a file does not steer the terminal


LIGHT = """
import sys
from main import main
status = main(sys.argv[1:])
heavy = {"torch", "diffusers", "transformers", "PySide6", "shiboken6"} & set(sys.modules)
assert not heavy, heavy
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("arguments", "status"), [(["models", "--json"], 0), (["generate", "--steps", "3"], 2)]
)
def test_main_imports_nothing_heavy_for_what_needs_nothing_heavy(arguments, status):
    done = subprocess.run([sys.executable, "-c", LIGHT, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_full_disk_behind_the_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "main.py", "models", "--json"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "Error: The output failed: No space left on device.\n"


@pytest.mark.skipif(os.name == "nt", reason="only a POSIX shell starts a program without its streams")
def test_a_closed_stderr_sends_no_error_to_stdout():
    command = f"{sys.executable} main.py generate --steps 3 2>&-"
    done = subprocess.run(command, shell=True, cwd=ROOT, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, b"")


def test_the_version_is_told():
    done = subprocess.run([sys.executable, "main.py", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "Emulsion")
