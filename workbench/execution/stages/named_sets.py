"""The stage `named_sets`, and its rows of the report: the [[sets]] of a study, described on the evaluation half beside its concept set.

run          each is saved as a neuron set: where it comes from, what it overlaps with, what erasing and attacks do to it
resolve      a set by name, from its file, the study's own choice, a cluster, or other sets;  members   the same as (neuron,) bool
to_prune     {layer: indices} that the eraser prune_neurons cuts
caveats      for the verdict
export       the sets of a run as files that other studies can take
"""

import shutil
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from workbench.analysis import cluster_description
from workbench.analysis.selection import stability
from workbench.errors import RunError, StatisticsError
from workbench.execution import named_set_files
from workbench.execution.attribution_inputs import SITE, here
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.named_set_files import NamedSets
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Row, Tables
from workbench.execution.stages.cluster import cluster_files
from workbench.execution.workspace import Workspace
from workbench.neurons.combining import combine
from workbench.neurons.sets import NeuronSet, by_layer
from workbench.storage import digest, plain_json, read_json, read_table, write_json
from workbench.study.neuron_choice import in_words
from workbench.study.neuron_sets import OWN, ordered
from workbench.study.prompt_set_name import control_of
from workbench.study.prompts import PromptSet
from workbench.study.study import BASE, Study
from workbench.study.variants import VariantTable

VERSION = 1
SECONDS = 3
TABLES = ("sets", "set_layers", "set_overlaps", "set_effects")
SAID = ("study", "concept", "score", "half", "date")
FOLDER = "neuron-sets"
MADE_OF = "one is made from the other, or both from the same set, so their overlap is expected"


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """named_sets."""
    if not study.sets:
        return
    pairs, files = graph.conditions(), named_set_files.read(study)
    parameters = {"sets": [[one.name, named_set_files.identity(study, one.name, files)] for one in study.sets], "conditions": pairs}
    parameters |= {"provenance": {name: one.provenance for name, one in files.items()}, "trajectories": study.record.trajectories}
    parameters |= {name: getattr(study.choose, name) for name in ("seed", "n_resamples", "n_random")}
    inputs = ["score", *(Condition(variant, name).node("record") for variant, name in pairs)]
    inputs += ["cluster"] if any("cluster" in named_set_files.inputs(study, one.name) for one in study.sets) else []
    yield NodeSpec(
        "named_sets",
        "named_sets",
        parameters,
        tuple(inputs),
        context={"named": named_set_files.NamedSets.of(study)},
        bytes=20_000 * len(study.sets),
    )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """tables.json, and <name>.safetensors, a NeuronSet each that has neurons."""
    named: NamedSets = node.context["named"]
    written: Tables = {name: [] for name in TABLES}
    found: dict[str, np.ndarray] = {}
    model = workspace.model.digest()
    for one in ordered(named.sets):
        row = {"neuron_set": one.name, "how": one.how, "of": one.operands} | dict.fromkeys(("digest", "made", *SAID, "file"))
        row |= dict.fromkeys(("n_neurons", "n_layers", "n_seen"))
        try:
            own = resolve(workspace, named, one.name, model)
        except StatisticsError as error:
            written["sets"].append(row | {"reason": str(error)})
            continue
        row |= {"digest": own.digest, "made": own.provenance["made"]} | {key: own.provenance.get(key) for key in SAID}
        row |= {"n_neurons": len(own), "n_layers": len(own.neurons), "n_seen": _n_seen(workspace, own)}
        if not len(own):
            written["sets"].append(row | {"reason": f"no neuron is in this {one.how}"})
            continue
        own.save(out / f"{one.name}.safetensors")
        found[one.name] = own.to_boolean(workspace.neurons)
        written["sets"].append(row | {"file": f"{FOLDER}/{one.name}.safetensors", "reason": None})
    if found:
        concept = _chosen(workspace, "concept")
        written["set_layers"] = [row for name, members in found.items() for row in _layers(workspace, name, members, concept)]
        written["set_overlaps"] = _overlaps(workspace, node, {"concept": concept} | found)
        written["set_effects"] = _effects(workspace, node, found)
    write_json(out / "tables.json", plain_json(written))


def resolve(workspace: Workspace, named: NamedSets, name: str, model: str) -> NeuronSet:
    """The NeuronSet of a name, as one of `model` (its digest).

    named    NamedSets of the study
    Raises   StatisticsError for a cluster that was not found; RunError for a file that was changed since the run was planned
    """
    one = next((one for one in named.sets if one.name == name), None)
    if one is None:
        return _own(workspace, named, name, model)
    if one.file is not None:
        found = NeuronSet.load(one.path(named.folder))
        return NeuronSet(name, model, found.neurons, found.provenance)
    return combine(one.how, [resolve(workspace, named, operand, model) for operand in one.operands], name)


