"""The attack table of the emoji model: every attack on the erased variant of every concept, beside its control.

Computes what is missing under runs/attack-table/, one folder per concept (stopped, it resumes), prints the tables
and, when they are complete, keeps them in docs/results/attack-table.md and docs/results/index.md. Results of the bundled studies' own
runs under runs/ are taken over where their keys are the same.

Attacks query the steering detector on noise of their own; the judge decides on each winner's image from the study's noise. The
ceiling is the base model's on the target prompts, the false-positive rate that on the reference prompts.
"""

import argparse
import os
import platform
import sys
import time
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from experiments.attack_table.rows import attack_of, attack_rows
from experiments.attack_table.tables import decided, markdown, overview, queries_table, rates_table, seconds_table
from workbench import registry, resources
from workbench.errors import RunError, StudyError, WorkbenchError, nearest
from workbench.execution import cost, execute
from workbench.execution.rows.attacks import budget_rows
from workbench.models.load import source_digest
from workbench.storage import digest, write_text
from workbench.study.study import Study, load_study

CONCEPTS = {"ink": "emoji-ink-style", "church": "emoji-church", "weapon": "emoji-weapon"}
N, N_QUICK = 100, 8
LOOKS = 2
# name in the table -> method, when it is another, and parameters; everything else is the method's default for the emoji model
ATTACKS = {
    "other_seeds": {},
    "random_tokens": {},
    "random_embedding": {},
    "paraphrase": {},
    "embedding_pgd": {"iterations": 40, "looks": LOOKS},
    "unlearn_diff_atk": {"timesteps": 10, "iterations": 6, "looks": LOOKS},
    "p4d_n": {"method": "p4d", "form": "N", "iterations": 40, "looks": LOOKS},
    "p4d_k": {"method": "p4d", "form": "K", "iterations": 30, "looks": LOOKS},
    "ring_a_bell": {"generations": 30},
    "concept_inversion": {"iterations": 200},
}
LENGTHS = ("iterations", "generations")
# control of the attack `paraphrase` on a style: other ways to draw, named as unusually
OTHER_WAYS = ["water colour", "oil painting", "pixel drawing", "crayon sketch"]
STAGES = ("erase", "attack", "generate", "detect")
FIRST = "base and erasing"
ROOT = Path(__file__).resolve().parents[2]
MARKS = "<!-- attack table -->", "<!-- end of attack table -->"


def paraphrases(labels):
    """Parameters of the attack `paraphrase` for the labels of a concept: wordings of these, and of other things as its control."""
    known = tomllib.loads((resources.folder("data") / "emoji" / "concepts.toml").read_text())["paraphrases"]
    own = [label.partition(":")[2] for label in labels]
    kinds = {label.partition(":")[0] for label in labels}
    others = OTHER_WAYS if kinds == {"style"} else [w for name in known if name not in (*own, "ink") for w in known[name]]
    return {"wordings": [wording for name in own for wording in known[name]], "others": others}


