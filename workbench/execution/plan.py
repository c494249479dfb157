"""Derives the graph of a run from its study: which nodes there are, what each depends on, what it costs, its key.

A node is a pure function of its parameters and inputs; its key is a sha256 of (stage, version of the stage, parameters, keys of
the inputs). Nodes over prompts are cut into shards of `sampling.batch` rows, each with a key of its own, so that a larger
study computes only what is missing.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from workbench import registry, resources
from workbench.errors import StudyError
from workbench.execution import method_code, named_set_files, optional_nodes, training_data
from workbench.methods import detectors, scores
from workbench.storage import digest, file_digest
from workbench.study import prompts as prompt_files
from workbench.study import seeds
from workbench.study.parts import Quality
from workbench.study.prompt_set_name import control_of, name_of
from workbench.study.study import BASE, OTHER

# raise a number when the stage's code starts to give other results
VERSIONS = {"erase": 2, "attack": 3, "generate": 1, "detect": 3, "record": 4, "score": 3, "measure": 17, "report": 1, "clip": 1, "again": 1}
VERSIONS |= {"attribute": 1, "conductance": 1, "fidelity": 1, "tokens": 1, "cluster": 3, "regions": 1, "ablate": 1, "named_sets": 1}


@dataclass(frozen=True)
class SetPlan:
    """One prompt set of the study: where its rows come from and what it is.

    table    the PromptSet when it is read from a file, None when an attack makes it
    attack   what the study calls the attack that makes it
    node     id of the attack node that makes it
    """

    name: str
    kind: str
    table: object = None
    attack: str | None = None
    against: str | None = None
    control: bool = False
    node: str | None = None


@dataclass(frozen=True)
class Shard:
    """Rows start..stop of a node's prompt set, or of its jobs, and the key of their result."""

    start: int
    stop: int
    key: str


@dataclass(frozen=True)
class Node:
    """One piece of work.

    inputs   ids of the nodes it reads
    passes   UNet row passes it costs (a row with gradient counts as 2.5)
    bytes    what it is expected to write
    """

    id: str
    stage: str
    variant: str | None
    prompt_set: str | None
    inputs: tuple
    shards: tuple
    parameters: dict = field(hash=False, compare=False)
    passes: float = 0.0
    bytes: int = 0

    @property
    def key(self):
        """One key for all shards."""
        return digest([shard.key for shard in self.shards])


@dataclass
class Plan:
    """nodes in an order that respects their inputs, and the prompt sets by name.

    notes   sentences on what the plan does with the study's prompts
    """

    nodes: list
    sets: dict
    calls: list
    n_units: int
    notes: list = field(default_factory=list)

    def node(self, node_id):
        """The node of that id."""
        return next(node for node in self.nodes if node.id == node_id)

    def of_stage(self, stage):
        """All nodes of a stage, in order."""
        return [node for node in self.nodes if node.stage == stage]


def read_sets(study):
    """{name: PromptSet} of the study's files, limited, each row with its place in its unit."""
    limit = study.prompts.limit
    kinds = {"target": "target", "reference": "reference", "near": "retained", "far": "retained"} | dict.fromkeys(OTHER, "other")
    sets = {}
    for name, kind in kinds.items():
        file = study.prompts.files.get(name)
        if file:
            path = resources.find_file(file, study.folder)
            sets[name] = prompt_files.read_prompts(path, name, kind, limit, study.sampling.guidance)
    sets = dict(zip(sets, prompt_files.paired(list(sets.values())), strict=True))
    if study.prompts.units != "column":
        sets = {name: prompt_files.following_prompts(rows) for name, rows in sets.items()}
    n_units = len(set(sets["target"].units))
    if n_units < 4:
        several = len(set(sets["target"].pair_units))
        hint = (
            f" The file names {several}, but rows with the same prompt are one unit: give more prompts, or, if the seeds of a prompt are "
            'to count as units, write units = "column" under [prompts].'
        )
        raise StudyError(
            f"The target set has {n_units} units; at least 4 are needed to choose on one half and measure on the other."
            + (hint if several > n_units else "")
        )
    if study.prompts.other:
        _check_other(study, sets)
    return sets


