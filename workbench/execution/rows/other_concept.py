"""The neurons of another concept beside those of the study's: the table `other_concept` of the stage `measure`.

Does the eraser, or an attack, change the concept's neurons only, or those of any concept? The study's rule chooses the neurons of the other
concept in the base model, on the selection half, from prompts of that concept. Neurons chosen for both are in neither set. Each set is
measured on the base scale of its own concept, so that 1 is all that the concept asked for adds to its neurons' activity.

pair          both sets, as a Pair; None where the study names no other concept
with_column   the neuron table with in_other;  caveats   why there are no such sets
rows          rows of the table;  validity   the row of set_validity
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas

from workbench.analysis import headline, selection
from workbench.analysis.comparable import of_another_concept
from workbench.analysis.sensitivity import Sensitivity, Thresholds, adjust, of_two_sets
from workbench.errors import StatisticsError
from workbench.execution.condition import Condition
from workbench.execution.rows import Row, choice
from workbench.execution.workspace import Workspace
from workbench.report.sections.activity import EFFECTS_ON_ANOTHER as EFFECTS
from workbench.report.sections.activity import OTHER_CONCEPT
from workbench.report.table import CONFIRMED, names
from workbench.study.neuron_choice import Choose
from workbench.study.prompt_set_name import control_of
from workbench.study.study import BASE, OTHER

Values = Mapping[tuple[str, str], np.ndarray]  # {(variant, prompt set): (unit, neuron)}
TABLE = "other_concept"


@dataclass(frozen=True)
class Pair:
    """What the study's rule chose for its concept and for another one, (neuron,) bool over all recorded neurons.

    own, other   without the neurons that were chosen for both;  shared   those
    kappa        (neuron,) contrast of the other concept on the selection half, by which its comparable sets are found
    reason       why there is no such pair of sets; then own and other are None
    """

    name: str
    own: np.ndarray | None
    other: np.ndarray | None
    shared: int
    kappa: np.ndarray
    reason: str | None = None


def pair(workspace: Workspace, table: pandas.DataFrame) -> Pair | None:
    """The Pair of a study, from its neuron table; None where the study names no other concept."""
    part = workspace.study.prompts.other
    if part is None:
        return None
    ff, half = (table["site"] == "ff").to_numpy(), workspace.units_in_half_a()
    kappa = _contrast(workspace)[half].mean(axis=0)
    rule = choice.Rule(workspace, ff, {})
    choose = rule.on(rule.units(rule.rows(*OTHER)))
    found, concept = np.zeros(len(table), bool), table["in_concept"].to_numpy() & ff
    found[ff] = choose(half)
    shared = int((found & concept).sum())
    try:
        own, other = of_another_concept(lambda rows: rows, found, concept)
        return Pair(part.name, own, other, shared, kappa)
    except StatisticsError as error:
        return Pair(part.name, None, None, shared, kappa, f"{part.name}: {error}")


def with_column(table: pandas.DataFrame, found: Pair | None) -> pandas.DataFrame:
    """The neuron table with in_other: the other concept's neurons, without those chosen for both. As it was where there is no such set."""
    return table if found is None or found.reason else table.assign(in_other=found.other)


def caveats(found: Pair | None) -> list[str]:
    """A sentence where the study names another concept and the rule chose the same neurons for both."""
    return [] if found is None or not found.reason else [f"The verdict says nothing about neurons of another concept. {found.reason}"]


def _contrast(workspace: Workspace) -> np.ndarray:
    """(unit, neuron) base contrast of the other concept, over trajectories and calls."""
    target, reference = (workspace.unit_means(name, choice.mean_over_calls(workspace, name)) for name in OTHER)
    return target - reference


def measures(values: Values, found: Pair, layer: np.ndarray, choose: Choose) -> Sensitivity:
    """The Sensitivity of the other concept: its prompts are the base scale, the study's conditions go by ("…", "own", name).

    values   {(variant, prompt set): (unit, neuron)} of one trajectory, those of the other concept among them
    """
    scale = {(BASE, "target"): values[BASE, OTHER[0]], (BASE, "reference"): values[BASE, OTHER[1]]}
    return Sensitivity(
        scale | {("all", *key): one for key, one in values.items()}, layer, choose.n_resamples, choose.seed, kappa=found.kappa
    )


