"""AUROC: how often a prompt with the concept moves the neuron more than a prompt without it."""

import numpy as np
from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid")


NEEDS = ("target", "reference")
UNIT = "share of pairs of prompts"
NEUTRAL = 0.5


def score(target, reference, erased=None, layer=None):
    """score = P(|a| of a target prompt > |a| of a reference prompt) + P(equal) / 2, over all pairs of prompts

    It knows order only: with few prompts many neurons tie at 1, and their order is then that of the table. So it checks a
    choice better than it makes one.

    Shapes   target, reference  (prompt, neuron)
             returns            (neuron,) in [0, 1]; 0.5 = no difference
    Source   the statistic of Mann and Whitney over n_target n_reference
    """
    from scipy.stats import rankdata

    n, m = len(target), len(reference)
    ranks = rankdata(np.concatenate([target, reference]), axis=0)[:n]
    return (ranks.sum(axis=0) - n * (n + 1) / 2) / (n * m)