def _check_other(study, sets):
    """Refuse prompts of another concept that are the study's own, or of which several units share one.

    Raises   StudyError that names the prompt
    """
    other, target, units = sets[OTHER[0]], sets["target"], {}
    own = {training_data.same(prompt) for prompt in target.prompts}
    by_unit = dict(zip(target.keys, target.units, strict=True))
    for key, prompt in zip(other.keys, other.prompts, strict=True):
        if training_data.same(prompt) in own:
            raise StudyError(
                f'prompts.other.target has a prompt of the study\'s own target set, "{prompt}". The neurons of {study.prompts.other.name} '
                f"are to stand beside those of {study.concept.name}: give prompts of that concept alone."
            )
        units.setdefault(prompt, set()).add(by_unit[key])
    prompt, shared = max(units.items(), key=lambda one: len(one[1]))
    if study.prompts.units != "column" and len(shared) > 1:
        raise StudyError(
            f'prompts.other.target has one prompt for {len(shared)} units of the study, "{prompt}". They would be taken for independent: '
            'give each unit a prompt of its own, or, if seeds are to count as units, write units = "column" under [prompts].'
        )


def recorded_calls(study, n_calls):
    """Positions in the sampling loop that are recorded, inside the window; every second unless the study lists them.

    Raises   StudyError when none is left or one lies beyond the loop
    """
    wanted = study.record.calls if study.record.calls is not None else list(range(0, n_calls, 2))
    beyond = [call for call in wanted if not 0 <= call < n_calls]
    if beyond:
        raise StudyError(f"record.calls names call {beyond[0]}; the sampling loop has calls 0 to {n_calls - 1}.")
    low, high = study.record.window
    kept = [call for call in sorted(set(wanted)) if low * (n_calls - 1) <= call <= high * (n_calls - 1)]
    if not kept:
        raise StudyError(f"No recorded call lies in record.window {low} to {high}.")
    return kept


class _Builder:
    """Collects nodes; keys of inputs are known because nodes are added in order."""

    def __init__(self, study):
        self.study, self.nodes, self.keys = study, [], {}

    def add(self, node_id, stage, parameters, inputs=(), variant=None, prompt_set=None, ranges=((0, 0),), **cost):
        shards = []
        own = [code] if (code := method_code.used_by(stage, parameters)) else []
        cut = next((name for name in ("rows", "jobs") if name in parameters), None)
        for start, stop in ranges:
            content = parameters | {cut: parameters[cut][start:stop]} if cut else parameters
            part = [start, stop] if cut is None and stop else None
            key = digest([stage, VERSIONS[stage], content, part, [self.keys[i] for i in inputs], *own])
            shards.append(Shard(start, stop, key[:24]))
        node = Node(node_id, stage, variant, prompt_set, tuple(inputs), tuple(shards), parameters, **cost)
        self.nodes.append(node)
        self.keys[node_id] = node.key
        return node_id


