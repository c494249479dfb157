"""The stage `record`: activation statistics of every condition in the shared regime, on the base model's latents and noise."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from workbench.diffusion.denoise import evaluate
from workbench.execution import finite
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.workspace import Workspace
from workbench.methods import scores
from workbench.models.variants import applied
from workbench.neurons.reduce import Parts, Statistics
from workbench.neurons.taps import Taps
from workbench.neurons.text_taps import ONCE, TextTaps
from workbench.storage import write_arrays
from workbench.study.parts import CONCEPT
from workbench.study.study import BASE, OTHER, Study

VERSION = 4


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """record:<variant>:<prompt set> of every recorded condition, in batches of prompts."""
    trajectories, n_calls = study.record.trajectories, len(graph.calls)
    for variant, name in graph.recorded:
        source, prompts, cut = graph.source(name)
        also = scores.norms(study.choose) if variant == BASE and name in (*CONCEPT, *OTHER) else None
        parameters = graph.model | {"sites": study.record.sites, "trajectories": trajectories} | prompts
        parameters |= {} if also is None else {"also": also}
        kept = 4 * graph.n_prompts * (1 + len(also or ())) + 40 * len(graph.batches)
        yield NodeSpec(
            Condition(variant, name).node("record"),
            "record",
            parameters,
            (*(Condition(BASE, one).node("generate") for one in trajectories), *graph.made(variant), *source),
            variant,
            name,
            graph.batches,
            cut,
            passes=graph.n_prompts * n_calls * len(trajectories),
            bytes=len(trajectories) * n_calls * graph.n_neurons * kept,
        )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """<trajectory>.safetensors: statistics of the UNet's neurons; text.safetensors: those of the text encoder's."""
    rows = workspace.prompt_set(node.condition.prompt_set).rows(shard.start, shard.stop)
    with applied(workspace.model, workspace.variant(node.variant)):
        trajectories = {name: workspace.trajectory(name, rows) for name in node.parameters["trajectories"]}
        of = {part: [layer for layer in workspace.layers if layer.site.part == part] for part in ("unet", "text_encoder")}
        also = node.parameters.get("also", ())
        said = Statistics(of["text_encoder"], len(rows), [ONCE], also)
        with torch.no_grad(), TextTaps(workspace.model.text_encoder, of["text_encoder"], said) as text_taps:
            states = text_taps.encode(workspace.model, rows.prompts, rows.prefix)
        kept: dict[str, Statistics] = {}

        def recorded(start: int, stop: int) -> None:
            if start == 0:  # also when everything begins again with smaller pieces
                kept.update({name: Statistics(of["unet"], len(rows), one.calls, also) for name, one in trajectories.items()})
            cut = [replace(one, inputs=one.inputs[start:stop]) for one in trajectories.values()]
            with Taps(workspace.model.unet, of["unet"], Parts(kept.values())) as taps:
                evaluate(workspace.model, states[start:stop], cut, taps, first_prompt=start)

        workspace.in_pieces(len(rows), recorded)
    finite.check_activations(workspace, node, [*kept.values(), said])
    for name, one in trajectories.items():
        about = {"calls": one.calls, "timesteps": one.timesteps}
        tensors = kept[name].to_tensors()
        finite.check_stored(workspace, node, tensors)
        write_arrays(out / f"{name}.safetensors", tensors, about)
    if of["text_encoder"]:
        tensors = said.to_tensors()
        finite.check_stored(workspace, node, tensors)
        write_arrays(out / "text.safetensors", tensors)
