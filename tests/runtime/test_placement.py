"""Plans for real sizes on cards of 4 to 24 GB: within the budget, no slower with more memory, always the same."""

from dataclasses import replace
from itertools import pairwise

import pytest

from pipelines.runtime.activations import FLUX, SDXL, UNET, Activations, Linear
from pipelines.runtime.placement import RESERVE, TILE, Budget, Placement, Rung, Stage, plan
from pipelines.runtime.placement_words import needed, words
from pipelines.runtime.residency import streaming
from pipelines.runtime.schedule import schedule
from pipelines.spec.blocks import grouped
from pipelines.spec.sizes import Network, Shape, Sizes
from tests.benchmarks.truesize import configs
from tests.benchmarks.truesize.writing import on_meta
from tests.runtime.test_schedule import bound, driven

GIB = 2**30
CARDS = (4, 6, 8, 10, 12, 16, 24)
RAM = 64 * 10**9
LORA, CONTROLNET = 200_000_000, 2_500_000_000
SMALL_CONTROLNET = 720_000_000
IMAGE_ENCODER = 1_260_000_000
ADDED = {"sd15": SMALL_CONTROLNET, "sdxl": CONTROLNET, "refiner": CONTROLNET, "flux": CONTROLNET}


@pytest.fixture(scope="module")
def networks() -> dict[str, dict[str, Network]]:
    """Of the published models, at two bytes a number."""
    return {name: dict(_networks(size)) for name, size in configs.MODELS.items()}


def _networks(size: configs.TrueSize):
    for name, part in size.parts.items():
        if (module := on_meta(part)) is not None:
            blocks, rest = grouped({n: 2 * p.numel() for n, p in module.named_parameters()})
            yield name, Network(name=name, blocks=blocks, rest=rest, model=size.name)


def sizes_of(networks, model: str, added: int = 0, factor: float = 1.0) -> Sizes:
    """`added` LoRAs and as many ControlNets. `sdxl+refiner` is drawn by both."""
    names = model.split("+")
    of = {name: networks[name] for name in names}
    encoders = {n.name: n for parts in of.values() for n in parts.values() if "encoder" in n.name}
    denoiser = "transformer" if model == "flux" else "unet"
    each = LORA + ADDED[names[0]]
    return Sizes(
        encoders=tuple(encoders.values()),
        denoisers=tuple(parts[denoiser].scaled(factor) for parts in of.values()),
        vae=of[names[0]]["vae"].size_bytes,
        added=added * each,
        kept=added * LORA,
    )


def shape_of(model: str) -> tuple[Shape, Activations]:
    if model == "flux":
        return Shape(width=1024, height=1024, tokens=512), FLUX
    if model == "sd15":
        return Shape(width=512, height=512, branches=2), UNET
    return Shape(width=1024, height=1024, branches=2), SDXL


def planned(networks, model, card, added=0, factor=1.0, ram=RAM) -> Placement:
    shape, activations = shape_of(model)
    budget = Budget.of_card(card * GIB, ram)
    shape = replace(shape, controls=added)
    return plan(sizes_of(networks, model, added, factor), budget, shape, activations)


ROWS = [("sd15", 1.0), ("sdxl", 1.0), ("sdxl+refiner", 1.0), ("flux", 1.0), ("flux", 0.5), ("flux", 0.29)]
R, E, S, P, A, N = Rung
PINNED = {
    # model, bytes of a number over two, LoRAs and ControlNets: the rung on each of CARDS
    ("sd15", 1.0, 0): (R, R, R, R, R, R, R),
    ("sd15", 1.0, 1): (S, R, R, R, R, R, R),
    ("sd15", 1.0, 3): (N, E, R, R, R, R, R),
    ("sdxl", 1.0, 0): (P, P, E, R, R, R, R),
    ("sdxl", 1.0, 1): (N, P, P, S, R, R, R),
    ("sdxl", 1.0, 3): (N, N, N, P, P, E, R),
    ("sdxl+refiner", 1.0, 0): (P, P, S, S, E, R, R),
    ("sdxl+refiner", 1.0, 1): (N, P, P, S, S, R, R),
    ("sdxl+refiner", 1.0, 3): (N, N, N, P, P, S, R),
    ("flux", 1.0, 0): (P, P, P, P, P, P, S),
    ("flux", 1.0, 1): (N, A, P, P, P, P, P),
    ("flux", 1.0, 3): (N, N, N, N, A, P, P),
    ("flux", 0.5, 0): (P, P, P, P, P, E, R),
    ("flux", 0.5, 1): (N, P, P, P, P, S, E),
    ("flux", 0.5, 3): (N, N, N, N, P, P, E),
    ("flux", 0.29, 0): (P, P, P, S, E, E, R),
    ("flux", 0.29, 1): (N, P, P, P, E, E, R),
    ("flux", 0.29, 3): (N, N, N, N, P, P, E),
}


