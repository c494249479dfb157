"""[[variants]]: the variants of the base model."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench import registry
from workbench.errors import MethodError, nearest
from workbench.study import published
from workbench.study.fields import MOST_NAME, Once, Part, Said, Seed
from workbench.study.method_settings import check_parameters

BASE = "base"


class VariantPart(Part):
    """One variant of the base model."""

    later: ClassVar[tuple] = ("like", "spare", "preset", "seeds")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=MOST_NAME)
    method: str
    parent: str = BASE
    role: Literal["erased", "pruned", "sham"] = "erased"
    pairs: Said | None = Field(None, description="another file of prompt, anchor pairs: what a sham erases instead")
    like: str | None = Field(None, description="an earlier variant that is a mask: cut as many weights of each of its layers")
    spare: Literal["watch"] | None = Field(
        None, description="watch: a mask never cuts weights that feed or read the watched neurons; its share is of the others"
    )
    preset: str | None = Field(
        None,
        description="published, or published:<task>: start from the authors' settings; what `parameters` sets otherwise is reported",
    )
    parameters: dict = Field(default_factory=dict)
    seeds: Annotated[list[Seed], Once] | None = Field(None, description="train it once with each: intervals are then over runs too")

    _kind: str | None = None
    _run_of: tuple | None = None

    @property
    def run_of(self):
        """(name as written, seed) of a run of a variant with seeds, else None."""
        return self._run_of

    @property
    def kind(self):
        """The kind of the study's concept, which some presets differ by."""
        return self._kind

    @property
    def settings(self):
        """Its parameters, over those of the preset."""
        return published.settings(self.method, self.preset, self._kind) | self.parameters


def check_variants(variants, kind):
    """Refuse names that are taken, parents that are not there, and settings that mean nothing.

    kind     of the study's concept, which some presets differ by; each variant is told
    Raises   ValueError that names the variant and the way out
    """
    known = {BASE}
    for number, variant in enumerate(variants):
        if variant.name in known:
            raise ValueError(f'two variants are called "{variant.name}"')
        if variant.parent not in known:
            raise ValueError(
                f'variant "{variant.name}" has the parent "{variant.parent}", which is not defined before it.'
                + nearest(variant.parent, known)
            )
        known.add(variant.name)
        variant._kind = kind
        _check_settings(variant)
        if variant.like is not None:
            _check_like(variant, variants[:number])
        if variant.spare is not None:
            _check_spare(variant)


def _check_settings(variant):
    """Its method, its preset, and its parameters over it."""
    try:
        settings = variant.settings
    except MethodError as error:
        raise ValueError(f'variant "{variant.name}": {error}') from error
    check_parameters("erasers", variant.method, settings, f"variant {variant.name}")


def _check_like(variant, earlier):
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


def _check_spare(variant):
    """Only masks that choose among weights can spare some of them."""
    known = registry.methods("erasers")
    if "spare" not in known[variant.method].takes:
        able = ", ".join(name for name, method in known.items() if "spare" in method.takes)
        raise ValueError(f'variant "{variant.name}": {variant.method} takes no `spare`. Methods that can spare the watched neurons: {able}')
