"""Prune concept neurons: cut the incoming weights of a chosen neuron set, as a mask that can be undone."""

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    score: str = Field("contrast", description="the score by which neurons are ranked, on half A of the units")
    share: float = Field(
        0.04, gt=0, lt=1, description="share of all ff neurons that form the concept set; half of them are pruned"
    )
    seed: int = Field(0, description="of the coin that decides who is pruned and who is watched")


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
