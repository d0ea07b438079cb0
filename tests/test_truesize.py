"""The true sizes: their counts are the published ones, the plan adds up, and what is written is read by the engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.library.models import scan
from tests.benchmarks.fullsize import CARDS_GIB, main, sizes_of
from tests.benchmarks.truesize.configs import FLUX, MODELS, SD15
from tests.benchmarks.truesize.plan import GIB, Block, place


@pytest.mark.parametrize("name", MODELS)
def test_the_counts_are_the_published_ones(name):
    from tests.benchmarks.truesize.writing import on_meta, parameters

    for part, expected in MODELS[name].millions.items():
        module = on_meta(MODELS[name].parts[part])
        assert module is not None
        assert parameters(module) / 1e6 == pytest.approx(expected, abs=0.1), part


@pytest.mark.parametrize("card", CARDS_GIB)
def test_every_block_of_flux_has_its_place(card):
    blocks, encoders = sizes_of(FLUX)
    plan = place(blocks, encoders, card)
    for block in blocks:
        assert plan.resident[block.name] + plan.streamed[block.name] == block.count
    held = sum(plan.resident[block.name] * block.size_bytes for block in blocks)
    slots = 2 * max(block.size_bytes for block in blocks) if plan.streamed_bytes else 0
    assert held + slots <= (card - 1.7) * GIB
    whole = sum(block.count * block.size_bytes for block in blocks)
    assert held + plan.streamed_bytes == whole
    # What does not fit beside context, activations and two slots; 24 GiB hold all of it, and need no slots then.
    assert plan.streamed_bytes / 1e9 == pytest.approx({8: 18.4, 12: 14.1, 16: 9.8, 24: 0.0}[card], abs=0.7)


def test_what_fits_is_not_streamed():
    plan = place((Block("a", 3, GIB),), {"small": GIB, "big": 9 * GIB}, 5)
    assert (plan.resident, plan.streamed_bytes) == ({"a": 3}, 0)
    assert plan.encoders == {"small": "card", "big": "cpu"}


def test_a_model_on_disk_is_whole_and_in_shards(tmp_path, monkeypatch):
    """SD 1.5 with thin layers: the true one has 1 GB."""
    import torch

    from tests.benchmarks.truesize import writing

    monkeypatch.setattr(writing, "SHARD_BYTES", 400_000)
    unet = replace(
        SD15.parts["unet"],
        config={**SD15.parts["unet"].config, "block_out_channels": [32, 32, 32, 32], "norm_num_groups": 8},
    )
    vae = replace(
        SD15.parts["vae"],
        config={**SD15.parts["vae"].config, "block_out_channels": [8] * 4, "norm_num_groups": 4},
    )
    text = SD15.parts["text_encoder"]
    text = replace(text, config={**text.config, "num_hidden_layers": 1, "intermediate_size": 8})
    thin = replace(SD15, parts={**SD15.parts, "unet": unet, "vae": vae, "text_encoder": text})
    written = writing.write(thin, tmp_path / "sd15", torch.bfloat16)
    (record,) = scan([tmp_path])
    assert (record.problem, record.family, record.dtype) == ("", "sd1", "bfloat16")
    assert record.size_bytes >= written
    assert len(list((tmp_path / "sd15" / "unet").glob("*.safetensors"))) > 1


def test_a_model_that_is_not_known_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["--models", "sd15,sd99"])
    assert "sd99" in capsys.readouterr().err
