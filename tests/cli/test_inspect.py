"""`inspect`: what each file is, in words and in JSON; nothing of it is run, and a bad file is an answer too."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli.commands import main
from tests.benchmarks.recognise import COLLECTION, ROOT
from tests.library.test_detect import SD1, flux, unet
from tests.library.test_models import model, weights
from tests.library.test_parts import control, file, kohya

FIELDS = {
    "path", "title", "kind", "family", "variant", "format", "layout", "dtype", "quantisation", "prediction", "size",
    "parameters", "state", "reason", "needs", "assumed", "trigger_words", "preferred_weight",
    "preview", "description", "hashes",
}  # fmt: skip


def asked(capsys, *paths: object) -> list[dict]:
    assert main(["inspect", "--json", *map(str, paths)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def small(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The sides that nothing is told by cut short, so that the file is."""
    return {name: (1, *shape[1:]) if "token_embedding" in name else shape for name, shape in shapes.items()}


def test_one_object_a_model_with_every_field(tmp_path, capsys):
    path = file(tmp_path / "Ink.safetensors", kohya(768), {"modelspec.trigger_phrase": "inkstyle"})
    (answer,) = asked(capsys, path)
    assert answer.keys() == FIELDS
    assert answer["path"] == str(path)
    assert (answer["kind"], answer["family"], answer["format"]) == ("lora", "sd1", "single_file")
    assert (answer["dtype"], answer["size"], answer["layout"]) == ("float16", path.stat().st_size, "kohya")
    assert (answer["state"], answer["reason"], answer["trigger_words"]) == ("ready", None, ["inkstyle"])
    assert answer["parameters"] == 4 * 768 + 320 * 4 + 1 + 4 * 768 + 3072 * 4


def test_a_denoiser_alone_says_what_it_needs(tmp_path, capsys):
    """M12."""
    (answer,) = asked(capsys, file(tmp_path / "unet.safetensors", unet(768)))
    assert (answer["kind"], answer["needs"]) == ("unet", ["vae", "clip_l"])


def test_folders_files_and_places_in_the_order_asked(tmp_path, capsys):
    folder = model(tmp_path / "all" / "m")
    net = control(tmp_path / "all" / "net", cross_attention_dim=768)
    lora = file(tmp_path / "all" / "Ink.safetensors", kohya(768))
    answers = asked(capsys, folder, lora, net)
    assert [answer["kind"] for answer in answers] == ["checkpoint", "lora", "controlnet"]
    assert [answer["state"] for answer in answers] == ["ready"] * 3
    assert [answer["format"] for answer in answers] == ["diffusers", "single_file", "diffusers"]
    assert {answer["path"] for answer in asked(capsys, tmp_path / "all")} == {
        str(p) for p in (folder, lora, net)
    }
    (tmp_path / "nothing").mkdir()
    (answer,) = asked(capsys, tmp_path / "nothing")
    assert (answer["kind"], answer["reason"]) == ("unknown", "The folder holds no model.")


def test_a_model_in_pieces_is_one_and_names_what_is_missing(tmp_path, capsys):
    """M11."""
    names = list(flux())
    for n, part in enumerate((names[:2], names[2:]), 1):
        shapes = {name: (1, *flux()[name][1:]) for name in part}
        file(tmp_path / f"flux-0000{n}-of-00002.safetensors", shapes)
    (answer,) = asked(capsys, tmp_path)
    assert (answer["kind"], answer["family"], answer["format"]) == ("transformer", "flux", "sharded")
    (tmp_path / "flux-00001-of-00002.safetensors").unlink()
    (answer,) = asked(capsys, tmp_path)
    assert answer["state"] == "incomplete"
    assert "flux-00001-of-00002.safetensors cannot be found" in answer["reason"]


def test_a_sharded_part_of_a_folder(tmp_path, capsys):
    folder = model(tmp_path / "m")
    index = {"weight_map": {"a": "model.safetensors", "b": "more.safetensors"}}
    (folder / "unet" / "model.safetensors.index.json").write_text(json.dumps(index))
    (answer,) = asked(capsys, folder)
    assert (answer["state"], answer["reason"].partition(".")[0]) == (
        "incomplete",
        "The part 'unet' is incomplete: more",
    )
    weights(folder / "unet" / "more.safetensors")
    (answer,) = asked(capsys, folder)
    assert (answer["state"], answer["format"], answer["parameters"]) == ("ready", "sharded", 4 * 64)


