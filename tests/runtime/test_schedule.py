"""Streaming proved on a clock: no place is overwritten too early, no block computes too early, no time is lost."""

import random

import pytest

from pipelines.runtime.residency import streaming
from pipelines.runtime.schedule import Compute, Copy, Schedule, schedule
from pipelines.runtime.turns import Turns
from tests.runtime.clock import ClockDevice

MB = 10**6
STEPS = 8


def driven(order: Schedule, compute: list[float], bytes_per_s: float, steps: int = STEPS) -> ClockDevice:
    device = ClockDevice(order, bytes_per_s)
    turns = Turns(order, device)
    which = {block: index for index, block in enumerate(order.streamed)}
    for _ in range(steps):
        for block, seconds in enumerate(compute):
            turns.before(block)
            device.compute(seconds, which.get(block))
            turns.after(block)
    return device


def drawn(seed: int):
    """Blocks of 20 to 400 MB, some of them streamed, in an arena of 2 or 3 of the largest."""
    rng = random.Random(seed)
    sizes = [rng.randint(20, 400) * MB + rng.randint(0, 511) for _ in range(rng.randint(3, 40))]
    streamed = sorted(rng.sample(range(len(sizes)), rng.randint(1, len(sizes))))
    arena = rng.choice((1, 2, 3)) * (max(sizes[i] for i in streamed) + 512)
    compute = [size / 1e9 * rng.uniform(0.1, 3) for size in sizes]
    return schedule(sizes, streamed, arena), compute, rng.uniform(0.2, 4) * 1e9


@pytest.mark.parametrize("seed", range(60))
def test_no_place_is_reused_too_early_and_none_read_too_early(seed):
    order, compute, bytes_per_s = drawn(seed)
    device = driven(order, compute, bytes_per_s, steps=4)
    assert not device.hazards()
    assert len(device.stays) == 4 * len(order.streamed)
    assert max(o + s for o, s in zip(order.offsets, order.sizes, strict=True)) <= order.arena


@pytest.mark.parametrize("seed", range(20))
def test_a_step_that_is_broken_off_leaves_no_hazard(seed):
    order, compute, bytes_per_s = drawn(seed)
    rng, device = random.Random(seed), ClockDevice(order, bytes_per_s)
    turns = Turns(order, device)
    for _ in range(5):
        for index, block in list(enumerate(order.streamed))[: rng.randint(1, len(order.streamed))]:
            turns.before(block)
            device.compute(compute[block], index)
            turns.after(block)
    assert not device.hazards()


@pytest.mark.parametrize("seed", range(20))
def test_the_host_issues_what_the_schedule_says(seed):
    order, compute, bytes_per_s = drawn(seed)
    assert driven(order, compute, bytes_per_s).now == pytest.approx(
        order.seconds(compute, bytes_per_s, STEPS)
    )


def bound(order: Schedule, compute: list[float], bytes_per_s: float) -> float:
    """No schedule is quicker: all must be computed and copied, and nothing computes before the first has come."""
    return max(sum(compute), sum(order.sizes) / bytes_per_s) * STEPS + order.sizes[0] / bytes_per_s


def ratios(seeds: range, spread: float) -> list[float]:
    """Of plans for networks whose blocks differ by up to `spread` in size, copied in 1/4 to 4 of the compute's time."""
    found_ratios = []
    for seed in seeds:
        rng = random.Random(seed)
        base = rng.randint(50, 400)
        sizes = tuple(int(base * rng.uniform(1, spread)) * MB for _ in range(rng.randint(16, 60)))
        ratio = rng.choice((0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0))
        found = streaming(sizes, int(sum(sizes) * rng.uniform(0.25, 0.95)), ratio)
        if found is None:
            continue
        order = schedule(sizes, found.streamed, found.arena)
        compute, bytes_per_s = [size / 1e9 for size in sizes], 1e9 / ratio
        device = driven(order, compute, bytes_per_s)
        found_ratios.append(device.now / bound(order, compute, bytes_per_s))
    return sorted(found_ratios)


def test_blocks_of_one_size_take_at_most_a_twentieth_more_than_the_bound():
    assert ratios(range(200), 1.0)[-1] <= 1.05


@pytest.mark.parametrize("spread", [1.5, 2.5, 8.0])
def test_blocks_of_any_size_take_so_little_more_nearly_always(spread):
    """Where few blocks of unlike sizes wait for a slow bus, an arena of two of the largest is too small for more."""
    found = ratios(range(100), spread)
    assert found[len(found) * 9 // 10] <= 1.05
    assert found[-1] <= 1.15


def test_the_next_step_is_fetched_while_this_one_ends():
    order = schedule([512] * 6, [0, 2, 4], 1024)  # two slots for three blocks
    operations = list(order.operations(2))
    # Turn 3 is block 0 of the second step: it takes the place of turn 1.
    assert operations.index(Copy(3)) < operations.index(Compute(5, None))


def test_a_block_alone_and_none_at_all():
    only = schedule([512, 512], [1], 512)
    assert only.behind == (1,)
    assert not driven(only, [1.0, 1.0], 512.0).hazards()
    assert schedule([512, 512], [], 0).seconds([1.0, 1.0], 1.0, STEPS) == 2 * STEPS


def test_an_arena_too_small_is_refused():
    with pytest.raises(ValueError, match="arena"):
        schedule([4096], [0], 512)
