"""Other seeds: the unchanged prompts from other noise; does the concept return when one tries again?"""

from pydantic import BaseModel, ConfigDict, Field

from workbench.methods.attacks import reseeded

OPTIMISED = False


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    offset: int = Field(2_000_003, ge=1, le=2**31, description="added to every seed; the control adds it twice")


def attack(model, targets, parameters, context):
    """The target prompts, each from one other noise."""
    return reseeded(targets, context, parameters.offset)


def control(model, targets, adversarial, parameters, context):
    """The same once more: an attack that only tries again must not beat it."""
    return reseeded(targets, context, 2 * parameters.offset, True)
