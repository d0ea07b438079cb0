"""fp8 with scales, NF4 and T5 in GGUF: read as their makers mean them, and close to the weights they were made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize
from safetensors.torch import load_file, save_file

from pipelines.library.folders import demo_root
from pipelines.library.header import read_header
from pipelines.library.models import record_of
from pipelines.library.places import table_of
from pipelines.library.single_file import read
from pipelines.library.weights import sizes_of
from pipelines.runtime.gguf_weights import is_packed, widened
from pipelines.runtime.meter import Meter
from pipelines.runtime.reading import tensors
from pipelines.runtime.stored import stored_at
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.file_parts import Spelling
from pipelines.spec.record import ModelRecord, State
from pipelines.workshop.convert import convert
from tests.runtime.test_gguf_weights import drawn, job_of

FLUX = by_id("flux")
LARGEST = 448.0  # of float8_e4m3fn
# The codes of NF4, as they are published (Dettmers et al. 2023, appendix E).
NF4 = torch.tensor(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
)  # fmt: skip
BLOCK, OUTER = 64, 256


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "flux.safetensors"
    convert(record_of(demo_root() / "flux"), path)
    return path


def quantised(whole: Path, path: Path, pack) -> ModelRecord:
    """The demo's file with the matrices of its transformer packed; the record that the library makes of it."""
    prefix = FLUX.file_parts["transformer"].prefix
    packed: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(whole).items():
        matrix = name.startswith(prefix) and tensor.ndim == 2 and name.endswith(".weight")
        packed |= pack(name, tensor.float()) if matrix else {name: tensor}
    save_file(packed, path, dict(read_header(whole).metadata))
    record = record_of(path)
    assert (record.state, record.problem) == (State.READY, "")
    return record


def fp8(name: str, tensor: torch.Tensor, rows: bool = False) -> dict[str, torch.Tensor]:
    most = tensor.abs().amax(dim=1, keepdim=True) if rows else tensor.abs().max()
    scale = most / LARGEST
    end = "weight_scale" if rows else "scale_weight"
    return {
        name: (tensor / scale).to(torch.float8_e4m3fn),
        f"{name.removesuffix('weight')}{end}": scale,
        f"{name.removesuffix('weight')}{'input_scale' if rows else 'scale_input'}": torch.ones(()),
    }


def nf4(name: str, tensor: torch.Tensor, nested: bool = False) -> dict[str, torch.Tensor]:
    """As bitsandbytes.functional.quantize_4bit, with `compress_statistics` where nested."""
    flat = tensor.flatten()
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    most = blocks.abs().amax(dim=1).clamp(min=1e-12)
    codes = (blocks / most[:, None]).unsqueeze(-1).sub(NF4).abs().argmin(-1).flatten()[: len(flat)]
    codes = torch.nn.functional.pad(codes, (0, len(codes) % 2)).to(torch.uint8)
    facts = {"quant_type": "nf4", "blocksize": BLOCK, "dtype": "float16", "shape": list(tensor.shape)}
    found = {name: (codes[0::2] << 4 | codes[1::2]).view(-1, 1), f"{name}.quant_map": NF4.clone()}
    if nested:
        offset = float(most.mean())
        table = torch.linspace(-1, 1, 256)
        groups = torch.nn.functional.pad(most - offset, (0, -len(most) % OUTER)).view(-1, OUTER)
        outer = groups.abs().amax(dim=1).clamp(min=1e-12)
        inner = (groups / outer[:, None]).unsqueeze(-1).sub(table).abs().argmin(-1).flatten()[: len(most)]
        found |= {f"{name}.absmax": inner.to(torch.uint8), f"{name}.nested_absmax": outer}
        found |= {f"{name}.nested_quant_map": table}
        facts |= {"nested_blocksize": OUTER, "nested_dtype": "float32", "nested_offset": offset}
    else:
        found[f"{name}.absmax"] = most
    state = torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)
    return {**found, f"{name}.quant_state.bitsandbytes__nf4": state}


KINDS = {
    "fp8_e4m3_scaled": fp8,
    "fp8_e4m3_scaled rows": lambda name, tensor: fp8(name, tensor, rows=True),
    "nf4": nf4,
    "nf4 nested": lambda name, tensor: nf4(name, tensor, nested=True),
}
NEAR = {"fp8": 3.0, "nf4": 6.0}  # of 255, in the mean; another seed is 7 away


