"""The stage `report`: assembles report.json and pictures from the results, then renders it.

It also writes a first report as soon as there are pictures; tables that are not measured yet are empty and the verdict says so.
"""

import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from workbench import registry, resources
from workbench.analysis.sensitivity import Thresholds
from workbench.execution import preflight
from workbench.execution.condition import erasing
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Row, attacks
from workbench.execution.rows.region_pictures import with_pictures
from workbench.execution.rows.report_columns import with_stated
from workbench.execution.stages import named_sets
from workbench.execution.variant_files import training_rows
from workbench.execution.workspace import Workspace
from workbench.models.variants import describe
from workbench.report import document
from workbench.report.images import SHOWN_UNITS, blurred
from workbench.report.renderers import render
from workbench.storage import atomic, digest, read_json, read_table, write_json, write_table
from workbench.study import published
from workbench.study.neuron_choice import Choose, in_words
from workbench.study.study import BASE, Study

VERSION = 1
SECONDS = 8
READS_STUDY = True
PACKAGES = ("torch", "diffusers", "transformers", "captum", "scikit-learn", "scipy", "numpy", "pandas", "plotly")


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """report: marks that the report of these results is written. Each run writes the report again at its end, with its times."""
    yield NodeSpec("report", "report", {"title": study.title}, ("measure",))


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """done.json. `write_report` does the work, before the node is marked as done."""
    write_json(out / "done.json", {"written": True})


def write_report(
    workspace: Workspace, history: dict[str, Any], command: str, formats: Sequence[str] = ("html", "md", "csv"), reveal: bool = False
) -> list[Path]:
    """Write runs/<study>/report from what is there; returns the paths.

    history   {"seconds": {node id: s}, "started": text, "finished": text or None, "wall_seconds": s}, and "threads" of worker processes
    """
    folder = workspace.store.report_folder
    folder.mkdir(parents=True, exist_ok=True)
    reveal = reveal or not workspace.study.concept.sensitive
    measured = workspace.plan.node("measure")
    key = measured.shards[0].key
    at = workspace.store.result("measure", key) if workspace.store.has("measure", key) else None
    tables: dict[str, Any] = dict.fromkeys(document.tables(), []) | (read_json(at / "tables.json") if at else {})
    if at:
        tables["attacks"] = attacks.with_seconds(workspace, tables["attacks"])
        tables = with_stated(workspace, tables)
        tables["verdict"] = tables["verdict"] | {"caveats": [*tables["verdict"]["caveats"], *preflight.warnings(workspace)]}
        table = read_table(at / "neurons.parquet")
        write_table(folder / "neurons.parquet", table)
        write_table(folder / "neurons_by_call.parquet", read_table(at / "neurons_by_call.parquet"))
        named_sets.export(workspace, folder / named_sets.FOLDER)
    else:
        tables["verdict"] = {
            "headline": "The run is not finished: images come first, numbers follow.",
            "words": [],
            "reasons": [],
            "caveats": [],
        }
    content = {name: tables[name] for name in (*document.tables(), "verdict")}
    content |= {
        "schema_version": document.SCHEMA_VERSION,
        "study": _study(workspace),
        "models": _models(workspace, history),
        "images": _images(workspace, folder, reveal),
        "cluster_regions": with_pictures(workspace, tables["cluster_regions"], folder, reveal),
        "timings": _timings(workspace, history),
        "training": training_rows(workspace),
        "neuron_table": "neurons.parquet" if at else None,
    }
    content["reproduce"] = _reproduce(workspace, history, command, content["models"])
    document.write(content, folder)
    return render.render(folder, formats)


def _study(workspace: Workspace) -> dict[str, Any]:
    study, target = workspace.study, workspace.prompt_set("target")
    half = workspace.units_in_half_a()
    return {
        "name": study.name,
        "title": study.title,
        "question": study.question or None,
        "concept": study.concept.model_dump(),
        "n_units": len(workspace.units),
        "n_units_half_a": int(half.sum()),
        "n_units_half_b": int((~half).sum()),
        "seeds": target.seeds,
        "steps": study.sampling.steps,
        "guidance": study.sampling.guidance,
        "scheduler": type(workspace.model.scheduler).__name__,
        "window": [workspace.plan.calls[0], workspace.plan.calls[-1]],
        "sites": list(study.record.sites),
        "text": study.text,
        "model_note": study.model.note,
        "thresholds": [Thresholds().deactivated, Thresholds().reactivated],
        "score": _score(study.choose),
    }


def _score(choose: Choose) -> dict[str, Any]:
    """How the concept neurons were chosen: the rule, and the score that is shown, with its unit and description."""
    method = registry.method("scores", choose.score)
    unit = method.unit(choose.parameters)
    return {"rule": in_words(choose), "name": choose.score, "unit": unit, "what": method.help}


def _models(workspace: Workspace, history: dict[str, Any]) -> list[Row]:
    rows = [_model_row(workspace, BASE, "base", None, None, workspace.study.model.base, history)]
    for variant in workspace.study.variants:
        node = workspace.plan.node(erasing(variant.name))
        if workspace.store.has("erase", node.shards[0].key):
            rows.append(_model_row(workspace, variant.name, variant.role, variant.method, variant.parent, None, history))
    return rows


