"""ConceptPrune: prune the weights that are skilled in the concept during the first calls."""

from pydantic import ConfigDict, Field

from workbench.methods.erasers._inputs import Branched
from workbench.methods.erasers._layers import Layers
from workbench.study.published import Published

CITATIONS = ("chavhan2024conceptprune",)
MASK = True
VERSION = 2  # 1 rounded, and measured the cond branch alone
PUBLISHED = Published(
    source="ruchikachavhan/concept-prune at 72927d9 and its README; ratios and timesteps by task: arXiv 2405.19237, second-hand",
    values={"branches": "both", "layers": ("reads",), "select_ratio": 0.0, "steps": 50, "guidance": 7.5, "seeds": 1, "seed": 0},
    tasks={
        "style": {"skill_ratio": 0.01, "calls": 10},
        "object": {"skill_ratio": 0.02, "calls": 10},
        "nudity": {"skill_ratio": 0.01, "calls": 9},
    },
    differs=("they measure and prune in half precision", "their prompts are pairs of their own, such as a cat / a cat in the style of X"),
)


class Parameters(Branched):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    layers: tuple[Layers, ...] = Field(("reads",), min_length=1, description="layers searched; published: reads")
    skill_ratio: float = Field(0.02, gt=0, le=1, description="top share of each row; published: 0.01 (styles, nudity), 0.02 (objects)")
    select_ratio: float = Field(0.0, ge=0, lt=1, description="a weight is cut when more than this share of the calls name it; published: 0")


def erase(model, pairs, parameters, *, progress=None, spare=None, **context):
    """Mask skilled weights; returns {"unet.<name>": bool tensor, True = pruned}.

    A_i = sqrt(sum over token rows of ahat_i^2), each token row brought to length 1, over all prompts, and over both branches of
    guidance unless `branches = "cond"`. The top of a row is int(skill_ratio * width) weights.

    spare    {layer path: indices} of neurons whose weights are left out: the rule sees each matrix without them
    Raises   MethodError when there are no pairs, or no weight is skilled
    Source   arXiv 2405.19237; branches, order and count as in its public code
    """
    import numpy as np
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._inputs import both, row_norm
    from workbench.methods.erasers._layers import candidates, left, watched
    from workbench.neurons.weights import voted

    weights = candidates(model.unet, parameters.layers)
    target, reference = both(model, pairs, parameters, list(weights), row_norm, "ConceptPrune")
    masks, spared = {}, watched(weights, spare)
    for name, weight in weights.items():
        rows, columns = left(name, weight, spared)
        part = np.ix_(rows, columns)
        sides = (one[name].square().sum(dim=0).sqrt().numpy()[:, columns] for one in (target, reference))
        mask = np.zeros(weight.shape, bool)
        mask[part] = voted(weight.float().cpu().numpy()[part], *sides, parameters.skill_ratio, parameters.select_ratio)
        masks[f"unet.{name}"] = torch.from_numpy(mask)
    if not any(mask.any() for mask in masks.values()):
        widest = max(weight.shape[1] for weight in weights.values())
        why = f" A row's top is int({parameters.skill_ratio:g} * {widest}) = 0 weights." if parameters.skill_ratio * widest < 1 else ""
        raise MethodError(f"No weight is skilled in the concept.{why} Raise `skill_ratio`, or lower `select_ratio`.")
    return masks


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of measuring, for the estimate."""
    from workbench.methods.erasers._inputs import sampling_passes

    return sampling_passes(parameters, 2 * n_pairs)
