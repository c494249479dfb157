"""What the null calibration records, once: a pool of units under null attacks and null erasers of the emoji model's ink style.

prompts        distinct prompts, one per unit, none of them among the prompts ESD trains on
null_change    a change of the weights of ESD's size that erases nothing by intention: noise, or ESD's own change rotated
study          the study of everything that is recorded, written beside its files
wanted         the nodes of its plan that are computed;  record   computes them;  left   how much of it is left to do
"""

import csv
import random
import tomllib
from dataclasses import replace

import numpy as np
import torch

from workbench import resources
from workbench.execution import execute
from workbench.storage import write_arrays, write_text
from workbench.study.imports.embeddings import write_embeddings
from workbench.study.prompts import read_csv
from workbench.study.study import load_study

N_UNITS = 200
FIRST_SEED = 20_000
TEMPLATES = 4
SCALES, NOISE_SEEDS, ROTATIONS = (1, 2, 5, 10, 20), 4, 4
ATTACKS = ("tokens", "vectors", "shared")
DRAWS = 4
RETAINED = ("near", "far")
N_IMAGES = 60  # units whose images are made: a null eraser's of the targets, and everyone's of unrelated concepts

STUDY = """
schema_version = 1
name = "nulls"
title = "What is said where nothing was done"
[concept]
name = "ink"
kind = "style"
names = ["ink", "lineart"]
[model]
base = "emoji"
[prompts]
target = "target.csv"
reference = "reference.csv"
near = "near.csv"
far = "far.csv"
erase = "prompts/emoji-ink-erase.csv"
trained_and_measured = "leave out"
[detectors]
labels = ["style:ink"]
steer = { method = "emoji", which = "steer" }
judge = { method = "emoji", which = "judge" }
[sampling]
steps = 10
guidance = 5.0
batch = 20
[record]
sites = ["ff"]
trajectories = ["reference"]
calls = [1, 4, 7]
[choose]
score = "contrast"
compare = []
share = 0.04
n_random = 199
n_resamples = 1000
"""
ESD = 'method = "esd"\nparameters = { iterations = 50, eta = 0.4, learning_rate = 1e-3, steps = 10 }\n'


def null_erasers():
    """Names of the erasers that were meant to erase nothing, each with how it is made: (kind, scale, seed)."""
    found = {f"noise-x{scale}-{seed}": ("noise", scale, seed) for seed in range(NOISE_SEEDS) for scale in SCALES}
    return found | {f"rotated-{seed}": ("rotated", 1, seed) for seed in range(ROTATIONS)}


def attacked(name):
    """Whether a null eraser meets the null attacks too: the first of each kind and size does."""
    return null_erasers()[name][2] == 0


def null_change(change, kind, scale, seed):
    """{parameter: tensor}: what is added to the weights in the place of ESD's change.

    noise     Gaussian, of `scale` times the norm of ESD's change, parameter by parameter
    rotated   Q change, with Q a random orthogonal matrix over the outputs: the same norm, the same singular values, the same inputs
              it answers to; only where it writes is random
    """
    generator, made = torch.Generator().manual_seed(1000 * seed + scale), {}
    for name in sorted(change):
        one = change[name].double()
        if kind == "noise":
            noise = torch.randn(one.shape, generator=generator, dtype=torch.float64)
            made[name] = noise / noise.norm() * one.norm() * scale
        else:
            q, r = torch.linalg.qr(torch.randn(len(one), len(one), generator=generator, dtype=torch.float64))
            made[name] = scale * (q * torch.sign(torch.diagonal(r))) @ one
    return {name: value.float() for name, value in made.items()}


