"""One broken run folder among others: every verb says in a sentence what is wrong with it and goes on with the rest."""

import json
import random
import shutil

import pytest
from typer.testing import CliRunner

from tests.report.example import write_example
from workbench.cli import main
from workbench.errors import RunError, WorkbenchError
from workbench.execution.open_run import open_run
from workbench.report import compare
from workbench.report import document as schema

LOG = "2026-01-01T00:00:00+00:00 workbench run mine.toml: 2 nodes to do, 0 kept\n"


def write(folder, **parts):
    """A finished run with the example report; `parts` replaces the text of files by the name before the dot."""
    (folder / "report").mkdir(parents=True)
    write_example(folder / "report")
    (folder / "manifest.json").write_text('{"layout": 1, "nodes": [{"state": "done"}]}')
    (folder / "study.json").write_text('{"name": "example", "sampling": {"steps": 20}}')
    (folder / "status.json").write_text('{"state": "done", "pid": 1, "pid_started": 0}')
    (folder / "run.log").write_text(LOG)
    return folder


def report_with(change):
    """Damage: the report as JSON, changed."""

    def damage(folder):
        path = folder / "report" / "report.json"
        document = json.loads(path.read_text())
        path.write_text(json.dumps(change(document)))

    return damage


def text_of(name, content):
    """Damage: a file with other content; None removes it."""

    def damage(folder):
        path = folder / name
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def without(name):
    return report_with(lambda document: {key: part for key, part in document.items() if key != name})


def bad_rows(document):
    return document | {"rates": [{"x": 1}]}


REPORTS = {
    "empty": text_of("report/report.json", ""),
    "binary": text_of("report/report.json", random.Random(0).randbytes(2000)),
    "list": text_of("report/report.json", "[]"),
    "null": text_of("report/report.json", "null"),
    "missing": text_of("report/report.json", None),
    "nan": report_with(lambda document: document | {"schema_version": float("nan")}),
    "cut": lambda folder: text_of("report/report.json", (folder / "report" / "report.json").read_bytes()[:50_000])(folder),
    "without a table": without("activity"),
    "without the verdict": without("verdict"),
    "verdict null": report_with(lambda document: document | {"verdict": None}),
    "words null": report_with(lambda document: document | {"verdict": document["verdict"] | {"words": [None]}}),
    "bad rows": report_with(bad_rows),
    "rows null": report_with(lambda document: document | {"rates": None}),
    "deep": text_of("report/report.json", "[" * 100_000),
    "another version": report_with(lambda document: document | {"schema_version": 99}),
}
MANIFESTS = {
    "list": text_of("manifest.json", "[]"),
    "empty": text_of("manifest.json", ""),
    "cut": text_of("manifest.json", '{"layout": 1, "nod'),
    "nodes null": text_of("manifest.json", '{"layout": 1, "nodes": null}'),
    "nodes of null": text_of("manifest.json", '{"layout": 1, "nodes": [null]}'),
    "state unknown": text_of("manifest.json", '{"layout": 1, "nodes": [{"state": 3}]}'),
    "a path as a key": text_of("manifest.json", '{"layout": 1, "nodes": [{"state": "done", "stage": "erase", "shards": ["../../x"]}]}'),
    "another layout": text_of("manifest.json", '{"layout": 7, "nodes": [{"state": "done"}]}'),
}
STATUSES = {
    text: text_of("status.json", text)
    for text in (
        "[]",
        "",
        '{"pid": "x"}',
        '{"pid": -5}',
        '{"pid": null}',
        '{"pid": 1e400}',
        '{"pid": ' + "9" * 400 + "}",
        '{"of": [1]}',
        "\x00",
    )
}
VERBS = (("status",), ("show",), ("report",), ("check", "--fail-if", "asr > 0.2"), ("diff", "whole"), ("logs",), ("verify",), ("stop",))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole") / "whole")


