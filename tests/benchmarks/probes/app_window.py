"""The real program, until its window has painted itself and has taken a key."""

from __future__ import annotations

import sys

from tests.benchmarks.probes.at_exec import run_program
from tests.benchmarks.probes.first_input import FirstInput, answer_first_input

if __name__ == "__main__":
    sys.exit(run_program(lambda window: FirstInput(window, answer_first_input) and None))
