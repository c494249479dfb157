"""FIA: weights whose input exceeds the reference by more than its spread, on average and again and again."""

from pydantic import BaseModel, ConfigDict, Field

from workbench.methods.scores._weights import through_weights
from workbench.neurons.weights import excess


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    often: float = Field(0.05, gt=0, lt=1, description="r1: top share of a layer's weights that counts as a hit at a call")


NEEDS = ("target", "reference", "norm", "calls", "weights")
UNIT = "FIA importance, 0 to 1"


def score(target, reference, erased=None, layer=None, *, weights, parameters):
    """The mean of a neuron's column of `neurons.weights.excess` over the rows it writes to.

    Shapes   target, reference  (prompt, call, neuron) L2 norms over tokens
             returns            (neuron,) in [0, 1]; NaN where no linear layer reads it
    Source   arXiv 2601.06163, public code (SCIENCE 2.4); the column mean is ours
    """

    def column(weight, mine):
        return excess(weight, target[..., mine], reference[..., mine], parameters.often).mean(axis=0)

    return through_weights(layer, weights, column)