def _model_row(
    workspace: Workspace, name: str, role: str, method: str | None, parent: str | None, what: str | None, history: dict[str, Any]
) -> Row:
    found = describe(workspace.model, workspace.variant(name))
    if what is None:
        counted = f"{found['parameters_changed']} tensors changed" if found["parameters_changed"] or not found["others"] else ""
        pruned = f"{found['pruned']} weights pruned" if found["pruned"] else ""
        what = ", ".join(part for part in (counted, pruned, *found["others"]) if part)
        files = workspace.plan.node(erasing(name)).parameters.get("files", {})
        what += "".join(f"; from {file} (SHA-256 {content[:12]})" for file, content in files.items())
        if said := published.sentence(workspace.study.variant(name)):
            what += f"; {said}"
    changed = found["share_changed"] if name != BASE else None
    return {
        "variant": name,
        "role": role,
        "method": method,
        "parent": parent,
        "digest": found["digest"],
        "what": what,
        "parameters_changed": found["parameters_changed"] if name != BASE else None,
        "share_changed": changed,
        "seconds": history["seconds"].get(erasing(name)),
        "largest_changes": found["largest_changes"],
        "reason": None if name != BASE else "the other variants are compared with the base model",
    }


def _images(workspace: Workspace, folder: Path, reveal: bool) -> list[Row]:
    """The first units of every condition that has images; where the concept may show, blurred in the pixels."""
    rows, units = [], workspace.prompt_set("target").pair_units[:SHOWN_UNITS]
    for node in workspace.plan.of_stage("detect"):
        if not workspace.there(node):
            continue
        condition = node.condition
        prompts, planned = workspace.prompt_set(condition.prompt_set), workspace.plan.sets[condition.prompt_set]
        pictures, found = workspace.images(*condition), workspace.detections(*condition)
        retained = planned.kind == "retained"
        for row, (unit, place) in enumerate(prompts.keys):
            if unit not in units:
                continue
            hide = not reveal and (
                bool(found["judge"][row]) or bool(found["steer"][row]) or prompts.kind in ("target", "adversarial", "control")
            )
            name = f"images/{digest([node.shards[0].key, unit, *([place] if place else []), hide])[:16]}.png"
            picture = Image.fromarray(pictures[row].permute(1, 2, 0).numpy())
            with atomic(folder / name) as temporary:
                (blurred(picture) if hide else picture).save(temporary, format="PNG")
            rows.append(
                {
                    "variant": condition.variant,
                    "prompt_set": condition.prompt_set,
                    "attack": planned.attack,
                    "provenance": prompts.provenance(condition.variant),
                    "against": planned.against,
                    "control": planned.control,
                    "unit": unit,
                    "id": str(prompts.table["id"].iloc[row]),
                    "prompt": prompts.prompts[row],
                    "seed": prompts.seeds[row],
                    "path": name,
                    "blurred": hide,
                    "success": bool(found["judge_expected"][row]) if retained else bool(found["judge"][row]),
                    "score": float(found["judge_score"][row]),
                }
            )
    return rows


def _timings(workspace: Workspace, history: dict[str, Any]) -> list[Row]:
    stages: dict[str, list[float]] = {}
    for node in workspace.plan.nodes:
        stages.setdefault(node.stage, []).append(history["seconds"].get(node.id) or 0.0)
    return [{"stage": stage, "seconds": float(np.sum(s)), "nodes": len(s)} for stage, s in stages.items()]


def _reproduce(workspace: Workspace, history: dict[str, Any], command: str, models: list[Row]) -> dict[str, Any]:
    there = [name for name, one in workspace.plan.sets.items() if one.node is None or workspace.there(workspace.plan.node(one.node))]
    sets = {name: workspace.prompt_set(name) for name in there}
    return {
        "command": command,
        "study_digest": workspace.study.digest(),
        "seeds": sorted({variant.settings.get("seed", 0) for variant in workspace.study.variants} | {workspace.study.choose.seed}),
        "device": str(workspace.model.device),
        "threads": history.get("threads") or torch.get_num_threads(),
        "dtype": workspace.study.model.dtype,
        "scheduler": type(workspace.model.scheduler).__name__,
        "torch_deterministic": torch.are_deterministic_algorithms_enabled(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if _git("rev-parse", "HEAD") is None else bool(_git("status", "--porcelain")),
        "prompts": [{"set": name, "n": len(s), "digest": s.digest()} for name, s in sets.items()],
        "models": [{"variant": row["variant"], "digest": row["digest"]} for row in models],
        "wall_seconds": history["wall_seconds"],
        "peak_memory_mb": _peak_memory(),
        "started": history["started"],
        "finished": history["finished"],
    }


def _peak_memory() -> float:
    """Highest resident memory so far, in MB: of this process, or of a worker that has ended."""
    import resource

    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str | None:
    """Output of a git command in the checkout this package runs from; None outside of one.

    A checkout around it that is not its own, such as the one a virtual environment lies in, is not asked: its settings could run
    programs, and its commit is another one.
    """
    root = resources.PACKAGE.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
