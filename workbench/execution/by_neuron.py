"""What was recorded, laid out by neuron: whoever looks at one neuron reads kilobytes of a run whose recordings are gigabytes.

Recordings are written by prompt, as they are computed. The stage `measure` lays mean |a| of every condition out once more, by neuron:
`by_neuron/<number>.bin` holds (neuron, prompt, call) in half precision; `<number>.json` says where each layer begins, and the digest of
every block of BLOCK neurons, so that a block is checked without reading the others; `index.json` says which condition is which number.
It is for looking at; every number of the report is computed from the recordings themselves.

write   the files of every recorded condition, into the result of the stage that measures
read    (prompt, call) of one neuron in one condition
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.execution.condition import Condition
from workbench.storage import DamagedFile, read_arrays, read_json, write_json
from workbench.study.parts import RETAINED
from workbench.study.study import OTHER

if TYPE_CHECKING:
    from workbench.execution.run_folder import Store
    from workbench.execution.workspace import Workspace

FOLDER = "by_neuron"
INDEX = f"{FOLDER}/index.json"
BLOCK = 32  # neurons that are read and checked together
HALF_MOST = 60_000.0  # larger values would not fit half precision


def is_laid_out(prompt_set: str | None) -> bool:
    """Whether recordings of a prompt set are laid out: all but those of retained prompts and of the other concept."""
    return prompt_set not in RETAINED and prompt_set not in OTHER


def write(workspace: "Workspace", out: Path) -> None:
    """Lay out every recorded condition but the retained ones into the folder `out` of a result."""
    (out / FOLDER).mkdir()
    index: list[dict[str, Any]] = []
    for node in workspace.plan.of_stage("record"):
        variant, prompt_set = node.condition
        if not is_laid_out(prompt_set):
            continue
        for trajectory in node.parameters["trajectories"]:
            shards = workspace.gather("record", variant, prompt_set, partial(_read, name=f"{trajectory}.safetensors"))
            names = list(shards[0][0])
            layers = [(name, np.concatenate([arrays[name] for arrays, _ in shards])) for name in names]
            number = len(index)
            index.append({"variant": variant, "prompt_set": prompt_set, "trajectory": trajectory, "number": number})
            write_json(out / FOLDER / f"{number}.json", shards[0][1] | laid_out(layers, out / FOLDER / f"{number}.bin"))
    write_json(out / INDEX, index)


def _read(folder: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """({layer: (prompt, call, neuron) mean |a|}, {calls, timesteps}) of a shard of a recording."""
    from safetensors import safe_open

    path = folder / name
    with safe_open(path, "numpy") as file:
        said = file.metadata()
    arrays = {name.removesuffix("|mean_abs"): one.numpy() for name, one in read_arrays(path).items() if name.endswith("|mean_abs")}
    return arrays, {name: json.loads(said[name]) for name in ("calls", "timesteps")}


def laid_out(layers: Sequence[tuple[str, np.ndarray]], path: Path) -> dict[str, Any]:
    """Write the layers (name, (prompt, call, neuron)) by neuron, and return what is said of the file.

    returns   dtype, n_prompts, layers [[name, number of neurons]], digests [of every block of every layer]
    """
    largest = max((float(np.abs(values).max(initial=0)) for _, values in layers), default=0.0)
    kind, digests = np.dtype("float16" if largest < HALF_MOST else "float32"), []
    with open(path, "wb") as file:
        for _, values in layers:
            turned = values.transpose(2, 0, 1)
            for first in range(0, len(turned), BLOCK):
                data = np.ascontiguousarray(turned[first : first + BLOCK], dtype=kind).tobytes()
                digests.append(_digest(data))
                file.write(data)
    sizes = [[name, values.shape[2]] for name, values in layers]
    n_prompts = layers[0][1].shape[0] if layers else 0
    return {"dtype": kind.name, "n_prompts": n_prompts, "layers": sizes, "digests": digests}


def read(
    store: "Store", shards: Iterable[str], condition: Condition, trajectory: str, layer: str, index: int
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """((prompt, call) mean |a| of a neuron, {calls, timesteps}); None where this run has not laid it out.

    shards   keys of the node `measure`
    Raises   DamagedResult where what is said of the files is damaged, DamagedFile where the neuron's block is
    """
    for shard in shards:
        if not store.has("measure", shard) or not store.kept(("measure", shard), INDEX):
            continue
        for one in read_json(store.file("measure", shard, INDEX)):
            if (one["variant"], one["prompt_set"], one["trajectory"]) == (*condition, trajectory):
                about = read_json(store.file("measure", shard, f"{FOLDER}/{one['number']}.json"))
                values = _neuron(store.path("measure", shard) / FOLDER / f"{one['number']}.bin", about, layer, index)
                return None if values is None else (values, {"calls": about["calls"], "timesteps": about["timesteps"]})
    return None


def _neuron(path: Path, about: dict[str, Any], layer: str, index: int) -> np.ndarray | None:
    """(prompt, call) float64 of a neuron from its block; None when there is no such neuron."""
    place, before = 0, 0  # blocks and neurons before the layer
    for name, n_neurons in about["layers"]:
        if name == layer:
            break
        place, before = place + -(-n_neurons // BLOCK), before + n_neurons
    else:
        return None
    if not 0 <= index < n_neurons:
        return None
    block, kind = index // BLOCK, np.dtype(about["dtype"])
    shape = (min(BLOCK, n_neurons - block * BLOCK), about["n_prompts"], len(about["calls"]))
    per_neuron = shape[1] * shape[2] * kind.itemsize
    try:
        with open(path, "rb") as file:
            file.seek((before + block * BLOCK) * per_neuron)
            data = file.read(shape[0] * per_neuron)
    except OSError as error:
        raise DamagedFile(path, error.strerror or error) from None
    if _digest(data) != about["digests"][place + block]:
        raise DamagedFile(path, "its bytes are not those that were written")
    found: np.ndarray = np.frombuffer(data, kind).reshape(shape)[index - block * BLOCK].astype(float)
    return found


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
