"""Random embedding: random vectors of a word's norm before the prompt; what any disturbance does."""

from pydantic import BaseModel, ConfigDict, Field

from workbench.methods.attacks import reseeded, vectors_before
from workbench.study.fields import MOST_RATE, Seed

OPTIMISED = False


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    n_vectors: int = Field(3, ge=1, le=16, description="vectors before the prompt")
    scale: float = Field(1.0, gt=0, le=MOST_RATE, description="norm, in multiples of the mean norm of the token vectors")
    seed: Seed = 0


def attack(model, targets, parameters, context):
    """Draw directions uniformly on the sphere."""
    import torch

    from workbench.models import text

    table = text.token_vectors(model).detach()
    generator = torch.Generator().manual_seed(parameters.seed)
    random = torch.randn(len(targets), parameters.n_vectors, table.shape[1], generator=generator)
    norm = table.norm(dim=-1).mean().cpu() * parameters.scale
    return vectors_before(targets, random / random.norm(dim=-1, keepdim=True) * norm, context)


def control(model, targets, adversarial, parameters, context):
    """The unchanged prompts from other noise."""
    return reseeded(targets, context, 1_000_003 + parameters.seed, control=True)
