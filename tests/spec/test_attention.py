"""Which kernel of attention is used, by what trials found."""

import pytest

from pipelines.spec.attention import AUTO, DETERMINISTIC, NAMES, Tried, choice

OWN = Tried(id="", ms=10)


def tried(**changed):
    """By the kernel, milliseconds or why it cannot be used; what is not named takes as long as torch's own."""
    found = {name: 10.0 for name in NAMES if name not in (AUTO, DETERMINISTIC)} | changed
    return (
        OWN,
        *(Tried(id=n, why=v) if isinstance(v, str) else Tried(id=n, ms=v) for n, v in found.items()),
    )


@pytest.mark.parametrize(
    ("changed", "chosen"),
    [
        ({}, ""),
        ({"cudnn": 8.9}, "cudnn"),
        ({"cudnn": 9.1}, ""),  # too close to call
        ({"cudnn": 8.0, "xformers": 7.0}, "xformers"),
        ({"cudnn": "it is off", "xformers": 7.0}, "xformers"),
        ({"sage": 2.0}, ""),  # pictures differ: for those who ask for it
    ],
)
def test_auto_takes_what_is_a_tenth_faster_and_right(changed, chosen):
    assert choice(AUTO, tried(**changed)).id == chosen


def test_the_kernel_that_torch_takes_by_itself_is_not_put_in_its_own_place():
    """A machine that is busy for a moment makes it look quicker than itself."""
    same = tuple(Tried(id=t.id, ms=t.ms, own=True) if t.id == "flash" else t for t in tried(flash=5.0))
    assert choice(AUTO, same).id == ""


def test_deterministic_is_chosen_by_its_place_and_never_by_its_time():
    assert choice(DETERMINISTIC, tried(math=0.1)).id == "flash"
    assert choice(DETERMINISTIC, tried(flash="it is off")).id == "efficient"
    unsteady = tuple(
        Tried(id=t.id, ms=t.ms, repeats=False) if t.id == "flash" else t for t in tried(efficient="off")
    )
    assert choice(DETERMINISTIC, unsteady).id == "math"


def test_what_does_not_repeat_by_design_is_not_deterministic():
    off = dict.fromkeys(("flash", "efficient", "math"), "it is off")
    found = choice(DETERMINISTIC, tried(**off))
    assert found.why
    assert found.id == DETERMINISTIC


def test_what_was_asked_for_is_answered_with_its_reason():
    assert choice("math", tried(math=99.0)).id == "math"
    assert choice("xformers", tried(xformers="not installed")) == Tried(id="xformers", why="not installed")