def all_of(path: Path) -> dict[str, torch.Tensor]:
    source, table = table_of(path)
    names = {name: stored_at(name, place, source) for name, place in table.items()}
    meter = Meter(job_of(record_of(demo_root() / "flux")))
    read = tensors(names, lambda _own: torch.float32, torch.device("cpu"), meter)
    return {
        name: widened(tensor, table[name].shape, torch.float32) if is_packed(tensor) else tensor
        for name, tensor in read
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_is_close_to_that_of_the_whole_weights(engine, whole, tmp_path, kind):
    record = quantised(whole, tmp_path / "flux-packed.safetensors", KINDS[kind])
    assert record.quantisation == kind.split()[0]
    assert any("16 bits" in note for note in record.assumed) == kind.startswith("fp8")
    assert record.parameters == record_of(demo_root() / "flux").parameters
    plain = job_of(record_of(demo_root() / "flux"))
    expected = drawn(engine, plain)
    job = job_of(record)
    off = np.abs(drawn(engine, job) - expected).mean()
    assert 0 < off < NEAR[kind[:3]]
    parameters = [*engine.compute.load(job, FLUX).transformer.parameters()]
    assert any(map(is_packed, parameters)) == kind.startswith("nf4")
    (told,) = sizes_of([record], itemsize=4).denoisers
    assert told.size_bytes == pytest.approx(sum(each.nbytes for each in parameters), rel=0.002)


def test_scaled_fp8_is_exact_where_its_numbers_are(tmp_path):
    """Powers of two and a scale of 3: no rounding anywhere."""
    weight = torch.tensor([[1.0, -2.0, 0.5], [4.0, 0.0, -8.0]])
    packed = {
        "a.weight": weight.to(torch.float8_e4m3fn), "a.scale_weight": torch.tensor(3.0),
        "b.weight": weight.to(torch.float8_e4m3fn), "b.weight_scale": torch.tensor([[2.0], [5.0]]),
        "c.weight": weight.to(torch.float8_e4m3fn), "scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
    }  # fmt: skip
    save_file(packed, tmp_path / "a.safetensors")
    found = all_of(tmp_path / "a.safetensors")
    assert found.keys() == {"a.weight", "b.weight", "c.weight"}
    assert torch.equal(found["a.weight"], 3 * weight)
    assert torch.equal(found["b.weight"], weight * torch.tensor([[2.0], [5.0]]))
    assert torch.equal(found["c.weight"], weight)


@pytest.mark.parametrize("shape", [(8, 64), (5, 33), (3, 700)])
@pytest.mark.parametrize("nested", [False, True])
def test_nf4_is_exact_where_the_weights_are_its_own_codes(tmp_path, shape, nested):
    generator = torch.Generator().manual_seed(0)
    count = shape[0] * shape[1]
    codes = torch.randint(0, 16, (count,), generator=generator)
    codes[::BLOCK] = 15  # each block has its largest number
    sizes = torch.full((-(-count // BLOCK),), 0.5) if nested else torch.arange(1.0, -(-count // BLOCK) + 1)
    weight = (NF4[codes] * sizes.repeat_interleave(BLOCK)[:count]).view(shape)
    save_file(nf4("a.weight", weight, nested), tmp_path / "a.safetensors")
    found = all_of(tmp_path / "a.safetensors")
    assert found.keys() == {"a.weight"}
    assert torch.allclose(found["a.weight"], weight, rtol=1e-6, atol=1e-7)


def test_a_table_of_its_own_is_obeyed(tmp_path):
    """Such numbers have no blocks here: they are widened."""
    packed = nf4("a.weight", NF4.repeat(8, 4))
    packed["a.weight.quant_map"] = NF4.abs()
    save_file(packed, tmp_path / "a.safetensors")
    assert torch.equal(all_of(tmp_path / "a.safetensors")["a.weight"], NF4.abs().repeat(8, 4))


def test_a_block_of_any_size_is_read(tmp_path):
    """A file may say so; no memory is taken for what is not there."""
    packed = nf4("a.weight", NF4.repeat(8, 4))
    packed["a.weight.absmax"] = packed["a.weight.absmax"][:1]
    state = json.dumps({"blocksize": 1 << 60, "shape": [8, 64]}).encode()
    packed["a.weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(state), dtype=torch.uint8)
    save_file(packed, tmp_path / "a.safetensors")
    assert torch.equal(all_of(tmp_path / "a.safetensors")["a.weight"], NF4.repeat(8, 4))


def test_damaged_states_are_refused(tmp_path):
    packed = nf4("a.weight", torch.ones(4, 64))
    packed["a.weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(b'{"shape": [4]'), dtype=torch.uint8)
    path = tmp_path / "a.safetensors"
    save_file(packed, path)
    with pytest.raises(ModelError) as caught:
        table_of(path)
    assert str(path) in caught.value.message


NAMES = {
    "shared": "token_embd", "encoder.final_layer_norm": "enc.output_norm", "layer.0.SelfAttention.q": "attn_q",
    "layer.0.SelfAttention.k": "attn_k", "layer.0.SelfAttention.v": "attn_v", "layer.0.SelfAttention.o": "attn_o",
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b", "layer.0.layer_norm": "attn_norm",
    "layer.1.DenseReluDense.wi_0": "ffn_gate", "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wo": "ffn_down", "layer.1.layer_norm": "ffn_norm",
}  # fmt: skip


def in_gguf(path: Path, kind: gguf.GGMLQuantizationType | None) -> Path:
    """T5 of the demo as llama.cpp's convert_hf_to_gguf writes it."""
    (weights,) = (demo_root() / "flux" / "text_encoder_2").glob("*.safetensors")
    writer = gguf.GGUFWriter(str(path), "t5encoder")
    for name, tensor in load_file(weights).items():
        if name == "encoder.embed_tokens.weight":
            continue
        bare = name.removesuffix(".weight")
        if bare.startswith("encoder.block."):
            number, _, inner = bare.removeprefix("encoder.block.").partition(".")
            bare = f"enc.blk.{number}.{NAMES[inner]}"
        numbers = tensor.float().numpy()
        new = f"{NAMES.get(bare, bare)}.weight"
        if kind is not None and numbers.ndim == 2 and "rel_b" not in new:
            writer.add_tensor(new, quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(new, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def with_t5(whole: Path, t5: Path) -> ModelRecord:
    """The demo's transformer with T5 out of the GGUF, and the rest as it was."""
    path = t5.with_suffix(".safetensors")
    prefix = FLUX.file_parts["text_encoder_2"].prefix
    own = {name: tensor for name, tensor in load_file(whole).items() if not name.startswith(prefix)}
    save_file(own, path, dict(read_header(whole).metadata))
    record = record_of(path)
    lent = {"text_encoder_2": str(t5), "tokenizer_2": str(demo_root() / "flux" / "tokenizer_2")}
    ready = {"state": State.READY, "problem": "", "needs": ()}
    return replace(record, **ready, borrowed=tuple(sorted(lent.items())))


def test_t5_in_gguf_reads_prompts_as_the_one_it_was_made_of(engine, whole, tmp_path):
    plain = job_of(record_of(demo_root() / "flux"))
    expected = drawn(engine, plain)
    record = with_t5(whole, in_gguf(tmp_path / "t5-F32.gguf", None))
    assert (
        read(Path(record.path), FLUX, dict(record.borrowed)).parts["text_encoder_2"].spelling
        is Spelling.T5_GGUF
    )
    engine.compute.drop_caches()
    assert np.array_equal(drawn(engine, job_of(record)), expected)
    engine.compute.drop_caches()
    packed = with_t5(whole, in_gguf(tmp_path / "t5-Q8_0.gguf", gguf.GGMLQuantizationType.Q8_0))
    off = np.abs(drawn(engine, job_of(packed)) - expected).mean()
    assert 0 < off < 4
    encoder = engine.compute.load(job_of(packed), FLUX).text_encoder_2
    kept = [name for name, weight in encoder.named_parameters() if is_packed(weight)]
    assert len(kept) == 3 * 7


def test_a_t5_in_gguf_lends_itself(tmp_path):
    """By its names and its width, which is that of the published one."""
    path = tmp_path / "t5-v1_1-xxl-encoder-Q8_0.gguf"
    writer = gguf.GGUFWriter(str(path), "t5encoder")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4096), np.float32))
    writer.add_tensor("enc.blk.0.attn_q.weight", np.zeros((8, 4096), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    record = record_of(path)
    assert (record.variant, record.state, record.problem) == ("t5xxl", State.READY, "")
