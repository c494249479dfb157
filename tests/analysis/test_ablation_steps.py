"""A UNet taken step by step is the whole UNet; rows that leave late cost only what comes after."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from workbench.diffusion.steps import branched, first_step, steps
from workbench.neurons import sites

SHAPES = {
    "two levels": {},
    "two layers a block": {"layers_per_block": 2, "block_out_channels": (16, 16)},
    "like SD": {
        "block_out_channels": (16, 16, 32, 32),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "layers_per_block": 2,
    },
    "linear projections, two transformer layers": {"use_linear_projection": True, "transformer_layers_per_block": 2},
    "no text in the blocks": {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2},
}


def unet(**settings):
    torch.manual_seed(1)
    given = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**given | settings).eval().requires_grad_(False)


def inputs(size=(8, 8)):
    draw = torch.Generator().manual_seed(2)
    return torch.randn(2, 4, *size, generator=draw), torch.tensor([700.0, 20.0]), torch.randn(2, 5, 8, generator=draw)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 8), (8, 16), (6, 10)])
@pytest.mark.parametrize("name", SHAPES)
def test_step_by_step_equals_the_whole_bit_for_bit(name, size, layout):
    if name == "like SD" and size == (6, 10):
        size = (10, 12)
    model, (latents, timesteps, states) = unet(**SHAPES[name]).to(memory_format=layout), inputs(size)
    whole = model(latents, timesteps, encoder_hidden_states=states).sample
    assert torch.equal(branched(model, steps(model), latents, timesteps, states, [], []), whole)


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_may_leave_at_any_step_and_unchanged_ends_like_its_root(name):
    model, (latents, timesteps, states) = unet(**SHAPES[name]), inputs()
    found, whole = steps(model), model(latents, timesteps, encoder_hidden_states=states).sample
    root = [i % 2 for i in range(len(found))]
    ended = branched(model, found, latents, timesteps, states, root, range(len(found)))
    for row, of in enumerate([0, 1, *root]):
        assert torch.allclose(ended[row], whole[of], atol=1e-5)


def test_steps_hold_every_layer_of_every_site_and_run_in_the_order_of_execution():
    model = unet(**SHAPES["like SD"])
    found, ran = steps(model), []
    handles = [step.module.register_forward_hook(lambda *_, path=step.path: ran.append(path)) for step in found]
    latents, timesteps, states = inputs()
    model(latents, timesteps, encoder_hidden_states=states)
    for handle in handles:
        handle.remove()
    assert ran == [step.path for step in found]
    for layer in sites.layers(model, ["ff", "update"]):
        step = found[first_step(found, [layer.path])]
        assert dict(model.named_modules())[layer.path] in set(step.module.modules())
    assert first_step(found, ["time_embedding.linear_1"]) is None


def test_each_step_sees_only_the_rows_that_have_left_by_then():
    model, (latents, timesteps, states) = unet(), inputs()
    found, rows = steps(model), []
    handles = [step.module.register_forward_pre_hook(lambda module, args: rows.append(len(args[0]))) for step in found]
    told = []
    branched(model, found, latents, timesteps, states, [0, 1, 1], [3, 3, 9], told.append)
    for handle in handles:
        handle.remove()
    assert rows == [2] * 3 + [4] * 6 + [5] * (len(found) - 9)
    assert told == [2, 4, 5]


def test_a_unet_with_parts_that_are_not_known_has_no_steps():
    assert steps(unet()) is not None
    assert steps(unet(class_embed_type="timestep")) is None
    assert steps(unet(center_input_sample=True)) is None
    assert steps(unet(time_embedding_act_fn="silu")) is None
    assert steps(unet(mid_block_type="UNetMidBlock2D")) is None
    assert steps(unet(down_block_types=("CrossAttnDownBlock2D", "AttnDownBlock2D"))) is None
    freed = unet()
    freed.enable_freeu(0.9, 0.2, 1.2, 1.4)
    assert steps(freed) is None
    hooked = unet()
    handle = hooked.up_blocks[0].register_forward_hook(lambda *_: None)
    assert steps(hooked) is None
    handle.remove()
    assert steps(hooked) is not None
