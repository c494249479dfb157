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
