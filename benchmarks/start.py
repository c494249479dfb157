"""How long a user waits: the start of the command line and of the pages, over the start of a bare Python."""

import statistics
import subprocess
import sys
import time

ROUNDS = 5
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "workbench --version": ["-m", "workbench.cli", "--version"],
    "workbench list methods": ["-m", "workbench.cli", "list", "methods"],
    "the pages' entry script": [
        "-c",
        "from streamlit.testing.v1 import AppTest; at = AppTest.from_file('workbench/ui/app.py', default_timeout=60); at.run()",
    ],
}


def main():
    """Print medians as Markdown."""
    sys.stdout.write("| command | seconds, median of 5 |\n|---|---:|\n")
    for name, words in COMMANDS.items():
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-P", *words], check=True, capture_output=True)
            times.append(time.perf_counter() - began)
        sys.stdout.write(f"| `{name}` | {statistics.median(times):.2f} |\n")


if __name__ == "__main__":
    main()
