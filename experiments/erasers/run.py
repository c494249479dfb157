"""Every eraser on every concept of the emoji model: what it erases, what it keeps, how it stands attacks, what its neurons do.

Kept under runs/erasers/, one folder per concept; stopped, it resumes. When a concept is complete its rows go to docs/results/erasers/,
so that the next concept may be computed on another machine; the page of the results and its sentences in docs/results/index.md say what
is there. `--keep` copies what took longest of a concept that is not complete into the repository, from which a run elsewhere takes it.
"""

import argparse
import sys
from pathlib import Path

from experiments import begun, pictures
from experiments.attack_table.run import CONCEPTS, chosen, expected, keep, paces
from experiments.erasers import kept
from experiments.erasers.design import DEVELOPMENT, N_QUICK, N_SEARCH, START, N, picked, search_of, searched, study_of
from experiments.erasers.tables import about_search, best, document, drawn
from experiments.robust_pruning.run import telling
from workbench.errors import WorkbenchError
from workbench.execution import execute
from workbench.storage import write_text
from workbench.study.study import BASE

ROOT = Path(__file__).resolve().parents[2]
BEGUN = "erasers-{}"
MARKS = "<!-- erasers -->", "<!-- end of erasers -->"


def main(words=None):
    """Say what it will take, compute what is missing, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concepts", help=f"with commas; possible: {', '.join(CONCEPTS)}")
    parser.add_argument("--erasers", help=f"with commas; possible: {', '.join(START)}")
    parser.add_argument(
        "--search",
        action="store_true",
        help=f"try the candidates on {DEVELOPMENT} that no row is kept of, without attack",
    )
    parser.add_argument("--quick", action="store_true", help=f"{N_QUICK} units and short trainings: does it run? Keeps nothing")
    parser.add_argument("--dry-run", action="store_true", help="only say what it will take")
    parser.add_argument("--tables", action="store_true", help="compute nothing: tables of what is there")
    parser.add_argument("--keep", action="store_true", help="compute nothing: copy erased variants and attacks to experiments/begun")
    parser.add_argument("--workers", type=int, default=1, help="processes that compute one concept together")
    parser.add_argument("--out", default="runs/erasers", help="folder of the results")
    given = parser.parse_args(words)
    if given.quick and given.keep:
        parser.error("--quick keeps nothing")
    concepts, erasers = chosen(given.concepts, CONCEPTS, "concept"), chosen(given.erasers, START, "eraser")
    is_whole = not given.quick and set(erasers) == set(START)
    out, n, shorter = (Path(f"{given.out}-quick"), N_QUICK, 20) if given.quick else (Path(given.out), N, 1)
    _, search = execute.prepare(search_of(erasers, n if given.quick else N_SEARCH, shorter), out / f"search-{DEVELOPMENT}")
    workspaces = {}
    for concept in () if given.search else concepts:
        _, workspaces[concept] = execute.prepare(study_of(concept, erasers, n, shorter), out / concept)
    if given.keep:
        for name, workspace in {f"search-{DEVELOPMENT}": search, **workspaces}.items():
            sys.stdout.write(f"{name}: {begun.keep(workspace, BEGUN.format(name))} results kept\n")
        return
    if not given.tables:
        known = set() if given.quick else {row["variant"] for row in kept.search()} - {BASE}
        tried = [node for node in searched(search) if node.variant not in known]
        todo = [(f"search on {DEVELOPMENT}", search, tried)] if given.search else []
        todo += [(name, one, picked(one)) for name, one in workspaces.items()]
        pace = paces(search)
        left = {name: sum(expected(one, node, pace) for node in nodes) / 60 for name, one, nodes in todo}
        said = ", ".join(f"{name} {minutes:.0f}" for name, minutes in left.items())
        sys.stdout.write(f"Left to do, in minutes of one process at its present speed: {said}.\n\n")
        sys.stdout.flush()
        if given.dry_run:
            return
        how = execute.How() if given.workers == 1 else execute.How("processes", given.workers)
        for name, workspace, nodes in todo:
            begun_as = BEGUN.format(workspace.store.folder.name)
            execute.run_nodes(workspace, nodes, watcher=telling(), how=how, others=begun.folders(begun_as))
            if is_whole and not given.search:
                kept.keep_concept(workspace, name)
                begun.ended(begun_as)
    if given.search:
        if given.quick:
            sys.stdout.write(about_search(kept.search_rows(search)))
            return
        kept.keep_search(search)
        if is_whole and not given.tables:
            begun.ended(BEGUN.format(search.store.folder.name))
        rows = kept.search()
        sys.stdout.write(f"{about_search(rows)}\nBy the rule: {best(rows)}\n")
        return
    measured = kept.concepts() if is_whole else {name: kept.about_concept(one, name) for name, one in workspaces.items()}
    short, everything = document(measured, "python -m experiments.erasers.run", kept.search())
    sys.stdout.write(f"{everything}\n")
    if is_whole and measured:
        pictures.save(drawn(measured))
        write_text(ROOT / "docs" / "results" / "erasers.md", everything)
        keep(ROOT / "docs" / "results" / "index.md", short, MARKS)


if __name__ == "__main__":
    try:
        main()
    except WorkbenchError as error:
        sys.stderr.write(f"erasers: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What was finished is kept; run the same command again to go on.\n")
        sys.exit(130)
