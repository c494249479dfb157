"""FIA: weights whose input exceeds the reference by more than its spread, on average and again and again."""

from pydantic import BaseModel, ConfigDict, Field

from workbench.methods.scores._weights import through_weights
from workbench.neurons.weights import excess

CITATIONS = ("deng2026forget",)


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    often: float = Field(0.05, gt=0, lt=1, description="r1: top share of a layer's weights that counts as a hit at a call")


VERSION = 2  # 1 had raw norms, the sd of n - 1, and a hit more
NEEDS = ("target", "reference", "row_norm", "calls", "weights")
UNIT = "FIA importance, 0 to 1"


def score(target, reference, erased=None, layer=None, *, weights, parameters):
    """The mean of a neuron's column of `neurons.weights.excess` over the rows it writes to: FIA's importance in the form of its code.

    The eraser `fia` pools both branches of guidance, as the authors do; here the cond branch alone, for recordings keep the branches
    apart. The paper's form needs the cosine of every input with every output, which a recording does not hold: only the eraser has it.

    Shapes   target, reference  (prompt, call, neuron) norms over tokens after each token row is brought to length 1
             returns            (neuron,) in [0, 1]; NaN where no linear layer reads it
    Source   public code of arXiv 2601.06163; the column mean is ours
    """

    def column(weight, mine):
        return excess(weight, target[..., mine], reference[..., mine], parameters.often).mean(axis=0)

    return through_weights(layer, weights, column)
