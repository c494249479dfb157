"""Reports against limits and against each other, on the example report."""

import copy
import json
import subprocess
import sys

import pytest

from tests.report.example import write_example
from workbench.errors import RunError
from workbench.report import compare


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with the example report."""
    folder = tmp_path_factory.mktemp("runs") / "example"
    (folder / "report").mkdir(parents=True)
    (folder / "manifest.json").write_text('{"layout": 1, "nodes": []}')
    (folder / "study.json").write_text('{"name": "example", "sampling": {"steps": 20}, "variants": [{"name": "esd"}]}')
    write_example(folder / "report")
    return folder


@pytest.fixture
def document(run):
    return json.loads((run / "report" / "report.json").read_text())


def workbench(*arguments):
    return subprocess.run([sys.executable, "-P", "-m", "workbench.cli", *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("condition", "column", "broken"), [("asr > 0.5", "rate", lambda r: r > 0.5), ("asr.low <= 0.4", "low", lambda r: r <= 0.4)]
)
def test_a_condition_looks_at_every_such_number_but_those_of_controls(document, condition, column, broken):
    expected = [row for row in document["rates"] if row["definition"] == "asr" and not row["control"]]
    found = compare.check(document, condition)
    assert len(found) == len(expected)
    for row, want in zip(found, expected, strict=True):
        assert row["broken"] == (want[column] is None or broken(want[column]))
        assert row["value"] == want["rate"] and row["variant"] == want["variant"] and want["attack"] in row["what"]
    assert any(row["broken"] for row in found) and not all(row["broken"] for row in found)


def test_a_number_that_was_not_measured_breaks_a_condition(document):
    found = [row for row in compare.check(document, "asr > 2") if row["value"] is None]
    assert found and all(row["broken"] and row["reason"] for row in found)


def test_retention_and_effects_have_names_as_well(document):
    assert {row["variant"] for row in compare.check(document, "near < 0.8")} == {"base", "esd", "uce", "esd-pruned"}
    assert any(row["broken"] for row in compare.check(document, "reactivation > 0.1"))


@pytest.mark.parametrize(
    ("condition", "message"), [("asr", "no condition"), ("asr > much", "no condition"), ("asrr > 0.2", 'Did you mean "asr"')]
)
def test_a_condition_that_means_nothing_is_refused(document, condition, message):
    with pytest.raises(RunError, match=message):
        compare.check(document, condition)


def test_an_outcome_of_the_verdict_is_a_condition(document):
    rows = compare.check(document, "reactivated")
    assert [(row["variant"], row["broken"], row["value"]) for row in rows] == [("esd", True, 0.54)]
    rows = compare.check(document, "not deactivated")
    assert {row["variant"]: row["broken"] for row in rows} == {"esd": False, "uce": False, "esd-pruned": False}
    assert sum(row["broken"] for row in compare.check(document, "undecided")) == 2
    with pytest.raises(RunError, match='No finding of this report can be "relocated".*written before findings had a kind'):
        compare.check(document, "relocated")
    with pytest.raises(RunError, match='an outcome of the verdict: .*, deactivated,.*Did you mean "reactivated"'):
        compare.check(document, "reactivate")
    document["verdict"]["words"] = [{key: word[key] for key in ("subject", "word")} for word in document["verdict"]["words"]]
    with pytest.raises(RunError, match="Run the study again"):
        compare.check(document, "reactivated")


def test_a_report_does_not_differ_from_itself_and_one_changed_number_is_found(document):
    assert compare.differences(document, document) == []
    other = copy.deepcopy(document)
    changed = next(row for row in other["rates"] if row["definition"] == "asr" and row["variant"] == "esd")
    before = changed["rate"]
    changed |= {"rate": 0.1, "low": 0.05, "high": 0.2}
    (row,) = compare.differences(document, other)
    assert (row["table"], row["a"], row["b"], row["apart"]) == ("rates", before, 0.1, True)
    assert row["difference"] == pytest.approx(0.1 - before) and "esd" in row["about"] and "unlearndiffatk" in row["about"]
    other["rates"].remove(changed)
    (row,) = compare.differences(document, other)
    assert row["b"] is row["difference"] is row["apart"] is None and row["a"] == before


def test_settings_that_differ_are_named_by_their_path():
    a = {"sampling": {"steps": 20, "guidance": 3}, "variants": [{"name": "x"}]}
    b = {"sampling": {"steps": 10, "guidance": 3}, "variants": [{"name": "x"}, {"name": "y"}]}
    assert compare.settings(a, a) == []
    assert compare.settings(a, b) == [
        {"setting": "sampling.steps", "a": 20, "b": 10},
        {"setting": "variants.1.name", "a": None, "b": "y"},
    ]


def test_the_exit_code_says_whether_a_limit_is_broken(run):
    done = workbench("check", run, "--fail-if", "success_rate > 0.99")
    assert done.returncode == 0, done.stderr
    assert "| success_rate > 0.99 | esd |" in done.stdout and "broken" not in done.stdout
    done = workbench("check", run, "--fail-if", "success_rate > 0.99", "--fail-if", "near < 0.9")
    assert done.returncode == 1 and "**broken**" in done.stdout
    done = workbench("check", run, "--fail-if", "nothing > 1")
    assert done.returncode == 2 and "no number called" in done.stderr
    done = workbench("diff", run, run, "--json")
    assert done.returncode == 0 and json.loads(done.stdout) == {"settings": [], "numbers": []}
