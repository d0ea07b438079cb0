import io
import json
import os
import signal
import threading

import pytest

from pipelines.cli.commands import main
from pipelines.spec.errors import Cancelled, DeviceLost, EngineError, OutOfMemory, RequestError
from tests.cli.conftest import STEPS


def test_events_come_as_json_and_the_last_has_the_paths(headless):
    status, events = headless.generate("--prompt", "a red circle", "--seed", "7", "--count", "2")
    assert status == 0
    names = [event["event"] for event in events]
    assert names[:2] == ["request", "queued"]
    assert names.count("step") == 2 * STEPS
    assert names.count("saved") == 2
    assert events[-1]["event"] == "finished"
    assert events[-1]["paths"] == [str(headless.out / "0.png"), str(headless.out / "1.png")]
    assert [event["seed"] for event in events if event["event"] == "saved"] == [7, 8]
    step = next(event for event in events if event["event"] == "step")
    assert step["eta_s"] is None
    assert "preview" not in step


def test_defaults_are_the_models_own(headless):
    _, (first, *_) = headless.generate("--prompt", "x")
    sampling = first["request"]["sampling"]
    assert first["request"]["model"] == "demo-sd"
    assert first["request"]["size"] == {"width": 256, "height": 256}
    assert sampling.pop("seed") >= 0
    assert sampling == {"scheduler": "dpmpp_2m_karras", "num_inference_steps": 12, "guidance_scale": 4.5}


def test_a_setting_without_effect_is_told(headless):
    _, (first, *_) = headless.generate("--prompt", "a", "--negative", "b", "--guidance", "1")
    (note,) = first["notes"]
    assert note.startswith("The negative prompt does nothing")
    _, (first, *_) = headless.generate("--prompt", "a", "--negative", "b", "--guidance", "2")
    assert first["notes"] == []


def test_every_flag_reaches_its_field(headless):
    words = (
        "--prompt a --negative b --model DEMO-SD --steps 9 --guidance 2 --sampler euler --schedule karras "
        "--seed 5 --size 320x192 --count 3 --device cuda:1 --threads 2 "
        "--attention math --deterministic --encoders-device cpu"
    )
    _, (first, *_) = headless.generate(*words.split())
    request = first["request"]
    assert request["prompt"] == {"text": "a", "negative": "b"}
    assert request["sampling"] == {
        "scheduler": "euler_karras",
        "num_inference_steps": 9,
        "guidance_scale": 2.0,
        "seed": 5,
    }
    assert (request["size"], request["count"]) == ({"width": 320, "height": 192}, 3)
    assert (headless.options.device, headless.options.threads) == ("cuda:1", 2)
    assert (headless.options.attention, headless.options.deterministic) == ("math", True)
    assert headless.options.attention_file.endswith("attention.sqlite")
    assert headless.options.encoders_device == "cpu"


@pytest.mark.parametrize(
    ("flags", "row_id"),
    [
        (["--sampler", "DPM++ 2M"], "dpmpp_2m"),
        (["--schedule", "Exponential"], "dpmpp_2m_exponential"),
        (["--sampler", "DPM++ 2M SDE Karras"], "dpmpp_2m_sde_karras"),
    ],
)
def test_a_schedule_alone_keeps_the_sampler(headless, flags, row_id):
    _, (first, *_) = headless.generate("--prompt", "x", *flags)
    assert first["request"]["sampling"]["scheduler"] == row_id


@pytest.mark.parametrize("flags", [[], ["--seed", "-1"], ["--seed=-5"]])
def test_an_open_seed_is_drawn_and_told(headless, flags):
    seeds = {
        headless.generate("--prompt", "x", *flags)[1][0]["request"]["sampling"]["seed"] for _ in range(3)
    }
    assert len(seeds) == 3
    status, _, err = headless.run("generate", "--prompt", "x", "--out", str(headless.out), *flags)
    assert status == 0
    assert "Seed " in err


def test_flags_win_over_the_file_and_the_file_over_the_defaults(headless, tmp_path):
    file = tmp_path / "request.json"
    fields = {
        "model": "demo-sd",
        "prompt": {"text": "from the file"},
        "sampling": {"seed": 3, "guidance_scale": 9.0},
    }
    file.write_text(json.dumps(fields), "utf-8")
    _, (first, *_) = headless.generate("--request", str(file), "--seed", "4")
    request = first["request"]
    assert request["prompt"]["text"] == "from the file"
    assert (request["sampling"]["seed"], request["sampling"]["guidance_scale"]) == (4, 9.0)
    assert request["sampling"]["num_inference_steps"] == 12


