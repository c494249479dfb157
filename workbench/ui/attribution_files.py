"""Attributions of a run: which there are, and the scores of one, from its own results or, where these are gone, from its neuron table.

Needs neither torch nor Streamlit.

conditions, methods   what the study attributed, and how
scores                of every neuron in one condition by one method, with intervals over units where they are stored
layer_totals          summed by layer;  agreement   how far methods and halves rank neurons alike
by_unit               of one neuron, unit by unit: which prompts attribute most
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from safetensors import SafetensorError, safe_open

from workbench.errors import RunError
from workbench.execution.condition import Condition
from workbench.execution.run_folder import Store
from workbench.report.content import Row
from workbench.statistics import jackknife
from workbench.storage import DamagedFile, read_json
from workbench.ui import neuron_files
from workbench.ui.neuron_activity import LABELS
from workbench.ui.run_list import State

SITE = "ff"
HALVES = {"a": "selection half", "b": "evaluation half"}
CONDUCTANCE = "conductance"
MOST_BYTES = 4_000_000
TOP = 50


@dataclass(frozen=True)
class Scores:
    """table   frame, a row per neuron of the site ff: layer, index, value, low, high; ends None where no interval is stored
    n          units, None where that is not known;   units   their names
    by_unit    (unit, neuron) float32; None where it is not there or too large to read
    """

    table: pandas.DataFrame
    n: int | None
    units: tuple[str, ...] = ()
    by_unit: np.ndarray | None = None


def conditions(state: State) -> list[Row]:
    """The attributed conditions, by variant, as rows with the columns LABELS."""
    found = {tuple(row[name] for name in LABELS): None for row in state.report.arranged("attribution")}
    return [dict(zip(LABELS, one, strict=True)) for one in found]


def methods(state: State) -> list[str]:
    """The methods, the leading one first."""
    return list(dict.fromkeys(row["method"] for row in state.report["attribution"]))


def column(method: str, condition: Row, half: str = "b") -> str:
    """The column of the neuron table."""
    return f"attribution_{method}_{condition['variant']}_{condition['prompt_set']}_{half}"


def scores(state: State, method: str, condition: Row, half: str = "b") -> Scores | None:
    """The Scores; None where neither results nor neuron table have them.

    Raises   RunError for a damaged result
    """
    name = column(method, condition, half)
    table = neuron_files.frame(state, (name, "attribution_b", "attribution_b_low", "attribution_b_high"))
    table = table[table["site"] == SITE].reset_index(drop=True)
    folder = _folder(state, method, condition, half)
    if folder is not None:
        return _stored(folder, table)
    if name not in table and not (leads(state, method, condition) and half == "b" and "attribution_b" in table):
        return None
    name = name if name in table else "attribution_b"
    found = table[["layer", "index"]].assign(value=table[name], low=None, high=None)
    if name == "attribution_b" or (leads(state, method, condition) and half == "b" and "attribution_b_low" in table):
        found = found.assign(low=table["attribution_b_low"], high=table["attribution_b_high"])
    row = next((one for one in state.report["attribution"] if one["method"] == method and _same(one, condition)), None)
    return Scores(found, row["n"] if row else None)


def leads(state: State, method: str, condition: Row) -> bool:
    """Whether rankings and clusters of the run rest on this attribution."""
    return method == methods(state)[0] and condition["variant"] == state.report.base and condition["prompt_set"] == "target"


def _same(one: Row, other: Row) -> bool:
    return all(one[name] == other[name] for name in LABELS)


def _folder(state: State, method: str, condition: Row, half: str) -> Path | None:
    """Where the result lies; None where it is not in the run folder. Shards follow the jobs of the stage: each method, half a and b."""
    stage = CONDUCTANCE if method == CONDUCTANCE else "attribute"
    node = next((one for one in state.nodes if one["id"] == Condition(condition["variant"], condition["prompt_set"]).node(stage)), None)
    if node is None:
        return None
    try:
        own = [method] if method == CONDUCTANCE else read_json(state.folder / "study.json")["attribute"]["methods"]
        shard = node["shards"][2 * own.index(method) + (half == "b")]
    except (OSError, KeyError, TypeError, ValueError, IndexError):
        return None
    store = Store(state.folder)
    return store.file(node["stage"], shard, "scores.safetensors").parent if store.has(node["stage"], shard) else None


@lru_cache(maxsize=32)
def _read(folder: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...], np.ndarray | None]:
    """(value, low, high; units; by_unit) of a result, which never changes."""
    path = folder / "scores.safetensors"
    try:
        units = tuple(read_json(folder / "about.json")["units"])
        with safe_open(path, "numpy") as file:
            found = {name: file.get_tensor(name) for name in ("value", "low", "high")}
            shape = file.get_slice("per_unit").get_shape()
            return found, units, file.get_tensor("per_unit") if 4 * shape[0] * shape[1] <= MOST_BYTES else None
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise DamagedFile(path, error) from error


def _stored(folder: Path, table: pandas.DataFrame) -> Scores:
    path = folder / "scores.safetensors"
    found, units, by_unit = _read(folder)
    if len(found["value"]) != len(table):
        raise RunError(f"{path} has {len(found['value'])} neurons, the neuron table {len(table)} of the site {SITE}. Run the study again.")
    return Scores(table[["layer", "index"]].assign(**found), len(units), units, by_unit)


def layer_totals(found: Scores) -> list[Row]:
    """Rows layer, value, low, high, n, n_neurons: the scores of a layer summed, with a t interval over units where they are there."""
    rows: list[Row] = []
    for layer, group in found.table.groupby("layer", sort=False):
        row: Row = {
            "layer": str(layer),
            "n": found.n,
            "n_neurons": len(group),
            "value": float(group["value"].sum()),
            "low": None,
            "high": None,
        }
        if found.by_unit is not None:
            one = jackknife(lambda mean: mean, list(found.units), found.by_unit[:, group.index.to_numpy()].sum(axis=1).astype(float))
            row |= {"value": one.value, "low": one.low, "high": one.high}
        rows.append(row)
    return rows


def agreement(state: State, condition: Row) -> list[Row]:
    """How far rankings agree in one condition: rows one, other, spearman, shared (of the TOP highest), n (neurons); methods on the
    evaluation half in pairs, then each method on the two halves, whose units are others."""
    own: dict[tuple[str, str], np.ndarray] = {}
    for method in methods(state):
        for half in HALVES:
            found = scores(state, method, condition, half)
            if found is not None:
                own[method, half] = found.table["value"].to_numpy(float)
    names = [method for method in methods(state) if (method, "b") in own]
    pairs: list[tuple[str, str, np.ndarray, np.ndarray]] = [
        (one, other, own[one, "b"], own[other, "b"]) for place, one in enumerate(names) for other in names[place + 1 :]
    ]
    pairs += [(f"{one}, selection half", f"{one}, evaluation half", own[one, "a"], own[one, "b"]) for one in names if (one, "a") in own]
    return [{"one": one, "other": other, **_alike(x, y)} for one, other, x, y in pairs]


def _alike(x: np.ndarray, y: np.ndarray) -> Row:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    rank = [np.asarray(pandas.Series(values).rank(), float) for values in (x, y)]
    known_ranks = len(x) > 2 and all(values.std() > 0 for values in rank)
    spearman = float(np.corrcoef(rank[0], rank[1])[0, 1]) if known_ranks else None
    k = min(TOP, len(x))
    top = [set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (x, y)]
    return {"spearman": spearman, "shared": len(top[0] & top[1]), "of": k, "by_chance": k * k / len(x) if len(x) else None, "n": len(x)}


def by_unit(state: State, method: str, condition: Row, layer: str, index: int) -> list[Row] | None:
    """Rows unit, value of one neuron, the largest first, on the evaluation half; None where it is not stored.

    Raises   RunError for a damaged result
    """
    folder = _folder(state, method, condition, "b")
    if folder is None:
        return None
    table = neuron_files.frame(state)
    table = table[table["site"] == SITE].reset_index(drop=True)
    place = table.index[(table["layer"] == layer) & (table["index"] == index)]
    if not len(place):
        return None
    path = folder / "scores.safetensors"
    try:
        units = read_json(folder / "about.json")["units"]
        with safe_open(path, "numpy") as file:
            values = file.get_slice("per_unit")[:, int(place[0]) : int(place[0]) + 1][:, 0].tolist()
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise DamagedFile(path, error) from error
    return sorted(({"unit": unit, "value": value} for unit, value in zip(units, values, strict=True)), key=lambda row: -row["value"])


def of_neuron(state: State, layer: str, index: int) -> list[Row]:
    """Rows with the columns LABELS, method, value, low, high, n: what one neuron was attributed in every condition, by every method."""
    rows: list[Row] = []
    for condition in conditions(state):
        for method in methods(state):
            found = scores(state, method, condition)
            if found is None:
                continue
            here = found.table[(found.table["layer"] == layer) & (found.table["index"] == index)]
            if len(here):
                own: dict[Any, Any] = {key: None if pandas.isna(value) else value for key, value in here.iloc[0].to_dict().items()}
                rows.append(condition | {"method": method, "n": found.n} | {name: own[name] for name in ("value", "low", "high")})
    return rows
