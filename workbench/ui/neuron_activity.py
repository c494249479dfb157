"""How active one neuron was, condition by condition and call by call: read from the run's own recordings.

Needs neither torch nor Streamlit. Only the evaluation half of the units is read, as in the report. Where the run has laid its
recordings out by neuron (`by_neuron`), a few kilobytes are read.

of_neuron    mean |a| by condition and call;   by_prompt   by prompt, of one condition: which images activate it most
conditions   the recorded conditions;   prompts   what a prompt set is made of
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from safetensors import SafetensorError, safe_open

from workbench.errors import RunError
from workbench.execution import by_neuron
from workbench.execution.condition import Condition
from workbench.execution.run_folder import Store
from workbench.report import wording
from workbench.report.content import Row, arranged
from workbench.statistics import jackknife, split_halves, unit_means
from workbench.storage import read_json, read_table
from workbench.ui.run_list import State

LABELS = ("variant", "prompt_set", "attack", "provenance", "against", "control")


def of_neuron(state: State, layer: str, index: int, trajectory: str) -> list[Row]:
    """Mean |a| of a neuron in every recorded condition on the units of the evaluation half, with t intervals over them.

    returns  rows like those of activity_by_call: labels of the condition, call, timestep, n (units), value, low, high;
             none where recordings are gone or the neuron is no neuron of the UNet
    Raises   RunError for a damaged recording
    """
    rows, wanted = [], {tuple(row[name] for name in LABELS): None for row in state.report["activity"] if row["trajectory"] == trajectory}
    for condition in wanted:
        keys = dict(zip(LABELS, condition, strict=True))
        name = keys["prompt_set"]
        try:
            found = None if name in wording.RETAINED else _values(state, keys["variant"], name, layer, index, trajectory)
        except KeyError as error:
            raise RunError(f"A result of the prompt set {name} in {state.folder} has no {error}. Run the study again.") from None
        if found is None:
            continue
        values, about = found
        for place, (call, timestep) in enumerate(zip(about["calls"], about["timesteps"], strict=True)):
            one = jackknife(lambda mean: mean, range(len(values)), values[:, place])
            where = {"neuron_set": f"{layer} {index}", "trajectory": trajectory, "call": call, "timestep": timestep}
            rows.append(keys | where | {"n": one.n, "value": one.value, "low": one.low, "high": one.high})
    return rows


def conditions(state: State, trajectory: str) -> list[Row]:
    """The recorded conditions, by variant, as rows with the columns LABELS."""
    wanted = {tuple(row[name] for name in LABELS): None for row in state.report["activity"] if row["trajectory"] == trajectory}
    nodes = {node["id"]: node for node in state.nodes}
    rows = [dict(zip(LABELS, condition, strict=True)) for condition in wanted]
    there = [row for row in rows if _recorded(state, nodes, row["variant"], row["prompt_set"])]
    return arranged(there, state.report.variants)


def by_prompt(state: State, layer: str, index: int, variant: str, prompt_set: str, trajectory: str) -> list[Row]:
    """Mean |a| over the recorded calls at every prompt of the evaluation half in one condition, the largest first.

    returns  rows: prompt (its row in the set), id, unit, value; none where the recording is not there
    Raises   RunError for a damaged recording
    """
    nodes = {node["id"]: node for node in state.nodes}
    prompts, read = _prompts(state, nodes, prompt_set), _read(state, nodes, variant, prompt_set, layer, index, trajectory)
    if prompts is None or read is None:
        return []
    values, evaluation = read[0].mean(axis=1), ~split_halves(prompts["half_by"].tolist(), seed_of(state.folder))
    rows = [
        {"prompt": place, "id": one["id"], "unit": one["unit"], "value": float(value)}
        for place, (one, value, kept) in enumerate(zip(prompts.to_dict("records"), values, evaluation, strict=True))
        if kept
    ]
    return sorted(rows, key=lambda row: -row["value"])


def prompts(state: State, prompt_set: str) -> pandas.DataFrame | None:
    """Frame, a row per prompt of a set: id, unit, half_by (its unit in the analyses); None where no variant drew it."""
    return _prompts(state, {node["id"]: node for node in state.nodes}, prompt_set)


def _values(
    state: State, variant: str, prompt_set: str, layer: str, index: int, trajectory: str
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """((unit of the evaluation half, call) mean |a| of a neuron, {calls, timesteps}); None where something of it is not there."""
    nodes = {node["id"]: node for node in state.nodes}
    prompts, read = _prompts(state, nodes, prompt_set), _read(state, nodes, variant, prompt_set, layer, index, trajectory)
    if prompts is None or read is None:
        return None
    values, about = read
    units = prompts["half_by"].tolist()
    evaluation = ~split_halves(units, seed_of(state.folder))
    return unit_means([unit for unit, kept in zip(units, evaluation, strict=True) if kept], values[evaluation]), about


def _recorded(state: State, nodes: dict[str, Any], variant: str, prompt_set: str) -> dict[str, Any] | None:
    node = nodes.get(Condition(variant, prompt_set).node("record"))
    return node if node is not None and state.has(node) else None


def _read(
    state: State, nodes: dict[str, Any], variant: str, prompt_set: str, layer: str, index: int, trajectory: str
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """((prompt, call) mean |a| of a neuron, {calls, timesteps}); None where it is not there."""
    store, node = Store(state.folder), _recorded(state, nodes, variant, prompt_set)
    if node is None:
        return None
    measured = nodes["measure"]["shards"] if "measure" in nodes else ()
    if (laid_out := by_neuron.read(store, measured, Condition(variant, prompt_set), trajectory, layer, index)) is not None:
        return laid_out
    parts: list[np.ndarray] = []
    about: dict[str, Any] = {}
    for shard in node["shards"]:
        name = f"{trajectory}.safetensors"
        if not store.kept(("record", shard), name):
            return None
        path = store.file("record", shard, name)
        try:
            with safe_open(path, "numpy") as file:
                name = f"{layer}|mean_abs"
                if name not in file.keys():  # noqa: SIM118 - a safetensors file is no dict
                    return None
                part = file.get_slice(name)
                if not 0 <= index < part.get_shape()[2]:
                    return None
                parts.append(part[:, :, index : index + 1][:, :, 0])
                about = {key: json.loads(file.metadata()[key]) for key in ("calls", "timesteps")}
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}). Running the study again computes it again: {store.command()}") from error
    return np.concatenate(parts).astype(float), about


def seed_of(folder: Path) -> int:
    """The seed by which the run cut its units into halves."""
    path = folder / "study.json"
    try:
        return int(read_json(path)["choose"]["seed"])
    except (OSError, KeyError, TypeError, ValueError):
        raise RunError(f"{path} is missing or damaged. Run the study again; results are kept, this file is written again.") from None


def units_of(state: State, nodes: dict[str, Any], prompt_set: str) -> list[str] | None:
    """(prompt,) the unit by which halves are cut, from the findings of any variant that drew the set; None when no variant did."""
    prompts = _prompts(state, nodes, prompt_set)
    return None if prompts is None else prompts["half_by"].tolist()


def _prompts(state: State, nodes: dict[str, Any], prompt_set: str) -> pandas.DataFrame | None:
    """Frame, a row per prompt of a set: id, unit, half_by (the unit by which halves are cut), from the findings of any variant that
    drew it; None when no variant did."""
    for node in nodes.values():
        if node["stage"] == "detect" and node["prompt_set"] == prompt_set and state.has(node):
            return _listed(state.folder, tuple(node["shards"]), tuple(sorted(_grouped(Store(state.folder), nodes).items())))
    return None


@lru_cache(maxsize=256)
def _listed(folder: Path, shards: tuple[str, ...], grouped: tuple[tuple[str, str], ...]) -> pandas.DataFrame:
    """The frame of `_prompts`; a finished shard never changes."""
    found = pandas.concat([read_table(Store(folder).file("detect", shard, "detections.parquet")) for shard in shards])
    names, units = found["id"] if "id" in found else found["unit"], dict(grouped)
    return pandas.DataFrame({"id": names, "unit": found["unit"], "half_by": [units.get(unit, unit) for unit in found["unit"]]})


def _grouped(store: Store, nodes: dict[str, Any]) -> dict[str, str]:
    """{unit of the files: unit that follows the prompt}; empty where they are the same."""
    for shard in nodes["score"]["shards"] if "score" in nodes else ():
        path = store.path("score", shard) / "units.json"
        return read_json(path) if path.is_file() else {}
    return {}