def build(study, model_digest, n_calls, n_neurons=0, image_bytes=3 * 64 * 64, latent_bytes=4 * 4 * 16 * 16):
    """The plan of a study.

    model_digest   of the base model's files;  n_calls   UNet calls of one sampling run
    n_neurons, image_bytes, latent_bytes   recorded neurons, and the size of one image and one latent, for the estimate of the disk
    """
    sets = read_sets(study)
    calls = recorded_calls(study, n_calls)
    n, batch, sampling = len(sets["target"]), study.sampling.batch, study.sampling
    base = {"model": model_digest, "dtype": study.model.dtype}
    ranges = tuple((start, min(start + batch, n)) for start in range(0, n, batch))
    make, notes = _Builder(study), [said] if (said := seeds.cost(study)) else []
    plans = {name: SetPlan(name, s.kind, s) for name, s in sets.items()}
    tables = {name: s.table.drop(columns="group", errors="ignore") for name, s in sets.items()}
    rows = {name: table.astype(object).where(table.notna(), None).values.tolist() for name, table in tables.items()}
    # what depends on the halves is computed anew where units follow the prompts; images and recordings stay
    halves = {"grouped": "prompt"} if "group" in sets["target"].table else {}
    detectors_of = {role: detector_identity(getattr(study.detectors, role), study.folder) for role in ("steer", "judge")}
    looks = {"labels": study.detectors.labels} | detectors_of
    images = {"steps": sampling.steps, "guidance": sampling.guidance} | base

    def generate(variant, name):
        planned = plans[name]
        inputs = [] if variant == BASE else [f"erase:{variant}"]
        parameters = images | {"keep": calls if name in ("target", "reference") and variant == BASE else []}
        if planned.node:
            inputs.append(planned.node)
            parameters |= {"set": name}
        else:
            parameters |= {"rows": rows[name]}
        passes = n * n_calls * (2 if sampling.guidance != 1 else 1)
        size = n * (image_bytes + latent_bytes + len(parameters["keep"]) * latent_bytes)
        node = make.add(f"generate:{variant}:{name}", "generate", parameters, inputs, variant, name, ranges, passes=passes, bytes=size)
        size = n * (3000 if planned.kind == "retained" else 200)
        make.add(f"detect:{variant}:{name}", "detect", looks, [node], variant, name, ranges, bytes=size)

    def record(variant, name):
        planned = plans[name]
        inputs = [f"generate:{BASE}:{t}" for t in study.record.trajectories]
        inputs += [] if variant == BASE else [f"erase:{variant}"]
        parameters = base | {"sites": study.record.sites, "trajectories": study.record.trajectories}
        if planned.node:
            inputs.append(planned.node)
            parameters |= {"set": name}
        else:
            parameters |= {"rows": rows[name]}
        if variant == BASE and name in ("target", "reference", *OTHER):
            parameters |= {"also": scores.norms(study.choose)}
        n_trajectories = len(study.record.trajectories)
        size = n_trajectories * len(calls) * n_neurons * (4 * n * (1 + len(parameters.get("also", ()))) + 40 * len(ranges))
        make.add(
            f"record:{variant}:{name}",
            "record",
            parameters,
            inputs,
            variant,
            name,
            ranges,
            passes=n * len(calls) * n_trajectories,
            bytes=size,
        )

    def train(variant):
        inputs = [] if variant.parent == BASE else [f"erase:{variant.parent}"]
        method = registry.method("erasers", variant.method)
        parameters = method.parameters(**variant.settings)
        pairs, note = training_data.pairs(study, sets, variant, method, parameters)
        notes.extend([note] if note else [])
        getattr(method.module, "check_training", lambda parameters, pairs: None)(parameters, pairs)
        content = base | {
            "method": variant.method,
            "parameters": parameters.model_dump(),
            "pairs": pairs,
        }
        content |= _revised(method)
        if variant.method == "prune_neurons" and (chosen := content["parameters"].get("set")):
            inputs += named_set_files.inputs(study, chosen)
            content["set"] = named_set_files.identity(study, chosen, named_set_files.read(study))
        elif variant.method == "prune_neurons":
            inputs.append("score")
        if variant.spare:
            inputs.append("score")
            content["spare"] = variant.spare
        if variant.like:
            inputs.append(f"erase:{variant.like}")
            content["like"] = True
        if study.prompts.retain and "retained" in method.takes:
            content["retained"] = training_data.retained(study, sets)
        if hasattr(method.module, "files"):
            content["files"] = method.module.files(parameters, study.folder)
        cost = getattr(method.module, "passes", lambda p, n_pairs: 0.0)(parameters, len(content["pairs"]))
        make.add(f"erase:{variant.name}", "erase", content, inputs, variant.name, None, passes=cost, bytes=2_000_000)

    # first what shows a picture: the base model's images of the concept
    for name in ("target", "reference"):
        generate(BASE, name)
    for name in ("target", "reference"):
        record(BASE, name)
    make.add(
        "score",
        "score",
        study.choose.model_dump() | {"sites": study.record.sites} | _revised(*scores.listed(study.choose).values()) | halves,
        [f"record:{BASE}:{name}" for name in ("target", "reference")],
    )
    for variant in study.variants:
        train(variant)
        for name in ("target", "reference"):
            generate(variant.name, name)
    everyone = [BASE, *(v.name for v in study.variants)]
    pairs = training_data.read_pairs(study, study.prompts.erase)
    attacked = [v.name for v in study.variants if v.role != "sham"]
    for attack in study.attacks:
        method = registry.method("attacks", attack.method)
        parameters = method.parameters(**attack.settings)
        getattr(method.module, "check_targets", lambda parameters, targets, names: None)(parameters, sets["target"], study.concept.names)
        for against in attack.against or [None]:
            made = against or getattr(method.module, "made_against", lambda p, folder: None)(parameters, study.folder)
            name = name_of(attack.label, made)
            inputs = [f"generate:{BASE}:target", f"detect:{BASE}:target"]
            inputs += [f"erase:{against}"] if against else []
            content = base | {
                "method": attack.method,
                "parameters": parameters.model_dump(),
                "names": study.concept.names,
                "rows": rows["target"],
                "sampling": images,
                "pairs": pairs,
                "files": getattr(method.module, "files", lambda p, folder: {})(parameters, study.folder),
            }
            content |= _revised(method)
            if study.concept.forbidden:
                content["forbidden"] = study.concept.forbidden
            cost = getattr(method.module, "passes", lambda p, n, image: 0.0)(parameters, n, 2 * n_calls)
            make.add(f"attack:{name}", "attack", content, inputs, against, None, ((0, n),), passes=cost, bytes=n * 4096)
            for control in (False, True):
                set_name = control_of(name) if control else name
                kind = "control" if control else "adversarial"
                plans[set_name] = SetPlan(set_name, kind, None, attack.label, made, control, f"attack:{name}")
                for variant in attacked:
                    if _worth_images(attack, against, variant, attacked) and seeds.meets(study, against, variant):
                        generate(variant, set_name)
    kept = [name for name in ("near", "far") if name in sets]
    for name in kept:
        for variant in everyone:
            generate(variant, name)
    if study.quality and study.quality.clip:
        clip = detectors.model_digest(detectors.placed_folder(study.quality.clip, study.folder, "clip"))
        for name in kept:
            for variant in everyone:
                source = f"generate:{variant}:{name}"
                make.add(f"clip:{variant}:{name}", "clip", {"model": clip}, [source], variant, name, ranges, bytes=n * 100)
    for what in (study.quality or Quality()).noise_floor:
        for name in kept:
            first = [f"generate:{BASE}:{name}"]
            parameters = images | {"rows": rows[name], "what": what, "judge": looks["judge"]}
            passes, size = 2 * n * n_calls, n * 3000
            make.add(f"again:{what}:{name}", "again", parameters, first, BASE, name, ranges, passes=passes, bytes=size)
    alone = {attack.label for attack in study.attacks if attack.transfer is False and attack.against}
    for name, planned in plans.items():
        for variant in everyone:
            done = variant == BASE and name in ("target", "reference")
            # the other concept's reference is read for the choice of its neurons and for their scale, in the base model alone
            wanted = not done and (variant == BASE or name != OTHER[1]) and seeds.meets(study, planned.against, variant)
            if wanted and (planned.attack not in alone or variant in (BASE, planned.against)):
                record(variant, name)
    before = [node.id for node in make.nodes if node.stage in ("detect", "record", "score", "clip", "again")]
    before += optional_nodes.add(make, optional_nodes.Facts(study, plans, rows, calls, n_calls, n_neurons, base | halves, images, looks))
    # what the [[sets]] are is in the keys of their nodes; where their files lie is in none
    said = {name: value for name, value in study.model_dump(mode="json").items() if name != "sets"}
    make.add("measure", "measure", {"study": said} | halves, before)
    make.add("report", "report", {"title": study.title}, ["measure"])
    return Plan(make.nodes, plans, calls, len(set(sets["target"].units)), notes)


