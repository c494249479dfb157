"""Does pruning keep an erased concept erased? The claim, tested fairly on the emoji model.

Masks were searched on the development concept (`--search`, weapon), the settings MASK frozen, and are tested once on ink and church:
three seeds of the learned mask over an ESD variant, beside that variant unpruned, trained for as many further steps, erased more
strongly, and random and magnitude masks that prune as many weights of each layer. Every attack is made against every variant it is
shown for, without querying a detector; the judge decides on the study's own noise, for all variants on the same prompts.

`--map` tries other masks on the tested concepts, after the test.

Everything is kept under runs/robust-pruning/, one folder per concept; stopped, it resumes. `--keep` copies what took longest into the
repository, from which a run on another machine takes it. Each concept has a page of its own
in docs/results and a short table in docs/results/index.md, so that one concept can be computed without the others.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from experiments import begun, pictures
from experiments.attack_table.rows import is_there
from experiments.attack_table.run import CONCEPTS, chosen, expected, keep, paces
from experiments.robust_pruning.design import (
    AGAIN,
    ATTACKS,
    CANDIDATES,
    DEVELOPMENT,
    MAPPED_WITH,
    MASK,
    N_QUICK,
    N_SEARCH,
    SEARCHED_WITH,
    TESTED,
    N,
    candidate,
    mapped_variants,
    picked,
    study_of,
    tested_variants,
    turn_of_map,
)
from experiments.robust_pruning.tables import drawn, page, page_of_the_map, page_of_the_search, searched
from workbench.errors import WorkbenchError
from workbench.execution import execute
from workbench.storage import write_text
from workbench.study.study import load_study

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
BEGUN = "robust-pruning-{}"
MARKS = "<!-- robust pruning: {} -->", "<!-- end of robust pruning: {} -->"


def search_room(out, wanted, n, shorter=1):
    """The workspace of the search."""
    erased = {"name": "erased", "method": "esd", "parameters": _esd(DEVELOPMENT)}
    study = study_of(DEVELOPMENT, [erased, *(candidate(name) for name in wanted)], n, SEARCHED_WITH, shorter)
    return execute.prepare(study, out / f"search-{DEVELOPMENT}")[1]


def rooms_of(given):
    """({concept: workspace} of what was asked for, the search or the test, {concept: workspace} of the map)."""
    out, n, shorter = (Path(f"{given.out}-quick"), N_QUICK, 20) if given.quick else (Path(given.out), None, 1)
    if given.search:
        wanted = chosen(given.candidates, CANDIDATES, "candidate")
        return {DEVELOPMENT: search_room(out, wanted, n or N_SEARCH, shorter)}, {}
    found, maps = {}, {}
    for concept in chosen(given.concepts, TESTED, "concept"):
        study = study_of(concept, tested_variants(_esd(concept), MASK), n or N, shorter=shorter)
        found[concept] = execute.prepare(study, out / concept)[1]
        study = study_of(concept, mapped_variants(_esd(concept), MASK), n or N, MAPPED_WITH, shorter)
        maps[concept] = execute.prepare(study, out / f"map-{concept}")[1]
    return found, maps


def _esd(concept):
    return load_study(CONCEPTS[concept]).variants[0].parameters


def is_whole(workspace):
    """Whether everything that the page of a concept reads is there."""
    return all(is_there(workspace, node.id) for node in picked(workspace, None))


def page_named(about):
    """The file of a page of the results."""
    return RESULTS / f"robust-pruning-{about}.md"


def main(words=None):
    """Say what it will take, compute what is missing, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--search", action="store_true", help=f"try the candidates on {DEVELOPMENT}; the test is without")
    parser.add_argument("--candidates", help=f"of the search, with commas; possible: {', '.join(CANDIDATES)}")
    parser.add_argument("--map", action="store_true", help="try other masks on the tested concepts, after the test")
    parser.add_argument("--concepts", help=f"of the test, with commas; possible: {', '.join(TESTED)}")
    parser.add_argument("--quick", action="store_true", help=f"{N_QUICK} units and a twentieth of every length: does it run? Keeps nothing")
    parser.add_argument("--dry-run", action="store_true", help="only say what it will take")
    parser.add_argument("--tables", action="store_true", help="compute nothing: tables of what is there")
    parser.add_argument("--keep", action="store_true", help="compute nothing: copy erased variants and attacks to experiments/begun")
    parser.add_argument("--take-from", nargs="+", default=(), metavar="RUN", help="run folders whose results of the same are taken")
    parser.add_argument("--workers", type=int, default=1, help="processes that compute one concept together")
    parser.add_argument("--out", default="runs/robust-pruning", help="folder of the results")
    given = parser.parse_args(words)
    if given.search and given.map:
        parser.error("--search is of the development concept, --map of the tested ones: one at a time")
    if given.quick and given.keep:
        parser.error("--quick keeps nothing")
    workspaces, maps = rooms_of(given)
    if given.keep:
        for concept, workspace in workspaces.items():
            sys.stdout.write(f"{concept}: {begun.keep(workspace, BEGUN.format(concept))} results kept\n")
        return
    if not given.tables:
        todo, due = (maps, turn_of_map) if given.map else (workspaces, None)
        pace = paces(next(iter(workspaces.values())))
        left = {name: sum(expected(workspace, node, pace) for node in picked(workspace, due)) / 60 for name, workspace in todo.items()}
        said = ", ".join(f"{name} {minutes:.0f}" for name, minutes in left.items())
        sys.stdout.write(f"Left to do, in minutes of one process at its present speed: {said}.\n\n")
        sys.stdout.flush()
        if given.dry_run:
            return
        others = [Path("runs") / name for name in CONCEPTS.values()] + [Path(folder) for folder in given.take_from]
        others += [workspace.store.folder for workspace in workspaces.values()] if given.map else []
        others += [folder for concept in workspaces for folder in begun.folders(BEGUN.format(concept))]
        how = execute.How() if given.workers == 1 else execute.How("processes", given.workers)
        for workspace in todo.values():
            execute.run_nodes(workspace, picked(workspace, due), watcher=telling(), others=others, how=how)
    if given.search:
        search = workspaces[DEVELOPMENT]
        sys.stdout.write(searched(search, SEARCHED_WITH))
        if not given.quick and not given.candidates and is_there(search, "detect:erased:target"):
            write_text(page_named(DEVELOPMENT), page_of_the_search(search))
            if is_whole(search):
                begun.ended(BEGUN.format(DEVELOPMENT))
        return
    about = " ".join(__doc__.split("\n\n")[1].split())
    for concept, workspace in workspaces.items():
        if given.map:
            everything = page_of_the_map(concept, workspace, maps[concept])
            sys.stdout.write(f"{everything}\n")
            if not given.quick and is_there(maps[concept], "detect:erased:target"):
                write_text(page_named(f"{concept}-map"), everything)
            continue
        short, everything = page(concept, workspace, maps[concept], [name for name in ATTACKS if name not in AGAIN], about)
        sys.stdout.write(f"{everything}\n")
        if not given.quick and is_there(workspace, "detect:masked-0:target"):
            pictures.save(drawn(concept, workspace, maps[concept]))
            write_text(page_named(concept), everything)
            keep(RESULTS / "index.md", short, tuple(mark.format(concept) for mark in MARKS))
            if is_whole(workspace):
                begun.ended(BEGUN.format(concept))


def telling():
    """A watcher that names each node when it begins."""
    told = set()

    def tell(node, done, of, note=""):
        if node.id not in told:
            told.add(node.id)
            sys.stderr.write(f"{datetime.now():%H:%M:%S} {node.id}\n")

    return execute.Watcher(node=tell)


if __name__ == "__main__":
    try:
        main()
    except WorkbenchError as error:
        sys.stderr.write(f"robust pruning: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What was finished is kept; run the same command again to go on.\n")
        sys.exit(130)
