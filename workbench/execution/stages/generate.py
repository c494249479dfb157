"""The stage `generate`: images of every condition, each variant on its own trajectory.

The base model's UNet inputs are kept for the shared regime.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from workbench import registry
from workbench.diffusion.denoise import Trajectory, denoise
from workbench.execution import finite
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.workspace import Workspace
from workbench.models import text
from workbench.models.variants import applied
from workbench.storage import write_arrays, write_json
from workbench.study.parts import CONCEPT
from workbench.study.study import BASE, Study

VERSION = 1


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """generate:<variant>:<prompt set> of every condition with images, in batches of prompts."""
    for variant, name in graph.pictured:
        source, prompts, cut = graph.source(name)
        kept = graph.calls if name in CONCEPT and variant == BASE else []
        yield NodeSpec(
            Condition(variant, name).node("generate"),
            "generate",
            graph.sampling | {"keep": kept} | prompts,
            (*graph.made(variant), *source),
            variant,
            name,
            graph.batches,
            cut,
            passes=graph.n_prompts * graph.n_calls * branches(study, variant),
            bytes=graph.n_prompts * (graph.image_bytes + graph.latent_bytes * (1 + len(kept))),
        )


def branches(study: Study, variant: str) -> int:
    """How many rows of the UNet an image takes at a call: without and with text, and a further one of some rules of guidance."""
    if study.sampling.guidance == 1:
        return 1
    further = 0
    while variant != BASE:
        part = study.variant(variant)
        further += registry.method("erasers", part.method).further_branch
        variant = part.parent
    return 2 + further


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """images.safetensors: (prompt, 3, height, width) uint8; latents.safetensors: latents, and the UNet inputs that are kept; calls.json;
    of a corrector corrected.safetensors: (prompt,) the call from which an image was corrected, -1 = never.
    """
    given, rows = node.parameters, workspace.prompt_set(node.condition.prompt_set).rows(shard.start, shard.stop)
    with applied(workspace.model, workspace.variant(node.variant)):
        states, empty = workspace.encode(rows), text.unconditional(workspace.model)

        def sampled(start: int, stop: int) -> tuple[torch.Tensor, Trajectory]:
            how = {"n_steps": given["steps"], "guidance": given["guidance"], "keep": given["keep"]}
            return denoise(workspace.model, states[start:stop], empty, rows.seeds[start:stop], **how)

        pieces = workspace.in_pieces(len(rows), sampled)
    latents, trajectory = torch.cat([latents for latents, _ in pieces]), pieces[0][1]
    inputs = torch.cat([one.inputs for _, one in pieces])
    images = workspace.model.decode(latents)
    finite.check(workspace, *node.condition, "images", latents, images)
    images = (images * 255).round().byte()
    write_arrays(out / "images.safetensors", {"images": images})
    write_arrays(out / "latents.safetensors", {"latents": latents, "inputs": inputs})
    corrected = [one.corrected for _, one in pieces if one.corrected is not None]
    if corrected:
        write_arrays(out / "corrected.safetensors", {"calls": torch.cat(corrected)})
    write_json(out / "calls.json", {"calls": trajectory.calls, "timesteps": trajectory.timesteps})
