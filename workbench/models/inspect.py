"""What did a checkpoint change? Per parameter and by place in the model, with what published erasers would have changed."""

import math

import torch

PLACES = {
    "attn2 key, value": (".attn2.to_k.", ".attn2.to_v."),
    "attn2 query, output": (".attn2.",),
    "attn1": (".attn1.",),
    "ff": (".ff.net.",),
}
POWER_STEPS = 30


def rows(found, model):
    """[{parameter, n, changed, relative_change, rank_one, zeroed, zeroed_rows, zeroed_columns, not_finite}] of every changed parameter.

    found   Checkpoint of `formats.read`; compared in the file's dtype
    n, changed        weights of the tensor, and how many of them differ
    relative_change   |W - W_0| / |W_0|, Frobenius norms; None where W_0 is zero, or W is not finite
    rank_one          share of |W - W_0|^2 in its largest singular value; None for vectors, and where W is not finite
    zeroed            weights that became exactly zero; rows and columns that did as a whole: what pruning leaves
    not_finite        numbers of the tensor that are not finite in the model's type
    """
    own, result = model.parameters(), []
    for name, value in sorted(found.changed(model).items()):
        before = own[name].detach().cpu().to(value.dtype)
        value, before = _wide(value), _wide(before)
        difference, new_zeros = value - before, (value == 0) & (before != 0)
        finite, scale = name not in found.not_finite, _norm(before)
        size, rank_one = _norm(difference) if finite else math.nan, math.nan
        if finite and difference.dim() > 1:
            rank_one = _rank_one(difference.flatten(1))
        flat = new_zeros.flatten(1) if new_zeros.dim() > 1 else new_zeros[:, None]
        result.append(
            {
                "parameter": name,
                "n": value.numel(),
                "changed": int(torch.count_nonzero(difference)),
                "relative_change": _number(size / scale) if scale else None,
                "rank_one": _number(rank_one),
                "zeroed": int(new_zeros.sum()),
                "zeroed_rows": int(flat.all(dim=1).sum()),
                "zeroed_columns": int(flat.all(dim=0).sum()) if new_zeros.dim() > 1 else 0,
                "not_finite": sum(found.not_finite.get(name, {}).values()),
            }
        )
    return result


def _wide(value):
    """In a type that subtracts: float8 does not."""
    return value if value.dtype == torch.float64 else value.float()


def _number(value):
    return value if math.isfinite(value) else None


def _norm(value):
    """|value| in float64, so that large numbers do not overflow."""
    return torch.linalg.vector_norm(value, dtype=torch.float64).item()


def _rank_one(matrix):
    """sigma_1^2 / |M|^2 by power iteration from the largest row."""
    matrix = matrix / matrix.abs().max()
    total = matrix.square().sum()
    vector = matrix[matrix.square().sum(dim=1).argmax()]
    for _ in range(POWER_STEPS):
        vector = matrix.T @ (matrix @ (vector / vector.norm()))
    return min(1.0, (matrix @ (vector / vector.norm())).square().sum().item() / total.item())


def by_place(changes, model):
    """[{place, tensors, of, weights_changed, of_weights, zeroed}] over the model, from `rows`; places without change are left out."""
    found = {}
    for name, parameter in model.parameters().items():
        row = found.setdefault(place(name), {"tensors": 0, "of": 0, "weights_changed": 0, "of_weights": 0, "zeroed": 0})
        row["of"] += 1
        row["of_weights"] += parameter.numel()
    for change in changes:
        row = found[place(change["parameter"])]
        row["tensors"] += 1
        row["weights_changed"] += change["changed"]
        row["zeroed"] += change["zeroed"]
    return [{"place": name} | row for name, row in found.items() if row["tensors"]]


def place(name):
    """Where in the model a parameter is: a kind of layer of the UNet, or a text encoder."""
    part, _, inner = name.partition(".")
    if part != "unet":
        return part.replace("_", " ")
    return next((place for place, parts in PLACES.items() if any(one in inner for one in parts)), "other layers of the UNet")


def base(found, changes):
    """Whether it was made from this base model, as one sentence; only a complete UNet can show it."""
    if "unet" not in found.complete:
        return "A partial file cannot show which base it was made from."
    n = sum(name.startswith("unet.") for name in found.tensors)
    equal = n - sum(change["parameter"].startswith("unet.") for change in changes)
    if equal:
        return f"{equal} of {n} tensors of the UNet equal this base, so it is the one the file was made from."
    return (
        f"None of the {n} tensors of the UNet equals this base: all of it was trained, or it was made from another one of the same shapes "
        "(Stable Diffusion 1.4 and 1.5 have the same)."
    )


def like(changes):
    """What published erasers change the same places, as one sentence; nothing is concluded from the file's name."""
    places = {place(change["parameter"]) for change in changes}
    zeroed = sum(change["zeroed"] for change in changes)
    only_ff_out = all(".ff.net.2." in change["parameter"] for change in changes)
    if not changes:
        return "Nothing differs from the base model."
    if zeroed and zeroed == sum(change["changed"] for change in changes):
        where = "in ff.net.2, as ConceptPrune and FIA prune" if only_ff_out else "as pruning leaves them"
        return f"Every change is an exact zero {where}: {zeroed} weights. They show where the concept was."
    if places == {"attn2 key, value"}:
        return "Only attn2.to_k and to_v: as UCE, RECE, MACE, AC (cross-attn) and ESD x-strict change."
    if places <= {"attn2 key, value", "attn2 query, output"}:
        return "Only cross-attention: as ESD x changes."
    if places <= {"attn2 key, value", "attn2 query, output", "attn1"}:
        return "Only attention: as AC (attn) and FMN change."
    if not any(place.startswith("attn2") for place in places) and all("text" not in place for place in places):
        return "Everything but cross-attention may change: as ESD u and EraseDiff (noxattn) do."
    if all("text" in place for place in places):
        return "Only the text encoder: as AdvUnlearn changes. Neurons of the UNet then differ by the text states alone."
    return "Changes all over the UNet: as SalUn, Scissorhands and full fine-tuning make."
