"""Revive pruned weights: complete what pruning cut from what it left; no data, no training, the test of every mask.

What it proves: when the concept comes back, the mask hid it, for the weights left over still say what was cut. When it does not,
this way of filling in found nothing; that alone is no proof of removal.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_ITERATIONS
from workbench.study.published import Published

CITATIONS = ("zhang2026roots",)
TOLERANCE = 1e-5
INCOMING, OUTGOING = "net.0.proj.weight", "net.2.weight"
SMALLEST = "smallest"
VERSION = 2  # 1 rounded the number of weights that come back
PUBLISHED = Published(
    source="Brankozz/Roots-Beneath-the-Cut, revive/ at 680c979; arXiv 2603.06640",
    values={"wiring": "matrix", "keep": 0.6, "start": "mean", "threshold": "smallest", "iterations": 500},
    ours=("least",),
    differs=(
        "they complete ff.net.2 alone, in double precision; here every pruned matrix, in single precision",
        "where a normal draw of the row's mean and spread is larger than the row's largest weight, theirs comes back as large as the draw",
    ),
)


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    wiring: Literal["auto", "matrix", "neuron"] = Field(
        "auto",
        description="matrix: each pruned matrix by itself, as published; neuron: the incoming and outgoing weights of ff neurons together, "
        "so that a neuron whose incoming weights were all cut is filled in from its outgoing ones; auto: neuron in a feed-forward layer "
        "with such a neuron, matrix everywhere else",
    )
    keep: float = Field(
        0.6, gt=0, le=1, description="share of the pruned weights that return, those filled in largest first; published: 0.6 (0.2 to 0.8)"
    )
    start: Literal["zero", "mean"] = Field(
        "zero", description="what stands in the gaps at first; published: mean, that of the weights left in the column"
    )
    threshold: Literal["smallest"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        0.01,
        description="what every step takes off the singular values: a share of the largest of the weights left; published: smallest, the "
        "smallest of them at this step",
    )
    iterations: int = Field(
        100, ge=1, le=MOST_ITERATIONS, description="steps of filling in; fewer when nothing moves any more; published: 500"
    )
    least: float = Field(
        1e-4, gt=0, lt=1, description="share of exact zeros from which a matrix counts as pruned; half precision makes a few by itself"
    )


def learns_from(parameters):
    """Sides of the pairs it learns from: none."""
    return ()


def lifts_masks(parameters):
    """Whether the weights hold as they are where a parent pruned: that is the point of it."""
    return True


def completed(matrix, missing, threshold, iterations, start="zero"):
    """Fill the missing entries by iterated soft-thresholded singular value decomposition.

    X <- known where known, U max(S - s, 0) V^T of X where missing. s is `threshold` times the largest singular value of the known
    entries with 0 elsewhere, or, for "smallest", the smallest entry of S at this step. X starts with 0, or with the mean of the known
    entries of the column (0 where none is known). It ends early when two steps together moved X by at most 1e-5 of its size.

    Shapes   matrix, missing (row, column), missing bool; returns (row, column), known entries bit for bit
    """
    import torch

    known = matrix.masked_fill(missing, 0)
    taken = None if threshold == SMALLEST else threshold * torch.linalg.matrix_norm(known, 2)
    means = known.sum(dim=0) / (~missing).sum(dim=0).clamp(min=1)
    filled, previous = torch.where(missing, means, known) if start == "mean" else known, None
    for _ in range(iterations):
        u, s, v = torch.linalg.svd(filled, full_matrices=False)
        after = torch.where(missing, (u * (s - (s[-1] if taken is None else taken)).clamp(min=0)) @ v, known)
        if previous is not None and (after - previous).norm() <= TOLERANCE * previous.norm():
            return after
        previous, filled = filled, after
    return filled


def revived(matrix, missing, filled, keep):
    """The missing entries as sign(filled) times the row's largest known |w|, but int((1 - keep) n) of n, filled in smallest, stay 0.

    Shapes   matrix, missing, filled (row, column); returns (row, column), known entries bit for bit
    """
    import torch

    places = missing.nonzero(as_tuple=True)
    n = len(places[0])
    best = filled[places].abs().topk(n - int((1 - keep) * n)).indices
    kept = torch.zeros_like(missing)
    kept[places[0][best], places[1][best]] = True
    known = matrix.masked_fill(missing, 0)
    return torch.where(kept, filled.sign() * known.abs().amax(dim=1, keepdim=True), known)


def erase(model, pairs, parameters, *, progress=None, **context):
    """Give pruned weights of the UNet back; returns {"unet.<name>": tensor} with every weight that was not cut bit for bit.

    The model has its pruned parent applied: pruned are the exact zeros of matrices and convolutions that have a share of at
    least `least` of them. Biases stay as they are. Rows are a matrix's outputs; where ff neurons are completed as wholes, the row
    of one is its value and gate weights and its outgoing ones, each kind in units of its root mean square.

    progress   called with (step, of, name)
    Raises     MethodError when nothing is pruned, or nothing is left to fill in from
    Source     Roots Beneath the Cut (arXiv 2603.06640) and its public code. Ours: `wiring = "neuron"`; every pruned matrix, where
               theirs are ff.net.2 alone; single precision; and the row's largest |w| itself, where theirs is |N(mean, sd)| of the row
               in the rare place where that is larger
    """
    from workbench.errors import MethodError

    own = {name: parameter.detach() for name, parameter in model.unet.named_parameters()}
    pruned = {name for name, weight in own.items() if _is_pruned(weight, parameters.least)}
    if not pruned:
        raise MethodError(
            f"Nothing of this UNet is pruned: no matrix has exact zeros in a share of {parameters.least:g} of its weights. "
            "Give the variant a pruned `parent`."
        )
    changed = {}
    groups = _groups(own, pruned, parameters.wiring)
    for number, group in enumerate(groups, start=1):
        changed |= _revive(own, pruned, group, parameters)
        if progress:
            progress(number, len(groups), group[0])
    if not changed:
        raise MethodError(
            "Nothing could be revived: every pruned row is cut as a whole, and its matrix says nothing about it. "
            'Set wiring = "auto" or "neuron", which look at the other weights of the neuron too.'
        )
    return {f"unet.{name}": weight for name, weight in changed.items()}


def _is_pruned(weight, least):
    share = (weight == 0).float().mean().item() if weight.ndim > 1 else 0.0
    return least <= share < 1


def _groups(own, pruned, wiring):
    """Names of the matrices that are completed together: [incoming, outgoing] of ff neurons, or one each."""
    groups = {}
    for name in sorted(pruned):
        block = name.removesuffix(INCOMING).removesuffix(OUTGOING)
        pair = [block + INCOMING, block + OUTGOING]
        joined = wiring == "neuron" or (wiring == "auto" and pair[0] in pruned and _cuts_a_neuron(own[pair[0]]))
        together = joined and name in pair and all(one in own for one in pair)
        groups[block if together else name] = pair if together else [name]
    return list(groups.values())


def _cuts_a_neuron(incoming):
    """Whether some neuron has neither a value nor a gate weight left."""
    value, gate = incoming.chunk(2)
    return bool(((value == 0) & (gate == 0)).all(dim=1).any())


def _revive(own, pruned, group, parameters):
    import torch

    parts, cut = [], []
    for name in group:
        weight = own[name].to(torch.promote_types(own[name].dtype, torch.float32))
        zero = weight == 0 if name in pruned else torch.zeros_like(weight, dtype=torch.bool)
        parts += _rows(weight, name, len(group))
        cut += _rows(zero, name, len(group))
    sizes = [part[~zero].square().mean().sqrt() if (~zero).any() else part.new_ones(()) for part, zero in zip(parts, cut, strict=True)]
    matrix, missing = torch.cat([part / size for part, size in zip(parts, sizes, strict=True)], dim=1), torch.cat(cut, dim=1)
    filled = completed(matrix, missing, parameters.threshold, parameters.iterations, parameters.start)
    found = revived(matrix, missing, filled, parameters.keep).split([part.shape[1] for part in parts], dim=1)
    found = [part * size for part, size in zip(found, sizes, strict=True)]
    whole = [found[0]] if len(group) == 1 else [torch.cat(found[:2]), found[2].T]
    result = {}
    for name, values in zip(group, whole, strict=True):
        values = values.reshape(own[name].shape).to(own[name].dtype)
        if name in pruned and (values[own[name] == 0] != 0).any():
            result[name] = torch.where(own[name] == 0, values, own[name])
    return result


def _rows(weight, name, n_together):
    """A weight as matrices with a row per output, or, of a pair, per neuron: value and gate rows, or the outgoing columns."""
    if n_together == 1:
        return [weight.flatten(1)]
    return list(weight.chunk(2)) if name.endswith(INCOMING) else [weight.T]
