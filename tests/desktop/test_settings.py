"""D7: a bad value alone is replaced by its default, the file kept aside, and the start goes on."""

import json
from dataclasses import replace

import pytest

from desktop.settings import READERS, Settings, SettingsFile, from_dict, to_dict
from pipelines.spec.request import (
    GenerationRequest,
    LoraInput,
    Prompt,
    Refiner,
    Size,
    SizeConditioning,
    Speed,
)

REQUEST = GenerationRequest(model="demo-sd", prompt=Prompt(text="a red circle"), count=2)
FULL = Settings(
    theme="dark", output_dir="/pictures", model_folders=("/m",), threads=2, step_limit_s=9.0, attention="math",
    encoders_device="cuda:1", compile_limit_s=600.0,
    seed_locked=True, last_request=REQUEST, geometry="QUJD", docks="REVG", unknown={"of_tomorrow": [1]},
)  # fmt: skip
JSON_VALUES = (
    None,
    True,
    7,
    -1,
    1.5,
    float("nan"),
    "x",
    "\0",
    [],
    [1],
    {},
    {"a": 1},
    10**30,
    10**400,
    "x" * 200_000,
    "\ud800",
)


@pytest.fixture
def file(tmp_path):
    return SettingsFile(tmp_path / "config" / "settings.json")


def test_what_is_written_is_read_back(file):
    file.value = FULL
    file.write()
    again = SettingsFile(file.path)
    assert again.load() == FULL
    assert again.problems == []
    assert [path.name for path in file.path.parent.iterdir()] == ["settings.json"]


def test_first_start_has_defaults_and_no_problem(file):
    assert file.load() == Settings()
    assert file.problems == []


@pytest.mark.parametrize("name", READERS)
def test_each_value_of_each_type_costs_only_itself(name):
    good = to_dict(FULL)
    for value in JSON_VALUES:
        settings, bad = from_dict({**good, name: value})
        others = {key: part for key, part in to_dict(settings).items() if key != name}
        assert others == {key: part for key, part in good.items() if key != name}
        if bad:
            assert bad[0].startswith(name)
            assert getattr(settings, name) == getattr(Settings(), name)
        else:
            assert to_dict(settings)[name] == value


def test_truncated_at_every_byte_still_starts(file):
    file.value = FULL
    file.write()
    whole = file.path.read_bytes()
    for length in range(len(whole)):
        file.path.write_bytes(whole[:length])
        again = SettingsFile(file.path)
        assert again.load() == Settings()
        assert again.problems
        assert again.path.with_suffix(".json.bad").read_bytes() == whole[:length]


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\0", b"[1]", b"null", b"[" * 100_000, b'{"threads": ' + b"9" * 9000 + b"}"]
)
def test_foreign_content_is_kept_aside(file, data):
    file.path.parent.mkdir()
    file.path.write_bytes(data)
    assert file.load() == Settings()
    assert file.path.with_suffix(".json.bad").read_bytes() == data


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"), ("device", "cuda:x"), ("dtype", "int8"),
        ("attention", "warp"), ("deterministic", 1), ("output_dir", "/pictures/\ud800"),
        ("model_folders", ["/m", "/\ud800"]),
    ],
)  # fmt: skip
def test_a_value_that_would_stop_the_engine_or_the_start_is_replaced(name, value):
    """An engine that they keep from starting would stay dead until somebody looks into the settings."""
    settings, bad = from_dict({**to_dict(FULL), name: value})
    assert getattr(settings, name) == getattr(Settings(), name)
    assert bad[0].startswith(name)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("count", "many"), ("model", 7), ("speed.turbo", True), ("speed.compile", "yes"), ("speed", 3),
        ("sampling.guidance_scale", 10**400), ("size_conditioning.original.width", None), ("refiner.model", []),
        ("loras.1.weight", "x"), ("loras.0", 5), ("of_tomorrow", {"a": 1}),
    ],
)  # fmt: skip
def test_one_bad_field_of_the_last_request_costs_only_itself(file, path, value):
    """The prompt above all: it is what took time to write."""
    request = replace(
        REQUEST, speed=Speed(fused_qkv=True), loras=(LoraInput(model="a"), LoraInput(model="b", weight=0.5)),
        size_conditioning=SizeConditioning(original=Size(), crop_top=8), refiner=Refiner(model="r"),
    )  # fmt: skip
    data = json.loads(json.dumps(to_dict(replace(FULL, last_request=request))))
    good = json.loads(json.dumps(data["last_request"]))
    put(data["last_request"], path, value)
    file.path.parent.mkdir()
    file.path.write_text(json.dumps(data))
    settings = file.load()
    assert settings.theme == "dark"
    [problem] = file.problems
    assert problem.startswith(f"last_request: {path.replace('.0', '[0]').replace('.1', '[1]')}")
    assert file.path.with_suffix(".json.bad").is_file()
    assert settings.last_request
    read = json.loads(json.dumps(settings.last_request.to_dict()))
    top = path.partition(".")[0]
    assert {k: v for k, v in read.items() if k != top} == {k: v for k, v in good.items() if k != top}


def put(data, path, value):
    *names, last = (int(name) if name.isdecimal() else name for name in path.split("."))
    for name in names:
        data = data[name]
    data[last] = value


def test_a_failed_write_leaves_the_old_file(file, monkeypatch):
    file.value = FULL
    file.write()

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    file.change(theme="light")
    with pytest.raises(OSError, match="No space"):
        file.write()
    assert SettingsFile(file.path).load() == FULL
    assert [path.name for path in file.path.parent.iterdir()] == ["settings.json"]
