"""[attribute]: how much each neuron contributes to a stated target.

Names of targets and methods stand here as plain lists, so that reading a study needs no torch; a test holds them equal to those of
workbench/analysis/attribution.py.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from workbench.errors import nearest
from workbench.study.fields import MOST_UNITS, Call, StudyTable, Unique

if TYPE_CHECKING:
    from workbench.study.study import Study

PER_NEURON = ("gradient", "integrated", "curvature")
NOT_PER_NEURON = {
    "ablation": "needs a UNet evaluation for every neuron. Set `fidelity = true`, which ablates a sample of neurons and compares",
    "shapley": 'needs hundreds of UNet evaluations for every neuron. Use it on clusters, as an effect in [ablate]: effects = ["shapley"]',
}


class Attribute(StudyTable):
    """Attribution: how much each neuron of the site ff contributes to a stated target, computed with Captum on gates."""

    target: Literal["T1", "T2", "T3", "T4"] = Field(
        "T2", description="what is attributed: T1 J_quad, T2 J_lin (compares models), T3 J_den, T4 the logit of the attack-visible detector"
    )
    methods: Annotated[list[str], Unique] = Field(
        ["gradient"], min_length=1, description=f"any of {', '.join(PER_NEURON)}; rankings use the first one"
    )
    variants: Annotated[list[str], Unique] | None = Field(
        None, min_length=1, description="default: base and every variant that is not a sham"
    )
    prompt_sets: Annotated[list[str], Unique] | None = Field(
        None, min_length=1, description="default: target, and the attacks made against the variant"
    )
    calls: list[Call] | None = Field(None, min_length=1, description="default: the recorded calls at which the target is defined")
    units: int | None = Field(None, ge=2, le=MOST_UNITS, description="how many units of each half are used; default: all")
    fidelity: bool = Field(False, description="compare attributions with exact ablation, of single neurons and of random sets")
    tokens: int = Field(
        0, ge=0, le=50, description="for how many top neurons to attribute their activity to the words of a prompt, with and without attack"
    )
    conductance: bool | None = Field(
        None, description="also compute conductance: how much of the target flows from the text through each neuron; default false"
    )

    added_later: ClassVar[tuple[str, ...]] = ("conductance",)

    @property
    def has_base_target(self) -> bool:
        """Whether the base model is attributed on the prompt set `target`."""
        return "base" in (self.variants or ["base"]) and "target" in (self.prompt_sets or ["target"])


def check_attribute(study: "Study") -> None:
    """Refuse what [attribute] cannot mean in this study; ValueError that names the field and the way out."""
    table = study.attribute
    if table is None:
        return
    known = {"base", *(variant.name for variant in study.variants)}
    for name in table.variants or []:
        if name not in known:
            raise ValueError(f'attribute.variants names "{name}", which is not a variant of this study.{nearest(name, known)}')
    recorded = study.record.calls
    for call in table.calls or []:
        if recorded is not None and call not in recorded:
            raise ValueError(
                f"attribute.calls names call {call}, which is not recorded; record.calls has {', '.join(map(str, recorded))}. "
                "Attribution needs the latents of recorded calls."
            )
    for name in table.methods:
        if name in NOT_PER_NEURON:
            raise ValueError(f'attribute.methods: "{name}" {NOT_PER_NEURON[name]}')
        if name == "conductance":
            raise ValueError(
                'attribute.methods: "conductance" does not work on gates and ranks only within a layer. Set `conductance = true`, '
                "which computes it as well"
            )
        if name not in PER_NEURON:
            raise ValueError(f'attribute.methods: no method is called "{name}".{nearest(name, PER_NEURON)}')
    if len(set(table.methods)) < len(table.methods):
        raise ValueError("attribute.methods names a method twice")
    if table.target == "T4" and len(study.detectors.labels) > 1:
        raise ValueError(
            f"attribute.target: T4 is the logit of one label, and detectors.labels has {len(study.detectors.labels)}. "
            "Use T2, or a study with one label"
        )
    if table.tokens and not table.has_base_target:
        raise ValueError(
            "attribute.tokens needs the attribution of the base model on target prompts: keep base in "
            "attribute.variants and target in prompt_sets"
        )
    if table.target == "T3" and table.fidelity:
        raise ValueError("attribute.fidelity compares ablations on the base model's trajectories, and T3 has its own. Use T2 or T1")
