"""Prune the weights smallest in size: a control that knows nothing of the concept."""

from workbench.methods.erasers._layers import Share

MASK = True


NO_PRESET = "it is a control of this project."


class Parameters(Share):
    """What can be set."""


def learns_from(parameters):
    """Sides of the pairs it learns from: none."""
    return ()


def erase(model, pairs, parameters, *, like=None, spare=None, **context):
    """Mask the weights with the smallest |w|; returns {"unet.<name>": bool tensor, True = pruned}.

    like       a mask: cut as many weights of each of its layers
    spare      {layer path: indices} of neurons whose weights are never cut
    """
    from workbench.methods.erasers._layers import candidates, cut, watched

    weights = candidates(model.unet, parameters.layers)
    scores = {name: weight.abs() for name, weight in weights.items()}
    return cut(scores, parameters.share, parameters.group, weights, like, watched(weights, spare))
