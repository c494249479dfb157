"""Null calibration on the emoji model: what does the workbench say where nothing was done?

Records what is missing under runs/nulls/, draws small studies from it, and writes docs/results/nulls.md. Stopped, it goes on where it was.
"""

import argparse
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from experiments.nulls import clusters as null_clusters
from experiments.nulls import draws as null_draws
from experiments.nulls import (
    pool,
    tables,
)
from experiments.nulls import power as null_power
from workbench.execution import cost, execute
from workbench.storage import read_json, write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
CLUSTER_DRAWS = 20
SECONDS_OF_A_DRAW, SECONDS_OF_CLUSTERS, SECONDS_OF_POWER = 2.5, 3.0, 60


def say(line):
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def telling():
    """A Watcher that names each node as it begins."""
    known = set()

    def node(one, done, of, note=""):
        if one.id not in known:
            known.add(one.id)
            say(f"{done:,.0f} of {of:,.0f} passes: {one.id}")

    return execute.Watcher(node=node)


def minutes(out, n_draws, n_clusters):
    """Minutes that are left, at the pace of this machine now."""
    workspace = execute.prepare(pool.study(out), out / "run")[1]
    seconds = pool.left(out) * cost.seconds_per_pass(workspace) * 1.15
    known = read_json(out / "draws.json") if (out / "draws.json").exists() else {}
    missing = sum(max(0, n_draws - len(known.get(str(n), []))) for n in null_draws.SIZES)
    clusters = read_json(out / "clusters.json") if (out / "clusters.json").exists() else {}
    kinds = len(null_clusters.KINDS) + len(null_clusters.PLANTED)
    left = max(0, kinds * len(null_clusters.SIZES) * n_clusters - len(clusters))
    power = 0 if (out / "power.json").exists() else SECONDS_OF_POWER
    return (seconds + SECONDS_OF_A_DRAW * missing + SECONDS_OF_CLUSTERS * left + power) / 60


def main():
    """Parse, record, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "nulls", help="folder of recordings and draws")
    parser.add_argument("--draws", type=int, default=null_draws.N_DRAWS, help="studies of each size")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "results" / "nulls.md", help="where the tables go")
    parser.add_argument("--dry-run", action="store_true", help="say how long it will take, and stop")
    given = parser.parse_args()
    say(f"Left to do: about {minutes(given.out, given.draws, CLUSTER_DRAWS):.0f} minutes of one process, at this machine's pace now.")
    if given.dry_run:
        return
    began = time.time()
    workspace = pool.record(given.out, watcher=telling())
    draws = null_draws.kept(
        given.out / "draws.json", lambda: null_draws.Pool.of(workspace), given.draws, say=lambda n, k: say(f"n = {n}: {k} draws")
    )
    cluster_rows = null_clusters.counted(given.out / "clusters.json", CLUSTER_DRAWS, say)
    if not (given.out / "power.json").exists():
        write_json(given.out / "power.json", null_power.rows(say))
    made = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}"
    write_text(given.document, tables.document(draws, cluster_rows, read_json(given.out / "power.json"), made))
    say(f"Written: {given.document} ({(time.time() - began) / 60:.0f} minutes)")


if __name__ == "__main__":
    main()
