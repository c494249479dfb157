"""Modules added behind cross-attention, as Receler has them: y + up(gelu(down(y))), y the output of attn2.

The tensors of a change are called <path of attn2>.<down or up>.<weight or bias>.
"""

from contextlib import contextmanager

from torch.nn.functional import gelu, linear

from workbench.errors import ModelError

PARTS = ("down.weight", "down.bias", "up.weight", "up.bias")


def words(change):
    """What it is, for the report."""
    return f"{len(places(change.tensors))} modules added behind cross-attention, rank {change.settings['rank']}"


def places(tensors):
    """Paths of the modules behind which something is added."""
    return list(dict.fromkeys(name.removesuffix(".down.weight") for name in tensors if name.endswith(".down.weight")))


@contextmanager
def installed(model, change, added=None):
    """Hooks on the cross-attention of the UNet, which always go away. Gradients reach the tensors of the change.

    added    dict that gets {path: (row, position, channel) what was added} at every call of the UNet
    Raises   ModelError for a path or a shape that the UNet does not have
    """
    handles = []
    try:
        for path in places(change.tensors):
            try:
                module = model.unet.get_submodule(path)
            except AttributeError:
                raise ModelError(f'An added module belongs behind "{path}", which the UNet of "{model.name}" does not have.') from None
            parts = [change.tensors[f"{path}.{part}"] for part in PARTS]
            channels = module.to_out[0].out_features
            if parts[0].shape[1] != channels or parts[2].shape[0] != channels:
                raise ModelError(f'The module added behind "{path}" is for {parts[0].shape[1]} channels; there are {channels}.')
            handles.append(module.register_forward_hook(_hook(model, path, [part.to(model.device, model.dtype) for part in parts], added)))
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _hook(model, path, parts, added):
    down, down_bias, up, up_bias = parts

    def add(module, inputs, output):
        if model.as_base:
            return output
        more = linear(gelu(linear(output, down, down_bias)), up, up_bias)
        if added is not None:
            added[path] = more
        return output + more

    return add
