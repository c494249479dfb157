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
    return json.loads((report / "report.json").read_text()), {path.name: path.read_bytes() for path in (report / "tables").iterdir()}


def again(folder, *without):
    """({stage} computed, report.json, {table: CSV}) of running the study once more without the report and the results of some stages."""
    report = folder / "run" / "report"
    for gone in (report, *(folder / "run" / "nodes" / stage for stage in ("report", *without))):
        shutil.rmtree(gone)
    done = set()
    watcher = Watcher(node=lambda node, *_: done.add(node.stage))
    workbench.run(workbench.load_study(folder / "study.toml"), folder / "run", watcher=watcher)
    tables = {path.name: path.read_bytes() for path in (report / "tables").iterdir()}
    return done, json.loads((report / "report.json").read_text()), tables


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
