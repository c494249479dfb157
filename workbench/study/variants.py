"""[[variants]]: the variants of the base model."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from workbench import registry
from workbench.errors import MethodError, nearest
from workbench.study import published
from workbench.study.fields import MOST_NAME, NonEmpty, Seed, StudyTable, Unique
from workbench.study.method_settings import check_parameters

BASE = "base"


class VariantTable(StudyTable):
    """One variant of the base model."""

    added_later: ClassVar[tuple[str, ...]] = ("like", "spare", "preset", "seeds")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=MOST_NAME)
    method: str
    parent: str = BASE
    role: Literal["erased", "pruned", "sham"] = "erased"
    pairs: NonEmpty | None = Field(None, description="another file of (prompt, anchor) pairs: what a sham erases instead")
    like: str | None = Field(None, description="an earlier variant that is a mask: prune as many weights in each of its layers")
    spare: Literal["watch"] | None = Field(
        None, description="watch: the mask prunes no weights that feed or read the watched neurons; its share counts the other weights"
    )
    preset: str | None = Field(
        None,
        description="published, or published:<task>: start from the authors' settings; deviations in `parameters` are reported",
    )
    parameters: dict = Field(default_factory=dict)
    seeds: Annotated[list[Seed], Unique] | None = Field(
        None, description="train it once with each seed; intervals then include other trainings"
    )

    _kind: str | None = None
    _run_of: tuple[str, int] | None = None

    @property
    def label(self) -> str:
        """The name that every table shows."""
        return self.name

    @property
    def run_of(self) -> tuple[str, int] | None:
        """(name as written, seed) of a run of a variant with seeds, else None."""
        return self._run_of

    @property
    def kind(self) -> str | None:
        """The kind of the study's concept, which some presets differ by."""
        return self._kind

    @property
    def settings(self) -> dict[str, Any]:
        """Its parameters, over those of the preset."""
        return published.settings(self.method, self.preset, self._kind) | self.parameters


def check_variants(variants: Sequence[VariantTable], kind: str) -> None:
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


def _check_settings(variant: VariantTable) -> None:
    """Its method, its preset, and its parameters over it."""
    try:
        settings = variant.settings
    except MethodError as error:
        raise ValueError(f'variant "{variant.name}": {error}') from error
    check_parameters("erasers", variant.method, settings, f"variant {variant.name}")


def _check_like(variant: VariantTable, earlier: Sequence[VariantTable]) -> None:
    """A control of equal sparsity: what it equals is an earlier mask over the same layers, and sets the share."""
    known = registry.methods("erasers")
    masks = {one.name: one for one in earlier if known[one.method].is_mask}
    where = f'variant "{variant.name}" is like "{variant.like}"'
    if variant.like not in masks:
        raise ValueError(f"{where}, which is not a mask defined before it.{nearest(variant.like, masks)}")
    if "like" not in known[variant.method].takes:
        able = ", ".join(name for name, method in known.items() if "like" in method.takes)
        raise ValueError(f"{where}, but {variant.method} sets its own share. Methods that can prune like another mask: {able}")
    for name in [name for name in ("share", "group") if name in variant.parameters]:
        raise ValueError(f"{where}, which sets how much is pruned. Remove `{name}` from its parameters")
    other = masks[variant.like]
    if other.spare and not variant.spare:
        raise ValueError(
            f'{where}, which spares the watched neurons. Set spare = "{other.spare}" here too, so that both masks '
            f"choose among the same weights"
        )
    if variant.spare and not other.spare and "spare" in known[other.method].takes:
        raise ValueError(f'{where}, which does not spare the watched neurons. Set spare = "{variant.spare}" there too, or remove it here')
    own, theirs = (known[one.method].parameters(**one.settings) for one in (variant, other))
    its_layers = getattr(theirs, "layers", ())
    lacking = [layer for layer in its_layers if layer not in getattr(own, "layers", ())]
    if lacking:
        raise ValueError(f'{where}, which prunes layers "{lacking[0]}". Set its parameter layers = {list(its_layers)}')


def _check_spare(variant: VariantTable) -> None:
    """Only masks that choose among weights can spare some of them."""
    known = registry.methods("erasers")
    if "spare" not in known[variant.method].takes:
        able = ", ".join(name for name, method in known.items() if "spare" in method.takes)
        raise ValueError(f'variant "{variant.name}": {variant.method} takes no `spare`. Methods that can spare the watched neurons: {able}')
