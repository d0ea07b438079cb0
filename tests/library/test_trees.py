"""The folders of other programs: known for whose they are, and scanned where their models lie, and nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from pathlib import Path

import pytest

from pipelines.cli.commands import main
from pipelines.library.extra_paths import extra_folders
from pipelines.library.index import ModelIndex
from pipelines.library.models import scan
from pipelines.library.trees import expanded, tree_of
from pipelines.spec.errors import ModelError
from pipelines.spec.record import Kind
from tests.library.test_models import model
from tests.library.test_parts import file, kohya

# tool: (files that make it what it is, where a LoRA lies in it, where none is looked for)
TREES = {
    "ComfyUI": (
        ("comfy/__init__.py", "nodes.py", "custom_nodes/x/node.py", "models/checkpoints/put_here"),
        ("models/loras/author/series/part/more/x", "models/own_kind/x", "models/x"),
        ("output/x", "input/x", "custom_nodes/x/x", "venv/lib/x", ".git/x", "temp/x"),
    ),
    "ComfyUI portable": (
        ("ComfyUI/comfy/__init__.py", "run_cpu.bat", "ComfyUI/models/loras/put_here"),
        ("ComfyUI/models/loras/a/b/c/d/x",),
        ("python_embeded/Lib/x", "ComfyUI/output/x"),
    ),
    "A1111": (
        ("webui.py", "webui-user.sh", "models/Stable-diffusion/Put Stable Diffusion here.txt"),
        (
            "models/Lora/a/b/c/d/x",
            "embeddings/a/x",
            "extensions/sd-webui-controlnet/models/x",
            "models/LyCORIS/x",
        ),
        ("outputs/txt2img-images/x", "venv/x", "repositories/x", "extensions/other/x"),
    ),
    "Forge": (
        ("webui.py", "modules_forge/x.py", "models/Stable-diffusion/t.txt"),
        ("models/Lora/a/b/c/d/x", "embeddings/x"),
        ("outputs/x", "backend/huggingface/x"),
    ),
    "SD.Next": (
        ("webui.py", "installer.py", "models/Stable-diffusion/t.txt"),
        ("models/Lora/a/b/c/d/x", "models/embeddings/x", "models/control/controlnet/x"),
        ("outputs/x", "venv/x"),
    ),
    "SwarmUI": (
        ("SwarmUI.sln", "src/SwarmUI.csproj", "Models/Stable-Diffusion/t.txt"),
        ("Models/Lora/a/b/c/d/x", "Models/Embeddings/x"),
        ("Output/x", "dlbackend/x"),
    ),
    "InvokeAI": (
        ("invokeai.yaml", "databases/invokeai.db"),
        ("models/sdxl/lora/a/x", "models/0b1c2d3e/x"),
        ("outputs/images/x", "nodes/x"),
    ),
    "Stability Matrix": (
        ("Data/settings.json", "Data/Models/StableDiffusion/t.txt", "Data/Packages/ComfyUI/comfy/x.py"),
        ("Data/Models/Lora/a/b/c/d/x", "Data/Packages/ComfyUI/models/loras/own/x"),
        ("Data/Packages/ComfyUI/venv/x", "Data/Images/x", "Data/Packages/ComfyUI/output/x"),
    ),
}


def build(root: Path, files: tuple[str, ...], *places: tuple[str, ...]) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    for name in (name for place in places for name in place):
        file(root / f"{name}.safetensors", kohya(768))
    return root


def below(root: Path, scanned) -> set[str]:
    return {Path(record.path).relative_to(root).with_suffix("").as_posix() for record in scanned}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_scanned_where_its_models_lie(tmp_path, name):
    files, there, nowhere = TREES[name]
    root = build(tmp_path / "t", files, there, nowhere)
    tree = tree_of(root)
    assert tree is not None
    assert (tree.tool, tree.problems) == (name.removesuffix(" portable"), ())
    assert below(root, scan([root])) == set(there)
    assert all(record.kind is Kind.LORA for record in scan([root]))


@pytest.mark.parametrize("name", TREES)
def test_nothing_of_it_is_moved_or_written(tmp_path, name):
    root = build(tmp_path / "t", *TREES[name])
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    scan([root])
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize(
    ("name", "folder", "kind"),
    [
        ("ComfyUI", "models/loras", Kind.LORA),
        ("ComfyUI", "models/checkpoints", Kind.CHECKPOINT),
        ("A1111", "models/Stable-diffusion", Kind.CHECKPOINT),
        ("A1111", "embeddings", Kind.EMBEDDING),
        ("SD.Next", "models/control", Kind.CONTROLNET),
        ("SwarmUI", "Models/Embeddings", Kind.EMBEDDING),
        ("Stability Matrix", "Data/Models/Lora", Kind.LORA),
        ("InvokeAI", "models", None),
    ],
)
def test_a_place_says_what_it_is_for(tmp_path, name, folder, kind):
    root = build(tmp_path / "t", *TREES[name])
    tree = tree_of(root)
    assert tree is not None
    assert {place.path: place.kind for place in tree.places}[root / folder] is kind


def test_a_folder_of_ones_own_is_no_tree(tmp_path):
    file(tmp_path / "loras" / "x.safetensors", kohya(768))
    assert tree_of(tmp_path) is None
    assert tree_of(tmp_path / "away") is None
    assert expanded([tmp_path, tmp_path / "away"]) == (tmp_path, tmp_path / "away")
    assert below(tmp_path, scan([tmp_path])) == {"loras/x"}


def test_programs_are_not_searched_in_any_folder(tmp_path):
    for name in ("venv/a", ".git/a", ".cache/a", "x/node_modules/a", "x/b"):
        file(tmp_path / f"{name}.safetensors", kohya(768))
    assert below(tmp_path, scan([tmp_path])) == {"x/b"}
    assert below(tmp_path, scan([tmp_path / ".cache"])) == {".cache/a"}, "what is asked for is looked into"


def test_the_index_forgets_what_left_a_tree(tmp_path):
    root = build(tmp_path / "t", *TREES["ComfyUI"])
    index = ModelIndex(tmp_path / "index.sqlite")
    assert below(root, index.scan([root])) == set(TREES["ComfyUI"][1])
    (root / "models" / "x.safetensors").unlink()
    assert below(root, index.scan([root])) == set(TREES["ComfyUI"][1]) - {"models/x"}
    rows = index._try(lambda db: db.execute("SELECT count(*) FROM file").fetchone()[0], None)
    assert rows == 2
    index.close()


def test_a_tree_within_the_usual_folders_and_by_itself_gives_each_model_once(tmp_path):
    root = build(tmp_path / "t", *TREES["ComfyUI"])
    records = scan([root, root / "models" / "loras"])
    assert len({record.path for record in records}) == len(records) == 3


def test_the_command_line_takes_a_root(tmp_path, capsys):
    root = build(tmp_path / "t", *TREES["A1111"])
    (root / "nothing").mkdir()
    assert main(["models", "--root", str(root), "--json"]) == 0
    out, said = capsys.readouterr()
    assert len(out.splitlines()) == len(TREES["A1111"][1])
    assert f"{root} is a folder of A1111. Its models are used where they lie." in said


# extra_model_paths.yaml


def comfy(tmp_path: Path, text: str) -> Path:
    root = build(tmp_path / "comfy", ("comfy/x.py", "models/loras/put_here"), ("models/loras/own",))
    (root / "extra_model_paths.yaml").write_text(text)
    return root


def test_the_folders_that_comfyui_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for name in (
        "a1111/models/Lora/a",
        "a1111/models/LyCORIS/b",
        "home/sd/c",
        "comfy/near/d",
        "abs/e",
        "a1111/other/f",
    ):
        file(tmp_path / f"{name}.safetensors", kohya(768))
    text = f"""
