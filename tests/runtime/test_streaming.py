"""A network that streams through an arena draws the very picture of one that lies there whole."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from pipelines.library.models import record_of
from pipelines.runtime import compute as computing
from pipelines.runtime.gguf_weights import is_packed
from pipelines.runtime.movers import InRam, mover
from pipelines.runtime.precision import Precision, settle
from pipelines.runtime.streaming import Home, Streamed, blocks_of
from pipelines.spec.errors import Cancelled
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Size
from tests.runtime import test_gguf_weights
from tests.runtime.conftest import job_of, run
from tests.runtime.tiny import TINY

made = test_gguf_weights.made  # fixtures
whole = test_gguf_weights.whole


class Counting(InRam):
    """Counts what it copies."""

    def __init__(self) -> None:
        self.copies = self.copied_bytes = 0

    def copy(self, into, source, after):
        self.copies += 1
        self.copied_bytes += source.nbytes
        super().copy(into, source, after)


@pytest.fixture
def streaming(monkeypatch):
    """From here on every second block of each denoiser streams. Answers who moves them."""
    moving, plain = Counting(), computing.Compute.denoise

    def denoise(self, parts, *rest):
        with ExitStack() as undo:
            for network in dict.fromkeys(phase.denoiser for phase in parts):
                blocks = [*blocks_of(network).values()]
                undo.enter_context(Streamed(blocks, range(0, len(blocks), 2), 2, moving))
            return plain(self, parts, *rest)

    def start() -> Counting:
        monkeypatch.setattr(computing.Compute, "denoise", denoise)
        return moving

    return start


def picture(engine, job: Job) -> bytes:
    (path,) = (event.path for event in run(engine, job) if isinstance(event, ImageSaved))
    return Image.open(path).tobytes()


def drawing(model: ModelRecord, side: int = 128, steps: int = 3) -> Job:
    family = by_id(model.family)
    request = GenerationRequest(
        model=model.id,
        prompt=Prompt(text="a large red circle on a blue background"),
        sampling=replace(model.sampling or family.sampling, num_inference_steps=steps, seed=5),
        size=Size(width=side, height=side),
    )
    return Job(id=1, request=request, model=model)


@pytest.mark.parametrize("family", [family for family in TINY if family != "sdxl-refiner"])
def test_the_picture_of_every_family_is_the_same_bit_for_bit(engine, tmp_path, streaming, family):
    folder = tmp_path / "model"
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        TINY[family](folder)
    model = replace(record_of(folder), id="tiny", family=family)
    job = drawing(model, side=64)
    wide = picture(engine, job)
    moving = streaming()
    assert picture(engine, job) == wide
    assert moving.copies > 4


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_packed_weights_of_gguf(engine, made, streaming, kind):
    job = drawing(made(kind))
    wide = picture(engine, job)
    moving = streaming()
    assert picture(engine, job) == wide
    assert moving.copied_bytes > 100 * moving.copies


def test_packed_weights_lie_in_the_arena_as_they_are(engine, made):
    transformer = engine.compute.load(drawing(made("Q4_0")), by_id("flux")).transformer
    blocks = [*blocks_of(transformer).values()]
    with Streamed(blocks, [*range(len(blocks))], 2, InRam()) as streamed:
        arena = streamed._arena
        assert arena is not None
        inside = range(arena.data_ptr(), arena.data_ptr() + arena.nbytes)
        packed = [p for block in blocks for p in block.parameters() if is_packed(p)]
        assert packed
        assert all(parameter.data_ptr() in inside for parameter in packed)
    assert not any(parameter.data_ptr() in inside for parameter in packed)
    assert all(is_packed(parameter) for parameter in packed)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(self.norm(x)).tanh()


def network(count: int = 7, width: int = 24) -> nn.ModuleList:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.ModuleList(Block(width) for _ in range(count)).requires_grad_(False)


def through(blocks: nn.ModuleList, steps: int = 3) -> torch.Tensor:
    x = torch.linspace(-1, 1, 24).expand(2, 24)
    for _ in range(steps):
        for block in blocks:
            x = block(x)
    return x


def pointers(blocks: nn.ModuleList) -> list[int]:
    return [parameter.data_ptr() for parameter in blocks.parameters()]


def test_weights_stored_in_8_bits_that_are_widened_layer_by_layer():
    blocks = network()
    for index in range(len(blocks)):
        weight = blocks.get_parameter(f"{index}.linear.weight")
        weight.data = weight.data.to(torch.float8_e4m3fn)
    settle(blocks, Precision(torch.float32, torch.float32, keeps_fp8=True))
    wide = through(blocks)
    with Streamed([*blocks], [0, 1, 3, 4, 6], 2, InRam()) as streamed:
        assert torch.equal(through(blocks), wide)
        assert streamed.schedule.arena < 5 * 24 * 25 * 2
    assert torch.equal(through(blocks), wide)
    assert blocks.get_parameter("0.linear.weight").dtype is torch.float8_e4m3fn


def test_after_it_no_parameter_is_left_in_the_arena_and_no_hook_on_a_block():
    blocks = network()
    wide, state = through(blocks), {n: t.clone() for n, t in blocks.state_dict().items()}
    streamed = Streamed([*blocks], [1, 2, 4, 5], 2, InRam())
    home = pointers(blocks)
    for _ in range(2):
        with streamed:
            assert pointers(blocks) != home
            assert torch.equal(through(blocks), wide)
        assert pointers(blocks) == home
        assert all(torch.equal(tensor, state[name]) for name, tensor in blocks.state_dict().items())
        assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks)


def test_a_cancel_in_the_middle_of_a_step_leaves_the_network_whole():
    blocks = network()
    wide = through(blocks)
    streamed = Streamed([*blocks], [0, 2, 3, 5], 2, InRam())
    home = pointers(blocks)

    def cancel(*_):
        raise Cancelled

    handle = blocks[3].register_forward_pre_hook(cancel)
    with pytest.raises(Cancelled), streamed:
        through(blocks)
    handle.remove()
    assert pointers(blocks) == home
    assert torch.equal(through(blocks), wide)
    with streamed:
        assert torch.equal(through(blocks), wide)


def test_a_step_broken_off_inside_is_followed_by_a_right_one():
    blocks = network()
    wide = through(blocks)
    with Streamed([*blocks], [0, 2, 3, 5], 2, InRam()):
        for block in [*blocks][:4]:
            block(torch.zeros(1, 24))
        assert torch.equal(through(blocks), wide)


def test_when_the_arena_cannot_be_had_nothing_is_changed(monkeypatch):
    blocks = network()
    streamed = Streamed([*blocks], [0, 2, 3, 5], 2, InRam())
    home, empty = pointers(blocks), torch.empty

    def out_of_memory(*_args, **_kwargs):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "empty", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        streamed.__enter__()
    monkeypatch.setattr(torch, "empty", empty)
    assert pointers(blocks) == home
    assert not any(block._forward_hooks for block in blocks)


def test_nothing_is_allocated_and_each_block_is_one_copy_a_step():
    blocks, moving = network(), Counting()
    with Streamed([*blocks], [0, 2, 3, 5], 2, moving) as streamed:
        before = pointers(blocks)
        through(blocks, steps=4)
        assert pointers(blocks) == before
        assert moving.copies == 4 * 4 + 2  # two for a step that does not come
        assert streamed.schedule.arena == 2 * max(streamed.schedule.sizes)


def test_a_network_visits_the_device_and_goes_home():
    """Names as diffusers has them; a table that is no parameter, and one that came later, come along."""
    net = nn.Module()
    net.transformer_blocks = network()
    net.first = nn.Linear(24, 24).requires_grad_(False)
    net.register_buffer("table", torch.linspace(0, 1, 24))

    def drawn() -> torch.Tensor:
        return (
            through(network_of(net), steps=2)
            + net.get_parameter("first.weight").sum()
            + net.get_buffer("table")
        )

    wide, moving = drawn(), Counting()
    home = Home(net, moving)
    where = [tensor.data_ptr() for tensor in (*net.parameters(), *net.buffers())]
    net.register_parameter("later", nn.Parameter(torch.ones(2)))
    for streamed in ((), (0, 2, 4), range(7)):
        with home.visiting(streamed, 2):
            assert torch.equal(drawn(), wide)
            assert net.get_buffer("table").data_ptr() not in where
        assert where == [t.data_ptr() for t in (*net.parameters(), *net.buffers()) if t.shape != (2,)]
        assert torch.equal(drawn(), wide)


def test_an_arena_that_cannot_be_had_sends_a_visitor_home(monkeypatch):
    net = nn.Module()
    net.transformer_blocks = network()
    wide, home = through(network_of(net)), Home(net, InRam())
    where = [parameter.data_ptr() for parameter in net.parameters()]
    monkeypatch.setattr(Streamed, "__enter__", lambda *_: exec("raise MemoryError"))
    with pytest.raises(MemoryError), home.visiting((1, 2, 4)):
        pass
    assert where == [parameter.data_ptr() for parameter in net.parameters()]
    assert torch.equal(through(network_of(net)), wide)


def network_of(net: nn.Module) -> nn.ModuleList:
    found = net.get_submodule("transformer_blocks")
    assert isinstance(found, nn.ModuleList)
    return found


class Late(InRam):
    """A bus so slow that each copy is made only when somebody waits for it."""

    def __init__(self) -> None:
        self.queue: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.made = 0

    def copy(self, into, source, after):
        self.queue.append((into, source))
        return len(self.queue)

    def wait(self, arrived):
        for into, source in self.queue[self.made : arrived]:
            into.copy_(source)
        self.made = max(self.made, arrived)

    def settle(self):
        self.wait(len(self.queue))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_however_late_a_copy_comes_the_block_waits_for_it(slots):
    blocks = network()
    wide = through(blocks)
    with Streamed([*blocks], [0, 1, 3, 4, 6], slots, Late()):
        assert torch.equal(through(blocks), wide)
    assert torch.equal(through(blocks), wide)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_card_nothing_is_waited_for_and_nothing_allocated():
    device = torch.device("cuda")
    blocks = nn.ModuleList(Block(1024) for _ in range(12)).requires_grad_(False).bfloat16()
    x = torch.randn(64, 1024, dtype=torch.bfloat16, device=device)
    wide = nn.Sequential(*blocks).to(device)(x)
    blocks.cpu()
    streamed = [1, 2, 4, 5, 7, 8, 10, 11]
    for index in {*range(12)} - {*streamed}:
        blocks[index].to(device)
    with Streamed([*blocks], streamed, 2, mover(device)):
        assert torch.equal(nn.Sequential(*blocks)(x), wide)
        before = torch.cuda.memory_stats()["num_device_alloc"]
        torch.cuda.set_sync_debug_mode("error")
        try:
            again = [nn.Sequential(*blocks)(x) for _ in range(20)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.cuda.memory_stats()["num_device_alloc"] <= before + 1  # the 20 answers
        assert all(torch.equal(each, wide) for each in again)


def test_a_parameter_of_two_blocks_stays_and_a_convolution_keeps_its_order():
    blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)).requires_grad_(False)
    blocks = blocks.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    blocks[1].bias = blocks[0].bias
    picture = torch.linspace(-1, 1, 8 * 36).view(1, 8, 6, 6)
    wide = nn.Sequential(*blocks)(picture)
    with Streamed([*blocks], [0, 1, 2], 2, InRam()):
        assert torch.equal(nn.Sequential(*blocks)(picture), wide)
        assert blocks[2].weight.is_contiguous(memory_format=torch.channels_last)


def test_the_blocks_of_a_network_are_its_modules_in_their_order(tiny_model: Path, engine):
    unet = engine.compute.load(job_of(tiny_model), by_id("sd1")).unet
    names = [*blocks_of(unet)]
    assert names[0] == "down_blocks.0.resnets.0"
    assert "up_blocks.0.attentions.0.transformer_blocks.0" in names
    called: list[str] = []
    handles = [
        block.register_forward_pre_hook(lambda *_, name=name: called.append(name))
        for name, block in blocks_of(unet).items()
    ]
    run(engine, job_of(tiny_model, steps=2, guidance=1.0))
    for handle in handles:
        handle.remove()
    assert called == 2 * names
