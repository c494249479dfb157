"""A tiny UNet with a known truth: two tokens drive the same neurons by two routes.

Token A drives the planted `ff` neurons through cross-attention of one layer, token B by another direction of its value space.
"Erasing" cuts route A upstream (the value weights no longer see A's direction); "attack" is token B.
"""

import torch

from workbench.models.load import from_pipeline
from workbench.models.variants import Variant

LAYER = "mid_block.attentions.0.transformer_blocks.0"
PLANTED = [3, 17, 40, 77, 101, 120]
CONCEPT, TRIGGER, PLAIN, CONTROL = (torch.eye(32)[i] * 6 for i in (0, 1, 2, 3))


def planted_model():
    """(model, states by name, erased variant). States are (1, token, channel) with one token of meaning.

    The value projection of LAYER.attn2 turns text directions 0 and 1 into one output direction, which ff.net.0.proj turns into
    the planted neurons; every other text direction is left to random weights of a small size.
    """
    from tests import tiny

    model = from_pipeline(tiny.pipeline(seed=3), "planted")
    block = dict(model.unet.named_modules())[LAYER]
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        value = block.attn2.to_v.weight
        value.mul_(0.02)
        value[:, 0] = value[:, 1] = 0.0
        value[0, 0] = value[0, 1] = 1.0
        out = block.attn2.to_out[0]
        out.weight.mul_(0.02)
        out.bias.zero_()
        direction = torch.randn(32, generator=generator)
        direction -= direction.mean()
        direction /= direction.norm()
        out.weight[:, 0] = 4 * direction
        proj, width = block.ff.net[0].proj, block.ff.net[2].in_features
        proj.weight.mul_(0.05)
        proj.bias.fill_(0.1)
        block.norm3.weight.fill_(1.0)
        block.norm3.bias.zero_()
        for neuron in PLANTED:
            proj.weight[neuron] = direction * 1.5
            proj.weight[neuron + width] = direction * 1.5
    states = {name: vector.repeat(1, 16, 1) for name, vector in (("A", CONCEPT), ("B", TRIGGER), ("plain", PLAIN), ("control", CONTROL))}
    cut = block.attn2.to_v.weight.detach().clone()
    cut[:, 0] = block.attn2.to_v.weight.detach()[:, 2]
    erased = Variant("erased", "base", {f"unet.{LAYER}.attn2.to_v.weight": cut})
    return model, states, erased
