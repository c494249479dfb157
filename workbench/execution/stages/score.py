"""The stage `score`: which neurons carry the concept, by every listed score, over the window of calls and at each call.

run           write neurons.parquet and neurons_by_call.parquet of the base model; units.json where units follow the prompts
chosen        the neurons of the site ff that it marked
with_erased   both tables with the scores that compare the base model with an erased one
agreement     how far a score's choice on one half of the units is that on the other
on_halves     what the study's rule takes on each half
pooled        a recorded quantity over the trajectories
"""

import numpy as np
import pandas

from workbench import registry
from workbench.execution import method_code, neuron_choice
from workbench.execution.condition import Condition
from workbench.execution.graph import NodeSpec
from workbench.methods import scores
from workbench.neurons import sets, sites
from workbench.statistics import iou, iou_chance
from workbench.storage import read_json, read_table, write_json, write_table
from workbench.study.parts import CONCEPT
from workbench.study.study import BASE

VERSION = 3


def nodes(study, graph):
    """score."""
    choose, methods = study.choose, scores.listed(study.choose)
    parameters = choose.model_dump() | {"sites": study.record.sites} | method_code.versions(*methods.values()) | graph.halves
    names = [choose.score, *(choose.agree or []), *(registry.methods("scores") if choose.compare is None else choose.compare)]
    yield NodeSpec(
        "score",
        "score",
        parameters,
        tuple(Condition(BASE, name).node("record") for name in CONCEPT),
        code=method_code.used_by("scores", names),
        context={"choose": choose},
    )


def run(workspace, node, shard, out):
    """Score all recorded neurons on both halves of the units and choose on the selection half: concept and suppressed set of every site.

    Where several scores must agree, the table also has agreement_a and agreement_b, see `choosing.agreed`.
    """
    choose = node.context["choose"]
    columns, by_call = _scored(workspace, choose, scores.listed(choose))
    table = workspace.neurons.assign(**columns)
    values = neuron_choice.on_half(choose, table, "a")
    table["in_concept"] = table["in_suppressed"] = False
    for site in workspace.sites:
        here = (table["site"] == site).to_numpy()
        table["in_concept"] |= neuron_choice.chosen(choose, values, here)
        table["in_suppressed"] |= neuron_choice.chosen(choose, {name: -value for name, value in values.items()}, here)
    if choose.agree:
        table = table.assign(**_agreement(workspace, choose, table))
    concept_ff = table["in_concept"] & (table["site"] == "ff")
    neuron_choice.refuse_empty(choose, concept_ff)
    table["in_prune"], table["in_watch"] = sets.halve(concept_ff, neuron_choice.value(choose, table), choose.seed)
    write_table(out / "neurons.parquet", table)
    write_table(out / "neurons_by_call.parquet", _by_call(workspace).assign(**by_call))
    target = workspace.prompt_set("target")
    if target.units != target.pair_units:  # for readers of recordings without the prompts at hand
        write_json(out / "units.json", dict(zip(target.pair_units, target.units, strict=True)))


def chosen(folder, column):
    """{layer path: indices} of the ff neurons marked in a column of the table in the score's folder, such as in_watch."""
    table = read_table(folder / "neurons.parquet")
    return sets.by_layer(table[["layer", "index"]], table[column] & (table["site"] == "ff"))


def with_erased(workspace, table, by_call):
    """(neuron table, table by call) with columns <score>_<variant>_a and _b of the scores that need an erased model."""
    for variant in _erased(workspace):
        choose = workspace.study.choose
        columns, calls = _scored(workspace, choose, _needing_erased(choose), variant)
        table, by_call = table.assign(**columns), by_call.assign(**calls)
    return table, by_call


def agreement(workspace, table):
    """Rows of the report's table `scores`: how many neurons of the site ff each score chooses, IoU of both halves, chance."""
    choose, rows = workspace.study.choose, []
    ff = (table["site"] == "ff").to_numpy()

    def add(label, a, b, chance, note):
        overlap = {"iou_halves": iou(a, b), "iou_chance": chance} if (a | b).any() else dict.fromkeys(("iou_halves", "iou_chance"))
        rows.append({"score": label, "n_chosen": int(a.sum())} | overlap | {"note": note})

    def alone(label, column, method, note):
        both = (table[f"{column}_{half}"].to_numpy() - method.neutral for half in "ab")
        add(label, *(neuron_choice.positive(value, choose.share, ff) for value in both), iou_chance(choose.share), note)

    if choose.agree:
        a, b = on_halves(choose, table, ff)
        chance = 1 / (1 / (a.sum() / ff.sum()) + 1 / (b.sum() / ff.sum()) - 1) if a.any() and b.any() else 0.0
        add(neuron_choice.in_words(choose), a, b, chance, "chose the concept set")
    for name, method in scores.listed(choose).items():
        role = ("agrees on" if choose.agree else "chose") if name in choose.choosing else None
        alone(name, name, method, f"{role} the concept set" if role else "for comparison")
    for name, method in _needing_erased(choose).items():
        for variant in _erased(workspace):
            alone(f"{name} ({variant})", f"{name}_{variant}", method, method.help)
    return rows


