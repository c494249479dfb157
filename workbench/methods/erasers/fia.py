"""FIA: prune weights that single concepts need, and keep those that many concepts share."""

import math
from typing import Literal

from pydantic import ConfigDict, Field

from workbench.methods.erasers._inputs import Branched
from workbench.methods.erasers._layers import Layers
from workbench.study.fields import NonEmpty
from workbench.study.published import Published

CITATIONS = ("deng2026forget",)
MASK = True
VERSION = 2  # 1 rounded, and had other formulas
PUBLISHED = Published(
    source="kaiyuan02415/Forget-It-All at 4904518, fia/ and configs/; arXiv 2601.06163, Table 8",
    values={"form": "code", "branches": "both", "layers": ("reads",), "often": 0.05, "steps": 50, "calls": 10, "guidance": 7.5}
    | {"seeds": 1, "seed": 1244},
    tasks={
        "object": {"share": 0.007, "alpha": 0.6},
        "hard-object": {"share": 0.03, "alpha": 0.6},
        "style": {"share": 0.02, "alpha": 0.8},
        "van-gogh": {"share": 0.03, "alpha": 0.8},
        "nudity": {"share": 0.01, "alpha": 0.6},
    },
    ours=("concepts",),
    differs=(
        "they measure in half precision, and a concept has up to 30 prompt pairs of their own",
        "of a single concept their code prunes nothing, here what it names",
    ),
)


class Parameters(Branched):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    form: Literal["code", "paper"] = Field(
        "code",
        description="code: weight times row norm, the mean over calls divided by its maximum, as the authors' code has it; paper: Eq. 1 "
        "with raw norms and the cosine of input and output, and Eq. 3 without that division",
    )
    layers: tuple[Layers, ...] = Field(("reads",), min_length=1, description="layers searched; published: reads")
    often: float = Field(0.05, gt=0, lt=1, description="r1: top share of a layer's weights that counts as a hit at a call; published: 0.05")
    share: float = Field(0.02, gt=0, lt=1, description="r2: top share of the row and of the layer; published: 0.007 to 0.03")
    alpha: float = Field(
        0.6, gt=0, le=1, description="share of the concepts from which a weight counts as shared; published: 0.6 (styles 0.8)"
    )
    concepts: tuple[NonEmpty, ...] = Field(
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


def check_training(parameters, pairs):
    """MethodError when the pairs do not divide into the concepts."""
    by_concept(pairs, parameters.concepts)


def erase(model, pairs, parameters, *, progress=None, spare=None, **context):
    """Mask weights that few concepts need; returns {"unet.<name>": bool tensor, True = pruned}.

    S_t = max(0, mean_target U_t - mean_reference U_t - sd_reference U_t) over prompts, sd divided by n, with
    code    U_t[r, i] = |W[r, i]| A_t,i, A_t,i the norm over tokens after each token row is brought to length 1
    paper   U_t[r, i] = |W[r, i]| ||X_i|| |<X_i, Y_r>| / (||X_i|| ||Y_r|| + 1e-8)
    Then A = mean_t S_t / 2 + mean_t 1[S_t > tau_t] / 2, of which the code divides the first mean by its maximum; a concept names
    the top max(1, int(share n)) of A in its row and in its layer, and what 1 to ceil(alpha C) - 1 of C concepts name is cut. The
    tokens of both branches of guidance count together unless `branches = "cond"`.

    One concept is a case apart: what it names is cut. The authors' code cuts nothing then, for ceil(alpha) = 1.

    spare      {layer path: indices} of neurons whose weights are left out: the formulas see each matrix without them
    progress   called with (concept, of, "concepts measured")
    Raises     MethodError when there are no pairs, a concept has fewer than two images to compare, or the fused mask is empty
    Source     arXiv 2601.06163, Eq. 1 to 8, and its public code
    """
    import numpy as np
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._inputs import check_pairs
    from workbench.methods.erasers._layers import candidates, left, watched
    from workbench.neurons.weights import fused, leading

    check_pairs(pairs, "FIA")
    weights, groups = candidates(model.unet, parameters.layers), by_concept(pairs, parameters.concepts)
    votes, spared = {name: [] for name in weights}, watched(weights, spare)
    places = {name: np.ix_(*left(name, weight, spared)) for name, weight in weights.items()}
    for number, group in enumerate(groups, start=1):
        if len(group) * parameters.seeds == 1:
            raise MethodError("FIA compares with a spread over images: give a concept two prompts, or set `seeds` to 2 or more.")
        for name, important in _importance(model, group, parameters, weights, places):
            vote = np.zeros(weights[name].shape, bool)
            vote[places[name]] = leading(important, parameters.share)
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


def _importance(model, group, parameters, weights, places):
    """(name, A (output, neuron) of the rows and columns in `places`) of every layer, for the pairs of one concept."""
    from workbench.methods.erasers._inputs import both, row_norm, signals
    from workbench.neurons.weights import excess, sensitive

    if parameters.form == "code":
        sides = both(model, group, parameters, list(weights), row_norm, "FIA")
        for name, weight in weights.items():
            columns = places[name][1][0]
            seen = (side[name].numpy()[:, :, columns] for side in sides)
            yield name, excess(weight.float().cpu().numpy()[places[name]], *seen, parameters.often)
        return
    target, reference = (signals(model, [pair[side] for pair in group], parameters, weights) for side in (0, 1))
    for name in weights:
        (mean, _), (other, spread) = target[name], reference[name]
        saliency = ((a - b - c).clip(min=0)[places[name]] for a, b, c in zip(mean, other, spread, strict=True))
        yield name, sensitive(saliency, parameters.often, scaled=False)


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of measuring, for the estimate."""
    from workbench.methods.erasers._inputs import sampling_passes

    return sampling_passes(parameters, 2 * n_pairs)
