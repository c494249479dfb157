"""The stage `clip`: CLIP scores of the images of retained sets, where the study names a CLIP model."""

from collections.abc import Iterator
from pathlib import Path

from workbench.analysis.quality import clip_scores
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.workspace import Workspace
from workbench.methods import detectors
from workbench.storage import write_table
from workbench.study.study import BASE, Study

VERSION = 1


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """clip:<variant>:<prompt set> of every retained set and variant."""
    if not (study.quality and study.quality.clip):
        return
    model = {"model": detectors.model_digest(detectors.placed_folder(study.quality.clip, study.folder, "clip"))}
    for name in graph.retained:
        for variant in (BASE, *graph.changed):
            images = (Condition(variant, name).node("generate"),)
            yield NodeSpec(
                Condition(variant, name).node("clip"), "clip", model, images, variant, name, graph.batches, bytes=graph.n_prompts * 100
            )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """scores.parquet: id, unit, score, and how many tokens of the prompt the model did not read."""
    rows = workspace.prompt_set(node.condition.prompt_set).rows(shard.start, shard.stop)
    scores = clip_scores(workspace.clip, workspace.source(node, shard), rows.prompts)
    write_table(out / "scores.parquet", rows.table[["id", "unit"]].assign(score=scores, cut=workspace.clip.n_cut(rows.prompts)))
