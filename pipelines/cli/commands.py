"""The headless door: the table of sub-commands, and how each of them ends."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from pipelines.cli import convert, doctor, download, generate, inspect, models, output, plan, quantize
from pipelines.cli.output import FAILED, INTERRUPTED, WRONG_REQUEST
from pipelines.library.version import program
from pipelines.runtime.worker import LANE
from pipelines.spec.errors import EngineError, RequestError

COMMANDS = (generate, models, inspect, plan, convert, quantize, download, doctor)

_DESCRIPTION = "Makes pictures from text on this computer. Without a command the window opens."
_EPILOG = "python main.py COMMAND --help tells more. Exit status: 0 done, 1 failed, 2 the request is wrong."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse would print and exit; this way --json answers in JSON here too."""
        hint = f"{self.prog} --help lists what there is."
        if message.startswith("argument "):
            field, _, text = message.removeprefix("argument ").partition(": ")
            raise RequestError(field, text, hint)
        raise RequestError("arguments", message, hint)


def main(arguments: Sequence[str]) -> int:
    """Runs one sub-command; the answer is the exit status. Prints nothing but what was asked to stdout."""
    status = _run(arguments)
    if any(thread.name == LANE for thread in threading.enumerate()):
        # In the middle of an import or a long call: Python's own exit would wait for it, or crash beneath it.
        os._exit(status)  # every line and every picture is out already
    return status


def _run(arguments: Sequence[str]) -> int:
    as_json = "--json" in arguments
    output.be_printable()
    try:
        args = _parser().parse_args(_checked(arguments))
        # Errors are told once, as sentences; their tracebacks only when they are asked for.
        level = logging.WARNING if getattr(args, "debug", False) else logging.CRITICAL
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        return args.run(args)
    except RequestError as error:
        output.failure(error, as_json)
        return WRONG_REQUEST
    except EngineError as error:
        output.failure(error, as_json)
        return FAILED
    except KeyboardInterrupt:
        if as_json:
            output.json_line({"event": "cancelled", "paths": []})
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our stdout has gone, as in `| head`
        _drop_stdout()
        return FAILED
    except OSError as error:  # mostly a full disk behind `>`
        _drop_stdout()
        output.say_error(f"{error.filename or 'The output'} failed: {error.strerror or error}.", "")
        return FAILED


def _drop_stdout() -> None:
    """What is still in its buffer would fail again at the exit, with a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python main.py", description=_DESCRIPTION, epilog=_EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=program())
    sub = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(sub)
    return parser


def _checked(arguments: Sequence[str]) -> Sequence[str]:
    """argparse's own words for an unknown command list no way out."""
    names = [command.NAME for command in COMMANDS]
    first = arguments[0] if arguments else ""
    if first not in names and not first.startswith("-"):
        raise RequestError(
            "command",
            f"there is no command '{first}'.",
            f"Commands: {', '.join(names)}; or none for the window.",
        )
    return arguments
