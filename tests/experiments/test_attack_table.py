"""The attack table's settings, its Markdown, and what the command says when it is asked for something that is not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.attack_table import run, tables
from workbench.errors import RunError, StudyError
from workbench.execution import plan
from workbench.statistics import wilson
from workbench.study.study import load_study

ROOT = Path(__file__).resolve().parents[2]


def found(successes, n=100):
    interval = wilson(successes, n)
    return {"n": n, "successes": successes, "rate": interval.value, "low": interval.low, "high": interval.high, "reason": None}


def row(attack, asr, control, **more):
    rates = {"ceiling": found(90), "false_positive": found(2), "pre_asr": found(10), "asr": found(asr), "control_asr": found(control)}
    about = {"attack": attack, "provenance": "static", "n": 100, "n_units": 100, "p_mcnemar": 0.25, "passes": 12.0, "seconds": None}
    about |= {"detector": "emoji-judge 01", "labels": ["style:ink"], "thresholds": [0.5], "detectable": 0.15}
    return about | {"looks": 0.0, "most_looks": 0} | rates | more


def cells(markdown):
    """Rows of a Markdown table as lists of texts, without the line below the columns."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]


@pytest.mark.parametrize("concept", run.CONCEPTS)
def test_every_concept_has_all_attacks_on_one_hundred_units_and_the_demo_studys_keys(concept):
    demo = load_study(run.CONCEPTS[concept])
    study = run.study_of(demo, run.N, run.ATTACKS)
    assert [attack.label for attack in study.attacks] == list(run.ATTACKS) and study.name == f"attack-table-{concept}"
    large, small = (plan.build(one, "model", 10) for one in (study, demo))
    assert large.n_units >= 100 > small.n_units
    assert large.node("erase:erased").key == small.node("erase:erased").key
    for name in ("generate:base:target", "generate:base:reference", "generate:erased:target"):
        assert [shard.key for shard in large.node(name).shards[:2]] == [shard.key for shard in small.node(name).shards[:2]]


@pytest.mark.parametrize("concept", run.CONCEPTS)
def test_paraphrases_speak_of_the_concept_and_their_control_of_something_else(concept):
    study = load_study(run.CONCEPTS[concept])
    parameters = run.paraphrases(study.detectors.labels)
    assert parameters["wordings"] and parameters["others"] and not set(parameters["wordings"]) & set(parameters["others"])
    for wording in parameters["wordings"] + parameters["others"]:
        assert not any(f" {name} " in f" {wording} " for name in study.concept.names)


