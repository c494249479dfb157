"""Welch z: the difference of the prompts' means in its own standard errors."""

import numpy as np
from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid")


NEEDS = ("target", "reference")
UNIT = "standard errors of the difference"


def score(target, reference, erased=None, layer=None):
    """score = (mean_target |a| - mean_reference |a|) / sqrt(var_target / n_target + var_reference / n_reference)

    Shapes   target, reference  (prompt, neuron)
             returns            (neuron,) standard errors; 0 where the neuron varies in neither set
    Source   LocoGen, public code of arXiv 2405.01008; docs/reference/definitions.md#scores
    """
    error = np.sqrt(np.var(target, axis=0, ddof=1) / len(target) + np.var(reference, axis=0, ddof=1) / len(reference))
    kappa = np.mean(target, axis=0) - np.mean(reference, axis=0)
    return np.divide(kappa, error, out=np.zeros_like(kappa), where=error > 0)
