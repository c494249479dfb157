"""Method by planting: how often each method is right about neurons whose part in the concept is known (tests/plantings.py).

Prints the table of docs/results/plantings.md.
"""

import argparse
import sys

from tests.planting_answers import EXPECTED, PLANTINGS, cell, measured
from tests.plantings import KINDS


def main():
    """Print the measured table as Markdown, with what was expected where that is not to be right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plantings", type=int, default=20, help="of each kind")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    given, say = parser.parse_args(), sys.stdout.write
    table = measured(given.plantings, given.kinds).set_index(["method", "planting"])
    shown = [name for name in PLANTINGS if name in table.index.get_level_values("planting")]
    say(f"| method | {' | '.join(shown)} |\n|---|{'---|' * len(shown)}\n")
    for method, expected in EXPECTED.items():
        cells = []
        for kind in shown:
            known = (method, kind) in table.index
            note = "" if expected[kind] == "right" else f" (expected: {expected[kind]})"
            cells.append(cell(table.loc[(method, kind)]) + note if known else "")
        say(f"| `{method}` | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
