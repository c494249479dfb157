"""The stage `ablate`, and its rows of the report: neurons ablated, each effect beside matched random sets.

ablate:<mode>:<effect>:<kind>             dose_response, leave_one_out, greedy, shapley on the base model; one shard per group and share
ablate:<mode>:sets:<kind>:<name>          one of the [[sets]] on the base model
ablate:<mode>:<effect>:<variant>:<set>    necessity and sufficiency

Effects are measured on the evaluation half.
The sets come from the selection half: the ranking by the choosing score or by attribution, the clusters, the concept set; or they are
[[sets]].
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch

from workbench.analysis import ablation_effects, coalitions
from workbench.analysis.ablation import Ablation, Kind, derangement
from workbench.analysis.ablation_effects import Reading
from workbench.analysis.ablation_images import Images, Prompts
from workbench.analysis.one_step import OneStep
from workbench.diffusion.denoise import n_calls
from workbench.diffusion.targets import Items
from workbench.errors import StatisticsError
from workbench.execution import named_set_files, neuron_choice
from workbench.execution.attribution_inputs import Target, condition, encoded, here, picked, rows_of
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Row, Tables, records
from workbench.execution.stages import named_sets
from workbench.execution.stages.attribute import leading
from workbench.execution.stages.cluster import members
from workbench.execution.workspace import Workspace
from workbench.methods.detectors import Detector
from workbench.models import text
from workbench.models.variants import applied
from workbench.neurons.columns import Columns
from workbench.storage import plain_json, read_json, read_table, write_json
from workbench.study.ablate import FEWEST_PARTITIONS, Ablate
from workbench.study.cluster import Cluster
from workbench.study.study import BASE, Study

Measure = Callable[[list[Ablation]], list[Reading]]
Recorder = Callable[[dict[str, np.ndarray]], Columns]  # {layer path: indices} -> what was recorded there
VERSION = 1
ITS_OWN = {
    "ablation": ("share",),
    "leave_one_out": ("cluster",),
    "greedy": ("step", "added"),
    "shapley": ("cluster", "whole", "summed", "delta", "n_sets", "n_orders"),
    "necessity": ("neuron_set",),
    "sufficiency": ("neuron_set",),
    "set_ablation": ("neuron_set",),
}
TABLES = tuple(ITS_OWN)
TABLE_OF = {"dose_response": "ablation", "sets": "set_ablation"}
NUMBERS = ("value", "low", "high", "random_mean", "random_low", "random_high")
AT_ONCE = 20  # ablations between two savings of a shard
LOOKED_AT = {"one_step": None, "images": "score"}


SHARED = 0.75  # of a one-step evaluation that is left where the first layers are shared
N_CLUSTERS = 5  # a guess for the estimate, where the study leaves k open


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """One node for each mode, effect and kind, or condition."""
    part = study.ablate
    if not part:
        return
    for mode in part.modes:
        own = part.of(mode)
        groups = own["groups"] or [name for name in ("target", "near", "far") if name in graph.rows]
        n_rows = graph.n_rows(own["units"])
        once = n_rows * (2 * graph.n_calls if mode == "images" else len(graph.calls) * SHARED)
        common = graph.model | graph.halves
        common |= {"mode": mode, "units": own["units"], "seed": [study.choose.seed, part.seed], "calls": part.calls}
        common |= {"target": part.target} if mode == "one_step" else {"images": graph.sampling, "looks": graph.looks}
        for effect in own["effects"]:
            if effect in ("necessity", "sufficiency"):
                yield from _held_nodes(part, graph, mode, effect, common | {"n_random": own["n_held"]}, once * (own["n_held"] + 1))
            elif effect == "sets":
                yield from _nodes_of_sets(study, part, graph, mode, common, groups, once)
            else:
                yield from _nodes_of_effect(study, part, graph, mode, effect, common, groups, once)


def _nodes_of_effect(
    study: Study, part: Ablate, graph: Graph, mode: str, effect: str, common: dict[str, Any], groups: list[str], once: float
) -> Iterator[NodeSpec]:
    own = part.of(mode)
    inputs = [Condition(BASE, "target").node("generate"), "score"]
    if effect != "dose_response":
        inputs += ["cluster"]
    elif part.ranking == "attribution":
        inputs += [spec.id for spec in graph.of_stage("attribute")]
    jobs = {
        "dose_response": [[group, share] for group in groups for share in own["shares"]],
        "leave_one_out": [[group] for group in groups],
        "greedy": [["target"]],
        "shapley": [["target"]],
    }[effect]
    n_random = own["n_random"]
    if effect == "shapley":
        n_random = FEWEST_PARTITIONS if part.n_partitions is None else part.n_partitions
    passes = once * (n_random + 1) * _sets_of(effect, study.cluster) * len(jobs)
    for kind in own["kinds"]:
        parameters = common | {"effect": effect, "kind": kind, "factor": part.factor if kind == "scaled" else None}
        parameters |= {"branch": part.branch, "n_random": n_random, "ranking": part.ranking, "jobs": jobs}
        yield _of_base(study, graph, f"ablate:{mode}:{effect}:{kind}", parameters, groups, inputs, passes)


def _nodes_of_sets(
    study: Study, part: Ablate, graph: Graph, mode: str, common: dict[str, Any], groups: list[str], once: float
) -> Iterator[NodeSpec]:
    """A node for each set and kind, so that an added set computes only its nodes."""
    own = part.of(mode)
    files, jobs = named_set_files.read(study), [[group] for group in groups]
    passes = once * (own["n_random"] + 1) * len(jobs)
    for one in study.sets or []:
        inputs = [Condition(BASE, "target").node("generate"), *named_set_files.inputs(study, one.name)]
        about = {"named": one.name, "identity": named_set_files.identity(study, one.name, files), "n_random": own["n_random"], "jobs": jobs}
        for kind in own["kinds"]:
            parameters = common | about | {"effect": "sets", "kind": kind, "factor": part.factor if kind == "scaled" else None}
            parameters |= {"branch": part.branch}
            yield _of_base(study, graph, f"ablate:{mode}:sets:{kind}:{one.name}", parameters, groups, inputs, passes)


def _of_base(
    study: Study, graph: Graph, node_id: str, parameters: dict[str, Any], groups: list[str], inputs: Sequence[str], passes: float
) -> NodeSpec:
    """A node on the base model, one shard per job."""
    n_jobs = len(parameters["jobs"])
    return NodeSpec(
        node_id,
        "ablate",
        parameters | {"prompts": graph.written(["target", "reference", *groups])},
        tuple(inputs),
        BASE,
        ranges=tuple((place, place + 1) for place in range(n_jobs)),
        cut="jobs",
        context={"choose": study.choose, "named": named_set_files.NamedSets.of(study)},
        passes=passes,
        bytes=9000 * n_jobs,
    )


def _sets_of(effect: str, cluster: Cluster | None) -> int:
    """How many sets an effect ablates, beside each random one; a guess where the number of clusters is open."""
    if effect == "dose_response" or cluster is None:
        return 1
    n = cluster.k if isinstance(cluster.k, int) else min(N_CLUSTERS, cluster.k[1]) if cluster.k else N_CLUSTERS
    return coalitions.n_sets(n) if effect == "shapley" else N_CLUSTERS


def _held_nodes(part: Ablate, graph: Graph, mode: str, effect: str, common: dict[str, Any], passes: float) -> Iterator[NodeSpec]:
    """Necessity: the attacks made against a variant, or those made against none where there is none. Sufficiency: the target set."""
    for variant in part.variants or graph.plain:
        names = ["target"]
        if effect == "necessity":
            names = [name for name in graph.met(variant) if graph.sets[name].against == variant] or graph.met(variant)
        for name in names:
            parameters = common | {"effect": effect, "prompts": graph.written(["target", "reference"]), "set": name}
            inputs = (*graph.needed(variant, name), "score")
            node_id = Condition(variant, name).node("ablate", mode, effect)
            yield NodeSpec(node_id, "ablate", parameters, inputs, variant, name, passes=passes, bytes=9000)


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """rows.json: what ablation_effects found, one row per set and reading, or one row with the reason why there are none."""
    given = node.parameters
    lab = Lab(workspace, node, shard)
    held = given["effect"] in ("necessity", "sufficiency")
    try:
        rows = (_held if held else _taken_out)(lab, given, shard)
    except StatisticsError as error:
        group, *share = given["jobs"][shard.start] if "jobs" in given else [given["set"]]
        rows = [{"group": group, "outcome": "any", "reason": str(error)} | ({"share": share[0]} if share else {})]
    write_json(out / "rows.json", plain_json(rows))


def _taken_out(lab: "Lab", given: dict[str, Any], shard: Shard) -> list[Row]:
    """Rows of dose_response, leave_one_out, greedy, shapley and sets on the base model."""
    workspace, job = lab.workspace, given["jobs"][shard.start]
    run = lab.run(BASE, [job[0]])
    kind = {"kind": "scaled", "factor": given["factor"]} if given["kind"] == "scaled" else {}
    calls = None if given["calls"] is None else frozenset(given["calls"])
    template = Ablation({}, calls=calls, branch=given["branch"], **kind)
    common = {"n_random": given["n_random"], "seed": given["seed"][1]}
    if given["effect"] == "dose_response":
        score = _ranking(workspace, lab.node)
        shares = {"shares": [job[1]], "within": here(workspace)}
        return _records(ablation_effects.dose_response(run, score, workspace.neurons, template, **shares, **common))
    if given["effect"] == "sets":
        chosen = named_sets.members(workspace, lab.node.context["named"], given["named"], given["identity"])
        return _records(ablation_effects.alone(run, chosen, workspace.neurons, template, **common))
    groups = members(workspace)
    if not groups:
        raise StatisticsError("No cluster was found, so there is none to ablate.")
    if given["effect"] == "leave_one_out":
        return _records(ablation_effects.leave_one_out(run, groups, workspace.neurons, template, **common))
    if given["effect"] == "shapley":
        return _records(ablation_effects.shapley(run, groups, workspace.neurons, template, **common))
    outcome = LOOKED_AT[given["mode"]] or lab.target_name
    return _records(ablation_effects.greedy(run, groups, workspace.neurons, "target", outcome, template, **common))


def _held(lab: "Lab", given: dict[str, Any], shard: Shard) -> list[Row]:
    """Rows of necessity and sufficiency of the concept set on an erased variant."""
    workspace, (variant, name) = lab.workspace, lab.node.condition
    table = read_table(workspace.result("score") / "neurons.parquet")
    concept = table["in_concept"].to_numpy() & here(workspace)
    source = lab.recorder(variant, "target") if given["effect"] == "necessity" else lab.recorder(BASE, "target")
    effect = getattr(ablation_effects, given["effect"])
    calls = None if given["calls"] is None else frozenset(given["calls"])
    more = {"calls": calls, "n_random": given["n_random"], "seed": given["seed"][1]}
    return _records(effect(lab.run(variant, [name]), source, concept, workspace.neurons, **more))


def _ranking(workspace: Workspace, node: Node) -> np.ndarray | None:
    if node.parameters["ranking"] == "attribution":
        return leading(workspace)
    return neuron_choice.value(node.context["choose"], read_table(workspace.result("score") / "neurons.parquet"))


class Lab:
    """Measures ablations of one node: in one step, or in images."""

    def __init__(self, workspace: Workspace, node: Node, shard: Shard) -> None:
        self.workspace, self.node, self.shard, self.given = workspace, node, shard, node.parameters
        self.rows = rows_of(workspace, "b", self.given["units"])
        self.target_name: str | None = None

    def run(self, variant: str, names: list[str]) -> "InParts":
        """list of Ablation -> list of Reading, of some prompt sets under a variant; kept in parts."""
        measure = self._images(variant, names) if self.given["mode"] == "images" else self._one_step(variant, names)
        source = self.recorder(BASE, "reference") if self.given.get("kind") in ("mean", "resampled") else None
        return InParts(
            measure, self.workspace, self.node, self.shard, self.given.get("kind"), source, len(self.rows), self.given["seed"][1]
        )

    def recorder(self, variant: str, name: str) -> Recorder:
        """{layer path: indices} -> Columns of a condition, on the same units and noise."""
        if self.given["mode"] == "images":
            calls = self.given["calls"] or range(n_calls(self.workspace.model, self.given["images"]["steps"]))
            return lambda neurons: self._images(variant, [name]).record(name, neurons, calls)
        return lambda neurons: self._one_step(variant, [name]).record(name, neurons)

    def _one_step(self, variant: str, names: list[str]) -> OneStep:
        groups: dict[str, tuple[Items, Target]] = {}
        for name in names:
            retained = self.workspace.plan.sets[name].kind == "retained"
            which = self.given["target"]
            with condition(self.workspace, variant, name, self.rows, None, which, own_direction=retained) as (items, target):
                groups[name] = items, target
                self.target_name = target.name
        return OneStep(self.workspace.model, groups, self.workspace.variant(variant), batch=2 * self.workspace.batch)

    def _images(self, variant: str, names: list[str]) -> Images:
        workspace, detector = self.workspace, self.workspace.detector("judge")
        with applied(workspace.model, workspace.variant(variant)):
            groups = {name: self._prompts(name, detector) for name in names}
            empty = text.unconditional(workspace.model)
        sampling = self.given["images"]
        settings = {"n_steps": sampling["steps"], "guidance": sampling["guidance"], "batch": workspace.batch}
        features = detector if detector.features else None
        return Images(workspace.model, groups, empty, variant=workspace.variant(variant), features=features, **settings)

    def _prompts(self, name: str, detector: Detector) -> Prompts:
        prompts = picked(self.workspace, name, self.rows)
        units = list(picked(self.workspace, "target", self.rows).units)
        states, wanted = encoded(self.workspace, prompts), self.workspace.labels
        if prompts.kind != "retained":
            return Prompts(states, prompts.seeds, units, lambda images: detector.present(images, wanted))
        return Prompts(states, prompts.seeds, units, lambda images, labels: _each(detector, images, labels), list(prompts.table["expect"]))


def _each(detector: Detector, images: torch.Tensor, wanted: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """(present, score): whether each image shows its label."""
    present, score = torch.zeros(len(images), dtype=torch.bool), torch.zeros(len(images))
    for label in dict.fromkeys(wanted):
        at = [place for place, one in enumerate(wanted) if one == label]
        present[at], found = detector.present(images[at], [label])
        score[at] = found.float()
    return present, score


class InParts:
    """A run that saves its readings every AT_ONCE ablations, so that a killed shard resumes from there.

    kind, source   mean and resampled take the values of reference prompts, recorded for the neurons of each part alone
    """

    def __init__(
        self,
        measure: Measure,
        workspace: Workspace,
        node: Node,
        shard: Shard,
        kind: Kind | None,
        source: Recorder | None,
        n_prompts: int,
        seed: int,
    ) -> None:
        self.measure, self.workspace, self.kind, self.source = measure, workspace, kind, source
        self.resuming = workspace.resuming(node, shard)
        self.draw = derangement(n_prompts, seed) if kind == "resampled" else None
        self.asked = 0

    def __call__(self, ablations: list[Ablation]) -> list[Reading]:
        name, self.asked = f"readings-{self.asked}", self.asked + 1
        parts = self.resuming["kept"](name) or []
        for start in range(len(parts) * AT_ONCE, len(ablations), AT_ONCE):
            readings = self.measure(self._filled(ablations[start : start + AT_ONCE]))
            parts.append([_kept(reading) for reading in readings])
            self.resuming["keep"](name, parts)
            self.workspace.progress(min(start + AT_ONCE, len(ablations)), len(ablations))
        return [_joined([part[place] for part in parts]) for place in range(len(parts[0]))]

    def _filled(self, ablations: list[Ablation]) -> list[Ablation]:
        """The ablations with the values that replace the ablated activations."""
        if self.source is None or self.kind is None:
            return ablations
        wanted: dict[str, np.ndarray] = {}
        for one in ablations:
            for path, chosen in one.neurons.items():
                wanted[path] = np.union1d(wanted.get(path, []), chosen).astype(int)
        source = self.source(wanted)
        return [replace(one, kind=self.kind, source=source, draw=self.draw) for one in ablations]


def _kept(reading: Reading) -> dict[str, Any]:
    """A Reading as plain values and tensors."""
    arrays = {name: torch.tensor(getattr(reading, name), dtype=torch.float64) for name in ("intact", "ablated")}
    return arrays | {"group": reading.group, "outcome": reading.outcome, "units": list(reading.units), "signed": bool(reading.signed)}


def _joined(parts: list[dict[str, Any]]) -> Reading:
    """One Reading of the ablations of all parts."""
    first, ablated = parts[0], torch.cat([part["ablated"] for part in parts]).numpy()
    return Reading(first["group"], first["outcome"], first["units"], first["intact"].numpy(), ablated, first["signed"])


def _records(table: pandas.DataFrame) -> list[Row]:
    return [{"reason": None} | row for row in records(table)]


def rows(workspace: Workspace, table: pandas.DataFrame) -> Tables:
    """{table: rows}: every effect with the condition it is of."""
    found: Tables = {name: [] for name in TABLES}
    for node in workspace.plan.of_stage("ablate"):
        given = node.parameters
        name = TABLE_OF.get(given["effect"], given["effect"])
        about = Condition(node.variant or BASE, node.prompt_set or "target").keys(workspace)
        keys = {key: about[key] for key in ("variant", "attack", "provenance", "against")}
        keys |= {"mode": given["mode"], "kind": given.get("kind", "held")}
        for shard in node.shards:
            for row in read_json(workspace.store.file("ablate", shard.key, "rows.json")):
                own = dict.fromkeys(ITS_OWN[name])
                own |= {"neuron_set": given.get("named", "concept")} if "neuron_set" in own else {}
                row = own | dict.fromkeys(("n_neurons", "n", "intact", *NUMBERS, "n_random", "p")) | row
                found[name].append(keys | {"p_random" if key == "p" else key: value for key, value in row.items()})
    return found