def test_a_request_that_was_told_can_be_given_back(headless, tmp_path):
    _, (first, *_) = headless.generate("--prompt", "a «круг» \U0001f600", "--seed", "6", "--count", "2")
    file = tmp_path / "again.json"
    file.write_text(json.dumps(first), "utf-8")
    _, (again, *_) = headless.generate("--request", str(file))
    assert again["request"] == first["request"]


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ([], "prompt.text"),
        (["--prompt", "x", "--encoders-device", "auto"], "encoders_device"),
        (["--prompt", "x", "--encoders-device", "gpu"], "encoders_device"),
        (["--prompt", "x", "--steps", "abc"], "sampling.num_inference_steps"),
        (["--prompt", "x", "--steps", "2.5"], "sampling.num_inference_steps"),
        (["--prompt", "x", "--steps", "151"], "sampling.num_inference_steps"),
        (["--prompt", "x", "--guidance", "nan"], "sampling.guidance_scale"),
        (["--prompt", "x", "--guidance", "inf"], "sampling.guidance_scale"),
        (["--prompt", "x", "--guidance", "9" * 400], "sampling.guidance_scale"),
        (["--prompt", "x", "--seed", "4294967296"], "sampling.seed"),
        (["--prompt", "x", "--sampler", "Eulr"], "sampling.scheduler"),
        (["--prompt", "x", "--schedule", "Nope"], "sampling.scheduler"),
        (["--prompt", "x", "--sampler", "Flow Euler"], "sampling.scheduler"),
        (["--prompt", "x", "--size", "512"], "size"),
        (["--prompt", "x", "--size", "100x128"], "size.width"),
        (["--prompt", "x", "--size", "128xb"], "size.height"),
        (["--prompt", "x", "--count", "0"], "count"),
        (["--prompt", "x", "--model", "demo"], "model"),
        (["--prompt", "x", "--model", "broken"], "model"),
        (["--prompt", "x", "--models", "/does/not/exist"], "models"),
        (["--prompt", "x", "--models", "~nobody-here/models"], "models"),
        (["--prompt", "x", "--request", "~nobody-here/request.json"], "request"),
        (["--prompt", "x", "--threads", "-1"], "threads"),
        (["--prompt", "x", "--threads", "99999999999"], "threads"),
        (["--prompt", "x", "--device", "tpu"], "device"),
        (["--prompt", "x", "--attention", "warp"], "attention"),
        (["--prompt", "x", "--request", "/does/not/exist.json"], "request"),
        (["--prompt", "x", "--request", ""], "request"),
        (["--prompt", "x", "--models", ""], "models"),
        (["--prompt", "x", "--out", ""], "out"),
        (["--prompt", "x", "--colour", "red"], "arguments"),
        (["--prompt"], "--prompt"),
    ],
    ids=" ".join,
)
def test_a_wrong_request_ends_with_2_and_names_the_field(headless, flags, field):
    status, events = headless.generate(*flags)
    assert status == 2
    assert (events[-1]["event"], events[-1]["field"]) == ("failed", field)
    assert events[-1]["message"]
    assert headless.options is None  # nothing heavy was started
    status, out, err = headless.run("generate", "--out", str(headless.out), *flags)
    assert (status, out) == (2, "")
    assert field in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "request"),
        ("[1]", "request"),
        ('{"prompt": "x"}', "prompt"),
        ('{"prompt": {"text": "x"}, "colour": 1}', "colour"),
        ('{"prompt": {"text": "x"}, "sampling": {"scheduler": 7}}', "sampling.scheduler"),
        ('{"prompt": {"text": "x"}, "count": NaN}', "count"),
        (
            f'{{"prompt": {{"text": "x"}}, "sampling": {{"guidance_scale": {"9" * 400}}}}}',
            "sampling.guidance_scale",
        ),
    ],
)
def test_a_wrong_file_names_its_field(headless, tmp_path, text, field):
    file = tmp_path / "request.json"
    file.write_text(text, "utf-8")
    status, events = headless.generate("--request", str(file))
    assert (status, events[-1]["field"]) == (2, field)


def test_a_folder_that_cannot_be_made_is_told_before_the_engine_starts(headless, tmp_path):
    (tmp_path / "out").write_text("a file is in the way")
    status, events = headless.generate("--prompt", "x")
    assert (status, events[-1]["field"]) == (2, "out")
    assert headless.options is None


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OutOfMemory("Not enough memory for 512 × 512.", "Try a smaller size."), 1, "Not enough memory"),
        (RequestError("size.width", "too wide"), 2, "size.width"),
        (ValueError("some bug"), 1, "some bug"),
        (SystemExit(3), 1, "SystemExit"),
    ],
    ids=str,
)
def test_a_job_that_fails_ends_with_its_message(headless, error, status, message):
    def script(job, emit):
        raise error

    headless.script = script
    found, events = headless.generate("--prompt", "x")
    assert found == status
    assert (events[-1]["event"], events[-1]["paths"]) == ("failed", [])
    assert message in events[-1]["message"]
    found, out, err = headless.run("generate", "--prompt", "x", "--out", str(headless.out))
    assert (found, out) == (status, "")
    assert message in err