a111:
    base_path: ../a1111/
    loras: |
        models/Lora
        models/LyCORIS
    configs: models/Lora
    checkpoints: models/not there
homely:
    base_path: ~/sd
    is_default: true
    checkpoints: .
near:
    loras: near
absolute:
    base_path: /nowhere
    loras: {tmp_path / "abs"}
# a comment
"""
    root = comfy(tmp_path, text)
    names = {Path(record.path).stem for record in scan([root])}
    assert names == {"own", "a", "b", "c", "d", "e"}
    tree = tree_of(root)
    assert tree is not None
    assert tree.places[0].path == tmp_path / "home" / "sd", "the default comes first"
    assert tree.places[0].kind is Kind.CHECKPOINT


BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)
HOSTILE = {
    "a bomb of aliases": BOMB,
    "an alias": "x: &a {loras: models}\ny: *a",
    "a tag that runs": '!!python/object/apply:os.system ["touch PWNED"]',
    "a tag in a value": 'a: {loras: !!python/object/new:os.system ["touch PWNED"]}',
    "deep": "[" * 50_000,
    "deep blocks": "\n".join(" " * n + "a:" for n in range(300)) + "\n" + "[" * 10_000,
    "too big": "a: " + "x" * 100_000,
    "a list": "- a\n- b",
    "text": "just words",
    "broken": "a: [1, 2",
    "tabs": "a:\n\t- b",
    "no text": "\0\0\0",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_refused_with_a_sentence_and_the_rest_is_used(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    root = comfy(tmp_path, text)
    begin = time.process_time()
    tree = tree_of(root)
    assert time.process_time() - begin < 5
    assert tree is not None
    (problem,) = tree.problems
    assert problem.startswith("extra_model_paths.yaml is ")
    assert len(problem) < 250
    assert below(root, scan([root])) == {"models/loras/own"}
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize(
    "text",
    ["", "a:", "a: 1", "a: {loras: 7, vae: [x], clip: null, unet: {a: b}}", "7: {8: models}",
     "a: {base_path: 7, loras: '/'}",
     "a: {base_path: '\\0', loras: x}", "a: {loras: '\\0'}"],
)  # fmt: skip
def test_wrong_fields_cost_themselves_alone(tmp_path, text):
    root = comfy(tmp_path, text)
    tree = tree_of(root)
    assert tree is not None
    assert tree.problems == ()
    assert below(root, scan([root])) == {"models/loras/own"}


def test_a_whole_drive_is_no_place(tmp_path):
    path = comfy(tmp_path, "a: {base_path: /, loras: .}") / "extra_model_paths.yaml"
    assert extra_folders(path) == ()


def test_one_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        extra_folders(tmp_path / "extra_model_paths.yaml")


# The cache of the Hugging Face hub


def repository(hub: Path, name: str, revision: str, main: str | None = None) -> Path:
    """With its files as links to blobs, as the hub lays them out."""
    folder = hub / f"models--owner--{name}"
    blob = file(folder / "blobs" / ("ab" * 32 + ".safetensors"), kohya(768)).rename(
        folder / "blobs" / ("ab" * 32)
    )
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    try:
        (snapshot / f"{name}-{revision}.safetensors").symlink_to(os.path.relpath(blob, snapshot))
    except OSError:
        pytest.skip("this system makes no links")
    (folder / "refs").mkdir(exist_ok=True)
    if main is not None:
        (folder / "refs" / "main").write_text(main)
    return folder


@pytest.mark.parametrize("root", ["", "hub", "hub/models--owner--ink"])
def test_the_hubs_cache(tmp_path, root):
    repository(tmp_path / "hub", "ink", "r1")
    repository(tmp_path / "hub", "ink", "r2", main="r1\n")
    (record,) = scan([tmp_path / root])
    assert (Path(record.path).name, record.kind) == ("ink-r1.safetensors", Kind.LORA)


@pytest.mark.parametrize("main", [None, "", "gone", "../../..", "\0"])
def test_without_a_main_the_newest_revision_is_used(tmp_path, main):
    folder = repository(tmp_path, "ink", "r1")
    repository(tmp_path, "ink", "r2", main=main)
    os.utime(folder / "snapshots" / "r1", ns=(1, 1))
    (record,) = scan([tmp_path])
    assert Path(record.path).name == "ink-r2.safetensors"


def test_a_repository_that_is_a_whole_model_has_the_repositorys_name(tmp_path):
    model(tmp_path / "models--owner--My-Model" / "snapshots" / "0f1e2d")
    (record,) = scan([tmp_path])
    assert (record.id, record.title, record.problem) == ("my-model", "My-Model", "")


def test_an_empty_repository_holds_nothing(tmp_path):
    (tmp_path / "models--owner--gone" / "snapshots").mkdir(parents=True)
    (tmp_path / "models--owner--none").mkdir()
    assert scan([tmp_path]) == ()


@pytest.mark.parametrize(
    "text",
    [
        'models_dir: "~\\0"',
        "a: !!bool q",
        'a: !!int ""',
        f"models_dir: {'a' * 60_000}",
        "models_dir: ../../../../../../..",
    ],
)
def test_one_odd_value_costs_that_tree_alone(tmp_path, text):
    """And what leads to a whole drive is no place, however it is written."""
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "invokeai.yaml").write_text(text)
    build(tmp_path / "mine", ("a.safetensors",))
    folders = expanded([tmp_path / "tool", tmp_path / "mine"])
    assert tmp_path / "mine" in folders
    assert not any(os.path.realpath(folder) == "/" for folder in folders)


def swarm(root: Path, settings: str) -> Path:
    (root / "Models").mkdir(parents=True, exist_ok=True)
    (root / "SwarmUI.sln").touch()
    (root / "Data").mkdir()
    (root / "Data" / "Settings.fds").write_text(settings)
    return root


def test_the_model_roots_that_swarmui_is_told_of(tmp_path):
    file(tmp_path / "swarm" / "other" / "Lora" / "near.safetensors", kohya(768))
    file(tmp_path / "far away" / "Lora" / "far.safetensors", kohya(768))
    folders = f"Models;other;{tmp_path}/far away;/nowhere"
    settings = f"# Paths\nPaths:\n\tModelRoot: {folders}\n\tSDModelFolder: Stable-Diffusion\n"
    root = swarm(tmp_path / "swarm", settings)
    assert {record.title for record in scan([root])} == {"far", "near"}
    tree = tree_of(root)
    assert tree is not None
    assert tree.problems == ()
    assert next(p.kind for p in tree.places if p.path == tmp_path / "far away" / "Lora") is Kind.LORA


def invoke(root: Path, configs: list[str]) -> Path:
    (root / "models").mkdir(parents=True, exist_ok=True)
    (root / "databases").mkdir()
    with contextlib.closing(sqlite3.connect(root / "databases" / "invokeai.db")) as database, database:
        database.execute("CREATE TABLE models (id TEXT PRIMARY KEY, config TEXT NOT NULL)")
        database.executemany("INSERT INTO models VALUES (?, ?)", list(enumerate(configs)))
    return root


def test_models_that_invokeai_uses_where_they_lie(tmp_path):
    far = file(tmp_path / "far" / "flower.safetensors", kohya(768))
    file(tmp_path / "invoke" / "models" / "abc" / "near.safetensors", kohya(768))
    odd = [
        '{"path": 3}',
        "[]",
        "no json",
        '{"path": "abc/near.safetensors"}',
        '{"path": "/nowhere/x.safetensors"}',
    ]
    root = invoke(tmp_path / "invoke", [json.dumps({"path": str(far)}), *odd])
    before = sorted(path.name for path in (root / "databases").iterdir())
    assert {record.title for record in scan([root])} == {"flower", "near"}
    assert sorted(path.name for path in (root / "databases").iterdir()) == before, (
        "nothing is written beside it"
    )


def test_a_damaged_list_of_invokeai_costs_itself_alone(tmp_path):
    file(tmp_path / "invoke" / "models" / "abc" / "near.safetensors", kohya(768))
    root = invoke(tmp_path / "invoke", [])
    (root / "databases" / "invokeai.db").write_bytes(b"not a database" * 100)
    tree = tree_of(root)
    assert tree is not None
    assert len(tree.problems) == 1
    assert "invokeai.db" in tree.problems[0]
    assert [record.title for record in scan([root])] == ["near"]
