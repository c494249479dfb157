"""[ablate]: what happens when neurons are ablated.

Names of kinds stand here as a plain list, so that reading a study needs no torch; a test holds them equal to those of
workbench/analysis/ablation.py.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from workbench.errors import nearest
from workbench.study.fields import MOST_SETS, MOST_UNITS, Call, Seed, Share, StudyTable, Unique

if TYPE_CHECKING:
    from workbench.study.study import Study

KINDS = ("zero", "scaled", "mean", "resampled")
EFFECTS = ("dose_response", "leave_one_out", "greedy", "shapley", "necessity", "sufficiency", "sets")
OF_CLUSTERS = ("leave_one_out", "greedy", "shapley")
FEWEST_RANDOM = 50
FEWEST_PARTITIONS = 19


class AblateImages(StudyTable):
    """Settings of the mode `images`, where each measurement costs a whole sampling; what is left out is as in [ablate]."""

    added_later: ClassVar[tuple[str, ...]] = ("effects", "kinds", "shares", "groups", "units", "n_random", "n_held")

    effects: Annotated[list[str], Unique] | None = Field(None, min_length=1)
    kinds: Annotated[list[str], Unique] | None = Field(None, min_length=1)
    shares: Annotated[list[Share], Unique] | None = Field(None, min_length=1)
    groups: Annotated[list[str], Unique] | None = Field(None, min_length=1)
    units: int | None = Field(None, ge=2, le=MOST_UNITS)
    n_random: int | None = Field(None, ge=FEWEST_RANDOM, le=MOST_SETS)
    n_held: int | None = Field(None, ge=19, le=MOST_SETS)


class Ablate(StudyTable):
    """Ablation: what happens when neurons are ablated; measured on the evaluation half, each effect beside matched random sets."""

    modes: Annotated[list[Literal["one_step", "images"]], Unique] = Field(
        ["one_step"],
        min_length=1,
        description="one_step: the attribution target at the recorded calls; images: whole samplings, judged by the judge",
    )
    effects: Annotated[list[str], Unique] = Field(
        ["dose_response"], min_length=1, description=f"what is measured: any of {', '.join(EFFECTS)}"
    )
    kinds: Annotated[list[str], Unique] = Field(
        ["zero"],
        min_length=1,
        description=f"replacement values: any of {', '.join(KINDS)}; mean and resampled are taken from reference prompts",
    )
    factor: float | None = Field(None, ge=0, lt=1, description="for the kind scaled: the share of the activation that remains")
    target: Literal["T1", "T2"] = Field("T2", description="the attribution target of one_step")
    ranking: Literal["score", "attribution"] = Field("score", description="the order in which dose_response ablates neurons")
    shares: Annotated[list[Share], Unique] = Field(
        [0.005, 0.01, 0.02, 0.04, 0.08], min_length=1, description="shares of the neurons of the site ff that dose_response ablates"
    )
    groups: Annotated[list[Literal["target", "near", "far"]], Unique] | None = Field(
        None, min_length=1, description="prompt sets that are measured; default: all that the study has"
    )
    variants: Annotated[list[str], Unique] | None = Field(
        None, min_length=1, description="variants for necessity and sufficiency; default: every variant that is not a sham"
    )
    calls: list[Call] | None = Field(None, min_length=1, description="calls in which neurons are ablated; default: all")
    branch: Literal["cond", "both"] = Field("cond", description="the branch in which neurons are ablated")
    units: int | None = Field(None, ge=2, le=MOST_UNITS, description="how many units of the evaluation half; default: all")
    n_random: int = Field(
        50, ge=FEWEST_RANDOM, le=MOST_SETS, description="matched random sets for dose_response, leave_one_out, greedy and sets"
    )
    n_held: int = Field(199, ge=19, le=MOST_SETS, description="matched random sets for necessity and sufficiency")
    n_partitions: int | None = Field(
        None,
        ge=0,
        le=MOST_SETS,
        description="for shapley: how often all clusters are replaced by matched random sets; default 19, 0 = never",
    )
    seed: Seed = Field(0, description="seed of the random sets and of the kind resampled")
    images: AblateImages | None = None

    added_later: ClassVar[tuple[str, ...]] = ("images", "n_partitions")

    def of(self, mode: str) -> dict[str, Any]:
        """The settings of one mode: {effects, kinds, shares, groups, units, n_random, n_held}."""
        names = AblateImages.added_later
        found = {name: getattr(self, name) for name in names}
        if mode == "images" and self.images is not None:
            found |= {name: value for name in names if (value := getattr(self.images, name)) is not None}
        return found


def check_ablate(study: "Study") -> None:
    """Refuse what [ablate] cannot mean in this study; ValueError that names the field and the way out."""
    table = study.ablate
    if table is None:
        return
    known = {variant.name for variant in study.variants}
    for name in table.variants or []:
        if name not in known:
            raise ValueError(f'ablate.variants names "{name}", which is not a variant of this study.{nearest(name, known)}')
    if table.images is not None and "images" not in table.modes:
        raise ValueError('[ablate.images] is given, but ablate.modes has no "images". Add it there, or remove the table')
    for mode in table.modes:
        settings = table.of(mode)
        for name in settings["effects"]:
            if name not in EFFECTS:
                raise ValueError(f'ablate.effects: no effect is called "{name}".{nearest(name, EFFECTS)}')
        for name in settings["kinds"]:
            if name == "held":
                raise ValueError(
                    'ablate.kinds: the effects necessity and sufficiency use the kind "held" by themselves. Name these '
                    'effects in ablate.effects, and remove "held"'
                )
            if name not in KINDS:
                raise ValueError(f'ablate.kinds: no kind is called "{name}".{nearest(name, KINDS)}')
        for group in settings["groups"] or []:
            if group not in ("target", "near", "far"):
                raise ValueError(f'ablate.groups: no group is called "{group}".{nearest(group, ("target", "near", "far"))}')
            if getattr(study.prompts, group) is None:
                raise ValueError(f'ablate.groups names "{group}", but prompts.{group} is not given. Give the file, or remove the group')
        if "target" not in (settings["groups"] or ["target"]):
            raise ValueError('ablate.groups needs "target": side effects are compared with the effect on the concept')
        for effect in OF_CLUSTERS:
            if effect in settings["effects"] and not study.cluster:
                raise ValueError(f"ablate.effects: {effect} ablates clusters. Add the table [cluster], or use dose_response")
        if "sets" in settings["effects"] and not study.sets:
            raise ValueError("ablate.effects: sets ablates the [[sets]], and the study has none. Add one, or use dose_response")
        if mode == "images" and "shapley" in settings["effects"]:
            raise ValueError(
                "ablate.effects: shapley ablates clusters in every combination, and in images each combination is a "
                "whole sampling. Use it in "
                '`modes = ["one_step"]`, and give the mode images other effects: [ablate.images] effects = ["leave_one_out"]'
            )
        if "necessity" in settings["effects"] and not study.attacks:
            raise ValueError("ablate.effects: necessity needs attacked prompts, and the study has no [[attacks]]. Use sufficiency")
        if {"necessity", "sufficiency"} & set(settings["effects"]) and all(variant.role == "sham" for variant in study.variants):
            raise ValueError("ablate.effects: necessity and sufficiency need an erased variant, and the study has only shams")
    if table.n_partitions is not None and 0 < table.n_partitions < FEWEST_PARTITIONS:
        raise ValueError(
            f"ablate.n_partitions: {table.n_partitions} random partitions are too few for an interval. Give "
            f"{FEWEST_PARTITIONS} or more, or 0 for none"
        )
    if table.n_partitions is not None and "shapley" not in table.of("one_step")["effects"]:
        raise ValueError(
            "ablate.n_partitions is a setting of shapley, which is not among ablate.effects. Add shapley, or remove the setting"
        )
    scaled = any("scaled" in table.of(mode)["kinds"] for mode in table.modes)
    if scaled != (table.factor is not None):
        raise ValueError(
            "ablate.kinds: scaled needs a `factor`, the share of the activation that remains, e.g. 0.5"
            if scaled
            else 'ablate.factor belongs to the kind "scaled", which is not among ablate.kinds'
        )
    if table.ranking == "attribution":
        if not study.attribute:
            raise ValueError('ablate.ranking = "attribution" needs the table [attribute]. Add it, or use "score"')
        if not study.attribute.has_base_target:
            raise ValueError('ablate.ranking = "attribution" needs the base model and the prompt set target in [attribute]')
    if table.branch == "both" and "one_step" in table.modes:
        raise ValueError('ablate.branch = "both" needs guidance, and one_step runs only the cond branch. Use ablate.modes = ["images"]')
    if table.branch == "both" and {"mean", "resampled"} & set(table.of("images")["kinds"]):
        raise ValueError(
            'ablate.branch = "both": mean and resampled use values recorded in the cond branch. Use the kind "zero" or "scaled"'
        )
