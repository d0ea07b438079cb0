"""Where the parts of a model come from, by names and sizes alone."""

from pathlib import Path

from pipelines.library.model_parts import lent_parts, parts_of
from pipelines.spec.record import ModelRecord
from tests.desktop.conftest import make_model, write_json


def test_the_parts_of_a_folder_with_what_builds_them_and_their_files(tmp_path):
    folder = make_model(tmp_path / "m")
    by_name = {part.name: part for part in parts_of(folder)}
    assert set(by_name) == {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    assert by_name["unet"].files == ("model.safetensors",)
    assert by_name["unet"].size_bytes == (folder / "unet" / "model.safetensors").stat().st_size
    assert by_name["tokenizer"].files == ()


def test_an_index_cannot_lead_out_of_its_folder(tmp_path):
    (tmp_path / "secret.safetensors").write_bytes(b"1234")
    write_json(
        tmp_path / "m" / "model_index.json", {"../": ["a", "B"], "x" * 500: ["a", "C"], "no": [None, None]}
    )
    parts = parts_of(tmp_path / "m")
    assert [part.size_bytes for part in parts] == [0, 0]
    assert len(parts[1].name) == 80


def test_a_folder_without_an_index_and_a_file_in_pieces(tmp_path: Path):
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (tmp_path / name).write_bytes(b"12")
    assert len(parts_of(tmp_path)) == 2
    assert [part.size_bytes for part in parts_of(tmp_path / "model-00001-of-00002.safetensors")] == [2, 2]
    assert parts_of(tmp_path / "gone.safetensors") == ()


def test_lent_parts_are_named_with_their_files(tmp_path):
    vae = tmp_path / "ae.safetensors"
    vae.write_bytes(b"12345")
    record = ModelRecord(id="x", path="/x.safetensors", title="x", borrowed=(("vae", str(vae)),))
    (part,) = lent_parts(record)
    assert (part.name, part.what, part.size_bytes) == ("vae", str(vae), 5)
