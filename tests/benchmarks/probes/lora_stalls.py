"""The real program draws with a demo model and one of its LoRAs; answers how the window ticked.

argv: the ids of the model and of the LoRA.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

from desktop.session import Session
from pipelines.library import folders
from pipelines.spec.request import LoraInput
from tests.benchmarks.probes.app_stalls import Watch
from tests.benchmarks.probes.at_exec import run_program


def ask(model: str, lora: str, session: Session) -> None:
    """Exits when the request does not fit."""
    session.choose(model)
    if problems := session.set_request(replace(session.request(), loras=(LoraInput(model=lora),))):
        sys.exit(str(problems))


if __name__ == "__main__":
    asking = partial(ask, *sys.argv[1:])
    demos = folders.demo_root()
    folders.default_roots = lambda: (demos,)
    sys.exit(run_program(lambda window: Watch(window, "lora", asking) and None))
