"""How long a user waits: the start of the command line, of `import workbench` and of the pages without a run.

    python benchmarks/start.py [--rounds N] [--against FOLDER]

FOLDER is another checkout, such as one that `git worktree add FOLDER COMMIT` made: each round measures both, the one right after the other,
and the table has their ratio. CPU seconds (user and system) count where other programs work on the machine.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = "from streamlit.testing.v1 import AppTest; at = AppTest.from_file('workbench/ui/app.py', default_timeout=60); at.run()"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import workbench": ["-c", "import workbench"],
    "workbench --version": ["-m", "workbench.cli", "--version"],
    "workbench show --help": ["-m", "workbench.cli", "show", "--help"],
    "workbench list methods": ["-m", "workbench.cli", "list", "methods"],
    "the pages' entry script": ["-c", PAGES],
}


def measured(words, tree):
    """(CPU seconds, seconds) of a fresh Python in a checkout, without any run to show."""
    own = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "WORKBENCH_EXAMPLE": "", "WORKBENCH_RUNS": str(tree / "no-runs")}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-P", *words], check=True, capture_output=True, cwd=tree, env=os.environ | own)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


def main():
    """Print medians as Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path)
    asked = parser.parse_args()
    trees = [ROOT] + ([asked.against.resolve()] if asked.against else [])
    say = sys.stdout.write
    say(f"Medians of {asked.rounds} rounds." + (f" There: {trees[1]}\n\n" if asked.against else "\n\n"))
    say("| command | CPU s | s |" + (" CPU s there | s there | CPU ratio | ratio |" if asked.against else "") + "\n")
    say("|---|" + "---:|" * (6 if asked.against else 2) + "\n")
    for name, words in COMMANDS.items():
        found = [[] for _ in trees]
        for number in range(asked.rounds + 1):
            for place in range(len(trees))[:: (-1) ** number]:
                once = measured(words, trees[place])
                if number:  # the first one also writes byte code and fills the system's cache of files
                    found[place].append(once)
        cells = [statistics.median(one[kind] for one in times) for times in found for kind in (0, 1)]
        if asked.against:
            cells += [cells[0] / cells[2], cells[1] / cells[3]]
        say(f"| `{name}` | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
