"""[ablate]: what happens when neurons are ablated.

Names of kinds stand here as a plain list, so that reading a study needs no torch; a test holds them equal to those of
workbench/analysis/ablation.py.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench.errors import nearest
from workbench.study.fields import MOST_SETS, MOST_UNITS, Call, Once, Part, Seed, Share

KINDS = ("zero", "scaled", "mean", "resampled")
EFFECTS = ("dose_response", "leave_one_out", "greedy", "shapley", "necessity", "sufficiency", "sets")
OF_CLUSTERS = ("leave_one_out", "greedy", "shapley")
FEWEST_RANDOM = 50
FEWEST_PARTITIONS = 19


class AblateImages(Part):
    """What is different in images, where one look costs a whole sampling; what is not given is as in [ablate]."""

    later: ClassVar[tuple] = ("effects", "kinds", "shares", "groups", "units", "n_random", "n_held")

    effects: Annotated[list[str], Once] | None = Field(None, min_length=1)
    kinds: Annotated[list[str], Once] | None = Field(None, min_length=1)
    shares: Annotated[list[Share], Once] | None = Field(None, min_length=1)
    groups: Annotated[list[str], Once] | None = Field(None, min_length=1)
    units: int | None = Field(None, ge=2, le=MOST_UNITS)
    n_random: int | None = Field(None, ge=FEWEST_RANDOM, le=MOST_SETS)
    n_held: int | None = Field(None, ge=19, le=MOST_SETS)


class Ablate(Part):
    """Ablation: what happens when neurons are taken out; measured on half B, each effect beside matched random sets."""

    modes: Annotated[list[Literal["one_step", "images"]], Once] = Field(
        ["one_step"], min_length=1, description="one_step: a target at the recorded calls; images: whole samplings, judged by the detector"
    )
    effects: Annotated[list[str], Once] = Field(["dose_response"], min_length=1, description=f"any of {', '.join(EFFECTS)}")
    kinds: Annotated[list[str], Once] = Field(
        ["zero"], min_length=1, description=f"any of {', '.join(KINDS)}; mean and resampled from reference prompts"
    )
    factor: float | None = Field(None, ge=0, lt=1, description="of the kind scaled: what is left of the activation")
    target: Literal["T1", "T2"] = Field("T2", description="of one_step")
    ranking: Literal["score", "attribution"] = Field("score", description="by what dose_response takes the first neurons")
    shares: Annotated[list[Share], Once] = Field([0.005, 0.01, 0.02, 0.04, 0.08], min_length=1, description="of the neurons of the site ff")
    groups: Annotated[list[Literal["target", "near", "far"]], Once] | None = Field(
        None, min_length=1, description="prompts measured; default: all the study has"
    )
    variants: Annotated[list[str], Once] | None = Field(
        None, min_length=1, description="of necessity and sufficiency; default: every one that is no sham"
    )
    calls: list[Call] | None = Field(None, min_length=1, description="in which the ablation works; default: all")
    branch: Literal["cond", "both"] = Field("cond", description="the half of guidance it works on")
    units: int | None = Field(None, ge=2, le=MOST_UNITS, description="how many units of half B; default: all")
    n_random: int = Field(
        50, ge=FEWEST_RANDOM, le=MOST_SETS, description="matched random sets of dose_response, leave_one_out, greedy and sets"
    )
    n_held: int = Field(199, ge=19, le=MOST_SETS, description="matched random sets of necessity and sufficiency")
    n_partitions: int | None = Field(
        None,
        ge=0,
        le=MOST_SETS,
        description="of shapley: how often all clusters are exchanged for matched random sets; default 19, 0 = never",
    )
    seed: Seed = Field(0, description="of the random sets, and of the draw of resampled")
    images: AblateImages | None = None

    later: ClassVar[tuple] = ("images", "n_partitions")

    def of(self, mode):
        """The settings of one mode: {effects, kinds, shares, groups, units, n_random, n_held}."""
        names = AblateImages.later
        own = {name: getattr(self, name) for name in names}
        if mode == "images" and self.images is not None:
            own |= {name: value for name in names if (value := getattr(self.images, name)) is not None}
        return own


def check_ablate(study):
    """Refuse what [ablate] cannot mean in this study; ValueError that names the field and the way out."""
    table = study.ablate
    if table is None:
        return
    known = {variant.name for variant in study.variants}
    for name in table.variants or []:
        if name not in known:
            raise ValueError(f'ablate.variants names "{name}", which is no variant here.{nearest(name, known)}')
    if table.images is not None and "images" not in table.modes:
        raise ValueError('[ablate.images] is given, but ablate.modes has no "images"; add it there, or leave the table out')
    for mode in table.modes:
        own = table.of(mode)
        for name in own["effects"]:
            if name not in EFFECTS:
                raise ValueError(f'ablate.effects: no effect is called "{name}".{nearest(name, EFFECTS)}')
        for name in own["kinds"]:
            if name == "held":
                raise ValueError('ablate.kinds: "held" is what the effects necessity and sufficiency do; name them in ablate.effects')
            if name not in KINDS:
                raise ValueError(f'ablate.kinds: no kind is called "{name}".{nearest(name, KINDS)}')
        for group in own["groups"] or []:
            if group not in ("target", "near", "far"):
                raise ValueError(f'ablate.groups: no group is called "{group}".{nearest(group, ("target", "near", "far"))}')
            if getattr(study.prompts, group) is None:
                raise ValueError(f'ablate.groups names "{group}", but prompts.{group} is not given. Give the file, or leave the group out')
        if "target" not in (own["groups"] or ["target"]):
            raise ValueError('ablate.groups needs "target": what else breaks is read beside what happens to the concept')
        for effect in OF_CLUSTERS:
            if effect in own["effects"] and not study.cluster:
                raise ValueError(f"ablate.effects: {effect} takes out clusters; add the table [cluster], or take dose_response")
        if "sets" in own["effects"] and not study.sets:
            raise ValueError("ablate.effects: sets takes out the [[sets]], and the study has none. Name one, or take dose_response")
        if mode == "images" and "shapley" in own["effects"]:
            raise ValueError(
                "ablate.effects: shapley takes out clusters in every combination, and in images each one is a whole sampling. Take it in "
                '`modes = ["one_step"]`, and give images other effects: [ablate.images] effects = ["leave_one_out"]'
            )
        if "necessity" in own["effects"] and not study.attacks:
            raise ValueError("ablate.effects: necessity asks about attacked prompts, and the study has no [[attacks]]. Take sufficiency")
        if {"necessity", "sufficiency"} & set(own["effects"]) and all(variant.role == "sham" for variant in study.variants):
            raise ValueError("ablate.effects: necessity and sufficiency ask about an erased variant, and the study has only shams")
    if table.n_partitions is not None and 0 < table.n_partitions < FEWEST_PARTITIONS:
        raise ValueError(
            f"ablate.n_partitions: {table.n_partitions} random partitions give no band; take {FEWEST_PARTITIONS} or more, or 0 for none"
        )
    if table.n_partitions is not None and "shapley" not in table.of("one_step")["effects"]:
        raise ValueError("ablate.n_partitions is a setting of shapley, which is not among ablate.effects; add it there, or leave it out")
    scaled = any("scaled" in table.of(mode)["kinds"] for mode in table.modes)
    if scaled != (table.factor is not None):
        raise ValueError(
            "ablate.kinds: scaled needs a `factor`, what is left of the activation, e.g. 0.5"
            if scaled
            else 'ablate.factor belongs to the kind "scaled", which is not among ablate.kinds'
        )
    if table.ranking == "attribution":
        if not study.attribute:
            raise ValueError('ablate.ranking = "attribution" needs the table [attribute]; add it, or take "score"')
        if not study.attribute.has_base_target:
            raise ValueError('ablate.ranking = "attribution" needs the base model and the set target in [attribute]')
    if table.branch == "both" and "one_step" in table.modes:
        raise ValueError('ablate.branch = "both" needs guidance, and one_step runs the cond half alone; take ablate.modes = ["images"]')
    if table.branch == "both" and {"mean", "resampled"} & set(table.of("images")["kinds"]):
        raise ValueError(
            'ablate.branch = "both": mean and resampled take values recorded in the cond half; take the kind "zero" or "scaled"'
        )
