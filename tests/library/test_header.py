"""Headers of weight files: read without a tensor, or refused in one sentence. Broken files are made here."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from pipelines.library.header import Header, read_header
from pipelines.spec.errors import BrokenModel, IncompleteModel, ModelError, UnsafeModel

HOSTILE = Path(__file__).resolve().parents[3] / "shared" / "acceptance" / "hostile"
_ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def packed(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(shape: list[object], begin: object, end: object, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def read(tmp_path: Path, content: bytes, name: str = "My Model.safetensors") -> Header:
    path = tmp_path / name
    path.write_bytes(content)
    return read_header(path)


def test_names_shapes_types_and_facts(tmp_path):
    header = {"__metadata__": {"title": "Ink"}, "a": entry([2, 3], 0, 12, "F16"), "b": entry([], 12, 16)}
    found = read(tmp_path, packed(header, bytes(16)))
    assert found.shapes == {"a": (2, 3), "b": ()}
    assert found.dtypes == {"a": "F16", "b": "F32"}
    assert (found.dtype, found.container, found.metadata) == ("float16", "safetensors", {"title": "Ink"})


def test_the_type_is_that_of_the_most_numbers(tmp_path):
    header = {"a": entry([100], 0, 200, "BF16"), "b": entry([1], 200, 204), "c": entry([1], 204, 208)}
    assert read(tmp_path, packed(header, bytes(208))).dtype == "bfloat16"


DAMAGED = {
    "length_beyond": (packed({"a": _ENTRY}, bytes(4), 10_000), "is incomplete: "),
    "length_2_60": (struct.pack("<Q", 1 << 60) + b"{}", "not a safetensors file"),
    "length_minus_one": (b"\xff" * 8 + b"{}", "not a safetensors file"),
    "overlap": (packed({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)), "overlap"),
    "hole": (packed({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)), "gap"),
    "all one place": (packed({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)), "overlap"),
    "more than named": (packed({"a": _ENTRY}, bytes(44)), "40 bytes that belong to no tensor"),
    "negative": (packed({"a": entry([1], -4, 0)}, bytes(4)), "damaged"),
    "other size": (packed({"a": entry([2], 0, 4)}, bytes(4)), "size is not that of its shape"),
    "huge product": (packed({"a": entry([1 << 62, 1 << 62], 0, 16)}, bytes(16)), "size is not that"),
    "no such type": (packed({"a": entry([1], 0, 1, "F4_X")}, bytes(1)), "not known (F4_X)"),
    "side is true": (packed({"a": entry([True], 0, 4)}, bytes(4)), "damaged"),
    "list": (packed(b"[1,2,3]"), "damaged"),
    "text": (packed(b'"x"'), "damaged"),
    "NaN": (packed(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)), "damaged"),
    "not utf-8": (packed(b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "damaged"),
    "deep": (packed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "damaged"),
    "many": (packed(b'{"a":' + b"[]," * 400_000 + b"1}"), "more tensors than any model"),
    "gguf alone": (b"GGUF", "incomplete"),
    "gguf 99": (b"GGUF" + struct.pack("<IQQ", 99, 0, 0), "version 99"),
    "gguf 2^62 facts": (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 62), "damaged"),
    "gguf long text": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60) + b"x", "incomplete"),
    "gguf nested": (
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 99,
        "damaged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_by_name_with_what_to_do(tmp_path, name):
    """M3."""
    content, reason = DAMAGED[name]
    with pytest.raises(BrokenModel) as caught:
        read(tmp_path, content)
    assert caught.value.message.startswith("My Model.safetensors ")
    assert reason in caught.value.message
    assert caught.value.hint


FOREIGN = {
    "page": (b"<!DOCTYPE html><html><title>Login</title>", BrokenModel, "is a web page"),
    "answer": (b'{"error":"Unauthorized","message":"sign in"}', BrokenModel, "message of a web server"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", IncompleteModel, "LFS pointer"),
    "pickle": (b"\x80\x02cbuiltins\nexec\n", UnsafeModel, "is a pickle"),
    "pickle 4": (b"\x80\x04\x95\x00\x00", UnsafeModel, "is a pickle"),
    "zip": (b"PK\x03\x04" + bytes(60), UnsafeModel, "is a pickle"),
    "nothing": (b"", IncompleteModel, "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_model_is_called_what_it_is(tmp_path, name):
    """M2."""
    content, kind, reason = FOREIGN[name]
    with pytest.raises(kind) as caught:
        read(tmp_path, content)
    assert reason in caught.value.message


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.bin", "A.PTH"])
@pytest.mark.parametrize(
    "content", [b"\x80\x02}q\x00.", b"PK\x03\x04", b"cos\nsystem\n", bytes(100)], ids=str
)
def test_a_pickle_is_never_opened(tmp_path, name, content):
    """M4."""
    with pytest.raises(UnsafeModel, match=r"\.safetensors"):
        read(tmp_path, content, name)


@pytest.mark.parametrize("missing", [1, 1_000])
def test_a_download_that_broke_off_says_how_much_is_there(tmp_path, missing):
    """M1."""
    whole = packed({"a": entry([1000], 0, 4000)}, bytes(4000))
    with pytest.raises(IncompleteModel) as caught:
        read(tmp_path, whole[:-missing])
    assert f"{len(whole) - missing} of {len(whole)} bytes" in caught.value.message


def test_facts_that_are_no_text_are_left_out(tmp_path):
    header = {"__metadata__": {"a": {"b": [1]}, "c": 5, "d": None, "e": "kept"}, "w": _ENTRY}
    assert read(tmp_path, packed(header, bytes(4))).metadata == {"e": "kept"}


def gguf(rows: list[tuple[str, tuple[int, ...], int, int]], data: int, **facts: str) -> bytes:
    """`rows`: name, shape as torch has it, type, offset."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    out = b"GGUF" + struct.pack("<IQQ", 3, len(rows), len(facts))
    for name, value in facts.items():
        out += text(name.replace("__", ".")) + struct.pack("<I", 8) + text(value)
    for name, shape, kind, offset in rows:
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        out += struct.pack("<IQ", kind, offset)
    return out + bytes(-len(out) % 32) + bytes(data)


