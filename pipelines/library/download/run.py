"""`download`: a whole plan, one file after the other, or a folder that appears when its last file is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pipelines.library.download.client import Client
from pipelines.library.download.control import Control
from pipelines.library.download.errors import DownloadError
from pipelines.library.download.fetch import Fetch
from pipelines.library.download.file_names import numbered
from pipelines.library.download.finish import same_file
from pipelines.library.download.hosts import without_secrets
from pipelines.library.download.part import as_download_error, discard, part_path, read_facts
from pipelines.library.download.plan import Plan, PlannedFile, require_room
from pipelines.library.files import remove

MARK = ".emulsion-download"  # in an unfinished folder: of which state of which repository it is

# (bytes of the plan that are there, of how many or None, whether something is being checked)
Tell = Callable[[int, int | None, bool], None]


def download(client: Client, plan: Plan, control: Control, tell: Tell) -> Path:
    """What there is at the end: the file, or the folder. Raises DownloadError, or Cancelled after `control.stop()`.

    What has come is kept for another run of the same plan; `discard_plan` takes it away.
    """
    require_room(plan)
    if not plan.name:
        (file,) = plan.files
        return Fetch(client, file, plan.folder / file.path, control, tell).run()
    if (there := _there(plan, control, tell)) is not None:
        return there
    staging = _staging(plan)
    done = 0
    for file in plan.files:
        control.check()
        done += _one_of_folder(client, plan, file, staging, control, _behind(done, plan, tell))
    return _published(plan, staging)


def _behind(before: int, plan: Plan, tell: Tell) -> Tell:
    return lambda done, _total, checking: tell(before + done, plan.size, checking)


def _one_of_folder(
    client: Client, plan: Plan, file: PlannedFile, staging: Path, control: Control, tell: Tell
) -> int:
    """Its bytes. One that an earlier run has put there was checked before it got its name."""
    target = staging / file.path
    with contextlib.suppress(OSError):
        if target.stat().st_size == file.size:
            return target.stat().st_size
        remove(target)
    Fetch(client, file, target, control, tell, exact=True).run()
    return target.stat().st_size


def _there(plan: Plan, control: Control, tell: Tell) -> Path | None:
    """The folder, when all of it is there already."""
    folder = plan.target
    for file in plan.files:
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return None
    for file in plan.files:
        if file.sha256 and not same_file(
            folder / file.path, file, control, lambda n: tell(n, plan.size, True)
        ):
            return None
    return folder


def _staging(plan: Plan) -> Path:
    """The unfinished folder of just this plan, made if need be."""
    for number in range(1, 1000):
        folder = part_path(numbered(plan.target, number))
        with as_download_error(folder):
            try:
                folder.mkdir(parents=True)
                (folder / MARK).write_text(_mark(plan), "utf-8")
                return folder
            except FileExistsError:
                if _marked(folder) == _mark(plan):
                    return folder
    raise DownloadError(f"{plan.folder} holds too many folders called {plan.name}.")


def _mark(plan: Plan) -> str:
    return f"{plan.source} {plan.mark}"


def _marked(folder: Path) -> str:
    try:
        return (folder / MARK).read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _published(plan: Plan, staging: Path) -> Path:
    with as_download_error(staging):
        for number in range(1, 1000):
            target = numbered(plan.target, number)
            if os.path.lexists(target):
                continue
            try:
                os.rename(staging, target)
                remove(target / MARK)
                return target
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
    raise DownloadError(f"{plan.folder} holds too many folders called {plan.name}.")


def discard_plan(plan: Plan) -> None:
    """Takes away what an unfinished download of this plan has left; nothing else of that name."""
    for number in range(1, 1000):
        target = numbered(plan.target, number)
        part = part_path(target)
        if not os.path.lexists(part) and not os.path.lexists(target):
            return
        if plan.name and _marked(part) == _mark(plan):
            shutil.rmtree(part, ignore_errors=True)
            return
        facts = read_facts(part) if not plan.name else None
        if facts is not None and facts.url == without_secrets(plan.files[0].url):
            discard(target)
            return