def prompts(n_units=N_UNITS):
    """{set: rows of unit, prompt, seed, expect}: every object in turn, in all wordings and names, without the prompts ESD trains on."""
    spec = tomllib.loads((resources.folder("data") / "emoji" / "concepts.toml").read_text())
    allowed, trained = {}, set(_column("erase", "prompt"))
    for name in ("reference", "near"):  # pairs of object and style that the model was shown
        for unit, expect in zip(_column(name, "unit"), _column(name, "expect"), strict=True):
            allowed.setdefault(unit.partition("/")[0], set()).add(expect.partition(":")[2])
    rng, queues = random.Random(5), {}
    templates = spec["templates"]["object_and_style"][:TEMPLATES]

    def said(thing, template, style):
        return templates[template].format(object=thing, style=style)

    for thing in sorted(allowed):
        entry = spec["objects"][thing]
        queues[thing] = [
            (_with_article(called, entry.get("plural", False)), template, ink)
            for called in entry["names"]
            for template in range(TEMPLATES)
            for ink in spec["styles"]["ink"]["names"]
            if said(_with_article(called, entry.get("plural", False)), template, ink) not in trained
        ]
        rng.shuffle(queues[thing])
    sets = {name: [] for name in ("target", "reference", *RETAINED)}
    things = rng.sample(sorted(allowed), len(allowed))
    for number in range(n_units):
        thing, place = things[number % len(things)], number // len(things)
        called, template, ink = queues[thing][place]
        swapped, near = rng.sample(sorted(allowed[thing]), 2)
        unit, seed = f"{thing}/{place}", FIRST_SEED + number
        first = {style: spec["styles"][style]["names"][0] for style in (swapped, near)}
        sets["target"].append((unit, said(called, template, ink), seed, "style:ink"))
        sets["reference"].append((unit, said(called, template, first[swapped]), seed, f"style:{swapped}"))
        sets["near"].append((unit, said(called, template, first[near]), seed, f"style:{near}"))
        sets["far"].append((unit, spec["templates"]["object_only"][1].format(object=called), seed, f"object:{thing}"))
    return sets


def _column(name, column):
    return read_csv(resources.folder("data") / "prompts" / f"emoji-ink-{name}.csv")[column].tolist()


def _with_article(name, plural):
    """'owl' -> 'an owl', as in the prompts the emoji model was trained on."""
    if plural and not name.startswith("bunch"):
        return name
    return ("an " if name[0] in "aeiou" else "a ") + name


def study(out, erasers=False, n_units=N_UNITS):
    """The study of what is recorded; its file and prompts lie in `out`/inputs.

    erasers   with the null erasers, whose files `write_erasers` has made; without, the base model, ESD and its sham alone
    """
    folder = out / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in prompts(n_units).items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["unit", "prompt", "seed", "expect"])
            writer.writerows(rows)
    parts = [STUDY, f'[[variants]]\nname = "esd"\n{ESD}']
    parts.append(f'[[variants]]\nname = "sham"\nrole = "sham"\npairs = "prompts/emoji-twemoji-erase.csv"\n{ESD}')
    for name in null_erasers() if erasers else []:
        parts.append(f'[[variants]]\nname = "{name}"\nmethod = "from_checkpoint"\nparameters = {{ path = "{name}.safetensors" }}\n')
    for seed in range(DRAWS):
        parts.append(f'[[attacks]]\nname = "tokens-{seed}"\nmethod = "random_tokens"\nparameters = {{ seed = {seed} }}\n')
        parts.append(f'[[attacks]]\nname = "vectors-{seed}"\nmethod = "random_embedding"\nparameters = {{ seed = {seed} }}\n')
        parts.append(
            f'[[attacks]]\nname = "shared-{seed}"\nmethod = "from_file"\n'
            f'parameters = {{ file = "shared.safetensors", token = "v{seed}" }}\n'
        )
    if not (folder / "shared.safetensors").exists():
        _write_shared(folder / "shared.safetensors")
    write_text(folder / "study.toml", "\n".join(parts))
    return load_study(folder / "study.toml")


def _write_shared(path, n_vectors=3):
    """Random vectors of a word's norm, one draw for all prompts: what a learned vector is without the learning."""
    from workbench.models import text
    from workbench.models.load import load

    table = text.token_vectors(load("emoji")).detach()
    drawn = torch.randn(DRAWS, n_vectors, table.shape[1], generator=torch.Generator().manual_seed(77))
    drawn = drawn / drawn.norm(dim=-1, keepdim=True) * table.norm(dim=-1).mean()
    write_embeddings(path, {f"v{place}": vectors for place, vectors in enumerate(drawn)})


