"""Prune concept neurons: cut the incoming weights of a chosen neuron set, as a mask that can be undone."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MASK = True


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    neurons: Literal["prune", "concept"] = Field(
        "prune",
        description="prune: one half of the concept set, the other half is watched; concept: all of it, nothing is watched",
    )


def erase(model, pairs, parameters, *, prune=None, **context):
    """Mask the incoming weights of a neuron set; returns {"unet.<name>": bool tensor, True = pruned}.

    prune    {layer path: neuron indices}, chosen on half A of the units in the base model
    Raises   MethodError when no set is given
    """
    from workbench.errors import MethodError
    from workbench.models.masks import cut_incoming

    if not prune:
        raise MethodError("prune_neurons needs a neuron set; run `score` first or name a saved set.")
    return cut_incoming(model.unet, prune)
