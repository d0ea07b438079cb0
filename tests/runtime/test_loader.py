"""Records to parts: what is loaded, what is refused, what stays in memory; nothing of a folder is run (M5)."""

import json
import os
import shutil

import pytest
import torch

from pipelines.runtime import device as devices
from pipelines.runtime.components import ComponentStore, PartKey
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.families import by_id
from tests.runtime.conftest import INDEX, job_of, run


def load(engine, folder):
    return engine.compute.load(job_of(folder), by_id("sd1"))


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "Ü ник 空间 'q\" #%")


def test_half_precision_files_compute_in_float32_on_the_cpu(engine, copy):
    model = load(engine, copy)
    assert {model.unet.dtype, model.vae.dtype, model.text_encoder.dtype} == {torch.float32}
    assert not any(p.is_meta or p.requires_grad for p in model.unet.parameters())


def test_weights_equal_those_that_diffusers_loads(engine, tiny_model):
    import diffusers

    theirs = diffusers.UNet2DConditionModel.from_pretrained(tiny_model / "unet", dtype=torch.float32)
    ours = load(engine, tiny_model).unet
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_file_that_shrinks_later_does_not_touch_the_loaded_model(engine, copy):
    """The weights are copies: a mapped file that is cut ends the process with SIGBUS."""
    load(engine, copy)
    for path in copy.glob("*/*.safetensors"):
        with path.open("r+b") as file:
            file.truncate(8)
    unet = next(part for key, part in engine.compute.store._parts.items() if key.folder.endswith("unet"))
    assert all(torch.isfinite(p).all() for p in unet.parameters())


def test_changed_files_are_read_anew_and_the_old_part_goes(engine, copy):
    load(engine, copy)
    before = engine.compute.store.loads
    path = copy / "vae" / "config.json"
    path.write_text(path.read_text() + "\n")
    load(engine, copy)
    assert engine.compute.store.loads == before + 1
    assert len([key for key in engine.compute.store.keys() if key.folder.endswith("vae")]) == 1  # noqa: SIM118


def test_code_in_the_folder_is_never_imported(engine, copy, tmp_path):  # M5
    marker = tmp_path / "PWNED"
    evil = f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n"
    for name in ("unet/evil.py", "evil.py", "pipeline.py", "tokenizer/evil.py"):
        (copy / name).write_text(evil)
    (copy / "model_index.json").write_text(json.dumps(INDEX | {"unet": ["evil", "Evil"]}))
    for part in ("text_encoder", "tokenizer"):
        path = next(copy.glob(f"{part}/*config.json"))
        auto_map = {"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None], "AutoConfig": "evil.Evil"}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map}))
    with pytest.raises(ModelError) as caught:
        load(engine, copy)
    assert "'Evil'" in caught.value.message
    (copy / "model_index.json").write_text(json.dumps(INDEX))
    load(engine, copy)
    assert not marker.exists()


def test_pickled_weights_are_refused(engine, copy):
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")):
        shutil.copytree(copy, other := copy.with_name(part))
        next((other / part).glob("*.safetensors")).unlink()
        torch.save({"weight": torch.zeros(2)}, other / part / f"{name}.bin")
        with pytest.raises(ModelError) as caught:
            load(engine, other)
        assert str(other / part) in caught.value.message
        assert ".bin" in caught.value.hint


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("damage", ["cut", "page", "empty"])
def test_damaged_weights_are_refused_with_their_path(engine, copy, part, damage):
    path = next((copy / part).glob("*.safetensors"))
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "page": b"<html>Sign in</html>", "empty": b""}[damage])
    with pytest.raises(ModelError) as caught:
        load(engine, copy)
    assert str(copy / part) in caught.value.message
    assert not any(key.folder == str(copy / part) for key in engine.compute.store.keys())  # noqa: SIM118


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among files")
def test_what_is_no_file_is_not_opened(engine, copy):
    """M14: opening a pipe waits for a writer for ever, with the lane."""
    os.mkfifo(copy / "unet" / "another.safetensors")
    (copy / "vae" / "folder.safetensors").mkdir()
    assert load(engine, copy).parts["unet"]


def test_weights_that_do_not_fill_the_model_are_refused(engine, copy):
    from safetensors.torch import load_file, save_file

    path = next((copy / "unet").glob("*.safetensors"))
    tensors = load_file(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items() if name != "conv_in.weight"}
    save_file(tensors, path)
    with pytest.raises(ModelError) as caught:
        load(engine, copy)
    assert "conv_in.weight" in caught.value.message


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_damaged_settings_are_refused_with_their_path(engine, copy, name, text):
    (copy / name).write_text(text)
    with pytest.raises(ModelError) as caught:
        load(engine, copy)
    assert str(copy / name) in caught.value.message


def test_a_missing_part_is_named(engine, copy):
    shutil.rmtree(copy / "vae")
    with pytest.raises(ModelError) as caught:
        load(engine, copy)
    assert str(copy / "vae") in caught.value.message


def key(name: str, size: int) -> PartKey:
    return PartKey(name, ((name, size, 0),), "float32", "cpu")


def test_the_least_recently_used_part_makes_room():
    memory = {"free": 100}
    store = ComponentStore(lambda: memory["free"], lambda: memory.update(free=memory["free"] + 60))
    for name in ("a", "b"):
        store.get(key(name, 10), lambda name=name: name)
    store.get(key("a", 10), lambda: pytest.fail("it is there"))
    memory["free"] = 50
    store.get(key("c", 50), lambda: "c")
    assert [k.folder for k in store.keys()] == ["a", "c"]  # noqa: SIM118


def test_a_load_that_fails_leaves_nothing():
    store = ComponentStore(lambda: 100, lambda: None)

    def fail():
        raise MemoryError

    with pytest.raises(MemoryError):
        store.get(key("a", 1), fail)
    assert store.keys() == ()
    assert store.get(key("a", 1), lambda: "whole") == "whole"


def test_devices_and_precisions_that_are_not_there_are_refused_by_name():
    for wanted in ("toaster", "cuda:99"):
        with pytest.raises(EngineError) as caught:
            devices.choose(wanted)
        assert wanted in caught.value.message
    with pytest.raises(EngineError) as caught:
        devices.compute_dtype(torch.device("cpu"), "float7")
    assert "float7" in caught.value.message


def test_precision_follows_the_device_and_the_file():
    assert devices.compute_dtype(torch.device("cpu"), "auto", "float16") is torch.float32
    assert devices.compute_dtype(torch.device("mps"), "auto", "float32") is torch.float16
    assert devices.compute_dtype(torch.device("cpu"), "bfloat16") is torch.bfloat16


@pytest.mark.parametrize(
    ("error", "is_memory", "is_lost"),
    [
        (torch.OutOfMemoryError("x"), True, False),
        (MemoryError(), True, False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True, False),
        (torch.AcceleratorError("CUDA error: out of memory"), True, False),
        (torch.AcceleratorError("CUDA error: the launch timed out and was terminated"), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
    ],
)
def test_what_a_device_error_means(error, is_memory, is_lost):
    assert (devices.is_out_of_memory(error), devices.is_lost(error)) == (is_memory, is_lost)


def test_a_model_of_another_precision_is_another_part(engine, tiny_model, monkeypatch):
    run(engine, job_of(tiny_model))
    monkeypatch.setattr(devices, "computes_in", lambda *_: True)
    monkeypatch.setattr(engine.compute._loader, "_dtype", "bfloat16")
    assert load(engine, tiny_model).unet.dtype is torch.bfloat16
