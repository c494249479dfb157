"""A finished run of 2026-11-30 still opens, keeps its results and gives the same report, whatever was moved or renamed since.

`make.py` made what lies here. A key or a number may only change where a defect forces it; then the changelog says which.
"""

import json
import shutil
import tarfile

import pytest

import workbench
from tests.frozen import make
from workbench.execution.execute import Watcher

VOLATILE = ("reproduce", "timings")  # when and by which command it was written
# words of 2026-11-30 and what is said now: nothing else of a text may differ
REWORDED = {
    '"half A"': '"selection half"',
    '"half B"': '"evaluation half"',
    ",half A,": ",selection half,",
    ",half B,": ",evaluation half,",
    "half B": "the evaluation half",
    "against the plain prompt": "against the prompt without attack",
    "overlap with the set chosen anew (IoU)": "overlap with the set chosen again (IoU)",
    "the set chosen anew overlaps it": "the set chosen again overlaps it",
    "also cuts weights that feed": "also prunes weights that feed",
    "where they fall silent, part of it is the cut itself": "part of their deactivation is the pruning itself",
}
TOLERANCE = 1e-9  # sums are made in another order on other machines


@pytest.fixture(scope="module")
def thawed(tmp_path_factory):
    """The folder with model, study and finished run."""
    folder = tmp_path_factory.mktemp("thawed")
    with tarfile.open(make.HERE / "run.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "frozen"


@pytest.fixture(scope="module")
def before(thawed):
    """(report.json, {table: CSV}) as they were when the run was finished."""
    report = thawed / "run" / "report"
    return contents(report)


def contents(report):
    """(report.json, {table: CSV}) of a report folder, in the words of now: results that are kept have the words they were made with."""

    def read(path):
        text = path.read_bytes().decode()
        for before, now in REWORDED.items():
            text = text.replace(before, now)
        return text

    return json.loads(read(report / "report.json")), {path.name: read(path) for path in (report / "tables").iterdir()}


def again(folder, *without):
    """({stage} computed, report.json, {table: CSV}) of running the study once more without the report and the results of some stages."""
    report = folder / "run" / "report"
    for gone in (report, *(folder / "run" / "nodes" / stage for stage in ("report", *without))):
        shutil.rmtree(gone)
    done = set()
    watcher = Watcher(node=lambda node, *_: done.add(node.stage))
    workbench.run(workbench.load_study(folder / "study.toml"), folder / "run", watcher=watcher)
    return done, *contents(report)


def without_volatile(document):
    return {name: value for name, value in document.items() if name not in VOLATILE}


def test_bundled_studies_keep_the_keys_of_their_nodes():
    assert make.keys() == json.loads((make.HERE / "keys.json").read_text())


def test_every_table_of_the_report_has_rows(before):
    document, tables = before
    assert [name for name, rows in document.items() if isinstance(rows, list) and not rows] == [] and len(tables) > 40


def test_the_finished_run_is_kept_and_its_report_is_the_same_to_the_byte(thawed, before):
    computed, document, tables = again(thawed)
    assert computed == set()
    assert json.dumps(without_volatile(document), sort_keys=True) == json.dumps(without_volatile(before[0]), sort_keys=True)
    for name, content in before[1].items():
        assert name == "timings.csv" or tables[name] == content, name
    assert set(tables) == set(before[1])


def test_measuring_again_from_its_recordings_gives_the_same_numbers(thawed, before):
    computed, document, _ = again(thawed, "measure")
    assert computed == {"measure"}
    assert without_volatile(document) == close_to(without_volatile(before[0]))


def close_to(value):
    """The same with every number within TOLERANCE."""
    if isinstance(value, dict):
        return {name: close_to(one) for name, one in value.items()}
    if isinstance(value, list):
        return [close_to(one) for one in value]
    return pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE) if isinstance(value, float) else value
