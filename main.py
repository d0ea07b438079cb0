"""Emulsion. Without an argument the window opens; with one the headless commands run."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    if not arguments:
        from desktop.app import main as open_window

        return open_window(arguments)
    from pipelines.cli.commands import main as run_command

    return run_command(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before a command was there to answer it
        sys.exit(130)
