"""Pictures of other tools (kept outside the tree): what A1111 itself reads out of its text, we read too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.library.metadata.infotext import parse
from pipelines.library.metadata.read import read_request
from pipelines.spec.request import MAX_SEED
from pipelines.spec.schedulers import scheduler_by_id

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "acceptance" / "metadata"


def cases(name: str) -> list[dict[str, Any]]:
    file = FOLDER / name
    return json.loads(file.read_text("utf-8"))["cases"] if file.is_file() else []


PICTURES = cases("cases.json")
A1111 = [case for case in PICTURES if "a1111_reference" in case]
TEXTS = [case for case in cases("text_cases.json") if "parameters" in case.get("entries", {})]
absent = pytest.mark.skipif(not PICTURES, reason="the acceptance pictures are not on this machine")


def lines(text: str) -> list[str]:
    """Spaces at the ends of lines mean nothing to a model, and tools differ in keeping them."""
    return [line.strip() for line in text.strip().splitlines()]


def as_utf8(text: str) -> str:
    """One reference was read as Latin-1 although the bytes are UTF-8; the case names it as its trap."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


@absent
def test_all_pictures_are_looked_at():
    assert len(PICTURES) >= 50
    assert len(A1111) >= 20


@absent
@pytest.mark.parametrize("case", A1111, ids=lambda case: Path(case["file"]).name)
def test_a1111_pictures(case):
    reference = case["a1111_reference"]
    stored = read_request(FOLDER / case["file"])
    assert stored
    assert lines(stored.request.prompt.text) == lines(as_utf8(reference["prompt"]))
    assert lines(stored.request.prompt.negative) == lines(as_utf8(reference["negative"]))
    assert [list(field) for field in stored.fields] == reference["fields"]
    known = {key.lower(): value for key, value in reference["fields"]}
    sampling, size = stored.request.sampling, stored.request.size
    assert stored.seed is not None
    assert stored.seed == int(known["seed"])
    assert sampling.seed == (stored.seed if stored.seed <= MAX_SEED else 0)
    assert sampling.num_inference_steps == int(known["steps"])
    assert sampling.guidance_scale == float(known["cfg scale"])
    assert f"{size.width}x{size.height}" == known["size"]


@absent
@pytest.mark.parametrize(
    "case",
    [case for case in A1111 if isinstance((case.get("fields") or {}).get("sampler"), str)],
    ids=lambda case: Path(case["file"]).name,
)
def test_a1111_samplers(case):
    """The sampler is the one that is named; a schedule that it does not have here is left out, with a note."""
    stored = read_request(FOLDER / case["file"])
    assert stored
    row = scheduler_by_id(stored.request.sampling.scheduler)
    wanted = case["fields"]["sampler"].lower().removesuffix("_karras").removesuffix("_simple")
    wanted = {"euler_ancestral": "euler a"}.get(wanted, wanted)
    assert row.sampler.lower() == wanted
    if schedule := dict(stored.fields).get("Schedule type"):
        assert row.schedule == schedule or any(schedule in note for note in stored.notes)


@absent
@pytest.mark.parametrize("case", PICTURES, ids=lambda case: Path(case["file"]).name)
def test_no_picture_raises_and_none_gets_json_for_a_prompt(case):
    stored = read_request(FOLDER / case["file"])
    assert stored is None or not stored.request.prompt.text.startswith(('{"', "[{"))


@absent
@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case["id"][-60:])
def test_a1111_texts(case):
    reference = case.get("a1111_reference")
    text = parse(case["entries"]["parameters"])
    if reference:
        assert lines(text.prompt) == lines(reference["prompt"])
        assert lines(text.negative) == lines(reference["negative"])
        assert [list(field) for field in text.fields] == reference["fields"]
