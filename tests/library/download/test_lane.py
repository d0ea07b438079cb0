"""Several at a time, paused, gone on, cancelled, remembered; and where tokens lie."""

import json
import logging
import threading
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

from pipelines.library.download.client import Client
from pipelines.library.download.errors import DownloadError
from pipelines.library.download.lane import Lane
from pipelines.library.download.plan import Plan, PlannedFile
from pipelines.library.download.speed import Speed
from pipelines.library.download.tokens import SERVICE, Tokens, keyring_note
from pipelines.library.download.unfinished import Unfinished
from pipelines.spec.downloads import DownloadState
from pipelines.spec.errors import Cancelled
from tests.library.download.site import ETAG, safetensors, says, sha256, whole

State = DownloadState
DATA = safetensors()
CANARY = "hf_CANARYcanaryCANARY"


class Heard:
    """What a lane emits; waits for a state instead of sleeping."""

    def __init__(self):
        self.all = []
        self._changed = threading.Condition()

    def __call__(self, status):
        with self._changed:
            self.all.append(status)
            self._changed.notify_all()

    def wait_bytes(self, number):
        with self._changed:
            begun = lambda: any(each.id == number and each.done_bytes for each in self.all)  # noqa: E731
            assert self._changed.wait_for(begun, 20)

    def of(self, number):
        return [each.state for each in self.all if each.id == number]

    def wait(self, number, *states):
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.of(number)[-1:] and self.of(number)[-1] in states, 20
            ), self.all
            return next(each for each in reversed(self.all) if each.id == number)


@pytest.fixture
def heard():
    return Heard()


class Script:
    """Stands for `download`: each run waits at its gate, then ends as its title says."""

    def __init__(self):
        self.gates = {}
        self.begun = []
        self.most = 0
        self._lock = threading.Lock()
        self._now = 0

    def gate(self, title):
        with self._lock:
            return self.gates.setdefault(title, threading.Event())

    def __call__(self, client, plan, control, tell):
        gate = self.gate(plan.title)
        with self._lock:
            self.begun.append(plan.title)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            with control.closing(gate.set):
                tell(10, 100, False)
                assert gate.wait(60)
                control.check()
            if plan.title.startswith("bad"):
                raise DownloadError("It is bad.", "Try another.")
            if plan.title.startswith("bug"):
                raise RuntimeError("a bug")
            return plan.target
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def make(tmp_path, heard, script):
    """Builds a lane; all are closed at the end."""
    lanes = []

    def build(run=script, client=None, **more):
        lane = Lane(client or Client(), heard, Unfinished(tmp_path / "data"), run=run, **more)
        lanes.append(lane)
        return lane

    yield build
    for lane in lanes:
        assert lane.close()


def plan_of(folder, title, url="https://h/f.gguf"):
    file = PlannedFile(url=url, path=f"{title}.gguf", size=100)
    return Plan(source=f"{url}#{title}", title=title, folder=folder, files=(file,))


def test_two_at_a_time_the_rest_wait(make, script, heard, tmp_path):
    lane = make()
    ids = [lane.add(plan_of(tmp_path, title)) for title in "abcd"]
    heard.wait(ids[1], State.RUNNING)
    states = [status.state for status in lane.statuses()]
    assert states == [State.RUNNING, State.RUNNING, State.WAITING, State.WAITING]
    for title in "bacd":
        script.gate(title).set()
    for number in ids:
        heard.wait(number, State.DONE)
    assert script.most == 2
    assert script.begun[2:] == ["c", "d"]
    assert heard.of(ids[2]) == [State.WAITING, State.RUNNING, State.RUNNING, State.DONE]


def test_pause_and_go_on(make, script, heard, tmp_path):
    lane = make()
    number = lane.add(plan_of(tmp_path, "a"))
    heard.wait(number, State.RUNNING)
    lane.pause(number)
    heard.wait(number, State.PAUSED)
    script.gate("a").clear()
    lane.resume(number)
    heard.wait(number, State.RUNNING)
    script.gate("a").set()
    assert heard.wait(number, State.DONE).path == str(tmp_path / "a.gguf")
    assert script.begun == ["a", "a"]


