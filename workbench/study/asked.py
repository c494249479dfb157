"""The optional tables of a study that ask about neurons beyond sensitivity: [attribute], [cluster], [ablate].

check   refuse what means nothing together with the rest of the study
Names of targets, methods and kinds stand here as plain lists, so that reading a study needs no torch; a test holds them equal to
those of workbench/analysis.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench.errors import nearest
from workbench.study.part import MOST_RESAMPLES, MOST_SETS, MOST_UNITS, Call, Once, Part, Seed, Share

PER_NEURON = ("gradient", "integrated", "curvature")
NOT_PER_NEURON = {
    "ablation": "takes a UNet pass for every neuron: set `fidelity = true`, which ablates a sample of them and compares",
    "shapley": 'takes hundreds of passes for every neuron: it is asked of clusters, as an effect in [ablate]: effects = ["shapley"]',
}
KINDS = ("zero", "scaled", "mean", "resampled")
EFFECTS = ("dose_response", "leave_one_out", "greedy", "shapley", "necessity", "sufficiency", "sets")
OF_CLUSTERS = ("leave_one_out", "greedy", "shapley")
FEWEST_RANDOM = 50
FEWEST_PARTITIONS = 19
MOST_CLUSTERS = 100


class Attribute(Part):
    """Attribution: how much each neuron of the site ff adds to a stated target, with Captum on gates."""

    target: Literal["T1", "T2", "T3", "T4"] = Field(
        "T2", description="what is attributed: T1 J_quad, T2 J_lin (compares models), T3 J_den, T4 the steering detector's logit"
    )
    methods: Annotated[list[str], Once] = Field(
        ["gradient"], min_length=1, description=f"any of {', '.join(PER_NEURON)}; the first one leads"
    )
    variants: Annotated[list[str], Once] | None = Field(None, min_length=1, description="default: base and every variant that is no sham")
    prompt_sets: Annotated[list[str], Once] | None = Field(
        None, min_length=1, description="default: target, and beside it the attacks made against the variant"
    )
    calls: list[Call] | None = Field(None, min_length=1, description="default: the recorded ones, as far as the target makes sense there")
    units: int | None = Field(None, ge=2, le=MOST_UNITS, description="how many units of each half; default: all")
    fidelity: bool = Field(False, description="compare the scores with exact ablation, of single neurons and of random sets")
    tokens: int = Field(0, ge=0, le=50, description="of how many leading neurons to ask which words drive them, clean beside adversarial")
    conductance: bool | None = Field(
        None, description="how much of the target flows from the text through each neuron, beside the methods; default false"
    )

    later: ClassVar[tuple] = ("conductance",)


class Cluster(Part):
    """Clusters of neurons that answer alike over conditions and calls; made on half A, described on half B."""

    method: Literal["kmeans", "agglomerative", "hdbscan", "spectral"] = "kmeans"
    k: Annotated[int, Field(le=MOST_CLUSTERS)] | tuple[int, Annotated[int, Field(le=MOST_CLUSTERS)]] | None = Field(
        None, description=f"number of clusters, or the first and last to choose from, up to {MOST_CLUSTERS}; default: 2 to 8"
    )
    min_size: int | None = Field(None, ge=2, le=MOST_UNITS, description="of hdbscan: its smallest cluster")
    share: float = Field(
        0.1, gt=0, lt=0.5, description="of the neurons of the site ff, those with the largest score of either sign, and the concept set"
    )
    attribution: bool | None = Field(None, description="let attribution be a feature; default: when the study has [attribute]")
    seed: Seed = 0
    n_resamples: int = Field(20, ge=5, le=MOST_RESAMPLES, description="bootstrap resamples of the units, in which clusters must come back")
    n_random: int = Field(199, ge=19, le=MOST_SETS, description="matched random sets beside each cluster")
    regions: int | None = Field(
        None, ge=0, le=20, description="of how many units of half B to say where in the image they excite a cluster; default 0"
    )

    later: ClassVar[tuple] = ("regions",)


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


def check(study):
    """Refuse what the three tables cannot mean in this study; ValueError that names the table and the way out."""
    variants = {variant.name for variant in study.variants}
    for table in ("attribute", "ablate"):
        part = getattr(study, table)
        known = variants | ({"base"} if table == "attribute" else set())
        for name in (part.variants or []) if part else []:
            if name not in known:
                raise ValueError(f'{table}.variants names "{name}", which is no variant here.{nearest(name, known)}')
        recorded = study.record.calls
        if part and table == "attribute" and part.calls is not None and recorded is not None:
            for call in part.calls:
                if call not in recorded:
                    raise ValueError(
                        f"attribute.calls names call {call}, which is not recorded; record.calls has {_listed(recorded)}. "
                        "Attribution needs the latents kept there."
                    )
    if study.attribute:
        _check_attribute(study, study.attribute)
    if study.cluster:
        _check_cluster(study, study.cluster)
    if study.ablate:
        _check_ablate(study, study.ablate)


def _check_attribute(study, part):
    for name in part.methods:
        if name in NOT_PER_NEURON:
            raise ValueError(f'attribute.methods: "{name}" {NOT_PER_NEURON[name]}')
        if name == "conductance":
            raise ValueError(
                'attribute.methods: "conductance" is no method on gates and ranks within a layer only: set `conductance = true`, '
                "which puts it beside the methods"
            )
        if name not in PER_NEURON:
            raise ValueError(f'attribute.methods: no method is called "{name}".{nearest(name, PER_NEURON)}')
    if len(set(part.methods)) < len(part.methods):
        raise ValueError("attribute.methods names a method twice")
    if part.target == "T4" and len(study.detectors.labels) > 1:
        raise ValueError(
            f"attribute.target: T4 is the logit of one label, and detectors.labels has {len(study.detectors.labels)}. "
            "Take T2, or a study of one label"
        )
    if part.tokens and not _has_base_target(part):
        raise ValueError(
            "attribute.tokens asks about the neurons that lead in base x target; have both in attribute.variants and prompt_sets"
        )
    if part.target == "T3" and part.fidelity:
        raise ValueError("attribute.fidelity compares ablations on the trajectories of the shared regime; T3 has its own. Take T2 or T1")


def _check_cluster(study, part):
    if part.attribution and not study.attribute:
        raise ValueError("cluster.attribution = true needs the table [attribute]; add it, or leave `attribution` out")
    if part.method == "hdbscan" and part.k is not None:
        raise ValueError("cluster.k: hdbscan finds the number of clusters itself; leave `k` out and set `min_size`, or take kmeans")
    if part.method != "hdbscan" and part.min_size is not None:
        raise ValueError(f"cluster.min_size is a setting of hdbscan; {part.method} takes `k`")
    if isinstance(part.k, int) and part.k < 2:
        raise ValueError(f"cluster.k = {part.k}: one cluster is no clustering; k is 2 or more")
    if isinstance(part.k, tuple) and not 2 <= part.k[0] < part.k[1]:
        raise ValueError(f"cluster.k = {list(part.k)} is no range; write the first and the last number to try, e.g. [2, 8]")


def _check_ablate(study, part):
    if part.images is not None and "images" not in part.modes:
        raise ValueError('[ablate.images] is given, but ablate.modes has no "images"; add it there, or leave the table out')
    for mode in part.modes:
        own = part.of(mode)
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
    if part.n_partitions is not None and 0 < part.n_partitions < FEWEST_PARTITIONS:
        raise ValueError(
            f"ablate.n_partitions: {part.n_partitions} random partitions give no band; take {FEWEST_PARTITIONS} or more, or 0 for none"
        )
    if part.n_partitions is not None and "shapley" not in part.of("one_step")["effects"]:
        raise ValueError("ablate.n_partitions is a setting of shapley, which is not among ablate.effects; add it there, or leave it out")
    scaled = any("scaled" in part.of(mode)["kinds"] for mode in part.modes)
    if scaled != (part.factor is not None):
        raise ValueError(
            "ablate.kinds: scaled needs a `factor`, what is left of the activation, e.g. 0.5"
            if scaled
            else 'ablate.factor belongs to the kind "scaled", which is not among ablate.kinds'
        )
    if part.ranking == "attribution":
        if not study.attribute:
            raise ValueError('ablate.ranking = "attribution" needs the table [attribute]; add it, or take "score"')
        if not _has_base_target(study.attribute):
            raise ValueError('ablate.ranking = "attribution" needs the base model and the set target in [attribute]')
    if part.branch == "both" and "one_step" in part.modes:
        raise ValueError('ablate.branch = "both" needs guidance, and one_step runs the cond half alone; take ablate.modes = ["images"]')
    if part.branch == "both" and {"mean", "resampled"} & set(part.of("images")["kinds"]):
        raise ValueError(
            'ablate.branch = "both": mean and resampled take values recorded in the cond half; take the kind "zero" or "scaled"'
        )


def _has_base_target(part):
    return "base" in (part.variants or ["base"]) and "target" in (part.prompt_sets or ["target"])


def _listed(values):
    return ", ".join(map(str, values))
