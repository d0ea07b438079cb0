"""Whether every model of the acceptance collection is recognised: `python -m tests.benchmarks.recognise`.

The collection lies beside the project in `shared/acceptance/models`: manifests of real files, and folders. Its own
script makes them with true headers and a hole for the weights; `inspect` looks at all of them in one process.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipelines.library.findings import NOT_YET

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT.parent / "shared" / "acceptance"
MAX_SECONDS, MAX_MB = 10.0, 500.0
# How the collection calls what lies in a folder.
_FOLDER_KINDS = {"pipeline folder": "checkpoint", "controlnet folder": "controlnet", "not a model": "unknown"}


@dataclasses.dataclass(frozen=True)
class Result:
    """`wrong` says of each model that is not as expected what is; `seconds` and `mb` are of the process."""

    files: int
    folders: int
    wrong: dict[str, str]
    seconds: float
    mb: float

    def line(self) -> str:
        right = self.files - sum(not name.startswith("folder_") for name in self.wrong)
        folders = self.folders - sum(name.startswith("folder_") for name in self.wrong)
        return (
            f"{right} of {self.files}, {folders} of {self.folders} ({self.seconds:.1f} s, {self.mb:.0f} MB)"
        )


def measured(place: Path) -> Result:
    """Makes the collection's models under `place` and inspects them."""
    files, folders = _rows("index.json", "manifests"), _rows("folders.json", "folders")
    made = [row["id"] for row in (*files, *folders)]
    for more in ([], ["--folders"]):
        script = [sys.executable, str(COLLECTION / "make_safetensors.py"), str(place), *more]
        subprocess.run(script, check=True, capture_output=True)
    found, seconds, mb = _inspected([place / name for name in made])
    wrong = {}
    for row in (*files, *folders):
        answers = found.get(row["id"], [])
        if reason := _wrong(row, answers):
            wrong[row["id"]] = reason
    return Result(files=len(files), folders=len(folders), wrong=wrong, seconds=seconds, mb=mb)


def _rows(name: str, key: str) -> list[dict[str, Any]]:
    return json.loads((COLLECTION / "models" / name).read_text(encoding="utf-8"))[key]


# Runs its arguments, then prints the most memory that they took, 0 where the system does not tell. It is small: the
# peak of a process begins with that of the one that started it, and a test run has gigabytes.
_MEASURE = """
import os, subprocess, sys
child, peak = subprocess.Popen(sys.argv[1:]), 0
if hasattr(os, "wait4"):
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode, peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss
print(peak)
sys.exit(child.wait())
"""


def _inspected(paths: list[Path]) -> tuple[dict[str, list[dict[str, Any]]], float, float]:
    """The answers by the id of the model, and what the process took."""
    begin = time.monotonic()
    command = [sys.executable, "-c", _MEASURE, sys.executable, "main.py", "inspect", "--json"]
    done = subprocess.run(
        [*command, *map(str, paths)], cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8"
    )
    seconds = time.monotonic() - begin
    *lines, peak = done.stdout.splitlines()
    root, found = paths[0].parent, {}
    for line in map(json.loads, lines):
        found.setdefault(Path(line["path"]).relative_to(root).parts[0], []).append(line)
    return found, seconds, int(peak) / (1e6 if sys.platform == "darwin" else 1e3)


def _wrong(row: dict[str, Any], answers: list[dict[str, Any]]) -> str:
    """What is not as expected; empty when all is."""
    if len(answers) != 1:
        return f"{len(answers)} answers"
    answer, expected = answers[0], row["expected"]
    checks = {
        "kind": answer["kind"] == _FOLDER_KINDS.get(expected["kind"], expected["kind"]),
        "family": _is_family(answer["family"] or "", expected.get("base", "")),
        "variant": _is_variant(answer["variant"] or "", expected),
        "quantisation": (answer["quantisation"] or "")
        == expected.get("precision", expected.get("quant", "")),
        "prediction": _is_prediction(answer, expected),
        "state": _is_state(answer, row),
        "needs": all(word in str(expected["needs"]) for word in answer["needs"])
        if "needs" in expected
        else True,
        "reason": bool(answer["reason"]) == (answer["state"] != "ready"),
    }
    return "; ".join(f"{name} of {answer}" for name, right in checks.items() if not right)


def _is_family(found: str, expected: str) -> bool:
    """The collection adds remarks behind the word; 'other (NAME)' is one that has no word of its own there."""
    if expected.startswith("other ("):
        return found == expected[7:-1].replace(" ", "-")
    rest = expected[len(found) :]
    return (
        expected.startswith(found) and (bool(found) or not expected) and not rest[:1].strip(" :(").isalnum()
    )


def _is_variant(found: str, expected: dict[str, Any]) -> bool:
    wanted = expected.get("variant") or expected.get("which", "")
    return not wanted or found == wanted or f"({found}" in wanted or f"/{found})" in wanted


def _is_prediction(answer: dict[str, Any], expected: dict[str, Any]) -> bool:
    wanted = expected.get("prediction", "")
    if expected.get("prediction_decidable") is False:
        return answer["prediction"] == wanted.partition(" ")[0] and bool(answer["assumed"])
    return not wanted or answer["prediction"] == wanted.partition(" ")[0]


def _is_state(answer: dict[str, Any], row: dict[str, Any]) -> bool:
    """What is supported is ready, or says that its use is still to come.

    Where the collection leaves that open, either is right, and so is a part that says which other one it lacks.
    """
    state, reason = answer["state"], answer["reason"] or ""
    if row["id"].startswith("folder_"):
        return state != "ready"  # none of them has all its weights
    supported = row["expected"].get("supported")
    if supported is False:
        return state == "unsupported"
    bare = state == "incomplete" and reason.startswith("It needs besides: ")
    if supported is True and not row["expected"].get("dora"):
        return bare or state == "ready" or reason in NOT_YET.values()
    lacking = state == "incomplete" and bool(answer["needs"])
    return bare or lacking or state in ("ready", "unsupported")


def main() -> int:
    if not COLLECTION.is_dir():
        print(f"The acceptance collection is not at {COLLECTION}.")
        return 2
    with tempfile.TemporaryDirectory() as place:
        result = measured(Path(place))
    for name, reason in result.wrong.items():
        print(f"{name}: {reason}")
    print(result.line())
    return 1 if result.wrong or result.seconds > MAX_SECONDS or result.mb > MAX_MB else 0


if __name__ == "__main__":
    sys.exit(main())