def members(workspace: Workspace, named: NamedSets, name: str, identity: list[Any]) -> np.ndarray:
    """(neuron,) bool over all recorded neurons.

    named      NamedSets of the study
    identity   of the set as it was planned
    Raises     as `resolve`
    """
    if named_set_files.identity(named, name, named_set_files.read(named)) != identity:
        raise RunError(f'The file of the set "{name}" has changed since this run was planned. Run the study again.')
    return resolve(workspace, named, name, "here").to_boolean(workspace.neurons)


def to_prune(workspace: Workspace, part: VariantTable, node: Node) -> dict[str, np.ndarray]:
    """{layer path: indices} of the site ff that prune_neurons cuts: half of the concept set, all of it, or one of the [[sets]].

    part   the table of the variant in the study
    """
    if "set" in node.parameters:
        chosen = members(workspace, node.context["named"], part.parameters["set"], node.parameters["set"]) & here(workspace)
    else:
        chosen = _chosen(workspace, "prune" if part.parameters.get("neurons", "prune") == "prune" else "concept")
    return by_layer(workspace.neurons, chosen)


def _chosen(workspace: Workspace, what: str) -> np.ndarray:
    """(neuron,) bool: concept, suppressed or prune of the site ff."""
    return read_table(workspace.result("score") / "neurons.parquet")[f"in_{what}"].to_numpy() & here(workspace)


def _own(workspace: Workspace, named: NamedSets, name: str, model: str) -> NeuronSet:
    """A set the study itself makes: concept, suppressed or cluster-N."""
    if name in OWN:
        return _choice(workspace, named, name, SITE, model)
    saved = {path.stem: path for path in cluster_files(workspace)}
    if name not in saved:
        raise StatisticsError(f"There is no {name}; the clusters found are {', '.join(saved) or 'none'}.")
    found = NeuronSet.load(saved[name])
    return NeuronSet(name, model, found.neurons, found.provenance | _origin(workspace, found.neurons))


def _choice(workspace: Workspace, named: NamedSets, what: str, site: str, model: str) -> NeuronSet:
    """The concept or suppressed set of a site, with how it was chosen."""
    choose, table = named.choose, read_table(workspace.result("score") / "neurons.parquet")
    neurons = by_layer(table, table[f"in_{what}"] & (table["site"] == site))
    about: dict[str, Any] = {
        "made": f"{what} set of the site {site} by {in_words(choose)}",
        "study": named.study,
        "concept": named.concept,
    }
    about |= {"score": in_words(choose), "share": choose.share, "half": "a", "seed": choose.seed}
    name = what if site == SITE else f"{what}-{site.replace('_', '-')}"
    return NeuronSet(name, model, neurons, about | _origin(workspace, neurons))


def _origin(workspace: Workspace, neurons: Collection[str]) -> dict[str, Any]:
    """What ties a set to its base model and to the prompts it was chosen on."""
    target, half = workspace.prompt_set("target"), workspace.half_a()
    widths = {layer.path: layer.n_neurons for layer in workspace.layers if layer.path in neurons}
    seen = [one for one, mine in zip(_fingerprints(target), half, strict=True) if mine]
    base = {"base": workspace.base, "base_digest": workspace.plan.node(Condition(BASE, "target").node("generate")).parameters["model"]}
    return base | {"widths": widths, "chosen_on": sorted(seen), "date": _date(workspace)}


def _date(workspace: Workspace) -> str:
    """The day on which the neurons were scored."""
    written = (workspace.result("score") / "neurons.parquet").stat().st_mtime
    return datetime.fromtimestamp(written, UTC).date().isoformat()


def _fingerprints(prompts: PromptSet) -> list[str]:
    return [digest([prompt, int(seed)])[:12] for prompt, seed in zip(prompts.prompts, prompts.seeds, strict=True)]


def _n_seen(workspace: Workspace, found: NeuronSet) -> int | None:
    """How many units of the evaluation half the set was chosen on in another study; None when the set does not name them."""
    if "chosen_on" not in found.provenance:
        return None
    target, seen = workspace.prompt_set("target"), set(found.provenance["chosen_on"])
    rows = zip(target.units, _fingerprints(target), workspace.half_a(), strict=True)
    return len({unit for unit, one, mine in rows if one in seen and not mine})


