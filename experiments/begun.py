"""Results of experiments that take longer than a machine is there: what takes longest is kept in the repository until the experiment ends.

A folder per experiment under experiments/begun, laid out as a run folder, so that a run takes what is in it instead of computing it.

keep      copy the erased variants and attacks of a run folder that are finished
folders   what was begun of an experiment, for `others` of `execute`
ended     remove it, when its page is written
"""

import shutil
from pathlib import Path

from workbench.execution.run_folder import Store

FOLDER = Path(__file__).resolve().parent / "begun"
STAGES = ("erase", "attack")
MOST_BYTES = 4_000_000  # of one result: what is larger, all weights of a model, is made again


def keep(workspace, name, folder=FOLDER):
    """How many results of a workspace are kept now that were not kept before."""
    kept, new = Store(folder / name), 0
    for node in workspace.plan.nodes:
        for shard in node.shards if node.stage in STAGES else ():
            if kept.has(node.stage, shard.key) or not workspace.store.has(node.stage, shard.key):
                continue
            made = workspace.store.path(node.stage, shard.key)
            if sum(path.stat().st_size for path in made.iterdir()) > MOST_BYTES:
                continue
            place = kept.path(node.stage, shard.key)
            part = place.with_name(f".{place.name}.part")
            shutil.rmtree(part, ignore_errors=True)  # of a copy that was stopped
            shutil.copytree(made, part)
            part.rename(place)
            new += 1
    return new


def folders(name, folder=FOLDER):
    """[the folder of what was begun of an experiment], or [] when there is nothing."""
    return [folder / name] if Store(folder / name).has_results() else []


def ended(name, folder=FOLDER):
    """Remove what was begun of an experiment."""
    shutil.rmtree(folder / name, ignore_errors=True)
