"""Head sizes and numbers of tokens, read from the layers of the published architectures without any weights."""

import pytest

from pipelines.runtime.attention.widths import tokens_by_width
from pipelines.runtime.network import empty
from tests.benchmarks.truesize.configs import MODELS

CELLS = 64 * 64


@pytest.mark.parametrize(
    ("model", "part", "tokens"),
    [
        ("sd15", "unet", {40: 4096, 80: 1024, 160: 256}),
        ("sdxl", "unet", {64: 1024}),  # its first level has no attention
        ("flux", "transformer", {128: 1024}),
    ],
)
def test_the_most_tokens_that_a_head_of_each_width_sees(model, part, tokens):
    network = MODELS[model].parts[part]
    found = tokens_by_width(empty(network.class_name, network.config))
    assert {width: CELLS // shrunk for width, shrunk in found.items()} == tokens