def test_a_waiting_one_can_be_paused_and_cancelled(make, script, heard, tmp_path):
    lane = make(at_once=1)
    first, second, third = (lane.add(plan_of(tmp_path, title)) for title in "abc")
    lane.pause(second)
    lane.cancel(third)
    script.gate("a").set()
    heard.wait(first, State.DONE)
    assert [status.state for status in lane.statuses()] == [State.DONE, State.PAUSED, State.CANCELLED]
    assert script.begun == ["a"]


def test_a_failure_says_why_and_can_be_tried_again(make, script, heard, tmp_path, caplog):
    lane = make()
    bad, bug = lane.add(plan_of(tmp_path, "bad")), lane.add(plan_of(tmp_path, "bug"))
    script.gate("bad").set()
    script.gate("bug").set()
    status = heard.wait(bad, State.FAILED)
    assert (status.message, status.hint) == ("It is bad.", "Try another.")
    assert "fault of the program (RuntimeError)" in heard.wait(bug, State.FAILED).message
    lane.resume(bad)
    heard.wait(bad, State.FAILED)
    assert script.begun.count("bad") == 2
    lane.remove(bad)
    assert [status.id for status in lane.statuses()] == [bug]


def test_the_same_again_gets_no_second_row(make, script, heard, tmp_path):
    lane = make()
    number = lane.add(plan_of(tmp_path, "a"))
    assert lane.add(plan_of(tmp_path, "a")) == number
    lane.pause(number)
    heard.wait(number, State.PAUSED)
    script.gate("a").set()
    assert lane.add(plan_of(tmp_path, "a")) == number
    heard.wait(number, State.DONE)
    assert lane.add(plan_of(tmp_path, "a")) != number


def test_unfinished_ones_are_offered_and_never_go_on_by_themselves(make, script, heard, tmp_path):
    lane = make()
    running, failed, done = (lane.add(plan_of(tmp_path, title)) for title in ("a", "bad", "c"))
    script.gate("bad").set()
    script.gate("c").set()
    heard.wait(failed, State.FAILED)
    heard.wait(done, State.DONE)
    heard.wait(running, State.RUNNING)
    assert lane.close()
    script.begun.clear()
    later = make()
    assert [(each.title, each.state) for each in later.statuses()] == [
        ("a", State.PAUSED),
        ("bad", State.PAUSED),
    ]
    assert script.begun == []
    first = later.statuses()[0].id
    later.resume(first)
    heard.wait(first, State.DONE)
    later.cancel(later.statuses()[1].id)
    assert make().statuses() == ()


def test_nothing_is_told_after_close(make, script, heard, tmp_path):
    lane = make()
    number = lane.add(plan_of(tmp_path, "a"))
    heard.wait(number, State.RUNNING)
    assert lane.close()
    assert heard.of(number)[-1] is State.RUNNING
    lane.resume(number)
    assert script.begun == ["a"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"files": []}', "[" * 100_000, '{"files": [{"url": "file:///x", "path": "x"}]}'],
)  # fmt: skip
def test_what_is_remembered_may_be_damaged(tmp_path, text):
    (tmp_path / "0123456789abcdef.json").write_text(text)
    assert Unfinished(tmp_path).plans() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("folder", "relative"), ("name", "../x"), ("title", 3), ("files", [])],
)  # fmt: skip
def test_what_is_remembered_may_be_hostile(tmp_path, name, value):
    store = Unfinished(tmp_path)
    key = store.keep(plan_of(tmp_path, "a"))
    assert list(store.plans()) == [key]
    path = tmp_path / f"{key}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    assert store.plans() == {}


def test_speed_and_time_left():
    now = [0.0]
    speed = Speed(lambda: now[0])
    speed.add(50_000)  # was there before
    for second in range(1, 11):
        now[0] = float(second)
        speed.add(50_000 + 1000 * second)
    assert speed.value == pytest.approx(1000)
    assert speed.left_s(60_000, 70_000) == pytest.approx(10)
    for second in range(11, 40):
        now[0] = float(second)
        speed.add(60_000 + 4000 * (second - 10))
    assert speed.value == pytest.approx(4000, rel=0.01)
    assert speed.left_s(0, None) is None
    assert Speed(lambda: 0.0).left_s(5, 10) is None


# with a real host