@pytest.mark.parametrize(("model", "factor"), ROWS)
@pytest.mark.parametrize("added", [0, 1, 3])
def test_the_plan_of_every_card(networks, model, factor, added):
    found = tuple(planned(networks, model, card, added, factor).rung for card in CARDS)
    assert found == PINNED[model, factor, added]


@pytest.mark.parametrize(("model", "factor"), ROWS)
@pytest.mark.parametrize("added", [0, 1, 3])
def test_no_plan_takes_more_than_is_free_and_more_memory_never_makes_it_slower(
    networks, model, factor, added
):
    last = None
    for tenths in range(30, 260, 5):
        found = planned(networks, model, tenths / 10, added, factor)
        if found.fits:
            assert found.peak_vram == max(found.peaks.values()) <= tenths / 10 * GIB - RESERVE
            assert found.peak_ram <= RAM
        cost = (not found.fits, found.from_file, found.tile, found.rung, found.streamed_bytes)
        assert last is None or cost <= last
        last = cost


def test_the_peak_is_the_sum_of_what_lies_there(networks):
    sizes = sizes_of(networks, "sdxl", added=1)
    shape, activations = shape_of("sdxl")
    found = plan(sizes, Budget(vram=100 * GIB, ram=RAM), shape, activations)
    everything = sum(n.size_bytes for n in (*sizes.encoders, *sizes.denoisers)) + sizes.vae + sizes.added
    assert found.rung is Rung.RESIDENT
    assert found.peaks[Stage.DECODE] == everything + activations.decode(shape, 0)
    assert found.peaks[Stage.DENOISE] == everything + activations.denoise(shape)
    assert found.peak_ram == 0


def with_loras(networks, card: float, ram: int = RAM, device: bool = True) -> Placement:
    """SDXL with LoRAs that change all of its denoiser."""
    sizes = replace(sizes_of(networks, "sdxl"), merged=networks["sdxl"]["unet"].size_bytes)
    shape, activations = shape_of("sdxl")
    return plan(sizes, Budget(vram=int(card * GIB), ram=ram, device=device), shape, activations)


def test_what_loras_change_lies_twice_on_the_card_only_where_nothing_lies_in_ram(networks):
    merged = networks["sdxl"]["unet"].size_bytes
    roomy, smaller = with_loras(networks, 24), with_loras(networks, 12)
    plain = planned(networks, "sdxl", 24)
    assert (roomy.rung, roomy.peak_vram) == (Rung.RESIDENT, plain.peak_vram + merged)
    assert smaller.rung is Rung.ENCODERS_LEAVE, "though all would fit without LoRAs"
    assert smaller.peak_vram < plain.peak_vram
    assert not roomy.afresh
    assert not smaller.afresh


def test_where_there_is_no_room_for_changed_weights_they_are_computed_in_each_step(networks):
    card = with_loras(networks, 11, ram=GIB)
    assert (card.rung, card.afresh) == (Rung.RESIDENT, True)
    roomy, small = (with_loras(networks, 0, ram, device=False) for ram in (32 * GIB, 12 * GIB))
    assert (roomy.rung, roomy.afresh) == (small.rung, not small.afresh) == (Rung.RESIDENT, False)
    assert roomy.peak_ram - small.peak_ram == networks["sdxl"]["unet"].size_bytes
    assert not roomy.from_file
    assert not small.from_file
    assert "LoRAs are computed in each step" in words(small)
    assert "LoRA" not in words(roomy)
    assert roomy.cheaper(Stage.DENOISE).afresh


def test_the_same_question_has_the_same_answer(networks):
    assert planned(networks, "flux", 12) == planned(networks, "flux", 12)


def test_streamed_blocks_are_spread_over_the_network(networks):
    found = planned(networks, "flux", 8)
    (place,) = [p for p in found.parts if p.name == "transformer"]
    stays = sorted({*range(57)} - {*place.streamed})
    assert stays
    gaps = [b - a for a, b in pairwise(stays)]
    assert max(gaps) <= 2 * min(gaps) + 1
    assert place.stays + sum(
        sizes_of(networks, "flux").denoisers[0].blocks[i].size_bytes for i in place.streamed
    ) == (place.size_bytes)