def _layers(workspace: Workspace, name: str, chosen: np.ndarray, concept: np.ndarray) -> list[Row]:
    layer, rows = workspace.neurons["layer"].to_numpy(), []
    for path in np.unique(layer[chosen]):
        at = layer == path
        row = {"neuron_set": name, "layer": path, "n": int((chosen & at).sum()), "n_concept": int((chosen & concept & at).sum())}
        rows.append(row | {"share": (chosen & at).sum() / chosen.sum(), "expected": at.mean()})
    return rows


def _overlaps(workspace: Workspace, node: Node, chosen: dict[str, np.ndarray]) -> list[Row]:
    """Every pair of sets beside chance."""
    layer, names, rows = workspace.neurons["layer"].to_numpy(), list(chosen), []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            if not chosen[first].any():
                row = dict.fromkeys(("iou", "chance", "chance_low", "chance_high", "n_random", "p_random"))
                row |= {"n_first": 0, "n_second": int(chosen[second].sum()), "reason": f'the set "{first}" is empty'}
            else:
                row = stability({one: chosen[one] for one in (first, second)}, layer, seed=node.parameters["seed"]).iloc[0].to_dict()
                row["reason"] = None
                if _parts(node.context["named"], first) & _parts(node.context["named"], second):
                    row |= dict.fromkeys(("chance", "chance_low", "chance_high", "n_random", "p_random")) | {"reason": MADE_OF}
            both = int((chosen[first] & chosen[second]).sum())
            rows.append(row | {"first": first, "second": second, "both": both})
    return rows


def _parts(named: NamedSets, name: str) -> set[str]:
    """A set and every set that goes into it."""
    one = next((one for one in named.sets if one.name == name), None)
    return {name}.union(*(_parts(named, part) for part in (one.operands if one else ())))


def _effects(workspace: Workspace, node: Node, found: dict[str, np.ndarray]) -> list[Row]:
    """D, R and delta on the evaluation half, as of clusters."""
    given, trajectory, half = node.parameters, workspace.headline_trajectory, workspace.units_in_half_a()
    pairs = [(variant, name) for variant, name in given["conditions"]]
    values = {pair: workspace.unit_means(pair[1], workspace.mean_abs(pair[0], pair[1], trajectory))[~half] for pair in pairs}
    attacks = [(variant, name, control_of(name)) for variant, name in values if (variant, control_of(name)) in values]
    settings = {name: given[name] for name in ("n_resamples", "n_random", "seed")}
    table = cluster_description.effects_of_sets(found, values, workspace.neurons, attacks, **settings)
    if table.empty:
        return []
    # a column of counts with a gap in it is one of floats
    table["n_random"] = table["n_random"].astype("Int64")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [row | Condition(row["variant"], row["prompt_set"]).keys(workspace) for row in rows]


def rows(workspace: Workspace, table: pandas.DataFrame) -> Tables:
    """{table: rows} of what the stage wrote; empty where the study has no [[sets]]."""
    found: Tables = {name: [] for name in TABLES}
    for folder in workspace.results("named_sets"):
        found |= read_json(folder / "tables.json")
    return found


def columns(workspace: Workspace) -> dict[str, np.ndarray]:
    """{column of the neuron table: (neuron,)}: set_<name>, whether a neuron is in the set."""
    saved = [path for folder in workspace.results("named_sets") for path in sorted(folder.glob("*.safetensors"))]
    return {f"set_{path.stem}": NeuronSet.load(path).to_boolean(workspace.neurons) for path in saved}


def caveats(tables: dict[str, Any]) -> list[str]:
    """Sentences about sets that were chosen on units they are described on here."""
    return [
        f"The set {row['neuron_set']} was chosen on {row['n_seen']} of the units it is measured on here, so its effects look larger "
        "than they are. Use other prompts, or the seed of the study it comes from."
        for row in tables["sets"]
        if row["n_seen"]
    ]


def export(workspace: Workspace, folder: Path) -> None:
    """Write the concept and suppressed set of every site, the clusters and the [[sets]] of a run into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    model = workspace.model.digest()
    named = named_set_files.NamedSets.of(workspace.study)
    choices = [_choice(workspace, named, what, site, model) for what in OWN for site in workspace.sites]
    choices += [_own(workspace, named, path.stem, model) for path in cluster_files(workspace)]
    for one in choices:
        if len(one):
            one.save(folder / f"{one.name}.safetensors")
    for made in workspace.results("named_sets"):
        for path in made.glob("*.safetensors"):
            shutil.copyfile(path, folder / path.name)
