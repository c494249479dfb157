"""The stage `ablate`, and what the report says of it: neurons taken out, on half B, each effect beside matched random sets.

ablate   one effect in one mode: dose_response, leave_one_out, greedy, shapley, sets on the base model; necessity, sufficiency on a variant
rows     {table: rows} of the report

The sets come from half A: the ranking by the choosing score or by attribution, the clusters, the concept set; or they are [[sets]].
"""

from dataclasses import replace

import numpy as np
import torch

from workbench.analysis import ablation_effects
from workbench.analysis.ablation import Ablation, derangement
from workbench.analysis.ablation_effects import Reading
from workbench.analysis.ablation_images import Images, Prompts
from workbench.analysis.one_step import OneStep
from workbench.diffusion.denoise import n_calls
from workbench.errors import StatisticsError
from workbench.execution import neuron_choice
from workbench.execution.attribution_inputs import condition, encoded, here, picked, rows_of
from workbench.execution.rows.rates import labels
from workbench.execution.stages import named_sets
from workbench.execution.stages.attribute import leading
from workbench.execution.stages.cluster import members
from workbench.models import text
from workbench.models.variants import applied
from workbench.report.document import plain
from workbench.storage import read_json, read_table, write_json
from workbench.study.study import BASE

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
AT_ONCE = 20  # ablations between two moments at which a killed shard is kept
LOOKED_AT = {"one_step": None, "images": "score"}


def ablate(workspace, node, shard, folder):
    """rows.json: what ablation_effects found, one row per set and reading, or one that says why there is none."""
    given = node.parameters
    lab = Lab(workspace, node, shard)
    held = given["effect"] in ("necessity", "sufficiency")
    try:
        rows = (_held if held else _taken_out)(lab, given, shard)
    except StatisticsError as error:
        group, *share = given["jobs"][shard.start] if "jobs" in given else [given["set"]]
        rows = [{"group": group, "outcome": "any", "reason": str(error)} | ({"share": share[0]} if share else {})]
    write_json(folder / "rows.json", plain(rows))


def _taken_out(lab, given, shard):
    """Rows of dose_response, leave_one_out, greedy, shapley and sets on the base model."""
    workspace, job = lab.workspace, given["jobs"][shard.start]
    run = lab.run(BASE, [job[0]])
    kind = {"kind": "scaled", "factor": given["factor"]} if given["kind"] == "scaled" else {}
    calls = None if given["calls"] is None else frozenset(given["calls"])
    template = Ablation({}, calls=calls, branch=given["branch"], **kind)
    common = {"n_random": given["n_random"], "seed": given["seed"][1]}
    if given["effect"] == "dose_response":
        score = _ranking(workspace, given["ranking"])
        shares = {"shares": [job[1]], "within": here(workspace)}
        return _records(ablation_effects.dose_response(run, score, workspace.neurons, template, **shares, **common))
    if given["effect"] == "sets":
        chosen = named_sets.members(workspace, given["named"], given["identity"])
        return _records(ablation_effects.alone(run, chosen, workspace.neurons, template, **common))
    groups = members(workspace)
    if not groups:
        raise StatisticsError("No cluster was found, so there is none to take out.")
    if given["effect"] == "leave_one_out":
        return _records(ablation_effects.leave_one_out(run, groups, workspace.neurons, template, **common))
    if given["effect"] == "shapley":
        return _records(ablation_effects.shapley(run, groups, workspace.neurons, template, **common))
    outcome = LOOKED_AT[given["mode"]] or lab.target_name
    return _records(ablation_effects.greedy(run, groups, workspace.neurons, "target", outcome, template, **common))


def _held(lab, given, shard):
    """Rows of necessity and sufficiency of the concept set on an erased variant."""
    workspace, variant, name = lab.workspace, lab.node.variant, lab.node.prompt_set
    table = read_table(workspace._folder("score") / "neurons.parquet")
    concept = table["in_concept"].to_numpy() & here(workspace)
    source = lab.recorder(variant, "target") if given["effect"] == "necessity" else lab.recorder(BASE, "target")
    effect = getattr(ablation_effects, given["effect"])
    calls = None if given["calls"] is None else frozenset(given["calls"])
    more = {"calls": calls, "n_random": given["n_random"], "seed": given["seed"][1]}
    return _records(effect(lab.run(variant, [name]), source, concept, workspace.neurons, **more))


def _ranking(workspace, ranking):
    if ranking == "attribution":
        return leading(workspace)
    return neuron_choice.value(workspace.study.choose, read_table(workspace._folder("score") / "neurons.parquet"))


