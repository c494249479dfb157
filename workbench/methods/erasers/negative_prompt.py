"""Negative prompt: guidance leads away from a text instead of from the empty prompt; no weight changes."""

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import NonEmpty

DEFENDS = "guidance"
NO_PRESET = "which text stands in it is all there is to say."


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    prompt: NonEmpty = Field(description="the text that images are led away from, such as the name of the concept")


def learns_from(parameters):
    """It learns nothing."""
    return ()


def erase(model, pairs, parameters, **context):
    """The rule of guidance, as a Change: eps_n + g (eps_c - eps_n), eps_n the noise of the negative prompt.

    Its text states are those of the model as it is, so that a parent with another text encoder reads the text.
    Source   the option `negative_prompt` of diffusers' pipelines
    """
    import torch

    from workbench.models import text
    from workbench.models.changes import Change

    with torch.no_grad():
        states = text.encode(model, [parameters.prompt]).float().cpu()
    return Change("negative_prompt", {"prompt": parameters.prompt}, {"states": states})
