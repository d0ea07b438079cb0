"""The blocks of a network by the names of its tensors, whoever named them."""

import pytest

from pipelines.spec.blocks import Block, block_of, grouped, order_of


@pytest.mark.parametrize(
    ("tensor", "block"),
    [
        ("transformer_blocks.3.attn.to_q.weight", "transformer_blocks.3"),
        ("single_transformer_blocks.37.proj_mlp.bias", "single_transformer_blocks.37"),
        ("double_blocks.18.img_mlp.0.weight", "double_blocks.18"),
        ("single_blocks.2.linear1.weight", "single_blocks.2"),
        ("down_blocks.1.resnets.0.conv1.weight", "down_blocks.1.resnets.0"),
        (
            "up_blocks.0.attentions.2.transformer_blocks.9.ff.net.2.weight",
            "up_blocks.0.attentions.2.transformer_blocks.9",
        ),
        ("mid_block.resnets.1.norm1.weight", "mid_block.resnets.1"),
        ("input_blocks.4.0.in_layers.2.weight", "input_blocks.4.0"),
        (
            "input_blocks.4.1.transformer_blocks.1.attn1.to_q.weight",
            "input_blocks.4.1.transformer_blocks.1",
        ),
        ("middle_block.2.out_layers.3.bias", "middle_block.2"),
        ("encoder.block.23.layer.0.SelfAttention.q.weight", "encoder.block.23"),
        ("text_model.encoder.layers.3.mlp.fc1.weight", "text_model.encoder.layers.3"),
        ("encoder.final_layer_norm.weight", None),
        ("input_blocks.3.0.op.weight", None),
        ("input_blocks.0.0.weight", None),
        ("down_blocks.0.downsamplers.0.conv.weight", None),
        ("up_blocks.0.attentions.2.proj_in.weight", None),
        ("time_text_embed.guidance_embedder.linear_1.weight", None),
        ("x_embedder.weight", None),
    ],
)
def test_the_block_of_a_tensor(tensor, block):
    assert block_of(tensor) == block


def test_blocks_come_in_the_order_in_which_they_compute():
    wanted = [
        "down_blocks.0.resnets.0",
        "down_blocks.1.resnets.0",
        "down_blocks.1.attentions.0.transformer_blocks.0",
        "down_blocks.1.attentions.0.transformer_blocks.1",
        "down_blocks.1.resnets.1",
        "down_blocks.10.resnets.0",
        "mid_block.resnets.0",
        "mid_block.attentions.0.transformer_blocks.0",
        "mid_block.resnets.1",
        "up_blocks.0.resnets.0",
    ]
    assert sorted({*wanted}, key=order_of) == wanted
    assert order_of("transformer_blocks.18") < order_of("single_transformer_blocks.0")


def test_bytes_are_summed_by_block_and_the_rest_apart():
    sizes = {"single_blocks.0.a": 3, "double_blocks.0.a": 1, "double_blocks.0.b": 2, "img_in.weight": 7}
    assert grouped(sizes) == (
        (Block(name="double_blocks.0", size_bytes=3), Block(name="single_blocks.0", size_bytes=3)),
        7,
    )
