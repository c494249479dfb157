"""How active one neuron was, condition by condition and call by call: read from the run's own recordings.

Needs neither torch nor Streamlit. Only the evaluation half of the units is read, as in the report.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from workbench.errors import RunError
from workbench.execution.condition import Condition
from workbench.execution.run_folder import Store
from workbench.report import wording
from workbench.report.content import Row
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


def _values(
    state: State, variant: str, prompt_set: str, layer: str, index: int, trajectory: str
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """((unit of the evaluation half, call) mean |a| of a neuron, {calls, timesteps}); None where something of it is not there."""
    store, nodes = Store(state.folder), {node["id"]: node for node in state.nodes}
    node, units = nodes.get(Condition(variant, prompt_set).node("record")), units_of(state, nodes, prompt_set)
    if node is None or units is None or not state.has(node):
        return None
    parts: list[np.ndarray] = []
    about: dict[str, Any] = {}
    for shard in node["shards"]:
        path = store.file("record", shard, f"{trajectory}.safetensors")
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
    values = np.concatenate(parts).astype(float)
    evaluation = ~split_halves(units, seed_of(state.folder))
    return unit_means([unit for unit, kept in zip(units, evaluation, strict=True) if kept], values[evaluation]), about


def seed_of(folder: Path) -> int:
    """The seed by which the run cut its units into halves."""
    path = folder / "study.json"
    try:
        return int(read_json(path)["choose"]["seed"])
    except (OSError, KeyError, TypeError, ValueError):
        raise RunError(f"{path} is missing or damaged. Run the study again; results are kept, this file is written again.") from None


def units_of(state: State, nodes: dict[str, Any], prompt_set: str) -> list[str] | None:
    """Unit of each prompt of a set, from the findings of any variant that drew it; None when no variant did."""
    store = Store(state.folder)
    for node in nodes.values():
        if node["stage"] == "detect" and node["prompt_set"] == prompt_set and state.has(node):
            found = [unit for shard in node["shards"] for unit in read_table(store.file("detect", shard, "detections.parquet"))["unit"]]
            grouped = _grouped(store, nodes)
            return [grouped.get(unit, unit) for unit in found]
    return None


def _grouped(store: Store, nodes: dict[str, Any]) -> dict[str, str]:
    """{unit of the files: unit that follows the prompt}; empty where they are the same."""
    for shard in nodes["score"]["shards"] if "score" in nodes else ():
        path = store.path("score", shard) / "units.json"
        return read_json(path) if path.is_file() else {}
    return {}
