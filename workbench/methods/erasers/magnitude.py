"""Prune the weights smallest in size: a control that knows nothing of the concept."""

from workbench.methods.erasers._layers import Share

MASK = True


class Parameters(Share):
    """What can be set."""


def erase(model, pairs, parameters, *, like=None, **context):
    """Mask the weights with the smallest |w|; returns {"unet.<name>": bool tensor, True = pruned}.

    like       a mask: cut as many weights of each of its layers
    """
    from workbench.methods.erasers._layers import candidates, cut

    weights = candidates(model.unet, parameters.layers)
    return cut({name: weight.abs() for name, weight in weights.items()}, parameters.share, parameters.group, weights, like)
