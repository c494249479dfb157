"""z: the contrast in standard deviations of the reference prompts."""

import numpy as np
from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid")


NEEDS = ("target", "reference")
UNIT = "standard deviations of prompts without the concept"


def score(target, reference, erased=None, layer=None):
    """score = (mean_target |a| - mean_reference |a|) / sd_reference |a|

    Shapes   target, reference  (prompt, neuron)
             returns            (neuron,) standard deviations; 0 where the neuron never varies
    Source   ours; docs/reference/definitions.md#scores
    """
    spread = np.std(reference, axis=0, ddof=1)
    kappa = np.mean(target, axis=0) - np.mean(reference, axis=0)
    return np.divide(kappa, spread, out=np.zeros_like(kappa), where=spread > 0)
