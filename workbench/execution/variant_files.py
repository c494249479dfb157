"""The files of a variant in the folder of its node: weights, a mask or another change, with provenance, and the log of its training.

write_change   result of an eraser -> weights, mask or change.safetensors, log.parquet where there is a log
read_change    the folder -> Variant, its own change only, without its parents
merged         run folder and variant -> the change over the base model, and its chain of variants; needs no model
training_rows  the table `training` of report.json
watched_caveats   sentences on masks that prune weights of the watched neurons
removed_caveats   sentences on students that lack concept neurons
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import torch

from workbench import registry
from workbench.errors import RunError, nearest
from workbench.execution.condition import erasing
from workbench.execution.rows import Row, records
from workbench.execution.run_folder import Store
from workbench.models import changes, channels, masks
from workbench.models.changes import Change
from workbench.models.variants import Variant
from workbench.storage import read_arrays, read_table, write_arrays, write_table
from workbench.study.study import BASE, Study
from workbench.study.variants import VariantTable

if TYPE_CHECKING:
    from workbench.execution.workspace import Workspace


LOG = ["step", "loss", "retention", "expected_share"]
SHOWN_STEPS = 200


def write_change(
    folder: Path, result: Mapping[str, torch.Tensor] | Change, about: Mapping[str, Any], log: Sequence[Sequence[float]] = ()
) -> None:
    """Write what an eraser returned.

    about   provenance, any JSON-able mapping
    log     rows (step, loss, retention, expected share) of a learned mask, (step, loss) of relearning
    """
    if isinstance(result, Change):
        changes.save(folder / "change.safetensors", result, about)
    elif all(value.dtype == torch.bool for value in result.values()):
        masks.save(folder / "mask.safetensors", result, about)
    else:
        write_arrays(folder / "weights.safetensors", result, {"method": about["method"], "provenance": json.dumps(about)})
    if log:
        write_table(folder / "log.parquet", pandas.DataFrame(log, columns=LOG[: len(log[0])]))


def read_change(part: VariantTable, folder: Path) -> Variant:
    """The Variant of a node's folder; `part` is its table in the study."""
    weights = read_arrays(folder / "weights.safetensors") if (folder / "weights.safetensors").exists() else {}
    pruned = masks.load(folder / "mask.safetensors")[0] if (folder / "mask.safetensors").exists() else {}
    others = (changes.load(folder / "change.safetensors"),) if (folder / "change.safetensors").exists() else ()
    method = registry.method("erasers", part.method)
    lifts = method.lifts_masks(method.parameters(**part.settings))
    return Variant(part.name, part.parent, weights, pruned, lifts, others)


def merged(store: Store, study: Study, name: str) -> tuple[Variant, list[tuple[VariantTable, Path]]]:
    """(Variant over the base model, [(part, folder) from the first ancestor on]) of a run's finished variant.

    Raises   RunError when the study has no such variant, or it is not made yet
    """
    known = [variant.name for variant in study.variants]
    if name not in known:
        raise RunError(f'The run {store.folder.name} has no variant "{name}".{nearest(name, known)}')
    shards = {node.get("id"): node.get("shards") for node in store.manifest()["nodes"]}
    chain: list[VariantTable] = []
    while name != BASE:
        chain.insert(0, study.variant(name))
        name = chain[0].parent
    made, found = [], []
    for part in chain:
        keys = shards.get(erasing(part.name))
        if not keys or not store.has("erase", keys[0]):
            raise RunError(f'The variant "{part.name}" is not made yet. Go on with the run first: {store.command()}')
        folder = store.result("erase", keys[0])
        found.append(read_change(part, folder))
        made.append((part, folder))
    change, *later = found
    for own in later:
        change = own.over(change)
    return change, made