@pytest.mark.parametrize(
    ("model", "factor"), [("flux", 1.0), ("flux", 0.29), ("sdxl", 1.0), ("refiner", 1.0)]
)
@pytest.mark.parametrize("copy_ratio", [0.25, 0.75, 1.0, 3.0])
def test_streaming_of_real_networks_is_within_two_hundredths_of_the_bound(
    networks, model, factor, copy_ratio
):
    shape, activations = shape_of(model)
    sizes = sizes_of(networks, model, factor=factor)
    for card in (4, 5):
        found = plan(
            sizes, replace(Budget.of_card(card * GIB, RAM), copy_ratio=copy_ratio), shape, activations
        )
        (place,) = [part for part in found.parts if part.stage is Stage.DENOISE]
        blocks = [block.size_bytes for block in sizes.denoisers[0].blocks]
        order = schedule(blocks, place.streamed, place.arena)
        compute, bytes_per_s = [size / 1e9 for size in blocks], 1e9 / copy_ratio
        device = driven(order, compute, bytes_per_s)
        assert device.now <= 1.02 * bound(order, compute, bytes_per_s)
        assert not device.hazards()


def test_where_the_bus_is_the_limit_the_least_is_copied():
    sizes = (680, 680, 680, *[280] * 20)
    sizes = tuple(size * 10**6 for size in sizes)
    slow = streaming(sizes, 5 * 10**9, copy_ratio=4.0)
    even = streaming(sizes, 5 * 10**9, copy_ratio=1.0)
    assert slow is not None
    assert even is not None
    assert slow.streamed_bytes <= even.streamed_bytes


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_that_ran_out_of_memory_gets_less_until_there_is_no_less(networks, stage):
    found = seeing(planned(networks, "sdxl", 16))
    assert found.rung is Rung.RESIDENT
    seen = 0
    while found.fits:
        lower = found.cheaper(stage)
        least = 0.85 if at_most(found, stage, 0.85).fits else 0.98
        assert not lower.fits or lower.peaks[stage] <= least * found.peaks[stage]
        assert lower.fits or not at_most(found, stage, 0.98).fits, "none is skipped"
        found, seen = lower, seen + 1
        assert seen < 30
    assert seen > 1


def seeing(found: Placement) -> Placement:
    """The plan on the same card beside the image encoder of an IP-Adapter."""
    sizes, budget, shape, activations = found.asked
    return plan(replace(sizes, seeing=IMAGE_ENCODER), budget, shape, activations)


def at_most(found: Placement, stage: Stage, share: float) -> Placement:
    """The plan with so much of what the stage takes now."""
    sizes, budget, shape, activations = found.asked
    limits = {**budget.limits, stage: int(share * found.peaks[stage])}
    return plan(sizes, replace(budget, limits=limits), shape, activations)


@pytest.mark.parametrize(("model", "factor"), ROWS)
@pytest.mark.parametrize("stage", Stage)
def test_the_last_plan_before_none_is_as_small_as_the_stage_gets(networks, model, factor, stage):
    """Within the two hundredths that count as less, on every card."""
    for card in CARDS:
        found = last = seeing(planned(networks, model, card, added=1, factor=factor))
        while found.fits:
            last, found = found, found.cheaper(stage)
        assert not last.fits or not at_most(last, stage, 0.98).fits, card


def bytes_only(encoder: int, denoiser: int, vae: int) -> tuple[Sizes, Shape, Activations]:
    """Networks of so many bytes in one piece, for which computing takes nothing."""
    sizes = Sizes(
        encoders=(Network(name="text_encoder", rest=encoder),),
        denoisers=(Network(name="unet", rest=denoiser),),
        vae=vae,
    )
    return sizes, Shape(width=8, height=8), Linear(cell=0, control=0, pixel=0, token=0, workspace=0)


def test_a_plan_that_is_a_little_cheaper_is_tried_before_it_is_given_up():
    """Of 100 GB, 90 without text encoders, 88 without the VAE as well: no plan takes 85."""
    sizes, shape, activations = bytes_only(10 * 10**9, 88 * 10**9, 2 * 10**9)
    first = plan(sizes, Budget(vram=100 * 10**9, ram=200 * 10**9), shape, activations)
    second = first.cheaper(Stage.DENOISE)
    assert [found.peaks[Stage.DENOISE] for found in (first, second)] == [100 * 10**9, 88 * 10**9]
    assert (first.rung, second.rung) == (Rung.RESIDENT, Rung.STAGES)
    assert second.cheaper(Stage.DENOISE).rung is Rung.NONE


def test_a_plan_that_is_cheaper_by_less_than_its_own_error_is_no_way_out():
    """99 GB of 100: whoever ran out of memory with the one does so with the other."""
    sizes, shape, activations = bytes_only(10**9, 99 * 10**9, 0)
    first = plan(sizes, Budget(vram=100 * 10**9, ram=200 * 10**9), shape, activations)
    assert first.cheaper(Stage.DENOISE).rung is Rung.NONE
    sizes, shape, activations = bytes_only(2 * 10**9, 98 * 10**9, 0)
    first = plan(sizes, Budget(vram=100 * 10**9, ram=200 * 10**9), shape, activations)
    assert first.cheaper(Stage.DENOISE).rung is Rung.ENCODERS_LEAVE


