"""What other programs keep beside a model file: read as they write it, bounded, and below what the tensors show."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pipelines.library import notes as notes_module
from pipelines.library.index import scan
from pipelines.library.models import record_of
from pipelines.library.notes import MAX_TEXT, MAX_WORDS
from pipelines.library.plain_text import plain, without_html
from pipelines.spec.record import Kind, ModelRecord, State
from tests.library.test_parts import file, kohya

CIVITAI = {
    "id": 7,
    "modelId": 3,
    "name": "v2.0",
    "baseModel": "SD 1.5",
    "trainedWords": ["inkstyle", "ink, wash", "inkstyle"],
    "description": "<p>of the version</p>",
    "model": {"name": "Ink Wash", "description": "<p>Draws in <b>ink</b>.</p><ul><li>fox</li></ul>"},
    "files": [{"hashes": {"SHA256": "AB" * 32, "AutoV2": "0123456789"}}],
    "images": [{"url": "https://nowhere.invalid/a.png"}],
}
A1111 = {
    "description": "By hand.",
    "sd version": "SD1",
    "activation text": "ink style, wash",
    "preferred weight": 0.7,
    "negative text": "photo",
    "notes": "Not above 1.",
}
LORA_MANAGER = {
    "file_name": "ink",
    "model_name": "Ink by Lora-Manager",
    "base_model": "SD 1.5",
    "notes": "my notes",
    "preview_url": "/etc/passwd",
    "sha256": "ab" * 32,
    "usage_tips": '{"strength": 0.85, "strength_max": 1.2}',
    "civitai": {"trainedWords": ["inklm"], "name": "v1"},
}
STABILITY_MATRIX = {
    "ModelName": "Ink",
    "ModelDescription": "<p>From <i>Stability Matrix</i></p>",
    "VersionName": "v3",
    "BaseModel": "Pony",
    "TrainedWords": ["inksm"],
    "Hashes": {"SHA256": "AB" * 32},
}
SWARM = {
    "modelspec.title": "Ink of the swarm",
    "modelspec.trigger_phrase": "inkswarm",
    "description": "In words.",
}


def told(tmp_path: Path, **sides: object) -> ModelRecord:
    """Of a LoRA for SD 1.x with these beside it, by their endings without dots."""
    path = file(tmp_path / "m" / "ink.safetensors", kohya(768), {"modelspec.title": "Of its header"})
    for end, what in sides.items():
        side = path.with_name(f"ink.{end.replace('_', '.')}")
        side.write_bytes(what if isinstance(what, bytes) else json.dumps(what).encode())
    (record,) = scan([tmp_path / "m"], database=tmp_path / "index.sqlite")
    assert record == record_of(path), "the index knows no more and no less than the file alone"
    return record


def test_a_civitai_version(tmp_path):
    record = told(tmp_path, civitai_info=CIVITAI)
    assert record.title == "Ink Wash v2.0"
    assert record.trigger_words == ("inkstyle", "ink, wash")
    assert record.description == "Draws in ink.\n\n- fox"
    assert (record.family, record.problem) == ("sd1", "")


def test_the_notes_of_a1111(tmp_path):
    record = told(tmp_path, json=A1111)
    assert record.title == "Of its header"
    assert record.trigger_words == ("ink style, wash",)
    assert record.preferred_weight == 0.7
    assert record.description == "By hand.\n\nNot above 1."


def test_lora_manager(tmp_path):
    record = told(tmp_path, metadata_json=LORA_MANAGER)
    assert (record.title, record.trigger_words) == ("Ink by Lora-Manager", ("inklm",))
    assert (record.preferred_weight, record.description, record.preview) == (0.85, "my notes", "")


def test_stability_matrix(tmp_path):
    record = told(tmp_path, **{"cm-info_json": STABILITY_MATRIX})
    assert (record.title, record.trigger_words) == ("Ink v3", ("inksm",))
    assert record.description == "From Stability Matrix"
    assert record.family == "sd1", "the tensors show what it is for, whatever the notes say"


def test_swarm(tmp_path):
    record = told(tmp_path, swarm_json=SWARM)
    assert (record.title, record.trigger_words) == ("Ink of the swarm", ("inkswarm",))
    assert record.description == "In words."


def test_texts(tmp_path):
    assert (
        told(tmp_path / "1", txt=b"\xef\xbb\xbfA text.\r\nOf two lines.").description
        == "A text.\nOf two lines."
    )
    both = told(tmp_path / "2", txt=b"some text", description_txt=b"the description", json=A1111)
    assert both.description == "the description"
    assert told(tmp_path / "3", txt=b"some text", json=A1111).description == "By hand.\n\nNot above 1."


def test_our_own_facts_come_first_and_fields_are_taken_one_by_one(tmp_path):
    own = {"title": "Mine", "trigger_words": ["mine"], "preferred_weight": -0.5}
    record = told(tmp_path, emulsion_json=own, civitai_info=CIVITAI, json=A1111)
    assert (record.title, record.trigger_words, record.preferred_weight) == ("Mine", ("mine",), -0.5)
    assert record.description.startswith("Draws in ink.")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("ink.png", "ink.preview.png"), "ink.png"),
        (("ink.preview.webp", "ink.thumb.jpg"), "ink.preview.webp"),
        (("ink.thumb.jpg",), "ink.thumb.jpg"),
        (("other.png",), ""),
    ],
)
def test_a_picture_beside_it(tmp_path, names, shown):
    for name in names:
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"not looked into")
    preview = told(tmp_path).preview
    assert preview == (str(tmp_path / "m" / shown) if shown else "")


WRONG = [None, True, 7, -1, "", [], [[1]], {}, {"a": []}, 1e300, "x" * 100_000, ["y" * 1000] * 1000]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize(
    ("end", "facts"),
    [
        ("civitai_info", CIVITAI),
        ("json", A1111),
        ("metadata_json", LORA_MANAGER),
        ("cm-info_json", STABILITY_MATRIX),
    ],
)
def test_a_wrong_field_costs_itself_alone(tmp_path, end, facts, value):
    path = file(tmp_path / "ink.safetensors", kohya(768))
    for name in facts:
        path.with_name(f"ink.{end.replace('_', '.')}").write_text(json.dumps({**facts, name: value}))
        record = record_of(path)
        assert record.problem == ""
        assert record.title
        assert len(record.title) <= 300
        assert len(record.description) <= MAX_TEXT
        assert len(record.trigger_words) <= MAX_WORDS
        assert abs(record.preferred_weight) <= 10


HOSTILE = {
    "no json": b"{broken",
    "empty": b"",
    "deep": b"[" * 100_000,
    "deep in a field": b'{"description":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "not text": b"\xff\xfe\x00\x01",
    "a list": b"[1, 2]",
    "nan": b'{"preferred weight": NaN}',
    "infinite": b'{"preferred weight": 1e999}',
    "half a pair": b'{"description": "\\ud800"}',
    "too big": b'{"description": "' + b"x" * 3_000_000 + b'"}',
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_notes_are_left_out(tmp_path, data):
    record = told(tmp_path, civitai_info=data, json=data, metadata_json=data, swarm_json=data)
    assert (record.title, record.problem, record.preferred_weight) == ("Of its header", "", 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_folders_in_the_place_of_notes_are_none(tmp_path):
    """M14."""
    (tmp_path / "m").mkdir()
    for end in ("emulsion.json", "civitai.info", "json", "txt", "yaml"):
        os.mkfifo(tmp_path / "m" / f"ink.{end}")
    (tmp_path / "m" / "ink.png").mkdir()
    record = told(tmp_path)
    assert (record.title, record.preview) == ("Of its header", "")


def test_notes_tell_the_family_where_the_tensors_do_not(tmp_path):
    """An embedding 768 wide is for SD 1.x or one half of SDXL's; a LoRA of the text encoder alone likewise."""
    text = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    shapes = {f"{text}.lora_down.weight": (4, 768), f"{text}.lora_up.weight": (3072, 4)}
    path = file(tmp_path / "te.safetensors", shapes)
    before = record_of(path)
    path.with_name("te.json").write_text(json.dumps({"sd version": "SD1"}))
    after = record_of(path)
    assert (after.kind, after.family) == (Kind.LORA, "sd1")
    assert before.family in ("", "sd1")