def _revised(*methods):
    """{"versions": {name: VERSION}} of methods whose code gives other results than at first; empty for others, which keep their keys."""
    found = {one.name: one.module.VERSION for one in methods if getattr(one.module, "VERSION", 1) > 1}
    return {"versions": found} if found else {}


def detector_identity(given, folder="."):
    """What makes a detector give other answers: method, parameters with their defaults, and what its files hold.

    Files and transformers folders that its parameters name are digested, and it is not loaded. Another one, such as a bundled
    detector, is loaded, and says its version and thresholds itself. Of a detector that does not come with the workbench all of
    it counts: files, version, thresholds and code.

    given    {"method": name, parameter: value}
    folder   where files are looked for first: that of the study
    """
    method = registry.method("detectors", given["method"])
    parameters = method.parameters(**{name: value for name, value in given.items() if name != "method"})
    set_to, located = (one.model_dump(mode="json") for one in (parameters, detectors.located(parameters, folder)))
    paths = [Path(value).expanduser() for value in located.values() if isinstance(value, str)]
    files = [file_digest(path) for path in paths if os.path.isfile(path)]
    files += [detectors.model_digest(path) for path in paths if os.path.isfile(path / "config.json")]
    code = method_code.code_of("detectors", method.name)
    said = []
    if code or not files:
        loaded = detectors.opened(given, folder)
        said = [loaded.version, loaded.thresholds]
    identity = {"method": method.name, "parameters": set_to, "files": files or said}
    return identity | {"said": said, "code": code} if code else identity


def _worth_images(attack, against, variant, attacked):
    """An attack's images are made for the variant it was made against and, unless `transfer` is false, those defined after it."""
    return against in (None, variant) or (attack.transfer is not False and attacked.index(variant) > attacked.index(against))
