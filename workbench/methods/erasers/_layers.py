"""Which weights a mask may cut, and cutting an exact share of them.

candidates   parameter names by what they do: feed neurons, read neurons, attend to the text
watched      which of them feed or read neurons that are to be spared;  left   the rows and columns without these
lowest       the mask of the n smallest scores, ties by position
cut          masks of an exact share, in rows, layers or over all
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ENDS = {
    "feeds": (".ff.net.0.proj.weight",),
    "reads": (".ff.net.2.weight",),
    "attention": (".attn2.to_k.weight", ".attn2.to_v.weight"),
}
Layers = Literal["feeds", "reads", "attention"]


class Share(BaseModel):
    """How much is cut, and where; part of every pruning eraser's parameters."""

    model_config = ConfigDict(extra="forbid")

    layers: tuple[Layers, ...] = Field(
        ("reads",),
        min_length=1,
        description="feeds: ff.net.0.proj, into ff neurons; reads: ff.net.2, out of them; attention: attn2.to_k and to_v",
    )
    share: float = Field(0.02, gt=0, lt=1, description="share of the weights of these layers that is cut")
    group: Literal["row", "layer", "global"] = Field("layer", description="weights that compete with each other for this share")


def candidates(unet, layers):
    """{parameter name: weight} of the chosen layers, without the `unet.` prefix.

    Raises   MethodError when the UNet has none of them
    """
    from workbench.errors import MethodError

    ends = tuple(end for layer in dict.fromkeys(layers) for end in ENDS[layer])
    found = {name: weight.detach() for name, weight in unet.named_parameters() if name.endswith(ends)}
    if not found:
        raise MethodError(f"This UNet has none of the layers {', '.join(layers)}. Possible: {', '.join(ENDS)}.")
    return found


def watched(weights, spare):
    """{name: bool tensor of the weight's shape}, True = feeds or reads a spared neuron: whole rows or whole columns.

    A neuron is fed by its value and its gate row of ff.net.0.proj and read by its column of ff.net.2; attention has neither.

    spare    {layer path ending in ff.net.2: neuron indices}, or None; then the result is empty
    Raises   MethodError when there are no neurons to spare
    """
    import torch

    from workbench.errors import MethodError

    if spare is None:
        return {}
    if not any(len(index) for index in spare.values()):
        raise MethodError("No neuron is watched, so none can be spared: leave `spare` out, or raise `choose.share`.")
    found = {}
    for name, weight in weights.items():
        layer = name.removesuffix("net.0.proj.weight").removesuffix("net.2.weight") + "net.2"
        if layer in spare:
            index = torch.as_tensor(spare[layer])
            found[name] = torch.zeros(weight.shape, dtype=torch.bool)
            if name.endswith(ENDS["reads"]):
                found[name][:, index] = True
            else:
                found[name][torch.cat([index, index + len(weight) // 2])] = True
    return found


def left(name, weight, spared):
    """(rows, columns) of a matrix, index arrays that fit `np.ix_`, without the spared ones; all where nothing is spared."""
    import torch

    mask = spared.get(name, torch.zeros(weight.shape, dtype=torch.bool))
    return (~mask.all(dim=1)).nonzero()[:, 0].numpy(), (~mask.all(dim=0)).nonzero()[:, 0].numpy()


def lowest(scores, n):
    """Mask of the n smallest scores, True = chosen; equal scores by position, so that it is the same everywhere."""
    import torch

    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().cpu().argsort(stable=True)[:n]] = True
    return mask.reshape(scores.shape)


def cut(scores, share, group, weights, counts=None, spared=None, whole=round):
    """Masks {"unet.<name>": bool, True = pruned} of the weights with the smallest scores that are not zero yet.

    scores    {name: tensor of the weight's shape}, smallest is cut first
    counts    {"unet.<name>": bool tensor}: cut as many weights of each layer as this mask, in place of the share; names it lacks
              and its biases are left out
    spared    {name: bool tensor}, True = never cut and not counted, as `watched` gives it
    whole     round, or int for methods whose authors cut off: n = whole(share * weights that are not spared) of each row, of each
              layer, or of all
    Raises    MethodError when nothing would be cut, or fewer weights are left than asked for
    """
    import torch

    from workbench.errors import MethodError

    never = {name: (spared or {}).get(name, torch.zeros(one.shape, dtype=torch.bool)).cpu() for name, one in scores.items()}
    closed = {name: (weights[name].cpu() == 0) | never[name] for name in scores}
    open_scores = {name: one.cpu().masked_fill(closed[name], float("inf")) for name, one in scores.items()}
    n_open = {name: (~one).sum(dim=-1) for name, one in never.items()}
    if counts is not None:
        counts = {name: mask for name, mask in counts.items() if not name.endswith(".bias")}
        missing = sorted(set(counts) - {f"unet.{name}" for name in scores})
        if missing:
            raise MethodError(f'The mask to equal cuts "{missing[0]}", which is not among the chosen layers. Set `layers` to its own.')
        n = {name: int(counts[f"unet.{name}"].sum()) for name in scores if f"unet.{name}" in counts}
        masks = {name: lowest(open_scores[name], count) for name, count in n.items()}
    elif group == "row":
        rows = {name: zip(one, n_open[name].tolist(), strict=True) for name, one in open_scores.items()}
        masks = {name: torch.stack([lowest(row, whole(share * n)) for row, n in own]) for name, own in rows.items()}
    elif group == "layer":
        masks = {name: lowest(one, whole(share * int(n_open[name].sum()))) for name, one in open_scores.items()}
    else:
        flat = torch.cat([one.flatten() for one in open_scores.values()])
        n = whole(share * sum(int(one.sum()) for one in n_open.values()))
        parts = lowest(flat, n).split([one.numel() for one in open_scores.values()])
        masks = {name: part.reshape(one.shape) for (name, one), part in zip(open_scores.items(), parts, strict=True)}
    for name, mask in masks.items():
        if (open_scores[name][mask] == float("inf")).any():
            raise MethodError(f'"{name}" has fewer weights left than are to be cut. Lower `share`, or compare in another group.')
    if not any(mask.any() for mask in masks.values()):
        raise MethodError("Nothing would be cut: the share is less than one weight of each group. Raise `share`.")
    return {f"unet.{name}": mask for name, mask in masks.items()}
