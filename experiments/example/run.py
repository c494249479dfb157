"""The example run that ships: a finished run of emoji-ink-neurons, cut to what the pages and the lab read.

`make example` computes the study under runs/emoji-ink-neurons (some 25 minutes on two idle cores; resumes), then writes data/example-run.
Every result that is kept is whole or says what was left out: recordings keep one trajectory, mean |a| in half precision, of the conditions
that the story needs; images of the report stay, all others go. `about.json` lists it.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from workbench import resources
from workbench.errors import RunError, WorkbenchError
from workbench.execution import digests, execute
from workbench.execution.plan import read_sets
from workbench.execution.run_folder import Store
from workbench.storage import digest, read_json, read_table, write_json, write_table
from workbench.study.study import load_study

STUDY = "emoji-ink-neurons"
TRAJECTORY = "reference"
MOST_BYTES = 12_000_000
RECORDED = ("base:target", "base:reference", "erased:target", "erased:embedding_pgd@erased", "erased:embedding_pgd@erased~control")
KEPT = ("erase", "cluster", "regions")  # stages whose results are kept whole
LEFT_OUT = ("sham",)  # variants whose weights are not needed
ATTRIBUTED = ("base:target", "erased:target")
REPORT = ("report.json", "neuron-sets", "images")
DRAWN = ("base:target", "erased:target", "erased:embedding_pgd@erased")  # conditions with the images of all prompts


def cut(source: Path, out: Path) -> None:
    """Write the example from a finished run folder."""
    store = Store(source)
    manifest = store.manifest()
    if any(node["state"] != "done" for node in manifest["nodes"]):
        raise RunError(f"{source} is not finished. Go on with: {store.command()}")
    shutil.rmtree(out, ignore_errors=True)
    kept: dict[str, list[str]] = {}
    for node in manifest["nodes"]:
        stage, _, condition = node["id"].partition(":")
        if stage == "record" and condition in RECORDED:
            copy = recording
        elif stage == "detect":
            copy = tables_only
        elif stage == "attribute" and condition in ATTRIBUTED:
            copy = narrow
        elif stage == "score":
            copy = units_only
        elif stage in KEPT and condition not in LEFT_OUT:
            copy = whole
        else:
            continue
        for key in node["shards"]:
            to = out / "nodes" / stage / key
            if to.exists():
                continue
            copy(store.result(stage, key), to)
            digests.seal(to)
        kept.setdefault(stage, []).append(node["id"])
    for name in ("study.json", "study.toml", "manifest.json"):
        shutil.copyfile(source / name, out / name)
    write_json(out / "where.json", {"study_folder": "."})
    status = json.loads((source / "status.json").read_text())
    write_json(out / "status.json", status | {"pid": 1, "pid_started": 0.0, "command": f"workbench run {STUDY}"})
    report(store, out / "report")
    about = {"made_by": "make example", "of": STUDY, "kept": kept, "recordings": f"mean |a|, half precision, trajectory {TRAJECTORY}"}
    write_json(out / "about.json", about)


def whole(folder: Path, to: Path) -> None:
    """A result as it is."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(digests.SEAL))


def tables_only(folder: Path, to: Path) -> None:
    """Detections without the detector's features."""
    to.mkdir(parents=True)
    for path in folder.glob("*.parquet"):
        shutil.copyfile(path, to / path.name)


def units_only(folder: Path, to: Path) -> None:
    """How the units were grouped; the neuron table is in the report."""
    to.mkdir(parents=True)
    for path in folder.glob("*.json"):
        if path.name != digests.SEAL:
            shutil.copyfile(path, to / path.name)


def narrow(folder: Path, to: Path) -> None:
    """Attributions in half precision."""
    whole(folder, to)
    for path in to.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            arrays, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no dict
        save_file({name: one.astype(np.float16) if one.dtype.kind == "f" else one for name, one in arrays.items()}, path, about)


