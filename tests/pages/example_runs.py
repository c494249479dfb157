"""Run folders of every kind a page may meet, made without a model: an example report beside invented results."""

import json
import shutil
import time

import numpy as np
import pandas
import psutil
from filelock import FileLock
from safetensors.numpy import save_file

from tests.report.example import write_example

LOG = "2026-11-24T09:12:03+00:00 workbench run emoji-heart --set sampling.steps=20: 40 nodes to do, 0 kept\n"
KINDS = ("finished", "running", "stopped", "damaged", "older", "reportless", "torn")


def node(stage, variant, prompt_set, state="done"):
    name = ":".join((stage, variant, prompt_set))
    shards = [f"{name}-0".replace(":", "-")]
    return {"id": name, "stage": stage, "variant": variant, "prompt_set": prompt_set, "state": state, "shards": shards, "seconds": 1.0}


def manifest(folder, nodes, layout=1):
    (folder / "manifest.json").write_text(json.dumps({"layout": layout, "nodes": nodes}))


LOCKS = {}


def status(folder, state, **more):
    """Status of this very process; it holds the lock of a running run, so that "running" is true, unless another process is named."""
    me = psutil.Process()
    lock = LOCKS.setdefault(folder, FileLock(folder / ".lock"))
    lock.release(force=True)  # a lock counts how often it was acquired
    if state == "running" and not {"pid", "pid_started"} & more.keys():
        lock.acquire()
    about = {"pid": me.pid, "pid_started": me.create_time(), "updated": time.time(), "state": state, "node": "erase:esd"}
    (folder / "status.json").write_text(json.dumps(about | {"done": 120.0, "of": 480.0, "left_seconds": 300.0} | more))


def results(folder, variant, prompt_set, units):
    """Results of generate and detect: each unit's picture has stripes of its own width."""
    made = [node("generate", variant, prompt_set), node("detect", variant, prompt_set)]
    places = [folder / "nodes" / one["stage"] / one["shards"][0] for one in made]
    for place in places:
        place.mkdir(parents=True)
    pictures = np.stack([stripes(number) for number in range(len(units))])
    save_file({"images": pictures}, places[0] / "images.safetensors")
    found = {"unit": units, "steer": [True] * len(units), "judge": [True] * len(units), "judge_score": [0.9] * len(units)}
    pandas.DataFrame(found).to_parquet(places[1] / "detections.parquet")
    return made


def stripes(number):
    """(3, 64, 64) uint8."""
    across = (np.arange(64) // (number + 2)) % 2 * 255
    return np.broadcast_to(across.astype("uint8"), (3, 64, 64)).copy()


def finished(folder, **options):
    """A run that is done; clear pictures exist for the base model's own prompts."""
    (folder / "report").mkdir(parents=True)
    document = write_example(folder / "report", **options)
    units = list(dict.fromkeys(row["unit"] for row in document["images"] if row["prompt_set"] == "target"))
    manifest(folder, results(folder, "base", "target", units))
    status(folder, "done", node=None, done=480.0)
    (folder / "run.log").write_text(LOG)
    return folder


UNITS = [f"u{place}" for place in range(12)]
LEVELS = {("base", "reference"): 1.0, ("base", "target"): 3.0, ("esd", "target"): 1.5, ("esd", "adversarial"): 2.0}


def recorded(folder):
    """A finished run with recordings: mean |a| of every neuron is LEVELS, at the later call half of its rise, and units differ a little."""
    finished(folder)
    table = pandas.read_parquet(folder / "report" / "neurons.parquet")
    nodes = results(folder, "base", "reference", UNITS) + results(folder, "base", "adversarial", UNITS)
    shutil.rmtree(folder / "nodes" / "generate" / "generate-base-target-0")
    shutil.rmtree(folder / "nodes" / "detect" / "detect-base-target-0")
    nodes += results(folder, "base", "target", UNITS)
    draw = np.random.default_rng(0)
    for (variant, prompt_set), level in LEVELS.items():
        nodes.append(node("record", variant, prompt_set))
        place = folder / "nodes" / "record" / nodes[-1]["shards"][0]
        place.mkdir(parents=True)
        rise = np.array([level - 1, (level - 1) / 2])[None, :, None]
        values = 1 + rise * draw.uniform(0.9, 1.1, (len(UNITS), 1, 1)) * np.ones((1, 1, len(table)))
        about = {"calls": "[4, 12]", "timesteps": "[801.0, 301.0]"}
        arrays = {f"{layer}|mean_abs": values.astype("float32") for layer in table["layer"].unique()}
        save_file(arrays, place / "reference.safetensors", about)
    manifest(folder, nodes)
    (folder / "study.json").write_text(json.dumps({"choose": {"seed": 0}}))
    status(folder, "done", node=None, done=480.0)
    return folder


def running(folder):
    """A run that has drawn the base model's pictures and works on."""
    (folder / "report").mkdir(parents=True)
    units = ["heart-noto", "heart-blob", "heart-flat"]
    nodes = results(folder, "base", "target", units)
    manifest(folder, [*nodes, node("erase", "esd", "", "running"), node("detect", "esd", "target", "waiting")])
    status(folder, "running")
    (folder / "run.log").write_text(LOG)
    return folder


def stopped(folder):
    """As `running`, but its process was told to stop."""
    running(folder)
    status(folder, "stopped", error="the disk is full")
    return folder


def damaged(folder):
    """A finished run whose report.json was cut short."""
    finished(folder)
    path = folder / "report" / "report.json"
    path.write_bytes(path.read_bytes()[:1000])
    return folder


def older(folder):
    """A run of another layout."""
    finished(folder)
    manifest(folder, [node("generate", "base", "target")], layout=99)
    return folder


def reportless(folder):
    """A finished run whose report was removed."""
    finished(folder)
    shutil.rmtree(folder / "report")
    return folder


def torn(folder):
    """A finished run whose manifest is no JSON."""
    finished(folder)
    (folder / "manifest.json").write_text('{"layout": 1, "nod')
    return folder


def write_all(folder):
    """One run of every kind, each named after its kind."""
    for kind in KINDS:
        globals()[kind](folder / kind)
    return folder