def test_an_image_encoder_is_a_stage_of_its_own(networks):
    """Beside all that stays on the card, alone where parts leave it; what the others take is not less for it."""
    plain, found = planned(networks, "sdxl", 16), seeing(planned(networks, "sdxl", 16))
    sizes, _, shape, activations = found.asked
    computing = activations.encode(shape)
    lies = sum(part.size_bytes for part in found.parts)
    assert Stage.SEE not in plain.peaks
    assert found.peaks == {**plain.peaks, Stage.SEE: lies + sizes.seeing + computing}
    lower = found.cheaper(Stage.SEE)
    assert lower.rung is Rung.ENCODERS_LEAVE
    assert lower.peaks[Stage.SEE] == sizes.seeing + computing
    assert lower.cheaper(Stage.SEE).rung is Rung.NONE, "nothing else is there that could leave"


def test_a_processor_forgets_the_model_where_memory_runs_out_at_an_image_encoder(networks):
    shape, activations = shape_of("sdxl")
    sizes = replace(sizes_of(networks, "sdxl"), seeing=IMAGE_ENCODER)
    found = plan(sizes, Budget(vram=0, ram=32 * GIB, device=False), shape, activations)
    lower = found.cheaper(Stage.SEE)
    assert (found.rung, found.from_file) == (Rung.RESIDENT, False)
    assert found.peaks[Stage.SEE] == found.peaks[Stage.ENCODE]
    assert lower.from_file
    assert lower.peaks[Stage.SEE] == IMAGE_ENCODER + activations.encode(shape)


def test_a_large_picture_is_decoded_in_tiles(networks):
    shape, activations = shape_of("sd15")
    sizes = sizes_of(networks, "sd15")
    budget = Budget.of_card(6 * GIB, RAM)
    large = plan(sizes, budget, replace(shape, width=2048, height=2048), activations)
    assert large.tile == TILE
    assert "tiles of 512" in words(large)
    assert not plan(sizes, budget, shape, activations).tile


def test_text_encoders_are_read_anew_where_ram_is_short(networks):
    found = planned(networks, "flux", 12, ram=28 * 10**9)
    assert found.from_file
    assert found.peak_ram <= 28 * 10**9
    assert "read from the disk" in words(found)


def test_what_does_not_fit_says_what_it_needs(networks):
    found = planned(networks, "flux", 12, ram=8 * 10**9)
    assert not found.fits
    assert found.rung is Rung.NONE
    assert needed(found) == f"it takes {found.peak_ram / 1e9:.1f} GB of RAM, 8.0 GB are free"
    tight = planned(networks, "flux", 2)
    assert "of the card's memory" in words(tight)
    enough = replace(tight.asked[1], vram=tight.peak_vram)
    sizes, _, shape, activations = tight.asked
    assert plan(sizes, enough, shape, activations).fits  # the figure is the least that does


def test_without_a_device_all_is_ram_and_nothing_streams(networks):
    sizes = sizes_of(networks, "sdxl")
    shape, activations = shape_of("sdxl")
    for gib in (4, 6, 8, 12, 32):
        found = plan(sizes, Budget(vram=0, ram=gib * GIB, device=False), shape, activations)
        assert found.peak_vram == 0
        assert not found.fits or found.peak_ram <= gib * GIB
        assert not any(place.streamed for place in found.parts)
    assert found.rung is Rung.RESIDENT
    assert words(found) == "everything stays in RAM"


def test_what_streams_is_told_in_quarters(networks):
    (denoiser,) = sizes_of(networks, "flux").denoisers
    paces = {gib: planned(networks, "flux", gib) for gib in (8, 16, 48)}
    assert paces[48].pace == ""
    for placement in (paces[8], paces[16]):
        share = placement.streamed_bytes / denoiser.size_bytes
        quarters = int(placement.pace.removeprefix("streams=").removesuffix("/4"))
        assert quarters - 1 < 4 * share <= quarters
    assert paces[8].pace > paces[16].pace


def test_in_words(networks):
    assert words(planned(networks, "flux", 16)).startswith("text encoders to RAM after encoding; ")
    assert words(planned(networks, "flux", 16)).endswith(
        "% of the transformer stays on the card, the rest streams"
    )
    assert words(planned(networks, "sd15", 12)) == "everything stays on the card"
    assert "all of the transformer streams" in words(planned(networks, "flux", 4))
