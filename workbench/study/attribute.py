"""[attribute]: how much each neuron adds to a stated target.

Names of targets and methods stand here as plain lists, so that reading a study needs no torch; a test holds them equal to those of
workbench/analysis/attribution.py.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench.errors import nearest
from workbench.study.fields import MOST_UNITS, Call, Once, Part

PER_NEURON = ("gradient", "integrated", "curvature")
NOT_PER_NEURON = {
    "ablation": "takes a UNet pass for every neuron: set `fidelity = true`, which ablates a sample of them and compares",
    "shapley": 'takes hundreds of passes for every neuron: it is asked of clusters, as an effect in [ablate]: effects = ["shapley"]',
}


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

    @property
    def has_base_target(self):
        """Whether the base model is attributed on the prompt set `target`."""
        return "base" in (self.variants or ["base"]) and "target" in (self.prompt_sets or ["target"])


def check_attribute(study):
    """Refuse what [attribute] cannot mean in this study; ValueError that names the field and the way out."""
    table = study.attribute
    if table is None:
        return
    known = {"base", *(variant.name for variant in study.variants)}
    for name in table.variants or []:
        if name not in known:
            raise ValueError(f'attribute.variants names "{name}", which is no variant here.{nearest(name, known)}')
    recorded = study.record.calls
    for call in table.calls or []:
        if recorded is not None and call not in recorded:
            raise ValueError(
                f"attribute.calls names call {call}, which is not recorded; record.calls has {', '.join(map(str, recorded))}. "
                "Attribution needs the latents kept there."
            )
    for name in table.methods:
        if name in NOT_PER_NEURON:
            raise ValueError(f'attribute.methods: "{name}" {NOT_PER_NEURON[name]}')
        if name == "conductance":
            raise ValueError(
                'attribute.methods: "conductance" is no method on gates and ranks within a layer only: set `conductance = true`, '
                "which puts it beside the methods"
            )
        if name not in PER_NEURON:
            raise ValueError(f'attribute.methods: no method is called "{name}".{nearest(name, PER_NEURON)}')
    if len(set(table.methods)) < len(table.methods):
        raise ValueError("attribute.methods names a method twice")
    if table.target == "T4" and len(study.detectors.labels) > 1:
        raise ValueError(
            f"attribute.target: T4 is the logit of one label, and detectors.labels has {len(study.detectors.labels)}. "
            "Take T2, or a study of one label"
        )
    if table.tokens and not table.has_base_target:
        raise ValueError(
            "attribute.tokens asks about the neurons that lead in base x target; have both in attribute.variants and prompt_sets"
        )
    if table.target == "T3" and table.fidelity:
        raise ValueError("attribute.fidelity compares ablations on the trajectories of the shared regime; T3 has its own. Take T2 or T1")
