"""The stage `attack`: adversarial prompts and their controls, made against the base model or a variant."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import torch

from workbench import registry
from workbench.diffusion.denoise import denoise
from workbench.execution import finite, method_code
from workbench.execution.condition import Condition, attacking
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.workspace import Workspace
from workbench.methods.attacks import Context, Look
from workbench.models import text
from workbench.models.variants import applied
from workbench.storage import read_arrays, write_arrays, write_table
from workbench.study.prompt_set_name import name_of
from workbench.study.prompts import PromptSet
from workbench.study.study import BASE, Study

VERSION = 3
LOG = ["of", "id", "iteration", "passes", "loss", "found", "score", "prompt"]
NOISE = 7_000_003  # added to a prompt's seed: no image of the study starts from it


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """attack:<name>@<variant> of every attack and variant that it is made against."""
    targets, n = graph.prompts["target"], graph.n_prompts
    for attack in study.attacks:
        method = registry.method("attacks", attack.method)
        parameters = method.parameters(**attack.settings)
        method.check_targets(parameters, targets, study.concept.names)
        content = graph.model | {
            "method": attack.method,
            "parameters": parameters.model_dump(),
            "names": study.concept.names,
            "rows": graph.rows["target"],
            "sampling": graph.sampling,
            "pairs": graph.pairs,
            "files": method.files(parameters, study.folder),
        }
        content |= method_code.versions(method) | ({"forbidden": study.concept.forbidden} if study.concept.forbidden else {})
        for against in tuple(attack.against) or (None,):
            made = against or method.made_against(parameters, study.folder)
            inputs = (
                Condition(BASE, "target").node("generate"),
                Condition(BASE, "target").node("detect"),
                *(graph.made(against) if against else ()),
            )
            yield NodeSpec(
                attacking(name_of(attack.label, made)),
                "attack",
                content,
                inputs,
                against,
                ranges=((0, n),),
                cut="rows",
                code=method_code.used_by("attacks", [attack.method]),
                context={"avoid": study.concept.not_for_attacks},
                passes=method.passes(parameters, n, 2 * graph.n_calls),
                bytes=n * 4096,
            )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """adversarial.parquet and control.parquet, with .safetensors where they have vectors; log.parquet and seconds.parquet of the search."""
    given, targets = node.parameters, workspace.prompt_set("target")
    method = registry.method("attacks", given["method"])
    parameters = method.parameters(**given["parameters"])
    clean = torch.cat(workspace.gather("generate", BASE, "target", lambda f: read_arrays(f / "latents.safetensors")["latents"]))
    context = Context(
        node.context["avoid"],
        node.variant,
        clean,
        _looking(workspace, node.variant, given["sampling"]),
        pairs=given["pairs"],
        passes_per_look=len(workspace.model.new_scheduler(given["sampling"]["steps"]).timesteps) * 2,
        progress=workspace.progress,
        folder=workspace.folder,
        called=given["names"],
        **workspace.resuming(node, shard),
    )
    with applied(workspace.model, workspace.variant(node.variant)):
        adversarial = method.call(workspace.model, targets, parameters, context)
        control = method.control(workspace.model, targets, adversarial, parameters, context)
    for which, made in (("adversarial", adversarial), ("control", control)):
        finite.check_embeddings(node, which, made)
        write_table(out / f"{which}.parquet", made.table)
        if made.prefix is not None:
            write_arrays(out / f"{which}.safetensors", {"prefix": made.prefix})
    for name, arrays in context.files.items():
        write_arrays(out / name, arrays)
    log = pandas.DataFrame(context.log, columns=[*LOG, "seconds"])
    write_table(out / "log.parquet", log[LOG])
    write_table(out / "seconds.parquet", log[["of", "id", "iteration", "seconds"]])


def _looking(workspace: Workspace, variant: str | None, sampling: dict[str, Any]) -> Callable[[PromptSet], list[Look]]:
    """PromptSet -> list of Look: what the attack-visible detector sees in one image of each prompt, from noise of its own."""
    detector, model = workspace.detector("steer"), workspace.model

    def looks(candidate: PromptSet) -> list[Look]:
        found, empty = [], text.unconditional(model)
        for start in range(0, len(candidate), workspace.batch):
            rows = candidate.rows(start, start + workspace.batch)
            seeds = [seed + NOISE for seed in rows.seeds]
            latents, _ = denoise(model, workspace.encode(rows), empty, seeds, n_steps=sampling["steps"], guidance=sampling["guidance"])
            images = model.decode(latents)
            finite.check(workspace, variant, candidate.name, "images", latents, images)
            present, score = detector.present(images, workspace.labels)
            found += [Look(bool(p), float(s)) for p, s in zip(present, score, strict=True)]
        return found

    return looks
