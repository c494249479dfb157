"""Parts of a study that must fit together, told when it is read.

check_choice     what chooses the concept neurons
check_like       a control of equal sparsity and the mask it equals
check_spare      a mask that leaves the watched neurons alone
check_expected   a rate known from elsewhere
All raise ValueError with one sentence, as pydantic's validators want it.
"""

from workbench import registry
from workbench.errors import nearest


def check_choice(choose):
    """One score of the base model alone, or several that agree: each once, the listed one among them, no more votes than scores."""
    for where, names in (("score", [choose.score]), ("agree", choose.agree or [])):
        for name in names:
            if "erased" in registry.method("scores", name).module.NEEDS:
                raise ValueError(f'choose.{where}: "{name}" needs an erased model; choose by a score of the base model alone')
    if choose.agree is None:
        for name in ("by", "votes"):
            if getattr(choose, name) is not None:
                raise ValueError(f"choose.{name} says how scores agree, but none are given: list at least 2 in choose.agree")
        return
    if len(set(choose.agree)) < max(2, len(choose.agree)):
        raise ValueError(f"choose.agree needs at least 2 scores, each once, not {choose.agree}. One score chooses as choose.score")
    if choose.score not in choose.agree:
        raise ValueError(
            f'choose.score "{choose.score}" is not among choose.agree: it is the one listed first, so set it to one of '
            + ", ".join(choose.agree)
        )
    if choose.by == "votes" and choose.votes is None:
        raise ValueError(f"choose.by is votes: say with choose.votes how many of the {len(choose.agree)} scores must agree")
    if choose.by != "votes" and choose.votes is not None:
        raise ValueError('choose.votes counts only with choose.by = "votes"; by rank all scores weigh the same')
    if (choose.votes or 0) > len(choose.agree):
        raise ValueError(f"choose.votes = {choose.votes}, but only {len(choose.agree)} scores are listed in choose.agree")


def check_like(variant, earlier):
    """A control of equal sparsity: what it equals is an earlier mask over the same layers, and sets the share."""
    known = registry.methods("erasers")
    masks = {one.name: one for one in earlier if getattr(known[one.method].module, "MASK", False)}
    where = f'variant "{variant.name}" is like "{variant.like}"'
    if variant.like not in masks:
        raise ValueError(f"{where}, which is no mask defined before it.{nearest(variant.like, masks)}")
    if "like" not in known[variant.method].takes:
        able = ", ".join(name for name, method in known.items() if "like" in method.takes)
        raise ValueError(f"{where}, but {variant.method} sets its own share. Methods that can be like another mask: {able}")
    for name in [name for name in ("share", "group") if name in variant.parameters]:
        raise ValueError(f"{where}, which sets how much is cut: leave `{name}` out of its parameters")
    other = masks[variant.like]
    if other.spare and not variant.spare:
        raise ValueError(
            f'{where}, which spares the watched neurons: set spare = "{other.spare}", so that both choose among the same weights'
        )
    if variant.spare and not other.spare and "spare" in known[other.method].takes:
        raise ValueError(
            f'{where}, which does not spare the watched neurons: set spare = "{variant.spare}" there too, or leave it out here'
        )
    own, theirs = (known[one.method].parameters(**one.settings) for one in (variant, other))
    lacking = [layer for layer in getattr(theirs, "layers", ()) if layer not in getattr(own, "layers", ())]
    if lacking:
        raise ValueError(f'{where}, which cuts the layers "{lacking[0]}": set its parameter layers = {list(theirs.layers)}')


def check_spare(variant):
    """Only masks that choose among weights can spare some of them."""
    known = registry.methods("erasers")
    if "spare" not in known[variant.method].takes:
        able = ", ".join(name for name, method in known.items() if "spare" in method.takes)
        raise ValueError(f'variant "{variant.name}": {variant.method} takes no `spare`. Methods that can spare the watched neurons: {able}')


def check_expected(one, variants, attacks):
    """A known rate is of a variant and an attack of the study, and lies between two ends that rise."""
    if one.variant not in variants:
        raise ValueError(f'expect: no variant is called "{one.variant}".{nearest(one.variant, variants)}')
    if one.attack is not None and one.attack not in attacks:
        raise ValueError(f'expect: no attack is called "{one.attack}".{nearest(one.attack, attacks)}')
    if (one.attack is None) != (one.definition == "success_rate"):
        raise ValueError(f"expect: {one.definition} {'needs' if one.attack is None else 'takes no'} `attack`")
    if one.low > one.high:
        raise ValueError(f"expect: low {one.low} is above high {one.high}")