def study_of(demo, n, attacks, shorter=1):
    """A bundled study with more units, its first variant alone, and these attacks on it; searches are `shorter` times shorter."""
    variant = demo.variants[0].name
    parts = []
    for name, given in attacks.items():
        parameters = dict(given)
        method = parameters.pop("method", name)
        if method == "paraphrase" and not parameters:
            parameters = paraphrases(demo.detectors.labels)
        parameters |= {key: max(1, parameters[key] // shorter) for key in LENGTHS if key in parameters}
        against = [variant] if registry.method("attacks", method).optimised else []
        parts.append({"method": method, "against": against, "parameters": parameters} | ({"name": name} if name != method else {}))
    data = demo.model_dump(mode="json", exclude_none=True)
    data |= {"name": f"attack-table-{demo.concept.name}", "title": f"Attacks on {demo.concept.name}"}
    data["prompts"] = {key: value for key, value in data["prompts"].items() if key in ("target", "reference", "erase")} | {
        "limit": n,
        "units": "column",
    }
    data |= {"variants": data["variants"][:1], "attacks": parts}
    return Study(**data).beside(demo)


def chosen(words, possible, what):
    """The names in a list with commas, all when there is none; StudyError with the nearest for one that is not there."""
    names = [word.strip() for word in words.split(",")] if words else list(possible)
    for name in names:
        if name not in possible:
            raise StudyError(f'No {what} of the table is called "{name}".{nearest(name, possible)}')
    return names


def picked(workspace, attacks):
    """The nodes of the stages a table needs, of these attacks and of what they all need."""
    wanted = (None, *attacks)
    return [node for node in workspace.plan.nodes if node.stage in STAGES and attack_of(workspace.plan, node) in wanted]


def paces(workspace, repeats=3):
    """Measured seconds {pass: one UNet row, text: one text, image: decoding one}, at the study's batch size."""
    import torch

    from workbench.models import text

    model, batch = workspace.model, workspace.study.sampling.batch
    latents = torch.zeros(batch, *model.latent_shape, device=model.device, dtype=model.dtype)

    def best(function):
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            function()
            times.append((time.perf_counter() - began) / batch)
        return min(times)

    with torch.no_grad():
        encoding, decoding = best(lambda: text.encode(model, ["an emoji"] * batch)), best(lambda: model.decode(latents))
    return {"pass": cost.seconds_per_pass(workspace), "text": encoding, "image": decoding}


def expected(workspace, node, pace):
    """Seconds a node will still take when no search ends early: UNet passes, texts encoded, images decoded."""
    missing = [shard for shard in node.shards if not workspace.store.has(node.stage, shard.key)]
    n, share = sum(shard.stop - shard.start for shard in missing), len(missing) / len(node.shards)
    seconds = share * node.passes * pace["pass"]
    if node.stage == "generate":
        return seconds + n * (pace["image"] + pace["text"])
    if node.stage == "attack":
        settings = node.parameters["parameters"]
        seconds += share * node.passes * pace["text"] + 2 * n * settings.get("looks", 0) * pace["image"]
        if node.parameters["method"] == "ring_a_bell":
            bred = settings["crossover"] + settings["mutation"]
            seconds += n * settings["population"] * (1 + bred * (settings["generations"] - 1)) * pace["text"]
    return seconds


def by_part(workspace, seconds_of):
    """{part: seconds}: what all attacks need, then each attack with its images. seconds_of(node) may be None: unknown."""
    parts = {}
    for node in picked(workspace, [attack.label for attack in workspace.study.attacks]):
        part, seconds = attack_of(workspace.plan, node) or FIRST, seconds_of(node)
        parts[part] = parts.get(part, 0.0) + (seconds or 0.0)
    return parts


def recorded(workspace):
    """{part: seconds} it took, from the manifest; what came from another run has none."""
    seconds = {node["id"]: node["seconds"] for node in workspace.store.manifest()["nodes"]}
    return by_part(workspace, lambda node: seconds.get(node.id))


def document(workspaces, command):
    """(overview, everything) as Markdown, of all attacks whose results are there."""
    rows = {name: attack_rows(workspace, workspace.study.variants[0].name) for name, workspace in workspaces.items()}
    parts = [
        "# Attacks on the emoji model\n",
        f"Made by `{command}`, {datetime.now(UTC):%Y-%m-%d}. Each concept's ESD variant; n prompts, one image each. What it shows is no "
        "evidence about Stable Diffusion.\n",
        "ASR: the judge sees the concept without attack or under it, so a control's ASR is no lower than that of no attack. Brackets are "
        "95 % Wilson intervals; p is McNemar's, attack against control, paired by unit. Passes (UNet rows, with gradient 2.5), seconds and "
        "detector queries are means over the prompts of the attack alone; its control had as many queries. "
        "`concept_inversion` learns a vector for each half of the prompts, so its intervals and p hold for that run (decision 0011).\n",
    ]
    for name, workspace in workspaces.items():
        parts += [f"## {name}\n", *([decided(rows[name])] if rows[name] else []), rates_table(rows[name])]
        missing = {attack.label for attack in workspace.study.attacks} - {row["attack"] for row in rows[name]}
        if missing:
            parts.append(f"Not computed yet: {', '.join(sorted(missing))}.\n")
        looked = budget_rows(workspace, [row["attack"] for row in rows[name]])
        if looked:
            parts += [
                "Rate against budget, as the steering detector sees it during the search (passes of one prompt, queries included):\n",
                queries_table(looked),
            ]
    taken = {name: recorded(workspace) for name, workspace in workspaces.items()}
    parts += ["## Time and origin\n", "Wall seconds of each attack with its control and their images; 0: taken from another run.\n"]
    parts += [seconds_table(taken), markdown(["what", "digest or version"], origin(workspaces))]
    return overview(rows), "\n".join(parts)


def origin(workspaces):
    """Rows (what, digest or version) that do not depend on a commit: machine, packages, model, detectors, prompts, erased weights."""
    workspace = next(iter(workspaces.values()))
    packages = ", ".join(f"{name} {version(name)}" for name in ("concept-erasure-workbench", "torch", "diffusers", "transformers"))
    rows = [["machine", f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"], ["packages", packages]]
    rows.append(["base model's files", source_digest(workspace.study.model.base)[:16]])
    rows += [[f"detector {role}", workspace.detector(role).version] for role in ("steer", "judge")]
    for name, one in workspaces.items():
        sets = digest([one.prompt_set(kind).digest() for kind in ("target", "reference")])
        rows += [
            [f"{name}: prompts", sets[:16]],
            [f"{name}: erased weights", one.plan.node(f"erase:{one.study.variants[0].name}").key[:16]],
        ]
        rows.append([f"{name}: settings of the attacks", digest([attack.model_dump(mode="json") for attack in one.study.attacks])[:16]])
    return rows


def keep(path, text, marks=MARKS):
    """Put text between two marks of a file; RunError when it has no such place."""
    content = path.read_text()
    begin, end = (content.find(mark) for mark in marks)
    if not 0 <= begin < end:
        raise RunError(f"{path} has no place for the table. Put the lines {marks[0]} and {marks[1]} where it belongs.")
    write_text(path, f"{content[: begin + len(marks[0])]}\n{text}{content[end:]}")


def compute(workspaces, attacks, others=()):
    """Compute what is missing of these attacks, concept by concept, telling what is under way."""
    for name, workspace in workspaces.items():
        told = set()

        def tell(node, done, of, note="", name=name, told=told):
            if node.id not in told:
                told.add(node.id)
                sys.stderr.write(f"{datetime.now():%H:%M:%S} {name}: {node.id}\n")

        execute.run_nodes(workspace, picked(workspace, attacks), watcher=execute.Watcher(node=tell), others=others)


def main(words=None):
    """Say what it will take, compute, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concepts", help=f"with commas; possible: {', '.join(CONCEPTS)}")
    parser.add_argument("--attacks", help=f"with commas; possible: {', '.join(ATTACKS)}")
    parser.add_argument("--quick", action="store_true", help=f"{N_QUICK} units and a tenth of the search: does it run? Keeps nothing")
    parser.add_argument("--dry-run", action="store_true", help="only say what it will take")
    parser.add_argument("--out", default="runs/attack-table", help="folder of the results")
    given = parser.parse_args(words)
    concepts, attacks = chosen(given.concepts, CONCEPTS, "concept"), chosen(given.attacks, ATTACKS, "attack")
    out, n, shorter = (Path(f"{given.out}-quick"), N_QUICK, 10) if given.quick else (Path(given.out), N, 1)
    workspaces = {}
    for name in concepts:
        _, workspaces[name] = execute.prepare(study_of(load_study(CONCEPTS[name]), n, ATTACKS, shorter), out / name)
    pace = paces(next(iter(workspaces.values())))
    left = {
        name: {
            part: s
            for part, s in by_part(workspace, lambda node, workspace=workspace: expected(workspace, node, pace)).items()
            if part in (FIRST, *attacks)
        }
        for name, workspace in workspaces.items()
    }
    minutes = sum(sum(parts.values()) for parts in left.values()) / 60
    measured = (
        f"{1000 * pace['pass']:.1f} ms a UNet row, {1000 * pace['text']:.2f} ms a text, {1000 * pace['image']:.1f} ms an image decoded"
    )
    sys.stdout.write(f"Left to do: {minutes:.0f} minutes when no search ends early, n = {n} per concept (now {measured}).\n\n")
    sys.stdout.write(f"{seconds_table(left)}\n")
    sys.stdout.flush()
    if given.dry_run:
        return
    compute(workspaces, attacks, [Path("runs") / study for study in CONCEPTS.values()])
    command = "make attack-table" if not given.quick else "experiments/attack_table/run.py --quick"
    small, everything = document(workspaces, command)
    sys.stdout.write(f"{everything}\n{small}")
    if not given.quick and len(concepts) == len(CONCEPTS) and len(attacks) == len(ATTACKS):
        write_text(ROOT / "docs" / "results" / "attack-table.md", everything)
        keep(ROOT / "docs" / "results" / "index.md", small)


if __name__ == "__main__":
    try:
        main()
    except WorkbenchError as error:
        sys.stderr.write(f"attack table: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What was finished is kept; run the same command again to go on.\n")
        sys.exit(130)
