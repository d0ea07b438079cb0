"""The I/O lane: work off the GUI thread, answers on it, the newest wins."""

import threading

import pytest

from desktop.tasks import Tasks


@pytest.fixture
def tasks(qtbot):
    tasks = Tasks()
    yield tasks
    assert tasks.close()
    tasks.deleteLater()


def test_work_runs_elsewhere_and_its_answer_here(tasks, qtbot):
    seen = []
    tasks.run(threading.current_thread, lambda worker: seen.append((worker, threading.current_thread())))
    qtbot.waitUntil(lambda: bool(seen))
    worker, here = seen[0]
    assert worker is not here
    assert here is threading.main_thread()


def test_an_error_reaches_failed(tasks, qtbot):
    errors = []

    def work():
        raise OSError("disk")

    tasks.run(work, lambda _result: errors.append("done"), errors.append)
    qtbot.waitUntil(lambda: bool(errors))
    assert isinstance(errors[0], OSError)


def test_an_error_nobody_expected_reaches_the_hook(tasks, qtbot):
    with qtbot.capture_exceptions() as caught:
        tasks.run(lambda: 1 / 0)
        qtbot.waitUntil(lambda: bool(caught))
    assert caught[0][0] is ZeroDivisionError


def test_newest_of_a_key_wins(tasks, qtbot):
    """The first is inside its work, the second waits behind it: neither answers."""
    gate, answers = threading.Event(), []
    for _ in range(2):
        tasks.run(gate.wait, lambda _result: answers.append("blocker"))
    tasks.run(lambda: "old", answers.append, key="tokens")
    tasks.run(lambda: "new", answers.append, key="tokens")
    gate.set()
    qtbot.waitUntil(lambda: tasks.idle)
    assert sorted(answers) == ["blocker", "blocker", "new"]


def test_a_slow_task_does_not_keep_the_next_waiting(tasks, qtbot):
    gate, answers = threading.Event(), []
    tasks.run(gate.wait, lambda _result: answers.append("scan"))
    tasks.run(lambda: "picture", answers.append)
    qtbot.waitUntil(lambda: answers == ["picture"])
    gate.set()
    qtbot.waitUntil(lambda: answers == ["picture", "scan"])


def test_after_close_nothing_answers(qtbot):
    tasks, gate, answers = Tasks(), threading.Event(), []
    tasks.run(gate.wait, answers.append)
    gate.set()
    assert tasks.close()
    tasks.run(lambda: 1, answers.append)
    qtbot.wait(20)
    assert answers == []
    tasks.deleteLater()