class Lab:
    """Measures ablations of one node: in one step, or in images."""

    def __init__(self, workspace, node, shard):
        self.workspace, self.node, self.shard, self.given = workspace, node, shard, node.parameters
        self.rows = rows_of(workspace, "b", self.given["units"])
        self.target_name = None

    def run(self, variant, names):
        """list of Ablation -> list of Reading, of some prompt sets under a variant; kept in parts."""
        measure = self._images(variant, names) if self.given["mode"] == "images" else self._one_step(variant, names)
        source = self.recorder(BASE, "reference") if self.given.get("kind") in ("mean", "resampled") else None
        return InParts(
            measure, self.workspace, self.node, self.shard, self.given.get("kind"), source, len(self.rows), self.given["seed"][1]
        )

    def recorder(self, variant, name):
        """{layer path: indices} -> Columns of a condition, on the same units and noise."""
        if self.given["mode"] == "images":
            calls = self.given["calls"] or range(n_calls(self.workspace.model, self.workspace.study.sampling.steps))
            return lambda neurons: self._images(variant, [name]).record(name, neurons, calls)
        return lambda neurons: self._one_step(variant, [name]).record(name, neurons)

    def _one_step(self, variant, names):
        groups = {}
        for name in names:
            retained = self.workspace.plan.sets[name].kind == "retained"
            which = self.given["target"]
            with condition(self.workspace, variant, name, self.rows, None, which, own_direction=retained) as (items, target):
                groups[name] = items, target
                self.target_name = target.name
        return OneStep(self.workspace.model, groups, self.workspace.variant(variant), batch=2 * self.workspace.study.sampling.batch)

    def _images(self, variant, names):
        workspace, detector = self.workspace, self.workspace.detector("judge")
        with applied(workspace.model, workspace.variant(variant)):
            groups = {name: self._prompts(name, detector) for name in names}
            empty = text.unconditional(workspace.model)
        sampling = workspace.study.sampling
        settings = {"n_steps": sampling.steps, "guidance": sampling.guidance, "batch": sampling.batch}
        features = detector if detector.features else None
        return Images(workspace.model, groups, empty, variant=workspace.variant(variant), features=features, **settings)

    def _prompts(self, name, detector):
        prompts = picked(self.workspace, name, self.rows)
        units = list(picked(self.workspace, "target", self.rows).units)
        states, wanted = encoded(self.workspace, prompts), self.workspace.study.detectors.labels
        if prompts.kind != "retained":
            return Prompts(states, prompts.seeds, units, lambda images: detector.present(images, wanted))
        return Prompts(states, prompts.seeds, units, lambda images, labels: _each(detector, images, labels), list(prompts.table["expect"]))


def _each(detector, images, wanted):
    """(present, score) of a label of its own in each image."""
    present, score = torch.zeros(len(images), dtype=torch.bool), torch.zeros(len(images))
    for label in dict.fromkeys(wanted):
        at = [place for place, one in enumerate(wanted) if one == label]
        present[at], found = detector.present(images[at], [label])
        score[at] = found.float()
    return present, score


class InParts:
    """A run whose readings are kept every AT_ONCE ablations, so that a killed shard goes on where it was.

    kind, source   mean and resampled take the values of reference prompts, recorded for the neurons of each part alone
    """

    def __init__(self, measure, workspace, node, shard, kind, source, n_prompts, seed):
        self.measure, self.workspace, self.kind, self.source = measure, workspace, kind, source
        self.resuming = workspace._resuming(node, shard)
        self.draw = derangement(n_prompts, seed) if kind == "resampled" else None
        self.asked = 0

    def __call__(self, ablations):
        name, self.asked = f"readings-{self.asked}", self.asked + 1
        parts = self.resuming["kept"](name) or []
        for start in range(len(parts) * AT_ONCE, len(ablations), AT_ONCE):
            readings = self.measure(self._filled(ablations[start : start + AT_ONCE]))
            parts.append([_kept(reading) for reading in readings])
            self.resuming["keep"](name, parts)
            self.workspace.progress(min(start + AT_ONCE, len(ablations)), len(ablations))
        return [_joined([part[place] for part in parts]) for place in range(len(parts[0]))]

    def _filled(self, ablations):
        """The ablations with the values that take the place of what is taken out."""
        if self.source is None:
            return ablations
        wanted = {}
        for one in ablations:
            for path, chosen in one.neurons.items():
                wanted[path] = np.union1d(wanted.get(path, []), chosen).astype(int)
        source = self.source(wanted)
        return [replace(one, kind=self.kind, source=source, draw=self.draw) for one in ablations]


def _kept(reading):
    """A Reading as plain values and tensors."""
    arrays = {name: torch.tensor(getattr(reading, name), dtype=torch.float64) for name in ("intact", "ablated")}
    return arrays | {"group": reading.group, "outcome": reading.outcome, "units": list(reading.units), "signed": bool(reading.signed)}


def _joined(parts):
    """One Reading of the ablations of all parts."""
    first, ablated = parts[0], torch.cat([part["ablated"] for part in parts]).numpy()
    return Reading(first["group"], first["outcome"], first["units"], first["intact"].numpy(), ablated, first["signed"])


def _records(table):
    return [{"reason": None} | row for row in table.to_dict("records")]


def rows(workspace):
    """{table: rows}: every effect with the condition it is of."""
    found = {name: [] for name in TABLES}
    for node in workspace.plan.of_stage("ablate"):
        given = node.parameters
        name = TABLE_OF.get(given["effect"], given["effect"])
        about = labels(workspace, node.variant, node.prompt_set or "target")
        keys = {key: about[key] for key in ("variant", "attack", "provenance", "against")}
        keys |= {"mode": given["mode"], "kind": given.get("kind", "held")}
        for shard in node.shards:
            for row in read_json(workspace.store.file("ablate", shard.key, "rows.json")):
                own = dict.fromkeys(ITS_OWN[name])
                own |= {"neuron_set": given.get("named", "concept")} if "neuron_set" in own else {}
                row = own | dict.fromkeys(("n_neurons", "n", "intact", *NUMBERS, "n_random", "p")) | row
                found[name].append(keys | {"p_random" if key == "p" else key: value for key, value in row.items()})
    return found