def training_rows(workspace: "Workspace") -> list[Row]:
    """[{variant, method, step, loss, retention, expected_share}] of masks that were learned, concepts relearned, students trained.

    At most 200 steps of each; relearning has neither a retention term nor gates, so both are None.
    """
    rows: list[Row] = []
    for part in workspace.study.variants:
        node = workspace.plan.node(erasing(part.name))
        if not workspace.store.has("erase", node.shards[0].key):
            continue
        path = workspace.store.result("erase", node.shards[0].key) / "log.parquet"
        if path.exists():
            table = read_table(path)
            every = -(-len(table) // SHOWN_STEPS)
            kept = table.iloc[sorted({*range(0, len(table), every), len(table) - 1})]
            about = {"variant": part.name, "method": part.method} | dict.fromkeys(LOG)
            rows += [about | row for row in records(kept)]
    return rows


def cut_into(pruned: Mapping[str, torch.Tensor], layers: Iterable[str], index: Iterable[int]) -> np.ndarray:
    """Share of the incoming weights (value and gate row) of ff neurons that a mask cuts, (neuron,) in [0, 1].

    pruned   {"unet.<parameter>": bool tensor};  layers, index   of each neuron, layers ending in `ff.net.2`
    """
    shares = []
    for layer, place in zip(layers, index, strict=True):
        mask = pruned.get(f"unet.{layer.removesuffix('net.2')}net.0.proj.weight")
        shares.append(0.0 if mask is None else mask[[place, place + len(mask) // 2]].float().mean().item())
    return np.array(shares)


def watched_caveats(workspace: "Workspace", table: pandas.DataFrame) -> list[str]:
    """A sentence for each pruned variant that pruned weights into its watched neurons.

    table   neurons with layer, index and in_watch
    """
    watched, caveats = table[table["in_watch"]], []
    for part in workspace.study.variants:
        change = workspace.variant(part.name) if part.role == "pruned" and len(watched) else None
        if change is not None and change.masks:
            shares = cut_into(change.masks, watched["layer"], watched["index"])
            if shares.any():
                caveats.append(
                    f"{part.name} also prunes weights that feed {int((shares > 0).sum())} of the {len(shares)} watched neurons, "
                    f"{100 * shares.mean():.1f} % of these weights on average: part of their deactivation is a direct effect of the "
                    "pruning."
                )
    return caveats


def removed_neurons(path: Path) -> dict[str, set[int]]:
    """{layer: ff neurons whose weights are all exactly 0} in a file of a variant's weights; only what may be 0 is read."""
    from safetensors import safe_open

    found: dict[str, set[int]] = {}
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        for reading in sorted(name for name in names if name.endswith(".ff.net.2.weight")):
            start = reading.removesuffix("2.weight")
            feeding = {f"{start}0.proj.weight": 2, f"{start}0.proj.bias": 2}
            if feeding.keys() <= names and (file.get_tensor(f"{start}0.proj.bias").unflatten(0, (2, -1)) == 0).all(dim=0).any():
                layer = reading.removeprefix("unet.").removesuffix(".weight")
                group = channels.Channels(layer, file.get_slice(reading).get_shape()[1], feeding, reading)
                gone = channels.removed({layer: group}, {name: file.get_tensor(name) for name in group.parameters})
                found |= {layer: set(index.tolist()) for layer, index in gone.items()}
    return found


def removed_caveats(workspace: "Workspace", table: pandas.DataFrame) -> list[str]:
    """A sentence for each variant whose own weights have concept neurons removed.

    table   neurons with layer, index, site and in_concept
    """
    concept, caveats = table[table["in_concept"] & (table["site"] == "ff")], []
    for part in workspace.study.variants:
        path = workspace.result(erasing(part.name)) / "weights.safetensors"
        gone = removed_neurons(path) if path.exists() else {}
        n = sum(index in gone.get(layer, ()) for layer, index in zip(concept["layer"], concept["index"], strict=True))
        if n:
            caveats.append(
                f"{part.name} lacks {n} of the {len(concept)} concept neurons of the site ff, which were removed from its UNet: their "
                "activity is 0, so that part of the deactivation is a direct effect of the removal."
            )
    return caveats