@pytest.mark.local_server
def test_a_real_one_killed_in_the_middle_is_bit_equal(site, client, heard, tmp_path):
    """The first program is gone without a word; the second one knows what it left and goes on from there."""
    go_on = threading.Event()

    def stuck(request, seen):
        request.say(200, DATA[:77_000], Content_Length=str(len(DATA)), ETag=ETAG)
        request.wfile.flush()
        go_on.wait(60)
        request.cut()

    site.pages["/f"] = stuck
    file = PlannedFile(url=site.url("/f"), path="m.safetensors", size=len(DATA), sha256=sha256(DATA))
    plan = Plan(source=site.url("/f"), title="m", folder=tmp_path / "models", files=(file,))
    first = Lane(client, heard, Unfinished(tmp_path / "data"))
    number = first.add(plan)
    part = tmp_path / "models" / "m.safetensors.part"
    heard.wait_bytes(number)
    assert first.close(10)
    go_on.set()
    came = part.stat().st_size
    assert 0 < came <= 77_000
    assert part.read_bytes() == DATA[:came]
    site.pages["/f"] = whole(DATA)
    later = Lane(client, heard, Unfinished(tmp_path / "data"))
    number = later.statuses()[0].id
    before = len(site.seen)
    later.resume(number)
    status = heard.wait(number, State.DONE)
    assert Path(status.path).read_bytes() == DATA
    assert [each.range for each in site.seen[before:]] == [f"bytes={came}-"]
    assert later.close()
    assert Unfinished(tmp_path / "data").plans() == {}


@pytest.mark.local_server
def test_cancel_leaves_nothing(site, client, heard, tmp_path):
    go_on, reached = threading.Event(), threading.Event()

    def stuck(request, seen):
        request.say(200, DATA[:1000], Content_Length=str(len(DATA)), ETag=ETAG)
        request.wfile.flush()
        reached.set()
        go_on.wait(60)
        request.cut()

    site.pages["/f"] = stuck
    file = PlannedFile(url=site.url("/f"), path="m.safetensors")
    lane = Lane(client, heard, Unfinished(tmp_path / "data"))
    number = lane.add(Plan(source="x", title="m", folder=tmp_path / "models", files=(file,)))
    assert reached.wait(60)
    lane.cancel(number)
    heard.wait(number, State.CANCELLED)
    go_on.set()
    assert list((tmp_path / "models").iterdir()) == []
    assert lane.close()


@pytest.mark.local_server
def test_several_at_a_time_are_all_whole(site, client, heard, tmp_path):
    lane = Lane(client, heard, Unfinished(tmp_path / "data"), at_once=3)
    both = threading.Barrier(3, timeout=20)
    datas = {}
    for seed in range(6):
        datas[seed] = safetensors(50_000, seed)
        good = whole(datas[seed])

        def page(request, seen, good=good, waits=seed < 3):
            if waits:
                both.wait()  # breaks unless three are under way at once
            good(request, seen)

        site.pages[f"/{seed}"] = page
    ids = []
    for seed, data in datas.items():
        file = PlannedFile(url=site.url(f"/{seed}"), path=f"{seed}.safetensors", sha256=sha256(data))
        ids.append(lane.add(Plan(source=str(seed), title=str(seed), folder=tmp_path / "m", files=(file,))))
    for number in ids:
        heard.wait(number, State.DONE)
    assert [(tmp_path / "m" / f"{seed}.safetensors").read_bytes() for seed in datas] == list(datas.values())
    assert lane.close()


# tokens


class Memory(KeyringBackend):
    """A keyring in memory. `broken` raises, `deaf` keeps nothing."""

    priority = 5  # pyright: ignore[reportAssignmentType]

    def __init__(self, how=""):
        super().__init__()
        self.how, self.kept, self.asked = how, {}, 0

    def get_password(self, service, username):
        self.asked += 1
        if self.how == "broken":
            raise RuntimeError(f"dbus is away {CANARY}")
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        if self.how == "broken":
            raise RuntimeError(f"cannot keep {password}")
        if self.how != "deaf":
            self.kept[service, username] = password

    def delete_password(self, service, username):
        if self.how == "broken":
            raise RuntimeError("dbus is away")
        if (service, username) not in self.kept:
            raise PasswordDeleteError("not found")
        del self.kept[service, username]


