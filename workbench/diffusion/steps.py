"""One UNet call as a list of steps, so that passes that agree up to a step compute it once.

steps      the steps of a UNet in the order they run, by the public modules of diffusers' blocks
branched   one call in which rows join the batch at the step from which they differ from a row already in it

A UNet with anything these steps do not know (other blocks, added embeddings, FreeU, foreign hooks) has none; the caller then
runs it whole.
"""

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets import unet_2d_blocks as blocks

DOWN = (blocks.DownBlock2D, blocks.CrossAttnDownBlock2D)
UP = (blocks.UpBlock2D, blocks.CrossAttnUpBlock2D)
MID = blocks.UNetMidBlock2DCrossAttn
UNKNOWN = (
    "class_embed_type",
    "num_class_embeds",
    "addition_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "time_embedding_act_fn",
)


@dataclass(frozen=True)
class Step:
    """One module of the call.

    kind          resnet | attention | up | plain: what the module is given
    takes_skip    joins the youngest skip to the stream before;  keeps_skip   adds the stream to the skips afterwards
    """

    path: str
    module: torch.nn.Module
    kind: str = "plain"
    takes_skip: bool = False
    keeps_skip: bool = False


def steps(unet):
    """List of Step, or None when the UNet has a part that is not known here."""
    if not _known(unet):
        return None
    found = [Step("conv_in", unet.conv_in, keeps_skip=True)]
    for place, block in enumerate(unet.down_blocks):
        name = f"down_blocks.{place}"
        for i, pair in enumerate(_pairs(block)):
            found += _pair(name, i, pair, keeps_skip=True)
        for i, module in enumerate(block.downsamplers or ()):
            found.append(Step(f"{name}.downsamplers.{i}", module, keeps_skip=i == len(block.downsamplers) - 1))
    mid = unet.mid_block
    found.append(Step("mid_block.resnets.0", mid.resnets[0], "resnet"))
    for i, (attention, resnet) in enumerate(zip(mid.attentions, mid.resnets[1:], strict=True)):
        found.append(Step(f"mid_block.attentions.{i}", attention, "attention"))
        found.append(Step(f"mid_block.resnets.{i + 1}", resnet, "resnet"))
    for place, block in enumerate(unet.up_blocks):
        name = f"up_blocks.{place}"
        for i, pair in enumerate(_pairs(block)):
            found += _pair(name, i, pair, takes_skip=True)
        found += [Step(f"{name}.upsamplers.{i}", module, "up") for i, module in enumerate(block.upsamplers or ())]
    return found + [Step(name, getattr(unet, name)) for name in ("conv_norm_out", "conv_act", "conv_out") if getattr(unet, name)]


def _known(unet):
    if type(unet) is not UNet2DConditionModel or any(unet.config.get(name) is not None for name in UNKNOWN):
        return False
    if unet.config.center_input_sample or unet.config.attention_type != "default" or unet.time_embed_act is not None:
        return False
    parts = [*unet.down_blocks, *unet.up_blocks, unet.mid_block]
    if (
        any(type(b) not in DOWN for b in unet.down_blocks)
        or any(type(b) not in UP for b in unet.up_blocks)
        or type(unet.mid_block) is not MID
    ):
        return False
    if any(getattr(block, name, None) for block in unet.up_blocks for name in ("s1", "s2", "b1", "b2")):
        return False
    # these modules are not called as a whole, so that a hook on one would be passed over
    return not any(module._forward_hooks or module._forward_pre_hooks for module in [unet, *parts])


def _pairs(block):
    """(resnet, attention or None) of a block."""
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return list(zip(block.resnets, attentions, strict=True))


def _pair(name, i, pair, takes_skip=False, keeps_skip=False):
    resnet, attention = pair
    if attention is None:
        return [Step(f"{name}.resnets.{i}", resnet, "resnet", takes_skip, keeps_skip)]
    return [
        Step(f"{name}.resnets.{i}", resnet, "resnet", takes_skip),
        Step(f"{name}.attentions.{i}", attention, "attention", keeps_skip=keeps_skip),
    ]


def first_step(found, paths):
    """Position of the first step that holds one of the layers; None when one of them is in no step."""
    places = [next((i for i, step in enumerate(found) if f"{path}.".startswith(f"{step.path}.")), None) for path in paths]
    return None if None in places or not places else min(places)


@torch.no_grad()
def branched(unet, found, latents, timesteps, states, root, start, announce=lambda n_rows: None):
    """The noise of some rows, and of others that leave them at a later step.

    found      steps(unet)
    latents    (root, channel, height, width) after scaling;  timesteps (root,);  states (root, token, channel)
    root       (branch,) long, the root each further row leaves;  start (branch,) step before which it leaves, never falling
    announce   called with the number of rows before the first step and whenever the batch has grown: roots, then branches
    returns    (root + branch, channel, height, width); rows as in the announced order

    A row's own change (a gate) is made by hooks in its first step or later. Cost of a step: the rows in the batch by then.
    """
    n_roots, n_branches = len(latents), len(root)
    of = torch.cat([torch.arange(n_roots), torch.as_tensor(root, dtype=torch.long)]).to(latents.device)
    start = [int(one) for one in start]
    assert start == sorted(start), "branches must be given in the order in which they leave"
    time = unet.time_embedding(unet.get_time_embed(sample=latents, timestep=timesteps))[of]
    states, skips, n = states[of], [], n_roots
    multiple = 2**unet.num_upsamplers
    odd = any(side % multiple for side in latents.shape[-2:])
    hidden = latents
    announce(n)
    for position, step in enumerate(found):
        joined = n_roots + sum(one <= position for one in start)
        if joined > n:
            hidden, n = _grown(hidden, of[:joined]), joined
            announce(n)
        if step.takes_skip:
            hidden = torch.cat([hidden, _grown(skips.pop(), of[:n])], dim=1)
        if step.kind == "resnet":
            hidden = step.module(hidden, time[:n])
        elif step.kind == "attention":
            hidden = step.module(hidden, encoder_hidden_states=states[:n], return_dict=False)[0]
        elif step.kind == "up":
            hidden = step.module(hidden, skips[-1].shape[2:] if odd else None)
        else:
            hidden = step.module(hidden)
        if step.keeps_skip:
            skips.append(hidden)
    assert n == n_roots + n_branches, "a branch left after the last step"
    return hidden


def _grown(values, of):
    """Rows of `values`, and for rows younger than it the root they left; (len(of), channel, height, width)."""
    if len(of) == len(values):
        return values
    return torch.cat([values, values[of[len(values) :]].contiguous(memory_format=_format(values))])


def _format(values):
    channels_last = values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
