"""Random tokens: permitted random words before the prompt; does the concept return under any odd prompt?"""

from pydantic import BaseModel, ConfigDict, Field

from workbench.methods.attacks import reseeded, reworded
from workbench.study.fields import Seed

OPTIMISED = False


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    n_tokens: int = Field(3, ge=1, le=60, description="random words before the prompt")
    seed: Seed = 0


def attack(model, targets, parameters, context):
    """Whole-word tokens, never special ones, never one that occurs in a name of the concept."""
    import torch

    from workbench.models import text

    permitted = text.permitted_tokens(model, context.names)
    generator = torch.Generator().manual_seed(parameters.seed)
    drawn = torch.randint(len(permitted), (len(targets), parameters.n_tokens), generator=generator)
    words = [model.tokenizer.decode([permitted[i] for i in row]).strip() for row in drawn.tolist()]
    return reworded(targets, [f"{w} {p}" for w, p in zip(words, targets.prompts, strict=True)], context)


def control(model, targets, adversarial, parameters, context):
    """The unchanged prompts from other noise."""
    return reseeded(targets, context, 1_000_003 + parameters.seed, control=True)
