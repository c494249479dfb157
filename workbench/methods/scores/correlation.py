"""Correlation rho: how much a neuron loses from base to erased model; a reading of the paper, never used to prove its claim."""

import numpy as np
from pydantic import BaseModel, ConfigDict

CITATIONS = ("yang2024pruning",)


class Parameters(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid")


NEEDS = ("target", "erased")
UNIT = "activation units"


def score(target, reference=None, erased=None, layer=None):
    """rho = mean_base,target |a| - mean_erased,target |a|

    Choosing neurons by rho makes deactivation true by construction (rho is D's numerator), so it is listed, not used.

    Shapes   target, erased  (prompt, neuron) the same prompts in the base and in the erased model
             returns         (neuron,) activation units
    Source   arXiv 2405.16534, second-hand; docs/reference/definitions.md#the-claim-under-test
    """
    return np.mean(target, axis=0) - np.mean(erased, axis=0)
