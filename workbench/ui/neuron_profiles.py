"""Which neurons behave alike: profiles of activity over conditions, prompts and calls, from the run's own recordings.

Needs neither torch nor Streamlit. At most MOST_BYTES are read: of larger runs evenly spaced prompts, and of many conditions first those
without attack, then attacks made against the variant itself; controls and transferred attacks last.

of_run       the profiles;   nearest   the neurons whose profile is most like that of one;   plane   neurons on two directions of them
"""

import json
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
from workbench.report import wording
from workbench.report.content import Row
from workbench.ui import neuron_activity, neuron_files
from workbench.ui.run_list import State

MOST_BYTES = 4_000_000
KIND = "|mean_abs"
FEWEST = 8  # prompts of a condition, as long as there is room for two conditions


@dataclass(frozen=True)
class Profiles:
    """index    frame, a row per neuron of the UNet: layer, index
    values      (value, neuron) float32, mean |a| of a neuron at a prompt and call of a condition
    n_all       how many values the recordings have of each neuron
    n_conditions, n_prompts, n_calls   what the values are over; prompts of each condition
    """

    index: pandas.DataFrame
    values: np.ndarray
    n_all: int
    n_conditions: int
    n_prompts: int
    n_calls: int


def of_run(state: State, trajectory: str) -> Profiles | None:
    """The profiles of all neurons of the UNet; None where recordings are gone."""
    stamp = (state.folder / "manifest.json").stat().st_mtime_ns
    return _of_run(_Key(state, (str(state.folder.absolute()), stamp, trajectory)), trajectory)


@dataclass(frozen=True, eq=False)
class _Key:
    """A state that is the same as another one when its run did not change."""

    state: State
    same: tuple[Any, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.same == other.same

    def __hash__(self) -> int:
        return hash(self.same)


@lru_cache(maxsize=2)
def _of_run(key: _Key, trajectory: str) -> Profiles | None:
    state = key.state
    table = neuron_files.frame(state)
    conditions = [row for row in neuron_activity.conditions(state, trajectory) if row["prompt_set"] not in wording.RETAINED]
    conditions.sort(key=lambda row: (row["control"], row["provenance"] == "transferred", row["attack"] is not None))
    nodes = {node["id"]: node for node in state.nodes}
    shards = [Condition(row["variant"], row["prompt_set"]) for row in conditions]
    store = Store(state.folder)
    paths = {
        one: [store.file("record", shard, f"{trajectory}.safetensors") for shard in nodes[one.node("record")]["shards"]] for one in shards
    }
    if not paths:
        return None
    calls, widths = _shape(next(iter(paths.values()))[0])
    layers = [layer for layer in table["layer"].unique() if layer in widths]
    index = pandas.concat([pandas.DataFrame({"layer": layer, "index": range(widths[layer])}) for layer in layers], ignore_index=True)
    room = MOST_BYTES // (4 * len(index) * calls)  # prompts, of all conditions together
    paths = dict(list(paths.items())[: max(2, room // FEWEST)])
    most = max(1, room // len(paths))
    read = [_sampled(files, layers, most) for files in paths.values()]
    values = np.concatenate([values.reshape(-1, len(index)) for values, _ in read])
    return Profiles(index, values, sum(n for _, n in read) * calls, len(paths), max(len(values) for values, _ in read), calls)


def _shape(path: Path) -> tuple[int, dict[str, int]]:
    """(number of calls, {layer: neurons}) of a recording."""
    try:
        with safe_open(path, "numpy") as file:
            names = [name.removesuffix(KIND) for name in file.keys() if name.endswith(KIND)]  # noqa: SIM118 - no dict
            return len(json.loads(file.metadata()["calls"])), {name: file.get_slice(name + KIND).get_shape()[2] for name in names}
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}). Run the study again: the result is then computed again.") from error


def _sampled(files: list[Path], layers: list[str], most: int) -> tuple[np.ndarray, int]:
    """((prompt, call, neuron) of at most so many evenly spaced prompts, how many there are)."""
    try:
        sizes = []
        for path in files:
            with safe_open(path, "numpy") as file:
                sizes.append(file.get_slice(f"{layers[0]}{KIND}").get_shape()[0])
        wanted = np.unique(np.linspace(0, sum(sizes) - 1, min(most, sum(sizes))).round().astype(int))
        parts, before = [], 0
        for path, size in zip(files, sizes, strict=True):
            with safe_open(path, "numpy") as file:
                for row in wanted[(wanted >= before) & (wanted < before + size)] - before:
                    parts.append(np.concatenate([file.get_slice(f"{layer}{KIND}")[row : row + 1] for layer in layers], axis=2))
            before += size
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise RunError(f"{files[0].parent} is damaged ({error}). Run the study again: the result is then computed again.") from error
    return np.concatenate(parts).astype(np.float32), sum(sizes)


def nearest(found: Profiles, layer: str, index: int, most: int = 10) -> list[Row]:
    """The neurons with the most similar profile: rows layer, index, correlation, cosine; none for a neuron that never changes."""
    own = np.flatnonzero(((found.index["layer"] == layer) & (found.index["index"] == index)).to_numpy())
    if not len(own):
        return []
    values = found.values.astype(float)
    correlation, cosine = _alike(values - values.mean(axis=0), own[0]), _alike(values, own[0])
    if not np.isfinite(correlation).any():
        return []
    order = [place for place in np.argsort(-np.nan_to_num(correlation, nan=-2), kind="stable") if place != own[0]][:most]
    return [
        {
            "layer": str(found.index["layer"].iloc[place]),
            "index": int(found.index["index"].iloc[place]),
            "correlation": float(correlation[place]),
            "cosine": float(cosine[place]),
        }
        for place in order
        if np.isfinite(correlation[place])
    ]


def _alike(values: np.ndarray, place: int) -> np.ndarray:
    """(neuron,) cosine of every column with one of them; NaN of a column of zeros, and when that one is of zeros."""
    length = np.sqrt((values**2).sum(axis=0))
    length[length < 1e-12] = np.nan
    return (values.T @ values[:, place]) / (length * length[place])


def plane(found: Profiles, neurons: pandas.DataFrame) -> pandas.DataFrame | None:
    """`neurons` (layer, index, ...) with x, y: their place on the two directions of largest variance of their standardised profiles;
    None when they are too few or too alike for a plane."""
    places = {(layer, index): at for at, (layer, index) in enumerate(zip(found.index["layer"], found.index["index"], strict=True))}
    at = np.array([places.get(one, -1) for one in zip(neurons["layer"], neurons["index"], strict=True)], dtype=int)
    kept = neurons[at >= 0]
    values = found.values[:, at[at >= 0]].T.astype(float)
    spread = values.std(axis=1, keepdims=True)
    values = (values - values.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    if min(values.shape) < 3:
        return None
    left, size, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    if size[1] < 1e-9:
        return None
    return kept.assign(x=left[:, 0] * size[0], y=left[:, 1] * size[1])