def recording(folder: Path, to: Path) -> None:
    """mean |a| of one trajectory in half precision."""
    to.mkdir(parents=True)
    with safe_open(folder / f"{TRAJECTORY}.safetensors", "numpy") as file:
        names = [name for name in file.keys() if name.endswith("|mean_abs")]  # noqa: SIM118 - no dict
        save_file({name: file.get_tensor(name).astype(np.float16) for name in names}, to / f"{TRAJECTORY}.safetensors", file.metadata())


def report(store: Store, to: Path) -> None:
    """report.json with its images and the neuron table; HTML, Markdown and CSV can be written again from it.

    The conditions DRAWN get the images of all their prompts, not only those that a report shows.
    """
    folder = store.report_folder
    to.mkdir(parents=True)
    for name in REPORT:
        path = folder / name
        if path.is_dir():
            shutil.copytree(path, to / name)
        else:
            shutil.copyfile(path, to / name)
    document = read_json(to / "report.json")
    targets = {
        one.keys[row][0]: (one.prompts[row], one.seeds[row]) for one in [read_sets(load_study(STUDY))["target"]] for row in range(len(one))
    }
    for node in store.manifest()["nodes"]:
        if node["stage"] == "detect" and node["id"].removeprefix("detect:") in DRAWN:
            document["images"] += more_images(store, node, document["images"], targets, to)
    document["reproduce"]["command"] = f"workbench run {STUDY}"
    write_json(to / "report.json", document)
    table = read_table(folder / "neurons.parquet")
    floats = {name: "float32" for name in table if table[name].dtype == "float64"}
    write_table(to / "neurons.parquet", table.astype(floats))


def more_images(store: Store, node: dict, listed: list[dict], targets: dict, to: Path) -> list[dict]:
    """Rows of the table `images`, with their files, for the prompts of a condition that the report does not show."""
    mine = [row for row in listed if (row["variant"], row["prompt_set"]) == (node["variant"], node["prompt_set"])]
    shown, rows = {row["unit"] for row in mine}, []
    generated = next(one for one in store.manifest()["nodes"] if one["id"] == node["id"].replace("detect:", "generate:", 1))
    for detected, drawn in zip(node["shards"], generated["shards"], strict=True):
        found = read_table(store.file("detect", detected, "detections.parquet"))
        with safe_open(store.file("generate", drawn, "images.safetensors"), "numpy") as file:
            pixels = file.get_tensor("images")
        for row, picture in zip(found.to_dict("records"), pixels, strict=True):
            if row["unit"] in shown:
                continue
            prompt, seed = targets[row["unit"]]
            name = f"images/{digest([node['id'], row['unit']])[:16]}.png"
            Image.fromarray(picture.transpose(1, 2, 0)).save(to / name, format="PNG", optimize=True)
            about = {"unit": row["unit"], "id": row["id"], "prompt": prompt, "seed": seed, "path": name, "blurred": False}
            rows.append(mine[0] | about | {"success": bool(row["judge"]), "score": float(row["judge_score"])})
    return rows


def main(words: list[str] | None = None) -> None:
    """Compute the study, then cut its run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="a finished run of the study, instead of computing it")
    parser.add_argument("--out", default=str(resources.folder("data") / "example-run"))
    given = parser.parse_args(words)
    source = Path(given.run or f"runs/{STUDY}")
    if given.run is None:
        execute.run(load_study(STUDY), source, command=f"workbench run {STUDY}")
    out = Path(given.out)
    cut(source, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    sys.stdout.write(f"{out}: {size / 1e6:.1f} MB\n")
    if size > MOST_BYTES:
        raise RunError(f"The example has {size:,} bytes; at most {MOST_BYTES:,} may ship.")


if __name__ == "__main__":
    try:
        main()
    except WorkbenchError as error:
        sys.stderr.write(f"example: {error}\n")
        sys.exit(2)
