from tests.report.example import example
from workbench.report import wording
from workbench.report.content import Report
from workbench.report.headline import cards, mood
from workbench.report.sections import caveats, neurons, rates


def test_numbers_as_text():
    assert wording.percent(0.0386) == "3.9 %" and wording.percent(None) == "—"
    assert wording.percent(0.075, 0) == "7 %" and f"{0.075:.2f}" == "0.07", "one number is rounded in one way"
    assert wording.number(-0.5) == "−0.50" and wording.number(-0.001) == "0.00"
    assert wording.number(None) == wording.integer(None) == wording.seconds(None) == "—"
    assert wording.integer(118272) == "118\u202f272"
    assert wording.span(0.1, 0.25, wording.percent) == "10.0 to 25.0 %"
    assert wording.span(None, 0.2) == ""
    assert [wording.seconds(s) for s in (4.21, 200, 7500)] == ["4.2 s", "3 min 20 s", "2 h 05 min"]
    assert wording.p_value(1e-9) == "< 0.001" and wording.p_value(0.04) == "0.040"


def test_cards_pick_the_rows_they_promise():
    picked = cards(Report(example()), "esd")
    assert picked["erasure"]["successes"] == 7 and picked["erasure_base"]["successes"] == 174
    assert (picked["retention"]["kind"], picked["retention"]["successes"]) == ("near", 149)
    assert picked["reactivation"]["value"] == 0.54
    assert picked["attack"]["successes"] == 118 and picked["control"]["successes"] == 9


def test_a_pruned_variant_is_read_on_the_watch_set():
    document = example()
    other = next(r for r in document["effects"] if r["effect"] == "reactivation")
    document["effects"].append(other | {"variant": "esd-pruned", "value": 0.9})
    assert cards(Report(document), "esd-pruned")["reactivation"]["neuron_set"] == "watch"


def test_a_card_without_any_number_gives_the_reason():
    document = example() | {"rates": []}
    nothing = dict.fromkeys(("n", "value", "low", "high")) | {"reason": "the set defines no scale"}
    document["effects"] = [row | nothing for row in document["effects"]]
    picked = cards(Report(document), "esd")
    assert (picked["reactivation"]["attack"], picked["reactivation"]["reason"]) == ("unlearndiffatk", "the set defines no scale")
    assert picked["attack"] is None


def test_the_looks_of_a_word_follow_its_outcome_not_its_text():
    said = {outcome: mood({"outcome": outcome, "word": "anything"}) for outcome in ("reactivated", "undecided", "deactivated", None)}
    assert said == {"reactivated": "bad", "undecided": "open", "deactivated": "", None: ""}


def test_cards_of_a_study_without_the_parts_are_none():
    document = example() | {"rates": [], "retention": [], "effects": []}
    assert set(cards(Report(document), "esd").values()) == {None}


def test_views_show_nulls_as_dash_with_the_reason_and_drop_empty_columns():
    document = example()
    view = rates.RATES.view(Report(document))
    row = next(row for row in view.rows if "ran out of its time budget" in row[-1])
    assert row[view.head.index("Value")] == "—"
    document["rates"] = [row for row in document["rates"] if row["attack"] is None]
    assert "How made" not in rates.RATES.view(Report(document)).head


def test_missing_lists_every_reason_once():
    reasons = [row[-1] for row in caveats.missing(Report(example())).rows]
    assert any("too few units" in reason for reason in reasons)
    assert any("far concepts" in reason for reason in reasons)
    assert len(set(map(tuple, caveats.missing(Report(example())).rows))) == len(reasons)


def test_top_neurons_are_sorted_by_z():
    some = [{"layer": "a", "index": i, "score": z} for i, z in enumerate([1.0, 3.0, None, 2.0])]
    view = neurons.top_neurons(Report(example(), some), limit=2)
    assert [row[1] for row in view.rows] == ["1", "3"]


def test_the_sweep_is_one_row_per_condition_and_one_column_per_threshold():
    view = rates.SWEEP.view(Report(example()))
    assert view.head[-3:] == ["0.1", "0.5 (used)", "0.9"] and len(view.rows) == 2
    assert [row[-1].split(" (")[0] for row in view.rows] == ["88.9 %", "0.6 %"]


def test_the_budget_is_shown_up_to_the_last_look_of_each_search():
    document = example()
    view = rates.BUDGET.view(Report(document))
    hidden = [row for row in document["budget"] if row["ended"] and row["rate"] is not None]
    assert len(view.rows) == len(document["budget"]) - len(hidden) and hidden
