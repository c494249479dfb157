"""FIA: prune weights that single concepts need, and keep those that many concepts share."""

import math

from pydantic import ConfigDict, Field

from workbench.methods.erasers._inputs import Sampled
from workbench.methods.erasers._layers import Layers
from workbench.study.part import Said

MASK = True


class Parameters(Sampled):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    layers: tuple[Layers, ...] = Field(("reads",), min_length=1, description="layers searched; published: reads")
    often: float = Field(0.05, gt=0, lt=1, description="r1: top share of a layer's weights that counts as a hit at a call")
    share: float = Field(0.02, gt=0, lt=1, description="r2: top share of the row and of the layer; published: 0.007 to 0.03")
    alpha: float = Field(
        0.6, gt=0, le=1, description="share of the concepts from which a weight counts as shared; published: 0.6 (styles 0.8)"
    )
    concepts: tuple[Said, ...] = Field(
        (), description="names; a pair belongs to the first one that its prompt says. Empty: all pairs are of one concept"
    )


def by_concept(pairs, concepts):
    """The pairs of each concept.

    Raises   MethodError when a pair says none of the names, or a name has no pair
    """
    from workbench.errors import MethodError

    if not concepts:
        return [list(pairs)]
    found = {name: [] for name in concepts}
    for pair in pairs:
        name = next((name for name in concepts if name in pair[0]), None)
        if name is None:
            raise MethodError(f'The prompt "{pair[0]}" says none of the concepts {", ".join(concepts)}.')
        found[name].append(pair)
    for name, own in found.items():
        if not own:
            raise MethodError(f'No prompt says the concept "{name}". Give it one, or take it from `concepts`.')
    return list(found.values())


def erase(model, pairs, parameters, *, progress=None, spare=None, **context):
    """Mask weights that few concepts need; returns {"unet.<name>": bool tensor, True = pruned}.

    spare      {layer path: indices} of neurons whose weights are left out: the formulas see each matrix without them
    progress   called with (concept, of, "concepts measured")
    Raises     MethodError when a concept has fewer than two images to compare, or the fused mask is empty
    Source     arXiv 2601.06163 second-hand, public code (SCIENCE 2.4 and 4)
    """
    import numpy as np
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._inputs import both, norm
    from workbench.methods.erasers._layers import candidates, left, watched
    from workbench.neurons.weights import excess, fused, leading

    weights, groups = candidates(model.unet, parameters.layers), by_concept(pairs, parameters.concepts)
    votes, spared = {name: [] for name in weights}, watched(weights, spare)
    for number, group in enumerate(groups, start=1):
        if len(group) * parameters.seeds == 1:
            raise MethodError("FIA compares with a spread over images: give a concept two prompts, or set `seeds` to 2 or more.")
        target, reference = both(model, group, parameters, list(weights), norm, "FIA")
        for name, weight in weights.items():
            rows, columns = left(name, weight, spared)
            part, vote = np.ix_(rows, columns), np.zeros(weight.shape, bool)
            sides = (one[name].numpy()[:, :, columns] for one in (target, reference))
            important = excess(weight.float().cpu().numpy()[part], *sides, parameters.often)
            vote[part] = leading(important, parameters.share)
            votes[name].append(vote)
        if progress:
            progress(number, len(groups), "concepts measured")
    masks = {f"unet.{name}": torch.from_numpy(fused(own, parameters.alpha)) for name, own in votes.items()}
    if not any(mask.any() for mask in masks.values()):
        least = math.ceil(parameters.alpha * len(groups))
        raise MethodError(
            f"FIA would prune nothing: every weight selected by {least} or more of {len(groups)} concepts counts as shared, and no "
            "other was selected. Raise `alpha`, give more concepts, or raise `share`."
        )
    return masks


def passes(parameters, n_pairs):
    """UNet row passes of measuring, for the estimate."""
    from workbench.methods.erasers._inputs import sampling_passes

    return sampling_passes(parameters, 2 * n_pairs)