def test_gguf_is_read_with_its_blocks(tmp_path):
    rows = [("img_in.weight", (64, 32), 2, 0), ("img_in.bias", (64,), 0, 1152)]
    found = read(tmp_path, gguf(rows, 1152 + 256, general__architecture="flux"), "a.gguf")
    assert found.shapes == {"img_in.weight": (64, 32), "img_in.bias": (64,)}
    assert (found.dtype, found.container) == ("Q4_0", "gguf")
    assert found.metadata == {"general.architecture": "flux"}
    with pytest.raises(IncompleteModel, match="incomplete"):
        read(tmp_path, gguf(rows, 1152 + 255), "a.gguf")
    with pytest.raises(BrokenModel, match="not known"):
        read(tmp_path, gguf([("a", (2,), 99, 0)], 64), "a.gguf")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no os.mkfifo: no pipe can lie in a folder there")
def test_a_pipe_in_a_files_place_is_refused_at_once(tmp_path):
    """M14."""
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(ModelError):
        read_header(tmp_path / "a.safetensors")


def test_a_file_that_is_gone_and_a_folder(tmp_path):
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(ModelError):
            read_header(path)


def test_every_byte_that_is_flipped_is_read_or_refused(tmp_path):
    """M3: nothing but a ModelError ever comes out."""
    for name, whole in {
        "a.safetensors": packed({"__metadata__": {"a": "b"}, "w": entry([2, 2], 0, 16)}, bytes(16)),
        "a.gguf": gguf([("w", (4, 32), 2, 0)], 72, general__architecture="flux"),
    }.items():
        for place in range(len(whole)):
            for flip in (0x01, 0x80, 0xFF):
                bad = bytearray(whole)
                bad[place] ^= flip
                assert _reason(tmp_path, bytes(bad), name) in ("", name), place


def _reason(tmp_path: Path, content: bytes, name: str) -> str:
    """The name that the refusal begins with; empty where the file is read."""
    try:
        read(tmp_path, content, name)
    except ModelError as error:
        return error.message.partition(" ")[0]
    return ""


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="the collection of hostile files is not on this machine")
def test_the_formats_own_bad_headers():
    rows = json.loads((HOSTILE / "cases.json").read_text())["cases"]
    rows = [row for row in rows if row["file"].startswith(("safetensors/", "picklescan/"))]
    assert len(rows) > 30
    for row in rows:
        try:
            read_header(HOSTILE / row["file"])
            answer = "read"
        except ModelError:
            answer = "refused"
        assert row["promise"].startswith(answer), row["file"]


def test_a_shape_of_thousands_of_sides_is_refused_at_once(tmp_path):
    """Their product alone took minutes."""
    header = {"a": {"dtype": "U8", "shape": [9] * 200_000 + [0], "data_offsets": [0, 0]}}
    with pytest.raises(BrokenModel) as caught:
        read(tmp_path, packed(header, b""))
    assert "too many sides" in caught.value.message
