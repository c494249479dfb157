"""Null calibration on the bundled emoji model: record, draw studies, count what was said. One command; stopped, it goes on.

    python experiments/nulls/run.py [--out FOLDER] [--draws N] [--dry-run]

The recordings come first and take most of the time. The draws are kept as they are made. The table is written to
docs/results/nulls.md when all draws are there.
"""

import argparse
import datetime
from pathlib import Path

import null_draws
import null_pool
from null_table import table

from workbench.run.runs import Watcher, seconds_per_pass
from workbench.storage import write_text

TABLE = Path(__file__).resolve().parents[2] / "docs" / "results" / "nulls.md"


def main():
    """Record, draw, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/nulls"), help="where recordings and draws are kept")
    parser.add_argument("--draws", type=int, default=null_draws.N_DRAWS, help="studies drawn of each size")
    parser.add_argument("--dry-run", action="store_true", help="only say how much is left to do")
    given = parser.parse_args()
    if given.dry_run:
        from workbench.run import runs

        _, room = runs.prepare(null_pool.study(given.out), given.out / "run")
        rows = null_pool.left(given.out)
        minutes = rows * seconds_per_pass(room) * 1.15 / 60
        print(f"{rows:,.0f} UNet rows to record, some {minutes:.0f} minutes; then {given.draws} draws of each size")
        return
    said = [None]

    def node(node, done, of, note=""):
        if node.id != said[0]:
            said[0] = node.id
            print(f"{done:,.0f} of {of:,.0f} UNet rows: {node.id}", flush=True)

    room = null_pool.record(given.out, watcher=Watcher(node=node))
    draws = null_draws.kept(
        given.out / "draws.json",
        lambda: null_draws.Pool.of(room),
        given.draws,
        say=lambda n, done: print(f"{n} units a half: {done} draws", flush=True),
    )
    command = "OMP_NUM_THREADS=1 python experiments/nulls/run.py"
    text = f"# What is said where nothing was done\n\n*{datetime.date.today()}, by `{command}`.*\n\n{table(draws)}\n"
    write_text(TABLE, text)
    print(f"Table: {TABLE}")


if __name__ == "__main__":
    main()
