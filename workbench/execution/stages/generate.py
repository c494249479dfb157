"""The stage `generate`: images of every condition, each variant on its own trajectory.

The base model's UNet inputs are kept for the shared regime.
"""

from workbench.diffusion.denoise import denoise
from workbench.execution import finite
from workbench.execution.condition import Condition
from workbench.execution.graph import NodeSpec
from workbench.models import text
from workbench.models.variants import applied
from workbench.storage import write_arrays, write_json
from workbench.study.parts import CONCEPT
from workbench.study.study import BASE

VERSION = 1


def nodes(study, graph):
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
            passes=graph.n_prompts * graph.n_calls * (2 if study.sampling.guidance != 1 else 1),
            bytes=graph.n_prompts * (graph.image_bytes + graph.latent_bytes * (1 + len(kept))),
        )


def run(workspace, node, shard, out):
    """images.safetensors: (prompt, 3, height, width) uint8; latents.safetensors: latents, and the UNet inputs that are kept; calls.json."""
    given, rows = node.parameters, workspace.prompt_set(node.prompt_set).rows(shard.start, shard.stop)
    with applied(workspace.model, workspace.variant(node.variant)):
        latents, trajectory = denoise(
            workspace.model,
            workspace.encode(rows),
            text.unconditional(workspace.model),
            rows.seeds,
            n_steps=given["steps"],
            guidance=given["guidance"],
            keep=given["keep"],
        )
    images = workspace.model.decode(latents)
    finite.check(workspace, node.variant, node.prompt_set, "images", latents, images)
    images = (images * 255).round().byte()
    write_arrays(out / "images.safetensors", {"images": images})
    write_arrays(out / "latents.safetensors", {"latents": latents, "inputs": trajectory.inputs})
    write_json(out / "calls.json", {"calls": trajectory.calls, "timesteps": trajectory.timesteps})
