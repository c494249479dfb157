"""What variants do while images are sampled (rules of guidance, prompt transforms, correctors), in the rows of report.json.

adaptive          whether an attack's gradients pass through it;  with_adaptive: rows of rates that say so
correction_rows   how often a corrector intervened;  caveats   what a reader must know of that
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from workbench import registry
from workbench.analysis import rates
from workbench.execution.condition import Condition
from workbench.execution.rows import Row
from workbench.execution.workspace import Workspace
from workbench.storage import read_arrays
from workbench.study.parts import RETAINED
from workbench.study.study import BASE, Study

PASSED = ("guidance", "transform")  # what gradients pass through
WITHOUT = ("reference", *RETAINED)


def of(study: Study, variant: str) -> list[str]:
    """The defences of a variant and its parents, each one of registry.DEFENCES."""
    found = []
    while variant != BASE:
        part = study.variant(variant)
        found.append(registry.method("erasers", part.method).defends)
        variant = part.parent
    return [one for one in found if one]


def adaptive(study: Study, row: Mapping[str, Any]) -> bool | None:
    """Whether the attack of a row is adaptive: its gradients pass through every defence of the variant that it was made against.

    None for rows without an attack, for controls, and for variants without a defence at inference.
    """
    defences = of(study, row["variant"])
    if not row["attack"] or row["control"] or not defences:
        return None
    method = next(part.method for part in study.attacks if part.label == row["attack"])
    made_here = row["against"] == row["variant"]
    return made_here and registry.method("attacks", method).gradient and set(defences) <= {*PASSED}


def with_adaptive(study: Study, rows: list[Row]) -> list[Row]:
    """Rows of rates with the column `adaptive`; as they are where no variant has a defence at inference."""
    if not any(of(study, variant.name) for variant in study.variants):
        return rows
    return [row | {"adaptive": adaptive(study, row)} for row in rows]


def correction_rows(workspace: Workspace) -> list[Row]:
    """The share of the images of each condition that a corrector changed; none where no variant has a corrector."""
    rows: list[Row] = []
    if not any("corrector" in of(workspace.study, variant.name) for variant in workspace.study.variants):
        return rows
    for node in workspace.plan.of_stage("generate"):
        condition = node.condition
        if not workspace.there(node) or "corrector" not in of(workspace.study, condition.variant):
            continue
        calls = torch.cat(workspace.gather("generate", *condition, lambda f: read_arrays(f / "corrected.safetensors")["calls"]))
        found = rates.share((calls >= 0).numpy(), workspace.units_of(condition.prompt_set))
        rows.append(Condition(*condition).keys(workspace) | {"without_concept": condition.prompt_set in WITHOUT} | found)
    return rows


def caveats(corrections: Sequence[Row]) -> list[str]:
    """A sentence for each variant with a corrector: its false interventions."""
    found = []
    for variant in dict.fromkeys(row["variant"] for row in corrections):
        rows = [row for row in corrections if row["variant"] == variant and row["without_concept"]]
        n, corrected = (sum(row[key] for row in rows) for key in ("n", "successes"))
        if n:
            found.append(f"{variant} corrected {corrected} of {n} images of prompts without the concept: false interventions.")
    return found
