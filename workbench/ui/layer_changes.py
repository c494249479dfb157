"""Where in the model and at which call activity is lost and regained: the change of concept activity, taken apart by layer and call.

The activity of a set is a sum over its neurons and calls, divided by the same sum of the base model's contrast. So every layer and call
has its part in a change of activity, and all parts add up to it. Read from the run's own recordings, on the evaluation half, as in the
report; needs neither torch nor Streamlit.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from safetensors import SafetensorError, safe_open

from workbench.analysis import headline
from workbench.errors import RunError
from workbench.execution.condition import Condition
from workbench.execution.run_folder import Store
from workbench.report.story import Step
from workbench.statistics import Interval, jackknife, split_halves, unit_means
from workbench.ui import neuron_activity
from workbench.ui.run_list import State

COLUMNS = {"concept": "in_concept", "watch": "in_watch"}  # of the neuron table
Recorded = tuple[dict[str, np.ndarray], list[int]]


class Change(NamedTuple):
    """A difference of two conditions, in shares of the base model's contrast of the same neurons.

    cells     rows layers, columns calls: the part of each in the change
    neurons   layer, index, call, change: the same of every neuron
    total     the sum of all cells, with its interval over units
    """

    name: str
    cells: pandas.DataFrame
    neurons: pandas.DataFrame
    total: Interval


def changes(state: State, table: pandas.DataFrame, steps: Sequence[Step]) -> list[Change]:
    """The first variant of a story minus the base model, and the same under its attack minus without; [] where recordings are missing.

    table   the neuron table of the run;   steps   the columns of the story
    """
    own = [step for step in steps if step.role != "base"]
    base = next((step.variant for step in steps if step.role == "base"), None)
    if not own or base is None or own[0].activity is None:
        return []
    plain, trajectory = own[0], own[0].activity["trajectory"]
    attacked = next((step for step in own if step.variant == plain.variant and step.attack and step.activity), None)
    chosen = COLUMNS[headline.own_set(plain.role)]
    if chosen not in table:
        return []
    members = {
        str(layer): np.sort(part["index"].to_numpy()) for layer, part in table[table[chosen] & (table["site"] == "ff")].groupby("layer")
    }
    first = state.report.study["window"] or (0, np.inf)
    wanted = [("reference", base, "reference"), ("base", base, "target"), ("plain", plain.variant, "target")]
    wanted += [("attacked", attacked.variant, attacked.activity["prompt_set"])] if attacked and attacked.activity else []
    read = {name: _recorded(state, variant, prompts, members, trajectory) for name, variant, prompts in wanted}
    if not members or any(one is None for one in read.values()):
        return []
    values = {name: one for name, one in read.items() if one}
    calls = values["base"][1]
    kept = [place for place, call in enumerate(calls) if first[0] <= call <= first[-1]]
    pairs = [(f"{plain.variant} minus {base}", "plain", "base")]
    pairs += [(f"{plain.variant} under the attack minus {plain.variant}", "attacked", "plain")] * ("attacked" in values)
    return [_change(name, values, plus, minus, members, kept) for name, plus, minus in pairs]


def _change(name: str, values: dict[str, Recorded], plus: str, minus: str, members: dict[str, np.ndarray], kept: list[int]) -> Change:
    calls = [values["base"][1][place] for place in kept]
    rise, scale, parts = [], [], []
    for layer, indices in members.items():
        high, low, with_it, without = (values[one][0][layer][:, kept].astype(float) for one in (plus, minus, "base", "reference"))
        rise.append((high - low).sum(axis=(1, 2)))
        scale.append((with_it - without).sum(axis=(1, 2)))
        parts.append((layer, indices, (high - low).mean(axis=0)))  # (call, neuron)
    whole = np.sum(scale, axis=0)
    total = jackknife(np.divide, range(len(whole)), np.sum(rise, axis=0), whole)
    rows = [
        {"layer": layer, "index": int(index), "call": call, "change": part[at, place] / whole.mean()}
        for layer, indices, part in parts
        for place, index in enumerate(indices)
        for at, call in enumerate(calls)
    ]
    neurons = pandas.DataFrame(rows)
    cells = neurons.pivot_table(index="layer", columns="call", values="change", aggfunc="sum", sort=False)
    return Change(name, cells, neurons, total)


def _recorded(state: State, variant: str, prompt_set: str, members: dict[str, np.ndarray], trajectory: str) -> Recorded | None:
    """({layer: (unit of the evaluation half, call, neuron)}, calls) of a condition; None where something of it is not there."""
    store, nodes = Store(state.folder), {node["id"]: node for node in state.nodes}
    node, units = nodes.get(Condition(variant, prompt_set).node("record")), neuron_activity.units_of(state, nodes, prompt_set)
    if node is None or units is None or not state.has(node):
        return None
    parts: dict[str, list[np.ndarray]] = {layer: [] for layer in members}
    calls: list[int] = []
    for shard in node["shards"]:
        path: Path = store.file("record", shard, f"{trajectory}.safetensors")
        try:
            with safe_open(path, "numpy") as file:
                there = set(file.keys())
                calls = json.loads(file.metadata()["calls"])
                for layer, indices in members.items():
                    if f"{layer}|mean_abs" not in there:
                        return None
                    parts[layer].append(file.get_tensor(f"{layer}|mean_abs")[:, :, indices])
        except (SafetensorError, OSError, TypeError, KeyError, ValueError, IndexError) as error:
            raise RunError(f"{path} is damaged ({error}). Running the study again computes it again: {store.command()}") from error
    evaluation = ~split_halves(units, neuron_activity.seed_of(state.folder))
    own = [unit for unit, kept in zip(units, evaluation, strict=True) if kept]
    found: dict[str, Any] = {layer: unit_means(own, np.concatenate(one).astype(float)[evaluation]) for layer, one in parts.items()}
    return found, calls


def of_cell(change: Change, layer: str, call: int, most: int = 12) -> pandas.DataFrame:
    """The neurons behind a cell, those that change most first."""
    part = change.neurons[(change.neurons["layer"] == layer) & (change.neurons["call"] == call)]
    return part.sort_values("change", key=lambda one: -one.abs(), kind="stable").head(most)


def picked(state: Any, cells: pandas.DataFrame) -> tuple[str, int] | None:
    """(layer, call) of the cell that is selected in the table of cells, read from the widget's state; None without one."""
    try:
        row, column = state["selection"]["cells"][0]
        return str(cells.index[row]), int(str(column).rsplit(" ", 1)[-1])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
