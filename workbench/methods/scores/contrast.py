"""Contrast: how much more a neuron fires when the concept is in the prompt, in the base model."""

import numpy as np
from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid")


NEEDS = ("target", "reference")
UNIT = "multiples of the layer's mean |a|"


def score(target, reference, erased=None, layer=None):
    """kappa in units of the layer's own size of activation, so that no layer wins by its scale alone.

    score = (mean_target |a| - mean_reference |a|) / mean |a| over the layer's neurons and both sets

    Shapes   target, reference  (prompt, neuron) mean |a| over the window of calls
             layer              (neuron,) names of layers; None = one layer
             returns            (neuron,); 0 = no difference
    Source   ours; docs/reference/definitions.md#scores
    """
    kappa = np.mean(target, axis=0) - np.mean(reference, axis=0)
    size = (np.mean(target, axis=0) + np.mean(reference, axis=0)) / 2
    layer = np.zeros(len(kappa)) if layer is None else np.asarray(layer)
    scale = np.ones_like(kappa)
    for name in np.unique(layer):
        mine = layer == name
        scale[mine] = size[mine].mean() or 1.0
    return kappa / scale
