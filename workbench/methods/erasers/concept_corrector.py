"""Concept Corrector, our reading: where a detector sees the concept while an image is sampled, it is corrected (Meng et al. 2025)."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import NonEmpty

CITATIONS = ("meng2025concept",)
DEFENDS = "corrector"
NO_PRESET = "which calls are looked at was not found in what was read of the paper, and its checker is another one."
Share = Annotated[float, Field(ge=0, lt=1)]


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    concept: NonEmpty = Field(description="the text about the concept: image positions that attend to its words are corrected")
    replacement: NonEmpty = Field(description="the text that they read instead")
    looks: list[Share] = Field(
        [0.1, 0.2, 0.3, 0.5], min_length=1, max_length=20, description="calls that are looked at, as shares of the sampling"
    )
    away: bool = Field(True, description="whether guidance leads a corrected image away from the text about the concept; ours")
    mask: float = Field(0.0, ge=0, le=1, description="how much attention to the concept, from 0 to 1, a corrected position has at least")


def learns_from(parameters):
    """It learns nothing."""
    return ()


def erase(model, pairs, parameters, detector=None, **context):
    """The corrector, as a Change; formulas: `models.changes.corrector.Corrector`.

    detector   {"detector": the attack-visible detector of the study, "labels": those of the concept}: who decides what is corrected
    Raises     MethodError without a detector
    Source     arXiv 2502.16368; our reading, see there
    """
    import torch

    from workbench.errors import MethodError
    from workbench.models import text
    from workbench.models.changes import Change

    if not detector:
        raise MethodError("concept_corrector needs the detector of a study. Make it a variant of a study.")
    with torch.no_grad():
        asked = {"concept": parameters.concept, "replacement": parameters.replacement}
        states = {name: text.encode(model, [one])[:, : model.tokenizer.model_max_length].float().cpu() for name, one in asked.items()}
    return Change("corrector", parameters.model_dump(mode="json") | detector, states)
