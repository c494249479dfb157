"""Prune random weights: the control every mask must beat."""

from pydantic import Field

from workbench.methods.erasers._layers import Share
from workbench.study.fields import Seed

MASK = True


NO_PRESET = "it is a control of this project."


class Parameters(Share):
    """What can be set."""

    seed: Seed = Field(0, description="of the lots")


def learns_from(parameters):
    """Sides of the pairs it learns from: none."""
    return ()


def erase(model, pairs, parameters, *, like=None, spare=None, **context):
    """Mask weights by lot; returns {"unet.<name>": bool tensor, True = pruned}.

    like       a mask: cut as many weights of each of its layers
    spare      {layer path: indices} of neurons whose weights are never cut
    """
    import torch

    from workbench.methods.erasers._layers import candidates, cut, watched

    generator, weights = torch.Generator().manual_seed(parameters.seed), candidates(model.unet, parameters.layers)
    lots = {name: torch.rand(weight.shape, generator=generator, dtype=torch.float64) for name, weight in weights.items()}
    return cut(lots, parameters.share, parameters.group, weights, like, watched(weights, spare))
