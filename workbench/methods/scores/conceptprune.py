"""ConceptPrune's rule: the share of a neuron's outgoing weights that are skilled in the concept."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from workbench.methods.scores._weights import importance, through_weights


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    share: float = Field(0.02, gt=0, le=1, description="share of each row that counts as its top; the paper's 0.01 to 0.02")
    calls: int = Field(10, ge=1, description="how many of the first recorded calls vote; all when fewer are recorded")
    select_ratio: float = Field(0.0, ge=0, lt=1, description="a weight is taken when more than this share of the calls name it")


NEEDS = ("target", "reference", "row_norm", "calls", "weights")


def skilled(weight, target, reference, share):
    """Z of one call: S_target[r, i] is among the top `share` of row r, and S_target[r, i] > S_reference[r, i].

    S[r, i] = |W[r, i]| * A_i,  A_i = sqrt(sum over token rows of ahat_i^2),  ahat the token row brought to length 1

    Shapes   weight, returns    (output, neuron); True = skilled. At least one weight of a row is its top
             target, reference  (neuron,) A
    """
    wanted, other = importance(weight, target), importance(weight, reference)
    n = max(1, round(share * wanted.shape[1]))
    least = np.partition(wanted, -n, axis=1)[:, -n, None]
    return (wanted >= least) & (wanted > other)


def weight_mask(weight, target, reference, parameters):
    """Weights named by more than select_ratio of the first calls; (output, neuron), True = to prune.

    target, reference   (call, neuron) A
    """
    n = min(parameters.calls, len(target))
    votes = sum(skilled(weight, target[call], reference[call], parameters.share).astype(int) for call in range(n))
    return votes > parameters.select_ratio * n


def score(target, reference, erased=None, layer=None, *, weights, parameters):
    """The mean of a neuron's column of `weight_mask`: the share of the rows it writes to in which it is skilled.

    Length 1 of every token row hides a layer that fell silent as a whole. The authors' code pools both branches; here cond alone,
    the workbench never pools them.

    Shapes   target, reference  (prompt, call, neuron) sqrt(sum over tokens of ahat^2)
             returns            (neuron,) in [0, 1]; NaN where no linear layer reads it
    Source   arXiv 2405.19237, public code (SCIENCE 2.4); the column mean is ours
    """
    wanted, other = (np.sqrt(np.square(rows).sum(axis=0)) for rows in (target, reference))

    def column(weight, mine):
        return weight_mask(weight, wanted[:, mine], other[:, mine], parameters).mean(axis=0)

    return through_weights(layer, weights, column)
