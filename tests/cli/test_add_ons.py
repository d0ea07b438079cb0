"""LoRAs, ControlNets, embeddings and IP-Adapters on the command line: by id or path, and refused with their field."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from pipelines.spec.record import Format, Kind, ModelRecord
from tests.cli.conftest import RECORDS

INK = ModelRecord(
    id="ink", path="C:\\loras\\Ink.safetensors", title="Ink", kind=Kind.LORA, family="sd1",
    format=Format.SINGLE_FILE, dtype="float16", size_bytes=2_000_000,
)  # fmt: skip
WOOL = ModelRecord(id="wool-0.5", path="/loras/wool.safetensors", title="Wool", kind=Kind.LORA, family="sdxl")

CANNY = ModelRecord(
    id="canny", path="/nets/canny", title="Canny", kind=Kind.CONTROLNET, family="sd1", control="canny"
)

TOY = ModelRecord(
    id="toy",
    path="/toy.safetensors",
    title="Toy",
    kind=Kind.EMBEDDING,
    family="sd1",
    trigger_words=("<toy>",),
)

EYES = ModelRecord(
    id="eyes", path="/eyes.safetensors", title="Eyes", kind=Kind.IP_ADAPTER, family="sd1",
    image_encoder="/image_encoder",
)  # fmt: skip


@pytest.fixture
def parts(headless, monkeypatch):
    monkeypatch.setattr(
        "pipelines.cli.models.scan", lambda roots, **_: (INK, *RECORDS, WOOL, CANNY, TOY, EYES)
    )
    return headless


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("ink", 1.0),
        ("INK:0.7", 0.7),
        ("ink:-1", -1.0),
        ("ink:0", 0.0),
        (INK.path, 1.0),
        (f"{INK.path}:0.25", 0.25),
    ],
)
def test_a_lora_by_id_or_path_with_its_weight(parts, text, weight):
    seen = []
    parts.script = lambda job, emit: seen.append(job)
    status, (first, *_) = parts.generate("--prompt", "x", "--lora", text)
    assert status == 0
    assert first["request"]["loras"] == [{"model": "ink", "weight": weight}]
    assert seen[0].parts == {"ink": INK}
    assert first["request"]["model"] == "demo-sd", (
        "a LoRA is no model to draw with, though it is listed first"
    )


def test_flags_win_over_the_files_loras(parts, tmp_path):
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"prompt": {"text": "x"}, "loras": [{"model": "Ink", "weight": 0.5}]}))
    _, (first, *_) = parts.generate("--request", str(file))
    assert first["request"]["loras"] == [{"model": "ink", "weight": 0.5}]
    _, (first, *_) = parts.generate("--request", str(file), "--lora", "ink:2")
    assert first["request"]["loras"] == [{"model": "ink", "weight": 2.0}]


@pytest.mark.parametrize(
    ("flags", "field", "words"),
    [
        (["--lora", "gone"], "loras[0].model", "'gone' was not found"),
        (["--lora", "ink", "--lora", "wool-0.5"], "loras[1].model", "Stable Diffusion XL"),
        (["--lora", "ink:11"], "loras[0].weight", "-10 to 10"),
        (["--lora", "ink:nan"], "loras[0].weight", "finite"),
        (["--lora", "ink:much"], "loras[0].model", "'ink:much' was not found"),
        (["--lora", ""], "loras[0].model", "was not found"),
        (["--lora", "demo-sd"], "loras[0].model", "checkpoint, not a LoRA"),
        (["--lora", "ink", "--lora", "ink:0.5"], "loras", "2 times"),
        (["--model", "ink"], "model", "'ink' is a LoRA, which draws nothing by itself"),
    ],
)
def test_a_wrong_one_names_its_field(parts, flags, field, words):
    status, (*_, last) = parts.generate("--prompt", "x", *flags)
    assert status == 2
    assert last["field"] == field
    assert words in last["message"]


def test_the_list_says_what_each_is(parts, capsys):
    from pipelines.cli.commands import main

    assert main(["models"]) == 0
    assert "ink  Ink\n    lora, sd1, float16, 2 MB\n" in capsys.readouterr().out


@pytest.fixture
def edges(tmp_path, monkeypatch):
    """A picture with a name that no grammar with signs between its fields would survive."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a, b=c;1.png")
    return "a, b=c;1.png"