def write_erasers(out, workspace):
    """The weights of every null eraser, from those of ESD that the run folder has."""
    base = {name: value.detach() for name, value in workspace.model.parameters().items()}
    trained = workspace.variant("esd").weights
    change = {name: value - base[name] for name, value in trained.items()}
    for name, made in null_erasers().items():
        path = out / "inputs" / f"{name}.safetensors"
        if not path.exists():
            write_arrays(path, {key: base[key] + value for key, value in null_change(change, *made).items()})


def wanted(plan, erasers):
    """Ids of the nodes that are computed, what says most first.

    erasers   names of the null erasers
    """
    attacks = [f"{kind}-{seed}" for kind in ATTACKS for seed in range(DRAWS)]
    ids = [f"{stage}:base:{name}" for name in ("reference", "target") for stage in ("generate", "detect")]
    ids += [f"record:base:{name}" for name in ("target", "reference")] + [f"attack:{name}" for name in attacks]
    ids += [f"record:base:{name}" for name in (*attacks, *RETAINED)]
    for variant in ("esd", "sham", *erasers):
        ids += [f"erase:{variant}", *(f"record:{variant}:{name}" for name in ("target", "reference"))]
        if variant in ("esd", "sham"):
            ids += [f"{stage}:{variant}:target" for stage in ("generate", "detect")]
        if variant == "esd":
            ids += [f"record:esd:{name}" for name in attacks]
            ids += [f"{stage}:esd:{name}" for name in attacks if name.startswith("tokens") for stage in ("generate", "detect")]
        elif variant != "sham" and attacked(variant):
            ids += [f"record:{variant}:{name}" for name in attacks if not name.startswith("shared")]
    return [plan.node(node) for node in ids]


def pictured(plan, n=N_IMAGES):
    """Nodes of the null erasers' images of the targets and of everyone's of unrelated concepts, cut to the shards of the first n units."""
    conditions = [(variant, "target") for variant in null_erasers()]
    conditions += [(variant, "far") for variant in ("base", "esd", "sham", *null_erasers())]
    for variant, name in conditions:
        for stage in ("generate", "detect"):
            node = plan.node(f"{stage}:{variant}:{name}")
            kept = tuple(shard for shard in node.shards if shard.start < n)
            yield replace(node, shards=kept, passes=node.passes * len(kept) / len(node.shards))


def record(out, n_units=N_UNITS, watcher=None):
    """Compute what is missing of the recordings under `out`, and return the workspace to read them in."""
    plan, workspace = execute.prepare(study(out, n_units=n_units), out / "run")
    execute.run_nodes(workspace, wanted(plan, []), watcher=watcher)
    write_erasers(out, workspace)
    plan, workspace = execute.prepare(study(out, True, n_units), out / "run")
    execute.run_nodes(workspace, wanted(plan, null_erasers()), watcher=watcher)
    execute.run_nodes(workspace, list(pictured(plan)), watcher=watcher)
    return workspace


def left(out, n_units=N_UNITS):
    """UNet row passes that are still to be done; a null eraser costs what the sham costs, without its training."""
    plan, workspace = execute.prepare(study(out, n_units=n_units), out / "run")

    def missing(node):
        return node.passes * np.mean([not workspace.store.has(node.stage, shard.key) for shard in node.shards])

    ours = wanted(plan, [])
    total = sum(missing(node) for node in ours)
    if all((out / "inputs" / f"{name}.safetensors").exists() for name in null_erasers()):
        plan = execute.prepare(study(out, True, n_units), out / "run", model=workspace.model)[0]
        known = {node.id for node in ours}
        more = [*wanted(plan, null_erasers()), *pictured(plan)]
        return total + sum(missing(node) for node in more if node.id not in known)
    attack, both = plan.node("record:esd:tokens-0").passes, 2 * plan.node("record:sham:target").passes
    images = plan.node("generate:base:far").passes * min(1, N_IMAGES / n_units)
    return total + 3 * images + sum(both + 2 * images + attacked(name) * 2 * DRAWS * attack for name in null_erasers())
