"""Who holds memory, told by the real engine."""

from pipelines.runtime.components import PartKey
from pipelines.runtime.holders import PROMPTS, holders
from pipelines.spec.events import ImageSaved, MemoryChanged
from tests.runtime.conftest import job_of, run


def by_name(event: MemoryChanged) -> dict[str, int]:
    return {holder.name: holder.size_bytes for holder in event.holders}


def test_parts_are_told_by_names_that_a_person_knows(engine, tiny_model):
    assert engine.memory().holders == ()
    events = run(engine, job_of(tiny_model))
    (loaded,) = [event for event in events if isinstance(event, MemoryChanged)]
    held = by_name(loaded)
    assert set(held) == {"Tiny: U-Net", "Tiny: first text encoder", "Tiny: VAE"}
    unet = engine.compute.load(job_of(tiny_model), _family()).unet
    assert held["Tiny: U-Net"] == sum(p.numel() for p in unet.parameters()) * 4  # float32 on the processor
    assert loaded.card is None
    assert loaded.device_name
    after = by_name(engine.memory())
    assert after[PROMPTS] > 0
    assert {name: after[name] for name in held} == held


def test_free_lets_go_of_everything(engine, tiny_model):
    run(engine, job_of(tiny_model))
    engine.free()
    assert engine.memory().holders == ()
    loads = engine.compute.store.loads
    assert any(isinstance(event, ImageSaved) for event in run(engine, job_of(tiny_model)))
    assert engine.compute.store.loads > loads, "the next picture loads it again"


def test_the_largest_comes_first_and_what_nobody_named_has_its_folder():
    parts = [(PartKey(f"/models/{n}", (), "", "cpu"), size, 0) for n, size in (("a", 80), ("b", 6560))]
    found = holders([*parts, (PartKey("/models/words", (), "", "cpu"), 0, 0)], {}, 0)
    assert [(holder.name, holder.size_bytes) for holder in found] == [("b", 6560), ("a", 80)]
    assert not any(holder.on_card for holder in found)


def test_a_saved_picture_says_how_long_it_took(engine, tiny_model):
    (saved,) = [event for event in run(engine, job_of(tiny_model)) if isinstance(event, ImageSaved)]
    assert saved.denoise_s > 0
    assert saved.decode_s > 0
    assert saved.seconds >= saved.denoise_s + saved.decode_s


def _family():
    from pipelines.spec.families import by_id

    return by_id("sd1")
