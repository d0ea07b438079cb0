"""`download`: fetches a model, once it is confirmed. The only command that uses the network."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli import output
from pipelines.library.folders import models_dir
from pipelines.spec.downloads import size_text
from pipelines.spec.errors import EngineError, RequestError

if TYPE_CHECKING:
    from pipelines.library.download.client import Client
    from pipelines.library.download.hosts import Hosts
    from pipelines.library.download.look import Wishes
    from pipelines.library.download.plan import Plan
    from pipelines.library.download.sources import Source

NAME = "download"
HOSTS: Hosts | None = None  # the real ones; tests put their own here
_TOKENS = ("huggingface", "civitai")
_SHOWN = 20  # files of a plan


def add_parser(sub: argparse._SubParsersAction) -> None:
    about = (
        "Fetches a model from Hugging Face, Civitai or an address, checks it, and puts it into your models folder. "
        "What would be fetched is shown first and must be confirmed. Begun ones go on where they were."
    )
    parser = sub.add_parser(NAME, help="fetch a model", description=about, allow_abbrev=False)
    source = "org/repo, org/repo/FILE, hf:org/repo@REVISION:FILE, civitai:VERSION, or an address or page"
    parser.add_argument("source", metavar="SOURCE", nargs="?", default="", help=source)
    parser.add_argument("--file", metavar="NAME", default="", help="which of several files")
    parser.add_argument(
        "--to", metavar="DIR", default="", help="the folder; your models folder when left out"
    )
    parser.add_argument(
        "--half", action="store_true", help="of a repository the float16 weights, where there are"
    )
    parser.add_argument("--sha256", metavar="HEX", default="", help="what the file's SHA-256 must be")
    parser.add_argument("--yes", action="store_true", help="confirm without being asked")
    keep = "ask for a token and keep it in the system keyring; then nothing is fetched"
    parser.add_argument(
        "--token-set", metavar="HOST", choices=_TOKENS, help=f"{keep}: {' or '.join(_TOKENS)}"
    )
    forget = "take a token out of the system keyring"
    parser.add_argument("--token-forget", metavar="HOST", choices=_TOKENS, help=forget)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises RequestError for arguments that are wrong, DownloadError for what cannot be fetched."""
    if args.token_set or args.token_forget:
        return _token(args.token_set, args.token_forget, args.json)
    if not args.source:
        raise RequestError("source", "nothing was named.", "python main.py download --help shows how.")
    source, folder, wishes = _checked(args)
    from pipelines.library.download.client import Client
    from pipelines.library.download.control import Control
    from pipelines.library.download.look import look
    from pipelines.library.download.tokens import Tokens

    with contextlib.closing(Client(HOSTS, Tokens().get)) as client:
        plan = look(client, source, folder, Control(), wishes)
        _show(plan, args.json)
        if not _confirmed(plan, args.yes):
            return _not_confirmed(args.json)
        return _fetch(client, plan, args.json)


def _checked(args: argparse.Namespace) -> tuple[Source, Path, Wishes]:
    """The source, the folder and the wishes, before anything is sent. Raises RequestError."""
    from pipelines.library.download.errors import DownloadError
    from pipelines.library.download.look import Wishes, checked_sum
    from pipelines.library.download.sources import parse

    folder = Path(os.path.expanduser(args.to)).absolute() if args.to else models_dir()
    if args.to and not folder.is_dir():
        raise RequestError("to", f"there is no folder '{args.to}'.", "Make it first.")
    field = "source"
    try:
        source = parse(args.source, HOSTS)
        field = "sha256"
        wishes = Wishes(
            file=args.file, half=args.half, sha256=checked_sum(args.sha256) if args.sha256 else ""
        )
    except DownloadError as error:
        raise RequestError(field, error.message, error.hint) from error
    return source, folder, wishes


def _show(plan: Plan, as_json: bool) -> None:
    from pipelines.library.download.hosts import without_secrets

    if as_json:
        files = [
            {"path": f.path, "size": f.size, "sha256": f.sha256 or None, "url": without_secrets(f.url)}
            for f in plan.files
        ]
        facts = {"source": plan.source, "title": plan.title, "target": str(plan.target), "size": plan.size}
        output.json_line({"event": "plan", **facts, "files": files, "notes": plan.notes})
        return
    output.say(f"{plan.title}  {size_text(plan.size)}")
    for file in plan.files[:_SHOWN]:
        output.say(f"    {file.path}  {size_text(file.size)}")
    if len(plan.files) > _SHOWN:
        output.say(f"    and {len(plan.files) - _SHOWN} more files")
    output.say(f"  to {plan.target}")
    for note in plan.notes:
        output.say(f"  {note}")


def _confirmed(plan: Plan, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin or not sys.stdin.isatty():
        raise RequestError(
            "yes", "there is no terminal to confirm the download on.", "Give --yes to confirm it."
        )
    print("Fetch it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _not_confirmed(as_json: bool) -> int:
    if as_json:
        output.json_line({"event": "cancelled", "paths": []})
    else:
        output.say("Nothing was fetched.")
    return output.DONE


def _fetch(client: Client, plan: Plan, as_json: bool) -> int:
    from pipelines.cli.transfer import Transfer
    from pipelines.library.download.control import Control
    from pipelines.library.download.run import download

    transfer = Transfer(plan.title, sys.stderr, as_json)
    try:
        path = download(client, plan, Control(), transfer.tell)
    except KeyboardInterrupt:
        transfer.clear()
        if not as_json:
            output.say("Stopped. What has come is kept; the same command goes on from there.")
        raise
    except EngineError:
        transfer.clear()
        raise
    transfer.clear()
    size = plan.size if path.is_dir() else path.stat().st_size
    if as_json:
        output.json_line({"event": "finished", "path": str(path), "size": size})
    else:
        print(output.plain(f"{path}  {size_text(size)}"))
    return output.DONE


def _token(name: str | None, forget: str | None, as_json: bool) -> int:
    """The token is asked for, never an argument: those can be seen by every program and lie in the shell's history."""
    from pipelines.library.download.answers import TITLES, TOKEN_PAGES
    from pipelines.library.download.tokens import Tokens

    done = []
    if forget:
        Tokens().forget(forget)
        done.append(f"The token of {TITLES[forget]} is forgotten.")
    if name:
        if not sys.stdin or not sys.stdin.isatty():
            raise RequestError(
                "token-set", "there is no terminal to type the token on.", "Start it in a terminal."
            )
        output.say(f"A token is made at {TOKEN_PAGES[name]}")
        Tokens().set(name, getpass.getpass(f"Token of {TITLES[name]} (not shown): "))
        done.append(f"The token of {TITLES[name]} is in the system keyring.")
    for text in done:
        if as_json:
            output.json_line({"event": "token", "message": text})
        else:
            print(text)
    return output.DONE
