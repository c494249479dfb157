"""The stage `again`: the base model's images of retained sets once more, from other noise or in another number format."""

from collections.abc import Iterator
from pathlib import Path

import torch

from workbench.analysis.quality import features
from workbench.diffusion.denoise import denoise
from workbench.execution import finite
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.workspace import Workspace
from workbench.models import text
from workbench.storage import write_arrays, write_table
from workbench.study.parts import Quality
from workbench.study.study import BASE, Study

VERSION = 1
NOISE = 11_000_003  # added to a prompt's seed


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """again:<seed or dtype>:<prompt set> of every retained set."""
    for what in (study.quality or Quality()).noise_floor:
        for name in graph.retained:
            images = (Condition(BASE, name).node("generate"),)
            parameters = graph.sampling | {"rows": graph.rows[name], "what": what, "judge": graph.looks["judge"]}
            yield NodeSpec(
                f"again:{what}:{name}",
                "again",
                parameters,
                images,
                BASE,
                name,
                graph.batches,
                "rows",
                passes=2 * graph.n_prompts * graph.n_calls,
                bytes=graph.n_prompts * 3000,
            )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """differences.parquet: id, unit, mean difference of the pixels; features.safetensors where the judge has features."""
    rows, given = workspace.prompt_set(node.condition.prompt_set).rows(shard.start, shard.stop), node.parameters
    other = given["what"] == "seed"
    model, seeds = (workspace.model, [seed + NOISE for seed in rows.seeds]) if other else (workspace.other_format, rows.seeds)
    with torch.no_grad():
        states, empty = text.encode(model, rows.prompts), text.unconditional(model)
    latents, _ = denoise(model, states, empty, seeds, n_steps=given["steps"], guidance=given["guidance"])
    images = model.decode(latents)
    finite.check(workspace, *node.condition, "images", latents, images, dtype=model.dtype)
    images = (images * 255).round() / 255
    gap = (images - workspace.source(node, shard)).abs().flatten(1)
    write_table(out / "differences.parquet", rows.table[["id", "unit"]].assign(difference=gap.mean(dim=1).numpy()))
    judge = workspace.detector("judge", remembering=True)
    if judge.features:
        seen = torch.as_tensor(features(judge, images), dtype=torch.float32)
        write_arrays(out / "features.safetensors", {"features": seen})
