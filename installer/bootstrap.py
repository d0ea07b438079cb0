"""The one command that starts everything, with nothing but Python:

    python3 installer/bootstrap.py run [ARGS]     open the window, or run a sub-command of main.py
    python3 installer/bootstrap.py test [ARGS]    run the tests; ARGS go to pytest
    python3 installer/bootstrap.py install        install only

Each installs first what is missing.
Everything goes to `.venv` beside this folder; no other environment is touched.
Exit: that of the program or the tests; 1 when the setup failed, 2 for a wrong command, 130 when interrupted.
"""

# Any Python 3 has to be able to read this file in order to be told that it does not fit: no syntax and no
# annotation in it that is younger than 3.6. The rest of installer/ is written for the oldest one that fits.
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, NEWEST = (3, 11), (3, 13)


def refusal(version: tuple) -> str:
    """Why this Python does not fit, in one line; empty when it does."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return ""
    have, oldest, newest = (".".join(map(str, v[:2])) for v in (version, OLDEST, NEWEST))
    return (
        f"Emulsion needs Python {oldest} to {newest}, this is {have}. Install Python {newest} from "
        "https://www.python.org/downloads/ (or your package manager) and start this command with it."
    )


def needs_window(arguments: list) -> bool:
    """A sub-command (generate, models, doctor) runs without Qt; no argument or an option opens the window."""
    return not arguments or arguments[0].startswith("-")


def command_line(command: str, arguments: list, python: str) -> list:
    if command == "test":
        # The files of tests are divided among processes; `-n 0` among the arguments runs all in one.
        processes = str(min(os.cpu_count() or 1, 4))
        return [python, "-m", "pytest", "-n", processes, "--dist", "loadfile", *arguments]
    return [python, os.path.join(ROOT, "main.py"), *arguments]


def start(line: list, environ: dict) -> int:
    """Becomes the program where the system can do that; else waits for it."""
    if os.name == "posix":
        sys.stdout.flush()
        os.execve(line[0], line, environ)
    import subprocess

    with subprocess.Popen(line, env=environ) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:  # the child got it too and decides what it means
                continue


def main(argv: list) -> int:
    why = refusal(sys.version_info)
    if why:
        print(why, file=sys.stderr)
        return 1
    command, arguments = (argv[0], argv[1:]) if argv else ("", [])
    if command not in ("run", "test", "install"):
        print(__doc__, file=sys.stderr)
        return 0 if command in ("-h", "--help") else 2

    # The script's own folder goes: a module in it must not stand in the way of one of Python's.
    sys.path[0] = ROOT
    from installer import environment, qt_libraries

    environ = environment.clean(os.environ)
    try:
        lock = "requirements-test.lock" if command == "test" else "requirements.lock"
        python = environment.ensure(ROOT, lock)
        if command == "install":
            print("Installed. Start it with: python3 installer/bootstrap.py run")
            return 0
        if command == "test":
            os.chdir(ROOT)
            environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        if command == "test" or needs_window(arguments):
            qt_libraries.ensure(environ)
    except environment.SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nThe setup failed: {error}. Correct that and start again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The next start does the unfinished part again.", file=sys.stderr)
        return 130
    return start(command_line(command, arguments, python), environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