@pytest.fixture
def place(whole, tmp_path, monkeypatch):
    """A working directory with runs/whole and runs/broken, which a test damages."""
    for name in ("broken", "whole"):
        shutil.copytree(whole, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "broken"


def invoke(*words):
    """(exit code, what was said) of a verb; any exception but an expected one fails the test."""
    done = CliRunner().invoke(main.app, [str(word) for word in words], env={"COLUMNS": "500"})
    if isinstance(done.exception, WorkbenchError):
        return 2, str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def of_all(place):
    """What `status` and `list runs` say of the broken run, when the other one is still told."""
    code, said = invoke("status")
    assert code == 0 and "whole: finished, 1 of 1 nodes" in said
    rows = {row["run"]: row for row in json.loads(invoke("status", "--json")[1])}
    code, listed = invoke("list", "runs")
    assert code == 0 and rows["whole"]["state"] == "finished" and "finished" in listed and "broken" in listed
    listed = {row["run"]: row for row in json.loads(invoke("list", "runs", "--json")[1])}
    assert listed["broken"]["state"] == rows["broken"]["state"] and listed["broken"]["note"] == (rows["broken"]["note"] or "")
    return rows["broken"], said


@pytest.mark.parametrize("damage", REPORTS)
def test_a_damaged_report_is_told_by_every_verb_and_no_run_is_called_finished_with_it(place, damage):
    REPORTS[damage](place)
    row, said = of_all(place)
    assert row["state"] == "damaged" and "report" in row["note"] and "broken: damaged" in said and "workbench run mine.toml" in said
    for verb, *more in VERBS:
        code, said = invoke(verb, "broken", *more)
        if verb in ("show", "report", "check", "diff"):
            assert code == 2 and ("report" in said) and len(said) < 2000
        if verb == "verify":
            assert code == 1 and "report/report.json" in said
    if damage == "another version":
        assert all("schema_version 99" in invoke(verb, "broken", *more)[1] for verb, *more in VERBS[:5])
    code, said = invoke("diff", "whole", "broken")
    assert code == 2 and "broken" in said


@pytest.mark.parametrize("damage", MANIFESTS)
def test_a_damaged_manifest_is_told_and_the_report_can_still_be_read(place, damage):
    MANIFESTS[damage](place)
    row, said = of_all(place)
    assert row["state"] == "damaged" and "broken: damaged." in said and row["nodes"] is None
    if damage == "another layout":
        for verb, *more in VERBS:
            code, said = invoke(verb, "broken", *more)
            assert code == 2 and "another version of the workbench (layout 7" in said
        return
    for verb, *more in VERBS[:1] + VERBS[-1:]:
        code, said = invoke(verb, "broken", *more)
        assert code == 2 and "manifest.json is damaged" in said
        # where nothing else shows that the folder is one of ours, running in it would be refused
        assert ("Run the study again to write a new one" if '"nodes"' in (place / "manifest.json").read_text() else "--take-from") in said
    assert invoke("show", "broken")[0] == 0
    if damage == "list":
        assert invoke("report", "broken", "--format", "md")[0] == 0
    assert invoke("check", "broken", "--fail-if", "asr > 2")[0] in (0, 1) and invoke("diff", "whole", "broken")[0] == 0
    assert invoke("logs", "broken")[1].strip() == LOG.strip()
    code, said = invoke("verify", "broken")
    assert code == 1 and "manifest.json is damaged" in said


@pytest.mark.parametrize("damage", STATUSES)
def test_a_damaged_status_is_passed_over_with_a_word(place, damage):
    STATUSES[damage](place)
    row, said = of_all(place)
    assert row["state"] == "finished"
    if damage != '{"pid": null}':  # which is no damage
        assert "status.json is damaged" in row["note"] and "status.json is damaged" in said
    for verb, *more in (verb for verb in VERBS[1:6] if verb != ("report",)):
        assert invoke(verb, "broken", *more)[0] in (0, 1)
    assert "Nothing is running" in invoke("stop", "broken")[1]


@pytest.mark.parametrize("content", [None, "", "[]", "\x80"])
def test_without_a_study_two_runs_are_still_compared_by_their_numbers(place, content):
    text_of("study.json", content)(place)
    code, said = invoke("diff", "whole", "broken")
    assert code == 0 and "Settings cannot be compared" in said and "study.json" in said and "numbers: nothing differs" in said
    found = json.loads(invoke("diff", "whole", "broken", "--json")[1])
    assert found["settings"] is None and found["numbers"] == [] and "study.json" in found["note"]
    code, said = invoke("verify", "broken")
    assert code == 1 and "study.json" in said
    code, said = invoke("export", "broken", "--variant", "esd", "--out", place.parent / "out")
    assert code == 2 and "study.json" in said


def test_a_log_that_is_no_file_is_told(place):
    (place / "run.log").unlink()
    (place / "run.log").mkdir()
    assert invoke("logs", "broken")[0] == 2 and invoke("status", "broken")[0] == 0


def test_a_run_that_does_not_exist_is_told(place):
    assert invoke("verify", "nothing") == (2, 'No run "nothing". Possible: broken, whole.')
    for name in ("", "x" * 5000, "..", "/", "\n"):
        assert invoke("show", name)[0] == 2 and invoke("verify", name)[0] == 2


def older(document):
    """The report as the first version of its schema was written."""
    for table in schema.tables().values():
        rows = document.pop(table.name)
        if not table.since:
            document[table.name] = [{key: value for key, value in row.items() if key not in table.added} for row in rows]
    return document


def test_an_older_report_is_checked_compared_and_shown_as_the_pages_show_it(place):
    report_with(older)(place)
    (row, *_) = compare.check(open_run("broken").document, "asr > 0.5")
    assert row["value"] is not None
    code, said = invoke("check", "broken", "--fail-if", "success_rate > 0.99")
    assert code == 0 and "success_rate > 0.99" in said
    code, said = invoke("diff", "whole", "broken")
    assert code == 0 and "settings: nothing differs" in said
    assert invoke("show", "broken")[0] == 0 and invoke("report", "broken", "--format", "md")[0] == 0
    assert open_run("broken").document == schema.load(place / "report")
    assert len(open_run("broken").table("quality")) == 0


def test_reports_changed_at_random_never_end_in_a_traceback(place):
    """Values of the report, or of the manifest and status, replaced by values of other kinds, at random places."""
    odd = [None, True, -1, 3.5, "", "x" * 300, [], {}, [None], {"a": []}, 10**30, "../../etc", "\u202e", [[[[[[]]]]]]]
    rng, original = random.Random(7), json.loads((place / "report" / "report.json").read_text())
    text = json.dumps(original)
    for _ in range(40):
        document = json.loads(text)
        for _ in range(rng.randint(1, 3)):
            at = document
            while isinstance(at, dict | list) and at:
                key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
                if rng.random() < 0.3 or not isinstance(at[key], dict | list) or not at[key]:
                    at[key] = rng.choice(odd)
                    break
                at = at[key]
        (place / "report" / "report.json").write_text(json.dumps(document))
        try:
            schema.load(place / "report")
        except RunError as error:
            assert len(str(error)) < 3000
            continue
        for verb, *more in (*VERBS[:2], *VERBS[3:5]):
            assert invoke(verb, "broken", *more)[0] in (0, 1, 2)
    (place / "report" / "report.json").write_text(text)
    for _ in range(40):
        for name, start in (("manifest.json", {"layout": 1, "nodes": [node()]}), ("status.json", STATUS)):
            value = json.loads(json.dumps(start))
            at = value["nodes"][0] if name == "manifest.json" and rng.random() < 0.8 else value
            at[rng.choice(list(at))] = rng.choice(odd)
            (place / name).write_text(json.dumps(value))
        for verb in ("status", "stop", "verify", "logs"):
            assert invoke(verb, "broken")[0] in (0, 1, 2)
        assert invoke("status")[0] == 0


def node():
    about = {"id": "erase:esd", "stage": "erase", "variant": "esd", "prompt_set": None, "state": "done", "key": "k"}
    return about | {"shards": ["0123456789abcdef01234567"], "seconds": 1.0}


STATUS = {
    "pid": 1,
    "pid_started": 1.0,
    "updated": 1.0,
    "state": "running",
    "node": "x",
    "done": 1.0,
    "of": 2.0,
    "left_seconds": 3.0,
    "command": "c",
}
