"""A finished example run with invented recordings and attributions of the base model on its target prompts."""

import json

import numpy as np
import pandas
from safetensors.numpy import save_file

from tests.pages import example_runs
from workbench.report import document as schema
from workbench.report.content import values
from workbench.ui.neuron_activity import LABELS

WIDTH, CALLS = 400, [1, 4]
ACTIVE, TWIN = 3, 6  # neurons of the first layer that are active at the same prompts


def recorded(folder, n_prompts=8):
    """A run whose neuron ACTIVE fires most at the last prompt, and TWIN as it; attribution is largest at the first units."""
    example_runs.finished(folder)
    draw = np.random.default_rng(1)
    document = schema.load(folder / "report")
    trajectories = values(document["activity"], "trajectory")
    condition = next(row for row in document["activity"] if (row["variant"], row["prompt_set"]) == ("base", "target"))
    table = pandas.read_parquet(folder / "report" / "neurons.parquet")
    nodes = json.loads((folder / "manifest.json").read_text())["nodes"]
    units = [f"unit-{number}" for number in range(n_prompts)]
    detect = next(node for node in nodes if node["stage"] == "detect")
    found = {"id": units, "unit": units, "steer": True, "judge": True, "judge_score": 0.9}
    pandas.DataFrame(found).to_parquet(folder / "nodes" / "detect" / detect["shards"][0] / "detections.parquet")
    generate = next(node for node in nodes if node["stage"] == "generate")
    pictures = np.stack([example_runs.stripes(number) for number in range(n_prompts)])
    save_file({"images": pictures}, folder / "nodes" / "generate" / generate["shards"][0] / "images.safetensors")
    made = [example_runs.node(stage, "base", "target") for stage in ("record", "attribute")]
    made[1]["shards"] += ["attribute-base-target-1"]
    places = [folder / "nodes" / node["stage"] / shard for node in made for shard in node["shards"]]
    for place in places:
        place.mkdir(parents=True)
    activity = {layer: draw.random((n_prompts, len(CALLS), WIDTH)).astype("float32") for layer in table["layer"].unique()}
    rising = np.linspace(0, 5, n_prompts)[:, None].astype("float32")
    own = activity[table["layer"].iloc[0]]
    own[:, :, ACTIVE], own[:, :, TWIN] = rising, rising + 0.01 * draw.random((n_prompts, 2))
    about = {"calls": json.dumps(CALLS), "timesteps": json.dumps([700.0, 300.0])}
    for trajectory in trajectories:
        save_file({f"{layer}|mean_abs": array for layer, array in activity.items()}, places[0] / f"{trajectory}.safetensors", about)
    for place in places[1:]:
        by_unit = np.tile(np.arange(3, 0, -1, dtype="float32")[:, None], (1, len(table)))
        value = by_unit.mean(axis=0).astype(float)
        save_file({"value": value, "low": value - 1, "high": value + 1, "per_unit": by_unit}, place / "scores.safetensors")
        (place / "about.json").write_text(json.dumps({"units": ["unit-7", "unit-2", "unit-5"]}))
    example_runs.manifest(folder, [*nodes, *made])
    (folder / "study.json").write_text(json.dumps({"choose": {"seed": 0}, "attribute": {"methods": ["gradient"]}}))
    rows = [row | {name: condition[name] for name in LABELS} for row in document["attribution"][:1]]
    schema.write(document | {"attribution": [row | {"method": "gradient"} for row in rows]}, folder / "report")
    example_runs.status(folder, "done", node=None, done=480.0)  # a study newer than the status is one of a run that starts
    return folder, trajectories[0]
