"""Prune concept neurons: cut the incoming weights of a chosen neuron set, as a mask that can be undone."""

from typing import ClassVar, Literal

from pydantic import Field

from workbench.study.fields import NonEmpty, StudyTable

MASK = True
NEEDS = ("neurons",)


NO_PRESET = "it is a definition of this project."


class Parameters(StudyTable):
    """What can be set."""

    added_later: ClassVar[tuple[str, ...]] = ("set",)

    neurons: Literal["prune", "concept"] = Field(
        "prune",
        description="prune: one half of the concept set, the other half is watched; concept: all of it, nothing is watched",
    )
    set: NonEmpty | None = Field(
        None, description="one of the study's [[sets]], whose neurons of the site ff are cut in the place of these"
    )


def learns_from(parameters):
    """Sides of the pairs it learns from: none."""
    return ()


def erase(model, pairs, parameters, *, prune=None, **context):
    """Mask the incoming weights of a neuron set; returns {"unet.<name>": bool tensor, True = pruned}.

    prune    {layer path: neuron indices}, chosen on half A of the units in the base model, or those of a named set
    Raises   MethodError when there is no neuron to cut
    """
    from workbench.errors import MethodError
    from workbench.models.masks import cut_incoming

    if not prune:
        chosen = f'the set "{parameters.set}" has none at the site ff' if parameters.set else "none was chosen"
        raise MethodError(f"prune_neurons has no neurons to cut: {chosen}. Run `score` first, or name one of the [[sets]] with some.")
    return cut_incoming(model.unet, prune)
