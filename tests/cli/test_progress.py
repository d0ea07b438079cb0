import io
import json

from pipelines.cli import output
from pipelines.cli.progress import Progress
from pipelines.spec.compile_words import CANCELLING, COMPILING
from pipelines.spec.events import Compiling, ImageSaved, LoadProgress, Stage, StageChanged, StepDone
from pipelines.spec.request import GenerationRequest

REQUEST = GenerationRequest(model="m")
SAVED = ImageSaved(job_id=1, path="/p.png", seed=1, width=8, height=8)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, steps: int = 40) -> str:
    progress = Progress(REQUEST, stream)
    progress.show(StageChanged(job_id=1, stage=Stage.LOAD))
    for step in range(1, steps + 1):
        progress.show(StepDone(job_id=1, step=step, steps=steps, eta_s=2.0 * (steps - step)))
    progress.show(SAVED)
    return stream.getvalue()


def test_on_a_terminal_one_line_is_rewritten_for_each_step():
    text = shown(Terminal())
    assert "\n" not in text
    assert text.count("\r") == 42
    assert "[############............] 20/40, 40 s left" in text
    assert "1 min 18 s left" in text
    assert text.endswith("\r\x1b[K")  # the line is free for the path


def test_elsewhere_it_is_a_few_whole_lines():
    lines = shown(io.StringIO()).splitlines()
    assert lines[0] == "Loading the model"
    assert [line.split("] ")[1].split(",")[0] for line in lines[1:]] == ["10/40", "20/40", "30/40", "40/40"]


def loading(stream: io.StringIO, total: int) -> str:
    progress = Progress(REQUEST, stream)
    for tenth in range(1, 11):
        done = total * tenth // 10
        eta_s = (total - done) / 850e6
        progress.show(
            LoadProgress(job_id=1, done=done, total=total, bytes_per_s=850e6, eta_s=eta_s, part="unet")
        )
    return stream.getvalue()


def test_a_load_tells_bytes_speed_and_time_left():
    assert "\r\x1b[KLoading U-Net: 860 MB of 4.3 GB, 850 MB/s, 4 s left" in loading(Terminal(), 4_300_000_000)
    lines = loading(io.StringIO(), 4_300_000_000).splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in lines] == [
        "1.29 of 4.3 GB", "2.15 of 4.3 GB", "3.44 of 4.3 GB", "4.3 of 4.3 GB",
    ]  # fmt: skip
    assert "left" not in lines[-1]
    assert loading(io.StringIO(), 30_000_000) == ""


def test_a_note_of_the_engine_is_said_without_control_characters():
    stream = io.StringIO()
    Progress(REQUEST, stream).show(StageChanged(job_id=1, stage=Stage.ENCODE, note="cut\x1b[2J here"))
    assert stream.getvalue() == "cut [2J here\n"


def test_json_lines_are_valid_ascii_whatever_is_in_them():
    stream = io.StringIO()
    data = {"a": float("nan"), "b": [float("inf"), 1.5], "c": "\ud800 😀\n", "d": b"\0", "e": (1, None)}
    output.json_line(data, stream)
    text = stream.getvalue()
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": "\ud800 😀\n", "e": [1, None]}


def test_what_waits_for_a_compiler_says_so_once_and_that_a_cancel_waits_too():
    stream = io.StringIO()
    progress = Progress(REQUEST, stream)
    progress.interrupted()
    for _ in range(3):
        progress.show(Compiling(job_id=1))
    assert stream.getvalue() == f"{COMPILING}\n"
    progress.interrupted()
    assert stream.getvalue() == f"{COMPILING}\n{CANCELLING}\n"
    progress.show(StepDone(job_id=1, step=1, steps=40))
    progress.interrupted()
    assert stream.getvalue() == f"{COMPILING}\n{CANCELLING}\n"
