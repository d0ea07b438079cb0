"""W8: whatever is wrong with the libraries, `doctor` says so and what to do, and never shows a traceback."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import doctor
from pipelines.cli.doctor import Finding, State, findings
from pipelines.spec.attention import Tried

ROOT = Path(__file__).resolve().parents[2]
TRIED = (
    Tried(id="", ms=2.0),
    Tried(id="flash", ms=2.1, own=True),
    Tried(id="cudnn", why="it answers wrong, by 3.0% where 0.50% is rounding"),
    Tried(id="math", ms=5.0, repeats=False),
    Tried(id="sage", ms=1.0),
)
FINE = {
    "engine": {
        "torch": {"version": "2.10.0", "cuda_build": "12.8", "gpus": [], "threads": 2},
        "device": {"device": "cpu"},
        "attention": {"dtype": "float32", "tried": [dataclasses.asdict(each) for each in TRIED]},
    },
    "window": {"PySide6": {"version": "6.11.3"}, "x11": {}},
}
LIBRARIES = (
    "torchvision",
    "xformers",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "scipy",
    "compiler",
    "compiled_dir",
)


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Findings by name, with these libraries' facts in place of the fine ones."""

    def run(**changed) -> dict[str, Finding]:
        def probe(what):
            facts = {name: {"version": "1.0"} for name in LIBRARIES} | FINE[what]
            return facts | {name: value for name, value in changed.items() if name in facts}

        monkeypatch.setattr(doctor, "probe", probe)
        return {finding.name: finding for finding in findings(tmp_path)}

    return run


def test_a_computer_where_all_is_well(found):
    lines = found()
    assert lines["torch"] == Finding("torch", State.OK, "2.10.0")
    assert lines["Window"].state is State.OK
    assert lines["Attention"].text == "torch's own choice (heads of 64 numbers, float32)"
    for name in ("Python", "System", "Processor", "Memory", "Pictures", "Emulsion"):
        assert lines[name].text


@pytest.mark.parametrize(
    ("library", "state"),
    [("torch", State.PROBLEM), ("diffusers", State.PROBLEM), ("xformers", State.OFF), ("peft", State.OFF)],
)
def test_a_broken_library_is_named_with_its_reason_and_what_to_do(found, library, state):
    line = found(**{library: {"version": "9.9", "error": "OSError: libcudart.so.12"}})[library]
    assert line.state is state
    assert "9.9" in line.text
    assert "libcudart.so.12" in line.text
    assert line.todo


def test_each_kernel_of_attention_says_whether_it_can_be_used_and_why_not(found):
    lines = found()
    assert lines["Attention flash"].text.endswith("torch's own choice is this one, and used")
    assert "2.50 times as long as what is used" in lines["Attention math"].text
    assert lines["Attention cudnn"] == Finding("Attention cudnn", State.OFF, TRIED[2].why)
    assert "same bits" in lines["Attention math"].text
    assert "pictures differ" in lines["Attention sage"].text  # the quickest, and not used
    faster = [dataclasses.asdict(Tried(id=t.id, ms=1.0) if t.id == "flash" else t) for t in TRIED]
    lines = found(attention={"dtype": "float16", "tried": faster})
    assert lines["Attention"].text.startswith("Flash")
    assert lines["Attention flash"].text.startswith("used: it takes 0.50")


def test_attention_that_could_not_be_tried_is_a_problem(found):
    assert found(attention={"error": "RuntimeError: lost"})["Attention"].state is State.PROBLEM


def test_torch_without_cuda_is_off_and_says_why(found):
    facts = {"version": "2.10.0+cpu", "cuda_build": "", "gpus": [], "threads": 2}
    line = found(torch=facts)["Device"]
    assert line.state is State.OFF
    assert "without CUDA" in line.text


def test_a_folder_for_compiled_blocks_that_cannot_be_written_says_what_to_do(found):
    line = found(compiled_dir={"error": "The folder /x cannot be written (Permission denied)."})[
        "Compiled blocks"
    ]
    assert line.state is State.OFF
    assert "/x" in line.text
    assert "TORCHINDUCTOR_CACHE_DIR" in line.todo
    assert "kept in" in found(compiled_dir={"version": "/cache/compiled"})["Compiled blocks"].text


def test_a_machine_without_a_compiler_says_that_no_block_can_be_compiled(found):
    assert found()["Compiler"].state is State.OK
    line = found(compiler={"error": "there is no C++ compiler"})["Compiler"]
    assert line.state is State.OFF
    assert "there is no C++ compiler" in line.text


def test_missing_qt_libraries_are_named(found):
    line = found(PySide6={"error": "ImportError: libEGL.so.1: cannot open shared object file"})["Window"]
    assert line.state is State.PROBLEM
    assert "libEGL.so.1" in line.text
    assert "bootstrap.py" in line.todo


def test_a_full_disk_is_a_problem(found, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage)
    assert found()["Pictures"].state is State.PROBLEM


FAKES = {
    "torch": "raise ImportError('libtorch.so is of another version')",
    "torchvision": "raise RuntimeError('operator torchvision::nms does not exist')",
    "xformers": "raise OSError('libcudart.so.12: cannot open shared object file')",
    "diffusers": "raise AttributeError('module has no attribute uint1')",
    "transformers": "import os; os._exit(7)",
    "PySide6": "raise ImportError('libEGL.so.1: cannot open shared object file')",
}


def test_modules_that_are_broken_give_lines_and_no_traceback(tmp_path):
    for name, code in FAKES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code, "utf-8")
    command = [sys.executable, "main.py", "doctor", "--json", "--out", str(tmp_path)]
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    lines = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    for name, words in (("torch", "another version"), ("diffusers", "uint1"), ("Window", "libEGL.so.1")):
        assert lines[name]["state"] == "problem"
        assert words in lines[name]["text"]
    assert lines["xformers"]["state"] == "off"
    assert "libcudart" in lines["xformers"]["text"]
    assert (
        "ended with 7" in lines["transformers"]["text"]
    )  # it took its process along, and is told all the same


def test_a_second_device_is_offered_to_the_text_encoders(found):
    cards = {"version": "2.10.0", "cuda_build": "12.8", "gpus": ["RTX 4060", "RTX 3060"], "threads": 2}
    text = found(torch=cards)["Text encoders"].text
    assert "cuda:1 (RTX 3060), cpu" in text
    assert "--encoders-device" in text
    assert "Text encoders" not in found(), "a processor is all there is"
