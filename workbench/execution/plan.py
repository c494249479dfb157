"""Derives the plan of a run from its study: which nodes there are, what each depends on, what it costs, its key.

build            study -> Plan: every stage of `stages/` says which nodes it needs
read_sets        the prompt sets of a study's files
recorded_calls   positions in the sampling loop that are recorded

A node is a pure function of its parameters and inputs; its key is a sha256 of (stage, version of the stage, parameters, keys of
the inputs). Nodes over prompts are cut into shards of `sampling.batch` rows, each with a key of its own, so that a larger
study computes only what is missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from workbench import resources
from workbench.errors import PlanError, StudyError, nearest
from workbench.execution import stages, training_data
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec, SetPlan
from workbench.storage import digest
from workbench.study import prompts as prompt_files
from workbench.study.parts import CONCEPT
from workbench.study.study import BASE, OTHER, Study


@dataclass(frozen=True)
class Shard:
    """Rows start..stop of a node's prompt set, or of its jobs, and the key of their result."""

    start: int
    stop: int
    key: str


@dataclass(frozen=True)
class Node:
    """One piece of work; see NodeSpec for what `parameters`, `context`, `inputs`, `passes` and `bytes` are."""

    id: str
    stage: str
    variant: str | None
    prompt_set: str | None
    inputs: tuple[str, ...]
    shards: tuple[Shard, ...]
    parameters: dict[str, Any] = field(hash=False, compare=False)
    context: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    passes: float = 0.0
    bytes: int = 0

    @property
    def condition(self) -> Condition:
        """The variant and the prompt set it is about.

        Raises   PlanError for a node that is not about one of each
        """
        if self.variant is None or self.prompt_set is None:
            raise PlanError(f"The node {self.id} has no condition.")
        return Condition(self.variant, self.prompt_set)

    @property
    def key(self) -> str:
        """One key for all shards."""
        return digest([shard.key for shard in self.shards])


@dataclass
class Plan:
    """nodes in an order that respects their inputs, and the prompt sets by name.

    notes   sentences on what the plan does with the study's prompts
    """

    nodes: list[Node]
    sets: dict[str, SetPlan]
    calls: list[int]
    n_units: int
    notes: list[str] = field(default_factory=list)

    def node(self, node_id: str) -> Node:
        """The node of that id.

        Raises   PlanError with the nearest id
        """
        found = self._by_id.get(node_id)
        if found is None:
            raise PlanError(f'The plan of this study has no node "{node_id}".{nearest(node_id, [node.id for node in self.nodes])}')
        return found

    def has(self, node_id: str) -> bool:
        """Whether there is a node of that id."""
        return node_id in self._by_id

    @cached_property
    def _by_id(self) -> dict[str, Node]:
        return {node.id: node for node in self.nodes}

    def of_stage(self, stage: str) -> list[Node]:
        """All nodes of a stage, in order."""
        return [node for node in self.nodes if node.stage == stage]


def read_sets(study: Study) -> dict[str, prompt_files.PromptSet]:
    """{name: PromptSet} of the study's files, limited, each row with its place in its unit."""
    limit = study.prompts.limit
    kinds: dict[str, prompt_files.Kind] = {"target": "target", "reference": "reference", "near": "retained", "far": "retained"}
    for name in OTHER:
        kinds[name] = "other"
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
    _check_other(study, sets)
    return sets


def _check_other(study: Study, sets: dict[str, prompt_files.PromptSet]) -> None:
    """Refuse prompts of another concept that are the study's own, or of which several units share one.

    Raises   StudyError that names the prompt
    """
    if study.prompts.other is None:
        return
    other, target = sets[OTHER[0]], sets["target"]
    units: dict[str, set[str]] = {}
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


def recorded_calls(study: Study, n_calls: int) -> list[int]:
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


def build(
    study: Study, model_digest: str, n_calls: int, n_neurons: int = 0, image_bytes: int = 3 * 64 * 64, latent_bytes: int = 4 * 4 * 16 * 16
) -> Plan:
    """The plan of a study.

    model_digest   of the base model's files;  n_calls   UNet calls of one sampling run
    n_neurons, image_bytes, latent_bytes   recorded neurons, and the size of one image and one latent, for the estimate of the disk
    Raises         StudyError for what a stage cannot do with this study
    """
    prompts, calls = read_sets(study), recorded_calls(study, n_calls)
    graph = Graph(study, prompts, calls, n_calls, model_digest, (n_neurons, image_bytes, latent_bytes))
    for name in stages.names():
        for spec in stages.stage(name).nodes(study, graph):
            graph.add(spec)
    keys: dict[str, str] = {}
    nodes = [_node(spec, keys) for spec in _in_order(graph)]
    return Plan(nodes, graph.sets, calls, len(graph.units), graph.notes)


def _in_order(graph: Graph) -> list[NodeSpec]:
    """All nodes, each after its inputs, what shows a picture first: the base model's images, the choice of neurons, the other images."""
    images = graph.of_stage("detect")
    first = [spec for spec in images if spec.variant == BASE and spec.prompt_set in CONCEPT]
    found: dict[str, NodeSpec] = {}

    def visit(specs: Iterable[NodeSpec]) -> None:
        for spec in specs:
            if spec.id not in found:
                visit(graph.nodes[name] for name in spec.inputs)
                found[spec.id] = spec

    visit([*first, *graph.of_stage("score"), *images, *graph.nodes.values()])
    return list(found.values())


def _node(spec: NodeSpec, keys: dict[str, str]) -> Node:
    """The node of a spec, whose inputs are among `keys` {node id: key}; its own is added."""
    shards, code = [], [spec.code] if spec.code else []
    for start, stop in spec.ranges:
        content = spec.parameters | {spec.cut: spec.parameters[spec.cut][start:stop]} if spec.cut else spec.parameters
        part = [start, stop] if spec.cut is None and stop else None
        version = stages.stage(spec.stage).version
        key = digest([spec.stage, version, content, part, [keys[name] for name in spec.inputs], *code])
        shards.append(Shard(start, stop, key[:24]))
    about = (spec.variant, spec.prompt_set, tuple(spec.inputs), tuple(shards), spec.parameters, spec.context)
    node = Node(spec.id, spec.stage, *about, passes=spec.passes, bytes=spec.bytes)
    keys[spec.id] = node.key
    return node
