"""The story figure and the answer: from report.json alone, for every report, as the rows say."""

import copy

import pytest

from tests.report.example import example
from workbench.analysis.findings import OUTCOMES
from workbench.report import answer, story, wording
from workbench.report.content import Report
from workbench.report.story import STORY_FIGURE

TABLES = ("rates", "activity", "effects", "set_validity", "retention", "over_runs")


@pytest.fixture
def document():
    return copy.deepcopy(example())


def told(document, chain=("esd", "esd-pruned")):
    report = Report(document)
    return story.story(report, list(chain))


def markers(figure, panel):
    """[(column, value)] of the filled points of a panel."""
    axis = {1: ("y", None), 2: ("y2",)}[panel]
    traces = [trace for trace in figure.data if trace.mode == "markers+text" and trace.yaxis in axis]
    return sorted((x, y) for trace in traces for x, y in zip(trace.x, trace.y, strict=True) if x == int(x))


def test_the_columns_are_base_erased_attacked_pruned_attacked(document):
    assert [step.name for step in told(document).steps] == ["base", "esd", "esd + attack", "esd-pruned", "esd-pruned + attack"]
    assert list(story.chains(Report(document))) == ["esd and esd-pruned", "uce"]


def test_points_are_the_rows_of_the_report_with_their_intervals(document):
    shown = told(document)
    figure = story.story_figure(shown)
    assert [y for _, y in markers(figure, 1)] == [100 * step.rate["rate"] for step in shown.steps]
    assert [y for _, y in markers(figure, 2)] == [step.activity["value"] for step in shown.steps if step.activity]
    words = story.story_alt(shown)
    for step in shown.steps:
        assert wording.with_n(step.rate, "rate", wording.percent) in words
        assert step.activity is None or wording.with_n(step.activity) in words
    assert sum(trace.name == "its control" for trace in figure.data) == 2


def test_the_band_is_that_of_comparable_sets(document):
    step = told(document).steps[1]
    row = next(
        row for row in document["effects"] if (row["variant"], row["effect"], row["neuron_set"]) == ("esd", "deactivation", "concept")
    )
    assert step.band == (1 - row["comparable_high"], 1 - row["comparable_low"])
    for row in document["effects"]:
        row |= dict.fromkeys((name for name in row if "comparable" in name), None)
    assert all(step.sets == story.RANDOM for step in told(document).steps if step.band)


def test_a_pruned_variant_is_read_on_watched_neurons_and_a_set_that_is_not_valid_is_not_shown(document):
    step = told(document).steps[3]
    assert step.activity is None and "standard errors from 0" in step.why
    document["set_validity"] = []
    assert told(document).steps[3].activity["neuron_set"] == "watch"
    for row in document["activity"]:
        row["neuron_set"] = "concept" if row["neuron_set"] == "watch" else row["neuron_set"]
    assert told(document).steps[3].activity is None


@pytest.mark.parametrize("gone", [(name,) for name in TABLES] + [TABLES])
def test_a_report_that_lacks_parts_still_has_its_story(document, gone):
    document |= {name: [] for name in gone}
    report = Report(document)
    for chain in story.chains(report).values():
        shown = story.story(report, chain)
        assert len(story.story_figure(shown).layout.annotations) > 3 and "column by column" in story.story_alt(shown)
        assert answer.answer(report, shown)
    drawn = list(STORY_FIGURE.drawings(report))
    assert bool(drawn) == (gone != TABLES)


def test_a_report_of_the_base_model_alone_has_no_story(document):
    document["models"] = document["models"][:1]
    assert story.chains(Report(document)) == {} and list(STORY_FIGURE.drawings(Report(document))) == []


def test_names_of_a_study_are_text_in_the_figure(document):
    document["study"]["concept"]["name"] = "<b onclick=1>"
    assert "<b onclick" not in str(story.story_figure(told(document)).to_dict())


def with_words(document, *found):
    """The document with findings (kind, variant, outcome, attack)."""
    blank = dict.fromkeys(("attack", "provenance", "against", "beside"))
    document["verdict"]["words"] = [
        blank
        | {"kind": kind, "variant": variant, "outcome": outcome, "word": outcome, "subject": variant, "sentence": "So.", "evidence": []}
        | ({"attack": attack, "provenance": "optimised"} if attack else {})
        for kind, variant, outcome, attack in found
    ]
    return Report(document)


def test_the_answer_says_what_was_found_of_images_and_neurons(document):
    report = with_words(
        document,
        ("erasure", "esd", "below the base model", None),
        ("images", "esd", "concept returns", "unlearndiffatk"),
        ("images", "esd-pruned", "concept does not return by this attack", "unlearndiffatk"),
        ("deactivation", "esd", "deactivated", None),
        ("these neurons", "esd", "no more than comparable ones", None),
        ("reactivation", "esd", "reactivated in part", "unlearndiffatk"),
    )
    images, neurons = (sentence.replace(answer.NO_BREAK, " ") for sentence in answer.answer(report, told(document)))
    assert images == (
        "Without attack, esd shows heart in 4 % of its images (base model 97 %), but under unlearndiffatk it returns (66 %, control 5 %); "
        "esd-pruned shows it in 2 %, and under unlearndiffatk it does not return (21 %, control 4 %)."
    )
    assert neurons == (
        "The concept neurons of esd are deactivated (activity 0.19, base model 1), but no more than comparable neurons; the attack "
        "reactivates them in part (0.71)."
    )


def test_too_few_units_are_said_once_and_a_ceiling_is_said(document):
    few = with_words(document, ("erasure", "esd", "too few units", None), ("images", "esd", "too few units", "unlearndiffatk"))
    assert answer.answer(few, told(document))[0].endswith("There are too few units for a verdict on this.")
    still = with_words(document, ("erasure", "esd", "as in the base model", None))
    assert "esd still shows heart" in answer.answer(still, told(document))[0]


def test_an_older_report_answers_with_its_headline(document):
    report = with_words(document, (None, "esd", None, None))
    assert answer.answer(report, told(document)) == [document["verdict"]["headline"]]


def test_every_outcome_has_plain_words_and_nothing_else_has():
    codes = {outcome for outcomes in OUTCOMES.values() for outcome in outcomes}
    assert set(wording.OUTCOMES) <= codes
    unclear = {code for code in codes if "ones" in code or "at large" in code or "set-up" in code}
    assert unclear <= set(wording.OUTCOMES)
    for table in (answer.RETURNS, answer.NEURONS, answer.COMPARED, answer.REACTIVATED):
        assert set(table) <= codes


def test_the_guide_lists_the_plain_words_of_every_outcome():
    from tests.docs.pages import ROOT

    guide = (ROOT / "docs" / "guides" / "read-a-report.md").read_text(encoding="utf-8")
    assert all(f"| {code} | {words} |" in guide for code, words in wording.OUTCOMES.items())