CLASSES = {
    "StableDiffusionInpaintPipeline": (
        {"in_channels": 9, "cross_attention_dim": 768},
        "sd1",
        "inpaint",
        "ready",
    ),
    "StableDiffusionXLInpaintPipeline": (
        {
            "in_channels": 9,
            "cross_attention_dim": 2048,
            "addition_embed_type": "text_time",
            "projection_class_embeddings_input_dim": 2816,
        },
        "sdxl",
        "inpaint",
        "unsupported",  # for its parts, which are those of SD 1.x
    ),
    "StableDiffusion3Pipeline": ({}, "sd3", None, "unsupported"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_folders_of_variants_and_of_other_families_are_named(tmp_path, capsys, name):
    """M6."""
    config, family, variant, state = CLASSES[name]
    folder = model(tmp_path / "m", _class_name=name)
    (folder / "unet" / "config.json").write_text(
        json.dumps({"_class_name": "UNet2DConditionModel", **config})
    )
    (answer,) = asked(capsys, folder)
    assert (answer["family"], answer["variant"], answer["state"]) == (family, variant, state)
    assert bool(answer["reason"]) == (state != "ready")


@pytest.mark.parametrize(
    ("name", "variant"), [("FluxKontextPipeline", "kontext"), ("FluxFillPipeline", "fill")]
)
def test_the_kinds_of_flux_have_classes_of_their_own(tmp_path, capsys, name, variant):
    folder = model(
        tmp_path / "m", _class_name=name, transformer=["diffusers", "FluxTransformer2DModel"], unet=None
    )
    (folder / "transformer").mkdir()
    config = {"_class_name": "FluxTransformer2DModel", "in_channels": 64, "guidance_embeds": True}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    (answer,) = asked(capsys, folder)
    assert (answer["family"], answer["variant"], answer["state"]) == ("flux", variant, "unsupported")


def test_text_for_people(tmp_path, capsys):
    path = file(tmp_path / "sd.safetensors", small(SD1))
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(path)
    assert lines[1].strip() == "checkpoint, sd1, normal, single_file, ldm, float16, epsilon"
    assert lines[3].strip() == "ready"


def test_a_path_that_is_not_there_is_a_wrong_request(tmp_path, capsys):
    assert main(["inspect", "--json", str(tmp_path / "gone")]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["field"] == "paths"


class Touch:
    def __reduce__(self):
        return exec, ("open('PWNED', 'w').write('x')",)


def test_a_pickle_is_unsafe_and_never_run(tmp_path, capsys, monkeypatch):
    """M4."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.ckpt", "b.safetensors", "c.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Touch(), 2))
    answers = asked(capsys, tmp_path)
    assert [answer["state"] for answer in answers] == ["unsafe"] * 3
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.skipif(not COLLECTION.is_dir(), reason="the collection of hostile files is not on this machine")
def test_the_collection_of_hostile_models(tmp_path):
    """M1 to M5 and M14: every file has its answer, soon and without much memory, and none of them does anything."""
    made = subprocess.run(
        [sys.executable, str(COLLECTION / "make_hostile.py"), "."],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    promised = [json.loads(line) for line in made.stdout.splitlines()]
    refused = {row["path"] for row in promised if row["promise"].startswith("refused with a message")}
    answers = inspected(tmp_path, ["models", "lora_names", "tree"])
    states = {str(Path(answer["path"]).relative_to(tmp_path)): answer for answer in answers}
    models = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "models").iterdir())
    assert set(models) <= states.keys()
    for name in models:
        if name in refused or name.endswith((".ckpt", ".pt", ".bin")):
            assert states[name]["state"] in ("broken", "incomplete", "unsafe"), states[name]
            assert Path(name).name in states[name]["reason"]
    assert {state["kind"] for path, state in states.items() if path.startswith("lora_names/")} == {"lora"}
    assert not list(tmp_path.rglob("PWNED"))


def inspected(place: Path, folders: list[str]) -> list[dict]:
    """In a process of its own with `place` as its working directory, and little memory where that can be had."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({2 << 30}, {2 << 30})); "
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        (limit if os.name == "posix" else "") + code,
        "inspect",
        "--json",
        *folders,
    ]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_hashes_are_shown_once_they_are_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMULSION_HOME", str(tmp_path / "home"))
    path = file(tmp_path / "Ink.safetensors", kohya(768))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def hashes(*flags: str):
        assert main(["inspect", str(path), "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)["hashes"]

    assert hashes() is None
    assert not (tmp_path / "home").exists(), "only to look leaves nothing behind"
    made = hashes("--hash")
    assert (made["sha256"], made["autov2"], len(made["autov3"])) == (digest, digest[:10], 12)
    assert hashes() == made


def test_models_of_some_folders_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMULSION_HOME", str(tmp_path / "home"))
    for name in ("a", "b", "c"):
        file(tmp_path / name / f"{name}.safetensors", kohya(768))
    roots = [str(tmp_path / name) for name in ("a", "b")]
    for _ in range(2):
        assert main(["models", "--json", "--root", *roots]) == 0
        assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]
    assert (tmp_path / "home" / "data" / "models.sqlite").is_file()
    assert main(["models", "--root", str(tmp_path / "none")]) == 2
