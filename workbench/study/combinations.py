"""Parts of a study that must fit together, told when it is read.

check_like       a control of equal sparsity and the mask it equals
check_spare      a mask that leaves the watched neurons alone
check_expected   a rate known from elsewhere
Both raise ValueError with one sentence, as pydantic's validators want it.
"""

from workbench import registry
from workbench.errors import nearest


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
    own, theirs = (known[one.method].parameters(**one.parameters) for one in (variant, other))
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