def on_halves(choose, table, here):
    """What the study's rule takes of a site on the selection and on the evaluation half, boolean (neuron,) each, from a neuron table."""
    return tuple(neuron_choice.chosen(choose, neuron_choice.on_half(choose, table, half), here) for half in "ab")


def _agreement(workspace, choose, table):
    """{agreement_a, agreement_b: (neuron,)} where the scores put a neuron together, within its site."""
    columns = {}
    for half in "ab":
        values = neuron_choice.on_half(choose, table, half)
        columns[f"agreement_{half}"] = np.full(len(table), np.nan)
        for site in workspace.sites:
            here = (table["site"] == site).to_numpy()
            columns[f"agreement_{half}"][here] = neuron_choice.agreed(values, here)[here]
    return columns


def _erased(workspace):
    return [variant.name for variant in workspace.study.variants if variant.role == "erased"]


def _needing_erased(choose):
    known = {name: method for name, method in registry.methods("scores").items() if "erased" in method.needs}
    return {name: method for name, method in known.items() if choose.compare is None or name in choose.compare}


def _scored(workspace, choose, methods, variant=None):
    """({column: (neuron,)}, {column: (call and neuron,) float32}) of scores, one quantity in memory at a time.

    Each score over the window on both halves; at each call on the selection half, the choosing score on both.
    """
    columns, by_call = {}, {}
    half = workspace.units_in_half_a()
    for quantity in registry.QUANTITIES:
        mine = {name: method for name, method in methods.items() if method.quantity == quantity}
        evidence = _evidence(workspace, quantity, mine, variant) if mine else None
        for name, method in mine.items():
            column = f"{name}_{variant}" if variant else name
            chooses = name == choose.score
            given = choose.parameters if chooses else None
            for letter, rows in (("a", half), ("b", ~half)):
                columns[f"{column}_{letter}"] = scores.evaluate(method, evidence, rows, parameters=given)
                if letter == "a" or chooses:
                    at = [scores.evaluate(method, evidence, rows, call, given) for call in range(len(workspace.plan.calls))]
                    by_call[f"{column}_{letter}"] = np.concatenate(at).astype(np.float32)
    return columns, by_call


def _evidence(workspace, quantity, methods, variant=None):
    """What recordings show of each unit: base with and without the concept, or base and an erased variant with it."""
    conditions = {"target": (BASE, "target")}
    conditions |= {"erased": (variant, "target")} if variant else {"reference": (BASE, "reference")}
    arrays = {name: _of_units(workspace, condition, quantity) for name, condition in conditions.items()}
    weighing = any("weights" in method.needs for method in methods.values())
    weights = sites.reading_weights(workspace.layers, workspace.model.unet, workspace.model.text_encoder) if weighing else {}
    return scores.Evidence(**arrays, layer=workspace.neurons["layer"].to_numpy(), weights=weights)


def _of_units(workspace, condition, quantity):
    """(unit, call, neuron): a mean over tokens is averaged over a unit's prompts, the square of a norm likewise."""
    values = pooled(workspace, condition, quantity)
    if quantity == "mean_abs" or len(workspace.units) == len(values):
        return workspace.unit_means(condition[1], values)
    return np.sqrt(workspace.unit_means(condition[1], np.square(values)))


def pooled(workspace, condition, quantity):
    """(prompt, call, neuron) over the trajectories: a mean over tokens is averaged, a norm runs over the tokens of both."""
    parts = (workspace.mean_abs(*condition, trajectory, quantity) for trajectory in workspace.trajectories)
    if quantity == "mean_abs":
        return sum(parts) / len(workspace.trajectories)
    return np.sqrt(sum(np.square(part) for part in parts))


def _by_call(workspace):
    """One row per call and neuron, calls in order: layer, index, site, call, timestep."""
    trajectory = workspace.trajectories[0]
    about = workspace.gather("generate", BASE, trajectory, lambda folder: read_json(folder / "calls.json"))[0]
    neurons = workspace.neurons.astype({"layer": "category", "index": "int32", "site": "category"})
    parts = [
        neurons.assign(call=np.int16(call), timestep=np.float32(t)) for call, t in zip(about["calls"], about["timesteps"], strict=True)
    ]
    return pandas.concat(parts, ignore_index=True)
