"""The stage `erase`: trains or reads the change of every variant."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from workbench import registry
from workbench.errors import StudyError
from workbench.execution import finite, method_code, named_set_files, training_data
from workbench.execution.condition import erasing
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.variant_files import read_change, write_change
from workbench.execution.workspace import Workspace
from workbench.models.variants import applied
from workbench.study.study import BASE, Study
from workbench.study.variants import VariantTable

VERSION = 2


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """erase:<variant> of every variant."""
    for variant in study.variants:
        yield _node(study, graph, variant)


def _node(study: Study, graph: Graph, variant: VariantTable) -> NodeSpec:
    inputs = [*graph.made(variant.parent)]
    method = registry.method("erasers", variant.method)
    parameters = method.parameters(**variant.settings)
    pairs, note = training_data.pairs(study, graph.prompts, variant, method, parameters)
    graph.notes.extend([note] if note else [])
    method.check_training(parameters, pairs)
    if method.defends == "guidance" and study.sampling.guidance == 1:
        raise StudyError(
            f'The variant "{variant.name}" changes guidance, and sampling.guidance = 1 samples without any, so it would change nothing. '
            "Set sampling.guidance above 1, or remove the variant."
        )
    content: dict[str, Any] = graph.model | {"method": variant.method, "parameters": parameters.model_dump(), "pairs": pairs}
    content |= method_code.versions(method)
    if "neurons" in method.needs and (chosen := content["parameters"].get("set")):
        inputs += named_set_files.inputs(study, chosen)
        content["set"] = named_set_files.identity(study, chosen, named_set_files.read(study))
    elif "neurons" in method.needs:
        inputs.append("score")
    if variant.spare:
        inputs.append("score")
        content["spare"] = variant.spare
    if variant.like:
        inputs.append(erasing(variant.like))
        content["like"] = True
    if study.prompts.retain and "retained" in method.takes:
        content["retained"] = training_data.retained(study, study.prompts.retain, graph.prompts)
    if "detector" in method.takes:
        content["detector"] = {"detector": graph.looks["steer"], "labels": graph.looks["labels"]}
    if method.reads_files:
        content["files"] = method.files(parameters, study.folder)
    return NodeSpec(
        erasing(variant.name),
        "erase",
        content,
        tuple(inputs),
        variant.name,
        code=method_code.used_by("erasers", [variant.method]),
        context={"study": study.name, "named": named_set_files.NamedSets.of(study)},
        passes=method.passes(parameters, len(pairs), 2 * graph.n_calls),
        bytes=2_000_000,
    )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """weights, mask or change.safetensors with where they come from; log.parquet where the eraser keeps one."""
    from workbench.execution.stages.named_sets import to_prune
    from workbench.execution.stages.score import chosen

    part = workspace.part(node.variant or BASE)
    method = registry.method("erasers", part.method)
    prune = to_prune(workspace, part, node) if "neurons" in method.needs else None
    spare = chosen(workspace.result("score"), f"in_{part.spare}") if part.spare else None
    like = read_change(workspace.part(part.like), workspace.result(erasing(part.like))).masks if part.like else None
    log: list[Any] = []
    resuming = workspace.resuming(node, shard)
    if part.parent == BASE:
        resuming["base"] = nullcontext
    with applied(workspace.model, workspace.variant(part.parent)):
        result = method.call(
            workspace.model,
            node.parameters["pairs"],
            method.parameters(**part.settings),
            prune=prune,
            spare=spare,
            like=like,
            retained=node.parameters.get("retained", ()),
            detector=_detector(workspace, node),
            progress=workspace.progress,
            log=log,
            folder=workspace.folder,
            base_digest=node.parameters["model"],
            **resuming,
        )
        finite.check_weights(part, result)
        about = {"study": node.context["study"], "variant": part.name, "method": part.method, "parent": part.parent}
        about |= {"parameters": method.parameters(**part.settings).model_dump(mode="json")}
        about |= {"spare": part.spare} if part.spare else {}
        about |= {"preset": part.preset} if part.preset else {}
        about |= {"base": workspace.base, "base_digest": node.parameters["model"]}
        write_change(out, result, about, log)


def _detector(workspace: Workspace, node: Node) -> dict[str, Any] | None:
    """The attack-visible detector as the study gives it and the labels of the concept, for an eraser that takes them."""
    said = node.parameters.get("detector")
    return said and {"detector": workspace.given_detector("steer"), "labels": said["labels"]}
