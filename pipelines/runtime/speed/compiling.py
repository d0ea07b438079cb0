"""`listened`: hears whenever torch compiles a program, and counts the seconds that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch._dynamo.callback import callback_handler


class Compiling:
    """`seconds` of all programs so far. Those of a trial count as well: nobody waits for them a second time."""

    def __init__(self, began: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = 0.0
        self._told = began
        self._clock = clock
        self._start = 0.0

    def began(self, _args: object) -> None:
        self._start = self._clock()
        self._told()

    def ended(self, _args: object) -> None:
        self.seconds += self._clock() - self._start


@contextmanager
def listened(compiling: Compiling) -> Iterator[None]:
    """Torch calls back on the thread that compiles. What was compiled before is not heard of again."""
    start = callback_handler.register_start_callback(compiling.began)
    end = callback_handler.register_end_callback(compiling.ended)
    try:
        yield
    finally:
        for callbacks, own in (
            (callback_handler.start_callbacks, start), (callback_handler.end_callbacks, end),
        ):  # fmt: skip
            if own in callbacks:  # torch._dynamo.reset forgets them all
                callbacks.remove(own)
