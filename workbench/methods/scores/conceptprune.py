"""ConceptPrune's rule: the share of a neuron's outgoing weights that are skilled in the concept."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from workbench.methods.scores._weights import through_weights
from workbench.neurons.weights import voted
from workbench.study.fields import MOST_CALL

CITATIONS = ("chavhan2024conceptprune",)


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    share: float = Field(0.02, gt=0, le=1, description="share of each row that counts as its top; the paper's 0.01 to 0.02")
    calls: int = Field(10, ge=1, le=MOST_CALL, description="how many of the first recorded calls vote; all when fewer are recorded")
    select_ratio: float = Field(0.0, ge=0, lt=1, description="a weight is taken when more than this share of the calls name it")


VERSION = 2  # 1 rounded the number of weights of a row, and took one at least
NEEDS = ("target", "reference", "row_norm", "calls", "weights")
UNIT = "share of outgoing weights"


def score(target, reference, erased=None, layer=None, *, weights, parameters):
    """The mean of a neuron's column of `neurons.weights.voted`: the share of the rows it writes to in which it is skilled.

    Length 1 of every token row hides a layer that fell silent as a whole. A share of less than one weight of a row names none.
    The eraser `conceptprune` pools both branches of guidance, as the authors do; here the cond branch alone, for recordings keep
    the branches apart.

    Shapes   target, reference  (prompt, call, neuron) sqrt(sum over tokens of ahat^2)
             returns            (neuron,) in [0, 1]; NaN where no linear layer reads it
    Source   arXiv 2405.19237 and its public code; the column mean is ours
    """
    wanted, other = (np.sqrt(np.square(rows).sum(axis=0)) for rows in (target, reference))

    def column(weight, mine):
        sides = (array[: parameters.calls, mine] for array in (wanted, other))
        return voted(weight, *sides, parameters.share, parameters.select_ratio).mean(axis=0)

    return through_weights(layer, weights, column)
