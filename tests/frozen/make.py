"""Makes the frozen run anew: `python -m tests.frozen.make FOLDER`. A tiny study that asks for every table of report.json, run once.

Only a defect may force this. What is made: run.tar.xz (model, CLIP model, study and finished run) and keys.json (the keys of the bundled
studies), beside this file.
"""

import json
import os
import sys
import tarfile
from pathlib import Path

RENDERED = tuple(f"run/report/{name}" for name in ("report.html", "report.md", "images", "neurons_by_call.parquet"))
HERE = Path(__file__).resolve().parent
THINGS = ["owl", "cat", "house", "church", "mountain", "bridge"]
STUDY = """
schema_version = 1
name = "frozen"
title = "A tiny study that asks for everything"
[concept]
name = "ink"
kind = "style"
names = ["ink"]
[model]
base = "model"
[prompts]
target = "target.csv"
reference = "reference.csv"
near = "near.csv"
far = "far.csv"
retain = "retain.csv"
[prompts.other]
name = "lineart"
target = "other.csv"
reference = "plain.csv"
[detectors]
labels = ["style:ink", "style:noto"]
steer = { method = "emoji", which = "steer" }
judge = { method = "emoji", which = "judge" }
[sampling]
steps = 3
guidance = 2.0
batch = 3
[[variants]]
name = "erased"
method = "esd"
seeds = [0, 1]
parameters = { iterations = 2, steps = 3, trajectories = 2, batch = 2 }
[[variants]]
name = "pruned"
method = "prune_neurons"
parent = "erased"
role = "pruned"
[[variants]]
name = "masked"
method = "learned_mask"
role = "pruned"
parameters = { iterations = 2, steps = 3, batch = 2 }
[[variants]]
name = "sham"
method = "esd"
role = "sham"
parameters = { iterations = 2, steps = 3, trajectories = 2, batch = 2 }
[[attacks]]
method = "embedding_pgd"
against = ["erased"]
parameters = { iterations = 2, looks = 2 }
[[attacks]]
method = "paraphrase"
parameters = { wordings = ["black outline"], others = ["water colour"] }
[quality]
clip = "clip"
noise_floor = ["seed", "dtype"]
[record]
sites = ["ff", "update"]
calls = [0, 2]
trajectories = ["reference"]
[choose]
n_random = 19
n_resamples = 100
[attribute]
methods = ["gradient", "curvature"]
prompt_sets = ["target", "embedding_pgd@erased-seed0"]
variants = ["base", "erased-seed0"]
tokens = 2
conductance = true
fidelity = true
[cluster]
k = [2, 3]
share = 0.08
n_resamples = 5
n_random = 19
regions = 1
[[sets]]
name = "both"
union = ["concept", "suppressed"]
[[sets]]
name = "nothing"
intersection = ["concept", "suppressed"]
[ablate]
modes = ["one_step", "images"]
effects = ["dose_response", "leave_one_out", "greedy", "shapley", "necessity", "sufficiency", "sets"]
shares = [0.02]
variants = ["erased-seed0"]
n_held = 19
[ablate.images]
effects = ["dose_response", "necessity"]
kinds = ["mean"]
units = 2
"""


def study(folder):
    """The study with its models and prompt files in a folder; its path."""
    from tests import tiny
    from tests.methods.test_detectors_clip_zero_shot import clip_folder

    tiny.pipeline().save_pretrained(folder / "model")
    clip_folder(folder / "clip", seed=2)
    templates = {"target": "{} in ink style", "reference": "{} in noto style", "near": "{} in fluent style", "far": "a {} of water"}
    templates |= {"other": "a lineart picture of {}", "plain": "a picture of {}"}
    for name, template in templates.items():
        lines = [f"u{i},{template.format(thing)},{i},style:fluent" for i, thing in enumerate(THINGS)]
        (folder / f"{name}.csv").write_text("unit,prompt,seed,expect\n" + "\n".join(lines) + "\n")
    (folder / "retain.csv").write_text("prompt\na silver garden\na yellow planet\n")
    (folder / "study.toml").write_text(STUDY)
    return folder / "study.toml"


def keys():
    """{bundled study: {node: key}} of the studies on the bundled model."""
    import workbench
    from workbench import resources
    from workbench.execution.execute import prepare

    found = {}
    for path in sorted(resources.folder("analyses").glob("emoji-*.toml")):
        plan, _ = prepare(workbench.load_study(path))
        found[path.stem] = {node.id: node.key for node in plan.nodes}
    return found


def kept(entry):
    """What belongs into the archive: not what is rendered from report.json."""
    return None if entry.name.endswith(RENDERED) else entry


def main(folder):
    """Run, pack, list keys."""
    import workbench

    folder.mkdir(parents=True)
    os.chdir(folder)
    run = workbench.run(study(folder), folder / "run")
    empty = [name for name, rows in run.document.items() if isinstance(rows, list) and not rows]
    print("empty tables:", empty)
    with tarfile.open(HERE / "run.tar.xz", "w:xz") as archive:
        archive.add(folder, arcname="frozen", filter=kept)
    (HERE / "keys.json").write_text(json.dumps(keys(), indent=0) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