def test_a_broken_file_keeps_its_notes(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"<html>")
    (tmp_path / "bad.civitai.info").write_text(json.dumps(CIVITAI))
    record = record_of(tmp_path / "bad.safetensors")
    assert (record.title, record.state) == ("Ink Wash v2.0", State.BROKEN)


@pytest.mark.parametrize("name", ["ink.civitai.info", "ink.json", "ink.txt", "ink.preview.png", "ink.png"])
def test_notes_that_come_change_and_go_are_seen_by_the_index(tmp_path, name):
    first, side = told(tmp_path), tmp_path / "m" / name
    for data in (CIVITAI | A1111, CIVITAI | A1111 | {"description": "longer than before"}):
        side.write_text(json.dumps(data))
        (record,) = scan([tmp_path / "m"], database=tmp_path / "index.sqlite")
        assert record == record_of(tmp_path / "m" / "ink.safetensors") != first
    side.unlink()
    assert scan([tmp_path / "m"], database=tmp_path / "index.sqlite") == (first,)


def test_nothing_is_opened_that_is_not_there(tmp_path, monkeypatch):
    opened: list[str] = []

    def read_small(path: Path, most: int) -> bytes:
        opened.append(path.name)
        return b"{}"

    monkeypatch.setattr(notes_module, "read_small", read_small)
    told(tmp_path)
    assert opened == []


def test_foreign_text_is_plain():
    assert plain("a\x1b[31mred\x00\u202e\u200b b", 100) == "a[31mred b"
    assert plain("x" * 50, 10) == "x" * 10
    assert without_html("a < b and c > d & e", 100) == "a < b and c > d & e"
    html = "<style>p {}</style><p>One&nbsp;two&#39;s</p>\n<script>alert(1)</script><p>three<br/>four</p><img src=x>"
    assert without_html(html, 100) == "One two's\n\nthree\nfour"
    assert without_html("<p>cut off <b", 100) == "cut off"
    assert without_html("<p>a<!-- <b>no</b> -->b<!-- no", 100) == "ab"


@pytest.mark.parametrize(
    "part", ["<", "<!", "<![", "<a ", "<!--", "&#", "</", "<a b=", "<?", "<script>", "<p>"]
)
def test_no_markup_takes_long(part):
    begin = time.process_time()
    without_html("<p>" + part * 200_000, MAX_TEXT)
    assert time.process_time() - begin < 1
