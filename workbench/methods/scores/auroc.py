"""AUROC: how often a prompt with the concept moves the neuron more than a prompt without it."""

import numpy as np
from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid")


NEEDS = ("target", "reference")
UNIT = "share of pairs of prompts"
NEUTRAL = 0.5


TIE = 1e-9


def score(target, reference, erased=None, layer=None):
    """score = P(|a| of a target prompt > |a| of a reference prompt) + P(equal) / 2, over all pairs of prompts

    It knows order only, so with few prompts many neurons tie, most of them at 1. Equals are ordered by their standardised
    difference d, by less than 1e-9, so that no choice hangs on the order of the neurons:

        d = (mean_target - mean_reference) / sd of both sets together
        0.5 + (score - 0.5) (1 - 2e-9) + 1e-9 d / (1 + |d|)

    Shapes   target, reference  (prompt, neuron)
             returns            (neuron,) in [0, 1]; 0.5 = no difference
    Source   the statistic of Mann and Whitney over n_target n_reference
    """
    from scipy.stats import rankdata

    n, m = len(target), len(reference)
    together = np.concatenate([target, reference])
    ranks = rankdata(together, axis=0)[:n]
    spread, difference = together.std(axis=0), np.mean(target, axis=0) - np.mean(reference, axis=0)
    d = np.divide(difference, spread, out=np.zeros_like(spread), where=spread > 0)
    above = (ranks.sum(axis=0) - n * (n + 1) / 2) / (n * m)
    return 0.5 + (above - 0.5) * (1 - 2 * TIE) + TIE * d / (1 + np.abs(d))
