"""SLD: guidance away from a text about the concept, in a third branch; no weight changes (Schramowski et al. 2023)."""

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import NonEmpty
from workbench.study.published import Published

CITATIONS = ("schramowski2023safe",)
DEFENDS = "guidance"
FURTHER_BRANCH = True
STRENGTHS = {
    "weak": (200.0, 15, 0.0, 0.0, 0.0),
    "medium": (1000.0, 10, 0.01, 0.3, 0.4),
    "strong": (2000.0, 7, 0.025, 0.5, 0.7),
    "max": (5000.0, 0, 1.0, 0.5, 0.7),
}
NAMES = ("scale", "warmup", "threshold", "momentum_scale", "momentum")
PUBLISHED = Published(
    source="ml-research/safe-latent-diffusion, the four settings of its README, for 50 steps",
    tasks={name: dict(zip(NAMES, values, strict=True)) for name, values in STRENGTHS.items()},
    differs=("where a model is sampled with fewer steps than 50, their warm-up covers a larger share of the image",),
    unknown={"concept": "theirs is a list of what is unsafe in general; a study names its own concept"},
)


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    concept: NonEmpty = Field(description="the text about the concept that images are led away from")
    scale: float = Field(2000.0, gt=0, le=1e6, description="s: how soon the guidance is whole; published: 200 to 5000")
    warmup: int = Field(2, ge=0, le=1000, description="calls before it acts; published: 15 to 0 of 50")
    threshold: float = Field(
        0.025, ge=-10, le=10, description="it acts where the prompt's noise is not above that of the concept by more; published: 0 to 1"
    )
    momentum_scale: float = Field(0.5, ge=0, le=1, description="how much earlier calls count; published: 0 to 0.5")
    momentum: float = Field(0.7, ge=0, lt=1, description="how slowly they are forgotten; published: 0 to 0.7")


def learns_from(parameters):
    """It learns nothing."""
    return ()


def erase(model, pairs, parameters, **context):
    """The rule of guidance, as a Change; formulas: `models.changes.guidance.SafeLatent`.

    Source   arXiv 2211.05105 and its public code
    """
    import torch

    from workbench.models import text
    from workbench.models.changes import Change

    with torch.no_grad():
        states = text.encode(model, [parameters.concept]).float().cpu()
    return Change("sld", parameters.model_dump(mode="json"), {"states": states})