@pytest.fixture
def ring():
    memory = Memory()
    keyring.set_keyring(memory)
    return memory


def test_a_token_lies_in_the_keyring(ring):
    Tokens().set("huggingface", f" {CANARY}\n")
    assert ring.kept == {(SERVICE, "huggingface"): CANARY}
    tokens = Tokens()
    assert [tokens.get("huggingface") for _ in range(3)] == [CANARY] * 3
    assert tokens.get("civitai") == ""
    tokens.forget("huggingface")
    tokens.forget("huggingface")
    assert ring.kept == {}
    assert tokens.get("huggingface") == ""
    assert keyring_note() == ""


def test_a_token_for_this_run_only(ring):
    tokens = Tokens()
    tokens.set("civitai", CANARY, keep=False)
    assert tokens.get("civitai") == CANARY
    assert ring.kept == {}


def test_without_a_keyring_the_environment_is_read(monkeypatch):
    assert keyring_note().startswith(
        "This system has no keyring that works; tokens are read from HF_TOKEN and"
    )
    monkeypatch.setenv("HF_TOKEN", CANARY)
    assert Tokens().get("huggingface") == CANARY
    assert Tokens().get("civitai") == ""
    with pytest.raises(DownloadError, match="does not keep the token of Hugging Face") as caught:
        Tokens().set("huggingface", CANARY)
    assert "HF_TOKEN" in caught.value.hint
    Tokens().forget("huggingface")


@pytest.mark.parametrize("how", ["broken", "deaf"])
def test_a_keyring_that_fails_is_told_without_the_token(monkeypatch, how, caplog):
    caplog.set_level(logging.DEBUG)
    keyring.set_keyring(Memory(how))
    with pytest.raises(DownloadError, match="does not keep") as caught:
        Tokens().set("civitai", CANARY)
    assert CANARY not in str(caught.value) + caplog.text
    assert caught.value.__cause__ is None
    assert Tokens().get("civitai") == ""
    if how == "broken":
        with pytest.raises(DownloadError, match="does not let go"):
            Tokens().forget("civitai")


@pytest.mark.parametrize("token", ["", " ", "a b", "a\r\nX-Evil: 1", "é", "x" * 2000])
def test_what_is_no_token(ring, token):
    with pytest.raises(DownloadError, match="no token") as caught:
        Tokens().set("huggingface", token)
    assert token.strip() == "" or token not in str(caught.value)
    assert ring.kept == {}


def test_there_are_two_names_only(ring):
    with pytest.raises(DownloadError, match="no token called"):
        Tokens().set("github", CANARY)


@pytest.mark.local_server
@pytest.mark.parametrize("status", [200, 401, 403, 500])
def test_p15_a_token_is_written_nowhere(site, hosts, heard, tmp_path, ring, caplog, monkeypatch, status):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("pipelines.library.download.fetch.PAUSES_S", (0.0, 0.0))
    tokens = Tokens()
    tokens.set("huggingface", CANARY)
    site.pages["/f"] = whole(DATA) if status == 200 else says(status, b"no")
    client = Client(hosts, tokens.get)
    url = site.url(f"/f?token={CANARY}")
    file = PlannedFile(url=url, path="m.safetensors", sha256=sha256(DATA))
    plan = Plan(source="hf:org/repo", title="m", folder=tmp_path / "models", files=(file,))
    lane = Lane(client, heard, Unfinished(tmp_path / "data"))
    number = lane.add(plan)
    written = Unfinished(tmp_path / "other")
    assert written.keep(plan)
    assert heard.wait(number, State.DONE, State.FAILED).state is (
        State.DONE if status == 200 else State.FAILED
    )
    assert lane.close()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(CANARY.encode() in data for data in files)
    assert CANARY not in repr(heard.all)
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith(("pipelines", "desktop"))
    ]
    assert CANARY not in "".join(ours)
    assert site.seen[0].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.local_server
def test_cancelled_is_no_error(make, heard, tmp_path):
    def run(client, plan, control, tell):
        raise Cancelled("x")

    lane = make(run)
    assert heard.wait(lane.add(plan_of(tmp_path, "a")), State.PAUSED).message == ""
