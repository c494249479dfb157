"""The stage `detect`: what the two detectors see in the images of every condition."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from workbench.analysis.quality import features
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.workspace import Workspace
from workbench.storage import write_arrays, write_table
from workbench.study.study import Study

VERSION = 3


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """detect:<variant>:<prompt set> of every condition with images."""
    for variant, name in graph.pictured:
        images = (Condition(variant, name).node("generate"),)
        size = graph.n_prompts * (3000 if graph.sets[name].kind == "retained" else 200)
        yield NodeSpec(Condition(variant, name).node("detect"), "detect", graph.looks, images, variant, name, graph.batches, bytes=size)


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """detections.parquet: id, unit, expect, <role>, <role>_score, judge|<label>; of retained sets <role>_expected, features.safetensors."""
    images = workspace.source(node, shard)
    rows = workspace.prompt_set(node.condition.prompt_set).rows(shard.start, shard.stop)
    found, wanted = rows.table[["id", "unit", "expect"]].copy(), node.parameters["labels"]
    for role in ("steer", "judge"):
        detector = workspace.detector(role, remembering=True)
        present, score = detector.present(images, wanted)
        found[role], found[f"{role}_score"] = present.numpy(), score.numpy()
        if rows.kind == "retained":
            right, expected = np.zeros(len(rows), bool), rows.table["expect"].to_numpy()
            for label in dict.fromkeys(expected):
                at = np.flatnonzero(expected == label)
                right[at] = detector.present(images[at], [label])[0].numpy()
            found[f"{role}_expected"] = right
    judge = workspace.detector("judge", remembering=True)
    for label in wanted:
        found[f"judge|{label}"] = judge.present(images, [label])[0].numpy()
    write_table(out / "detections.parquet", found)
    if rows.kind == "retained" and judge.features:
        seen = torch.as_tensor(features(judge, images), dtype=torch.float32)
        write_arrays(out / "features.safetensors", {"features": seen})