def test_a_quick_table_searches_a_tenth_as_long():
    demo = load_study("emoji-ink-style")
    full, quick = (run.study_of(demo, n, run.ATTACKS, shorter) for n, shorter in ((100, 1), (8, 10)))
    for long, short in zip(full.attacks, quick.attacks, strict=True):
        for key in run.LENGTHS:
            if key in long.parameters:
                assert short.parameters[key] == max(1, long.parameters[key] // 10)
    assert quick.prompts.limit == 8 and any(key in attack.parameters for attack in quick.attacks for key in run.LENGTHS)


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(StudyError, match='No attack of the table is called "p4d_m". Did you mean "p4d_'):
        run.chosen("other_seeds, p4d_m", run.ATTACKS, "attack")
    assert run.chosen("p4d_k,paraphrase", run.ATTACKS, "attack") == ["p4d_k", "paraphrase"]
    assert run.chosen(None, run.CONCEPTS, "concept") == list(run.CONCEPTS)
    command = [sys.executable, "-m", "experiments.attack_table.run", "--concepts", "churh"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and 'Did you mean "church"' in done.stderr and "Traceback" not in done.stderr


def test_the_rates_table_says_each_number_once_in_its_column():
    table = cells(tables.rates_table([row("p4d_n", 57, 21, p_mcnemar=1e-9, passes=640.4, seconds=3.14, looks=2.5, most_looks=4)]))
    assert dict(zip(*table, strict=True)) == {
        "attack": "p4d_n",
        "provenance": "static",
        "n": "100",
        "no attack": "0.10 (0.06 to 0.17)",
        "ASR": "0.57 (0.47 to 0.66)",
        "control": "0.21 (0.14 to 0.30)",
        "p": "< 0.0001",
        "ceiling": "0.90 (0.83 to 0.94)",
        "false positives": "0.02 (0.01 to 0.07)",
        "passes": "640",
        "seconds": "3.1",
        "queries": "2.5 of 4",
    }


def test_the_overview_pairs_concepts_by_attack_and_gives_ranges():
    rows = {"ink": [row("a", 50, 10, passes=5.0, seconds=1.0), row("b", 30, 30)], "church": [row("a", 20, 10, passes=9.0, seconds=4.0)]}
    head, *lines = cells(tables.overview(rows))
    assert head[:3] == ["ASR; control; p", "ink", "church"] and [line[0] for line in lines[3:]] == ["`a`", "`b`"]
    assert lines[0][1] == lines[0][2] == "0.90 (0.83 to 0.94)"
    assert lines[3][1].startswith("0.50 ") and lines[3][2].startswith("0.20 ") and lines[3][3:] == ["5 to 9", "1.0 to 4.0", "0.0"]
    assert lines[4][2:] == ["-", "12", "-", "0.0"]


def test_one_line_says_who_judged_a_table_and_what_it_could_have_found():
    rows = [row("a", 50, 10), row("b", 30, 30, detectable=0.2), row("c", 99, 99, detectable=None)]
    said = tables.decided(rows)
    assert "Judged by emoji-judge 01, label style:ink, threshold 0.50; it also sees it in 0.02 (0.01 to 0.07) of 100 reference" in said
    assert (
        "On 100 units a rise of the ASR over the control's by 0.15 to 0.20 is found with power 0.8; for 1 of 3 attacks no rise is." in said
    )
    assert f"ink: {said}" in tables.overview({"ink": rows})
    with pytest.raises(ValueError, match="2 ways of judging"):
        tables.decided([*rows, row("d", 1, 1, thresholds=[0.7])])


def test_the_table_of_queries_puts_a_control_beside_its_attack_at_the_same_budget():
    rows = [
        {"attack": "p4d_n", "control": control, "budget": float(budget), "looks": looks} | found(successes)
        for control, looks, successes, budget in ((False, 0, 0, 20), (False, 1, 40, 90), (True, 1, 10, 20), (True, 2, 15, 90))
    ]
    _, *lines = cells(tables.queries_table(rows))
    assert [line[:3] + [line[4]] for line in lines] == [["p4d_n", "20", "0", "1"], ["p4d_n", "90", "1", "2"]]
    assert [line[3][:4] for line in lines] == ["0.00", "0.40"] and [line[5][:4] for line in lines] == ["0.10", "0.15"]


def test_seconds_add_up_by_concept():
    head, *lines = cells(tables.seconds_table({"ink": {"base": 3.0, "a": 4.0}, "church": {"base": 1.0, "b": 2.0}}))
    assert head == ["seconds", "base", "a", "b", "all"] and lines == [["ink", "3", "4", "0", "7"], ["church", "1", "0", "2", "3"]]


def test_the_table_is_kept_between_its_marks_and_nowhere_else(tmp_path):
    begin, end = run.MARKS
    path = tmp_path / "README.md"
    path.write_text(f"before\n\n{begin}\nold\n{end}\n\nafter\n")
    for text in ("| new |\n", "| newer |\n"):
        run.keep(path, text)
        assert path.read_text() == f"before\n\n{begin}\n{text}{end}\n\nafter\n"
    path.write_text("nothing here")
    with pytest.raises(RunError, match="no place for the table"):
        run.keep(path, "x")
    page = (ROOT / "docs" / "results" / "index.md").read_text()
    assert 0 < page.find(begin) < page.find(end) and "make attack-table" in page