def test_an_engine_that_cannot_start_is_told(headless, monkeypatch):
    def build(options):
        raise EngineError("The device 'cuda:7' does not answer.", "Choose 'auto' or 'cpu'.")

    monkeypatch.setattr("pipelines.runtime.engine.build", build)
    status, events = headless.generate("--prompt", "x", "--device", "cuda:7")
    assert status == 1
    assert events[-1]["event"] == "failed"
    assert "cuda:7" in events[-1]["message"]
    assert (
        events[-1]["hint"] == "Choose 'auto' or 'cpu'."
    )  # an answer of the engine's own is not written over


def test_no_hint_speaks_of_a_restart_that_only_the_window_has(headless):
    def script(job, emit):
        raise DeviceLost("The device cuda:0 has stopped working.", "Restart the engine.")

    headless.script = script
    status, events = headless.generate("--prompt", "x")
    assert (status, events[-1]["kind"]) == (1, "DeviceLost")
    assert "Restart" not in events[-1]["hint"]


@pytest.mark.skipif(os.name == "nt", reason="Windows hands arguments over as text, not as bytes")
def test_an_argument_is_read_as_utf_8_where_the_locale_is_not(headless, monkeypatch):
    """Under LC_ALL=C without UTF-8 mode the bytes arrive as half surrogates, and the letters were left out."""
    monkeypatch.setattr("os.fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    text = "ein röter Kreis".encode().decode("ascii", "surrogateescape")
    _, events = headless.generate("--prompt", text)
    assert events[0]["request"]["prompt"]["text"] == "ein röter Kreis"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no way to send one process Ctrl+C")
def test_ctrl_c_cancels_and_ends_with_130(headless):
    def script(job, emit):
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            if job.cancelled:
                raise Cancelled

    headless.script = script
    before = signal.getsignal(signal.SIGINT)
    status, events = headless.generate("--prompt", "x")
    assert (status, events[-1]["event"]) == (130, "cancelled")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no way to send one process Ctrl+C")
def test_ctrl_c_does_not_wait_for_an_import(headless, monkeypatch):
    importing, ended = threading.Event(), []

    def build(options):
        os.kill(os.getpid(), signal.SIGINT)
        importing.wait(60)
        raise EngineError("Too late.")

    monkeypatch.setattr("pipelines.runtime.engine.build", build)
    monkeypatch.setattr("pipelines.cli.generate.STOP_LIMIT_S", 0.05)
    monkeypatch.setattr("os._exit", ended.append)
    try:
        _, events = headless.generate("--prompt", "x")
    finally:
        importing.set()
    assert events[-1]["event"] == "cancelled"
    assert ended == [130]


class Gone(io.StringIO):
    """A pipe whose reader goes away after the first line, as in `| head -1`."""

    def write(self, text: str) -> int:
        if "\n" in self.getvalue():
            raise BrokenPipeError
        return super().write(text)

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


def test_a_reader_that_goes_does_not_let_python_end_beneath_an_import(headless, monkeypatch):
    """The exit of Python while a thread imports torch aborted the process with a damaged heap."""
    importing, ended = threading.Event(), []

    def build(options):
        importing.wait(60)
        raise EngineError("Too late.")

    monkeypatch.setattr("pipelines.runtime.engine.build", build)
    monkeypatch.setattr("pipelines.cli.generate.STOP_LIMIT_S", 0.05)
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("sys.stdout", Gone())
    try:
        main(["generate", "--prompt", "x", "--out", str(headless.out), "--json"])
    finally:
        importing.set()
    assert ended == [1]


def test_without_json_paths_go_to_stdout_and_the_rest_to_stderr(headless):
    status, out, err = headless.run(
        "generate", "--prompt", "x", "--seed", "3", "--count", "2", "--out", str(headless.out)
    )
    assert status == 0
    assert out.splitlines() == [str(headless.out / "0.png"), str(headless.out / "1.png")]
    assert "Seed 3 to 4" in err
    assert "[2/2] Drawing" in err
    assert "\x1b" not in err  # no terminal, no control codes
    assert len(err.splitlines()) < 30


def test_what_a_library_prints_does_not_come_between_the_json_lines(headless):
    headless.script = lambda job, emit: print("Loading pipeline components...")
    status, events = headless.generate("--prompt", "x")
    assert (status, events[-1]["event"]) == (0, "finished")