def test_a_control_with_its_picture_and_numbers(parts, edges, tmp_path):
    seen = []
    parts.script = lambda job, emit: seen.append(job)
    words = ["--control", "Canny", edges, "weight=0.8", "start=0.1", "end=0.6", "preprocess=canny"]
    status, (first, *_) = parts.generate("--prompt", "x", *words, "--control", CANNY.path, edges)
    assert status == 0
    path = str(tmp_path / edges)
    one = {"model": "canny", "path": path, "weight": 0.8, "start": 0.1, "end": 0.6, "preprocess": "canny"}
    other = {"model": "canny", "path": path, "weight": 1.0, "start": 0.0, "end": 1.0, "preprocess": ""}
    assert first["request"]["controls"] == [one, other]
    assert seen[0].parts == {"canny": CANNY}


@pytest.mark.parametrize(
    ("words", "field", "said"),
    [
        (["canny"], "controls[0].path", "needs a picture"),
        (["canny", "gone.png"], "controls[0].path", "gone.png"),
        (["canny", "a, b=c;1.png", "weight=much"], "controls[0].weight", "number"),
        (["canny", "a, b=c;1.png", "strength=1"], "controls[0]", "'strength=1' is not understood"),
        (["canny", "a, b=c;1.png", "path=x"], "controls[0]", "not understood"),
        (["canny", "a, b=c;1.png", "preprocess=depth"], "controls[0].preprocess", "no preprocessor 'depth'"),
        (["ink", "a, b=c;1.png"], "controls[0].model", "a LoRA, not a ControlNet"),
        (["gone", "a, b=c;1.png"], "controls[0].model", "'gone' was not found"),
    ],
)
def test_a_wrong_control_names_its_field(parts, edges, words, field, said):
    status, (*_, last) = parts.generate("--prompt", "x", "--control", *words)
    assert status == 2
    assert last["field"] == field
    assert said in last["message"]


def test_an_embedding_by_id_or_path_and_its_word_in_the_list(parts, capsys):
    for name in ("Toy", TOY.path):
        _, (first, *_) = parts.generate("--prompt", "a <toy>", "--embedding", name)
        assert first["request"]["embeddings"] == [{"model": "toy"}]
    status, (*_, last) = parts.generate("--prompt", "x", "--embedding", "ink")
    assert (status, last["field"]) == (2, "embeddings[0].model")
    from pipelines.cli.commands import main

    capsys.readouterr()
    assert main(["models"]) == 0
    assert "toy  Toy\n    embedding, sd1\n    called by: <toy>\n" in capsys.readouterr().out


def test_a_picture_prompt_with_its_scale(parts, edges, tmp_path):
    seen = []
    parts.script = lambda job, emit: seen.append(job)
    words = ["--ip-adapter", "Eyes", edges, "scale=0.8", "--ip-adapter", EYES.path, edges]
    status, (first, *_) = parts.generate("--prompt", "x", *words)
    assert status == 0
    path = str(tmp_path / edges)
    assert first["request"]["ip_adapters"] == [
        {"model": "eyes", "path": path, "scale": 0.8},
        {"model": "eyes", "path": path, "scale": 0.6},
    ]
    assert seen[0].parts == {"eyes": EYES}


@pytest.mark.parametrize(
    ("words", "field", "said"),
    [
        (["eyes"], "ip_adapters[0].path", "an IP-Adapter needs a picture"),
        (["eyes", "gone.png"], "ip_adapters[0].path", "gone.png"),
        (["eyes", "a, b=c;1.png", "scale=much"], "ip_adapters[0].scale", "number"),
        (["eyes", "a, b=c;1.png", "scale=6"], "ip_adapters[0].scale", "0 to 5"),
        (["eyes", "a, b=c;1.png", "weight=1"], "ip_adapters[0]", "'weight=1' is not understood"),
        (["ink", "a, b=c;1.png"], "ip_adapters[0].model", "a LoRA, not an IP-Adapter"),
        (["gone", "a, b=c;1.png"], "ip_adapters[0].model", "The IP-Adapter 'gone' was not found"),
    ],
)
def test_a_wrong_picture_prompt_names_its_field(parts, edges, words, field, said):
    status, (*_, last) = parts.generate("--prompt", "x", "--ip-adapter", *words)
    assert status == 2
    assert last["field"] == field
    assert said in last["message"]
