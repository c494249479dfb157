"""Students as others have them: UNets whose modules really are smaller, in plain torch; nothing of it uses `workbench.models.channels`."""

import copy

import torch

FF = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
RESNET = "up_blocks.1.resnets.0.conv1"
# of the tiny UNet: feed-forward neurons in any order, two of four heads, six of eight groups of the norm
KEPT = {FF: [5, 0, *range(20, 60), 3, 127], ATTENTION: [*range(4, 8), *range(12, 16)], RESNET: [*range(4), *range(8, 16)]}


def linear(module, rows=None, columns=None):
    """A smaller Linear with some of the rows and columns of another one."""
    weight = module.weight.detach()
    weight = weight if rows is None else weight[rows]
    weight = weight if columns is None else weight[:, columns]
    made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None, dtype=weight.dtype)
    made.weight.data = weight.clone()
    if module.bias is not None:
        made.bias.data = (module.bias if rows is None else module.bias[rows]).detach().clone()
    return made


def conv(module, rows=None, columns=None):
    """A smaller Conv2d with some of the output and input channels of another one."""
    weight = module.weight.detach()
    weight = weight if rows is None else weight[rows]
    weight = weight if columns is None else weight[:, columns]
    made = torch.nn.Conv2d(weight.shape[1], weight.shape[0], module.kernel_size, module.stride, module.padding, dtype=weight.dtype)
    made.weight.data = weight.clone()
    made.bias.data = (module.bias if rows is None else module.bias[rows]).detach().clone()
    return made


def small(unet, kept):
    """A copy of a UNet with smaller modules, {layer: channels that are kept}."""
    unet = copy.deepcopy(unet)
    for layer, index in kept.items():
        above = unet.get_submodule(layer.rpartition(".")[0])
        if layer.endswith("ff.net.2"):
            gates = [i + above[2].in_features for i in index]
            above[0].proj, above[2] = linear(above[0].proj, [*index, *gates]), linear(above[2], columns=index)
        elif layer.endswith("to_v"):
            width = above.to_v.out_features // above.heads
            above.to_q, above.to_k, above.to_v = (linear(one, index) for one in (above.to_q, above.to_k, above.to_v))
            above.to_out[0], above.heads = linear(above.to_out[0], columns=index), len(index) // width
        else:
            norm = above.norm2
            width = norm.num_channels // norm.num_groups
            above.conv1, above.conv2 = conv(above.conv1, index), conv(above.conv2, columns=index)
            above.time_emb_proj = linear(above.time_emb_proj, index)
            above.norm2 = torch.nn.GroupNorm(len(index) // width, len(index), norm.eps, dtype=norm.weight.dtype)
            above.norm2.weight.data, above.norm2.bias.data = norm.weight.data[index].clone(), norm.bias.data[index].clone()
    return unet


def file_of(unet):
    """{name: tensor} as it is saved."""
    return {name: value.detach().clone().contiguous() for name, value in unet.state_dict().items()}


def moved(tensors, size=0.02, seed=4):
    """The tensors after some fine-tuning: each with noise of a share of its own size."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + size * value.float().std(correction=0).to(value.dtype) * torch.randn(value.shape, generator=generator).to(value.dtype)
        for name, value in tensors.items()
    }