def rows(workspace: Workspace, found: Pair, measured: Sensitivity, values: Values, table: pandas.DataFrame, trajectory: str) -> list[Row]:
    """Rows of the table other_concept on one trajectory.

    measured   the study's own Sensitivity;  values   as in `measures`
    """
    study = workspace.study
    second = measures(values, found, table["layer"].to_numpy(), study.choose)
    made = []
    for keys, prompts, plus, minus in _contrasts(workspace):
        role = study.variant(keys["variant"]).role
        row = dict.fromkeys(OTHER_CONCEPT.names) | keys | {"concept": found.name, "prompts": prompts, "trajectory": trajectory}
        row["n_shared"] = found.shared
        made.append(row)
        if found.own is None or found.other is None:
            row["reason"] = found.reason
            continue
        own = found.own & (table[f"in_{headline.own_set(role)}"].to_numpy())
        row |= {"n_own": int(own.sum()), "n_neurons": int(found.other.sum())}
        try:
            first, last = _on_own_prompts(plus, minus)
            mine = measured.terms(first, last, own)
            theirs = second.terms(("all", *plus), ("all", *minus), found.other)
            one, other, apart = of_two_sets(mine, theirs, study.choose.seed)
        except StatisticsError as error:
            row["reason"] = str(error)
            continue
        row |= other | apart | {f"own{end}": one[key] for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))}
        row["own_p_change"] = one["p_change"]
    return with_adjusted(made, {variant.name for variant in study.variants if variant.role == "sham"})


def _on_own_prompts(plus: tuple[str, str], minus: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """The same two conditions on the study's own prompts with the concept: what the effect on its own neurons is."""
    return tuple((variant, "target" if name == OTHER[0] else name) for variant, name in (plus, minus))


def _contrasts(workspace: Workspace) -> Iterator[tuple[Row, str, tuple[str, str], tuple[str, str]]]:
    """(labels, prompts, plus, minus): deactivation on the prompts of either concept, reactivation on the attacked prompts."""
    nothing = {"attack": None, "provenance": None, "against": None}
    recorded = {(node.variant, node.prompt_set) for node in workspace.plan.of_stage("record")}
    for variant in workspace.study.variants:
        for prompts in (OTHER[0], "target"):
            yield {"effect": EFFECTS[0], "variant": variant.name} | nothing, prompts, (BASE, prompts), (variant.name, prompts)
        for name, planned in workspace.plan.sets.items():
            if variant.role != "sham" and planned.attack and not planned.control and (variant.name, name) in recorded:
                full = Condition(variant.name, name).keys(workspace)
                keys = {"effect": EFFECTS[1], "variant": variant.name} | {key: full[key] for key in nothing}
                yield keys, "target", (variant.name, name), (variant.name, control_of(name))


def with_adjusted(found: list[Row], shams: Collection[str] = ()) -> list[Row]:
    """The rows with p_change_adjusted and n_family: Benjamini-Hochberg over the rows of one effect, prompts and trajectory, shams left out.

    A row in which no unit changes at all tests nothing and is not counted, so that an attack that does nothing changes no other row.
    """
    families: dict[tuple[str, str, str], list[Row]] = {}
    for row in found:
        row |= {"p_change_adjusted": None, "n_family": None}
        if row["p_change"] is not None and row["variant"] not in shams:
            families.setdefault((row["effect"], row["prompts"], row["trajectory"]), []).append(row)
    for family in families.values():
        adjust(family)
    return found


def validity(
    workspace: Workspace, found: Pair, values: Values, table: pandas.DataFrame, trajectory: str, thresholds: Thresholds
) -> Row | None:
    """The row of set_validity of the other concept's neurons; None where there are none."""
    if found.other is None:
        return None
    second = measures(values, found, table["layer"].to_numpy(), workspace.study.choose)
    scale = {"trajectory": trajectory, "neuron_set": "other", "site": "ff"} | second.scale(found.other)
    half, choose = ~workspace.units_in_half_a(), workspace.study.choose
    target, reference = (workspace.unit_means(name, choice.mean_over_calls(workspace, name))[half] for name in OTHER)
    taken = found.other | table["in_concept"].to_numpy()
    try:
        how = {"n_random": choose.n_random, "exclude": taken, "seed": choose.seed}
        confirmed, why = selection.confirm(found.other, found.kappa, target, reference, table["layer"].to_numpy(), **how)[1], None
    except StatisticsError as error:
        confirmed, why = None, str(error)
    flag, reason = selection.valid(scale, confirmed, thresholds, why)
    return scale | {key: (confirmed or {}).get(key) for key in names(CONFIRMED)} | {"valid": flag, "reason": reason}
