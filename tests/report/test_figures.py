import itertools
import math

import pytest

from tests.report.example import VARIANTS, example, write_example
from workbench.report import document as schema
from workbench.report import wording
from workbench.report.content import Report, arranged
from workbench.report.renderers import render
from workbench.report.section import Figure, found
from workbench.report.sections import activity, by_call, neurons, rates, retention

DRAW = {
    "rates": rates.rates_figure,
    "retention": retention.retention_figure,
    "activity": activity.activity_figure,
    "effects": activity.effects_figure,
    "activity_by_call": by_call.activity_by_call_figure,
    "budget": rates.budget_figure,
}
FOREST = list(DRAW)[:4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_example(folder)
    return folder


def draw(table, document, rows=None):
    rows = document[table] if rows is None else rows
    return DRAW[table](rows, VARIANTS), rows


def points(figure):
    return [(trace, place) for trace in figure.data if trace.customdata is not None for place in range(len(trace.customdata))]


def words(figure):
    return " ".join(annotation.text for annotation in figure.layout.annotations)


@pytest.mark.parametrize("table", FOREST)
def test_every_row_has_a_place_in_the_figure(table):
    figure, rows = draw(table, example())
    assert len(points(figure)) == len(rows)
    drawn = sum(trace.x[place] is not None for trace, place in points(figure))
    assert drawn == sum(row.get("rate", row.get("value")) is not None for row in rows)


@pytest.mark.parametrize("table", FOREST)
def test_nulls_are_words_never_a_marker(table):
    document = example()
    null = [r for r in document[table] if r.get("rate", r.get("value")) is None]
    figure, _ = draw(table, document, null)
    assert null
    assert all(trace.x[place] is None for trace, place in points(figure))
    assert words(figure).count(wording.DASH) >= len(null)


@pytest.mark.parametrize(("table", "scale"), [("rates", 100), ("activity", 1), ("effects", 1)])
def test_values_and_intervals_are_those_of_the_rows(table, scale):
    figure, rows = draw(table, example())
    name = "rate" if table == "rates" else "value"
    expected = sorted(row[name] * scale for row in rows if row[name] is not None)
    got = sorted(t.x[p] for t, p in points(figure) if t.x[p] is not None)
    assert got == pytest.approx(expected)
    for trace, place in points(figure):
        if trace.x[place] is not None and trace.error_x.array[place] is not None:
            ends = (
                trace.x[place] - trace.error_x.arrayminus[place],
                trace.x[place] + trace.error_x.array[place],
            )
            assert any(
                row[name] is not None
                and math.isclose(row[name] * scale, trace.x[place])
                and ends == pytest.approx((row["low"] * scale, row["high"] * scale))
                for row in rows
            )


def test_traces_differ_by_symbol_and_not_by_colour_alone():
    figure, _ = draw("rates", example())
    looks = {(trace.marker.symbol, trace.name) for trace in figure.data}
    assert len({symbol for symbol, _ in looks}) == len(looks)


def test_an_attack_stands_directly_above_its_control():
    ordered = arranged(example()["rates"], VARIANTS)
    for before, after in itertools.pairwise(ordered):
        if after["control"]:
            assert before["attack"] == after["attack"] and not before["control"]
            assert before["variant"] == after["variant"]


def test_activity_has_the_base_guides_and_the_random_bands():
    document = example()
    figure, rows = draw("activity", document)
    assert "concept = 0" in words(figure) and "concept = 1" in words(figure)
    bands = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    random = [r for r in rows if r["neuron_set"] == "random" and r["value"] is not None]
    assert len(bands) == len(random)
    assert sorted((b.x0, b.x1) for b in bands) == sorted((r["low"], r["high"]) for r in random)


def test_a_random_row_without_neighbours_gets_a_line_of_its_own():
    rows = [r for r in example()["activity"] if r["neuron_set"] == "random"][:2]
    figure = activity.activity_figure(rows, VARIANTS)
    assert len(points(figure)) == 2 and len(set(figure.layout.yaxis.tickvals)) >= 2


def test_by_call_draws_each_row_once_and_a_panel_per_variant():
    rows = example()["activity_by_call"]
    figure = by_call.activity_by_call_figure(rows, VARIANTS, window=[4, 15])
    assert len(points(figure)) == len(rows)
    assert all(variant in words(figure) for variant in VARIANTS)
    assert by_call.activity_by_call_figure(rows[:20], VARIANTS).data


def test_budget_draws_each_measured_row_once_a_panel_per_attack_and_says_what_is_missing():
    rows = example()["budget"]
    figure = rates.budget_figure(rows, VARIANTS)
    known = [row for row in rows if row["rate"] is not None]
    drawn = {(t.x[p], t.y[p], t.customdata[p][0]) for t, p in points(figure)}
    assert len(points(figure)) == len(known) < len(rows)
    assert drawn == {(row["budget"], 100 * row["rate"], row["looks"]) for row in known}
    assert "unlearndiffatk on esd" in words(figure) and "unlearndiffatk on uce" in words(figure)
    assert words(figure).replace("<br>", " ").count("this search made no detector query") == 1


def test_budget_marks_where_a_search_had_ended_and_bands_are_the_intervals():
    rows = [row for row in example()["budget"] if row["variant"] == "esd"]
    lines = {trace.name: trace for trace in rates.budget_figure(rows, VARIANTS).data if trace.customdata is not None}
    attack, control = lines["attack"].marker.size, lines["control"].marker.size
    assert len(set(attack)) == 1 and control[0] == control[1] == attack[0] > control[2]
    band = rates.budget_figure([row for row in rows if not row["control"]], VARIANTS).data[0]
    low, middle, high = (100 * row["high"] for row in rows if not row["control"])
    assert list(band.x[:5]) == [124, 248, 248, 1240, 1240] and list(band.y[:5]) == [low, low, middle, middle, high]


def test_shares_keep_both_halves_of_every_row():
    rows = example()["neurons"]
    figure = neurons.shares_figure(rows, VARIANTS)
    assert len(points(figure)) == 2 * len(rows)


def some(n):
    return [{"layer": "<b>down", "index": i, "d_esd": 0.8, "r_esd": 0.3 if i else 9.0, "in_watch": True} for i in range(n)]


def test_neurons_use_webgl_above_a_thousand_unless_told_otherwise():
    assert {t.type for t in neurons.neurons_figure(some(1000), "esd", (0.5, 0.25)).data} == {"scatter"}
    many = neurons.neurons_figure(some(1001), "esd", (0.5, 0.25))
    assert {trace.type for trace in many.data} == {"scattergl"}
    assert len(points(many)) == 1001
    assert neurons.neurons_figure(some(1001), "esd", (0.5, 0.25), webgl=False).data[0].type == "scatter"


def test_neurons_outside_the_frame_are_counted():
    assert "1 outside this frame" in neurons.neurons_figure(some(5), "esd", (0.5, 0.25)).layout.xaxis.title.text


def test_names_in_figures_are_escaped():
    figure = neurons.neurons_figure(some(2), "esd", (0.5, 0.25))
    assert figure.data[0].customdata[0][0] == "&lt;b&gt;down"
    row = example()["rates"][0] | {"variant": "<img src=x>", "attack": "<a href=x>"}
    drawn = rates.rates_figure([row]).to_json()
    assert "<img" not in drawn and "<a " not in drawn


def test_every_figure_of_every_section_is_drawn_and_says_in_words_what_it_shows(folder):
    report = Report(schema.load(folder), render.neurons(schema.load(folder), folder))
    said = []
    for section in found().values():
        for figure in (part for part in section.parts if isinstance(part, Figure)):
            drawings = list(figure.drawings(report))
            assert drawings, figure
            for drawing in drawings:
                assert figure.drawn(drawing, webgl=False).data and drawing.title
                said.append(figure.words(drawing))
    assert len(said) == len(set(said)) == 26 and all(len(words) > 40 for words in said)


def test_alternative_texts_hold_the_numbers():
    document = example()
    text = rates.rates_alt(document["rates"], VARIANTS)
    assert "96.7 % (92.9 to 98.5 %), n = 180" in text
    assert "— the attack ran out" in text
    assert "0.81 (0.74 to 0.88), n = 60" in activity.effects_alt(document["effects"], VARIANTS)
    budget = rates.budget_alt(document["budget"], VARIANTS)
    assert "65.6 % (58.4 to 72.1 %) within 1240 NFE and 3 detector queries, n = 180" in budget
    assert "— this search made no detector query" in budget
    assert "at call 19" in by_call.activity_by_call_alt(document["activity_by_call"], VARIANTS)
    assert "5 have D above 0.5, 5 of these" in neurons.neurons_alt(some(5), "esd", (0.5, 0.25))
    assert "91.0 % (85.0 to 97.0 %)" in neurons.shares_alt(document["neurons"], VARIANTS)


@pytest.mark.parametrize("table", [*FOREST, "activity_by_call", "budget"])
def test_an_empty_table_gives_an_empty_figure(table):
    figure, _ = draw(table, example(), [])
    assert not points(figure)


def test_figures_are_light_and_carry_no_template():
    figure, _ = draw("effects", example())
    assert figure.layout.paper_bgcolor == "#ffffff"
    assert not figure.layout.template.to_plotly_json()


def effects_rows(**more):
    return [row | more for row in example()["effects"] if row["effect"] == "reactivation" and row["value"] is not None][:1]


def test_the_p_beside_an_effect_is_that_of_a_change_never_that_among_random_sets():
    row = effects_rows(p_change=0.02, p_change_adjusted=0.04, p_random=0.005, comparable_low=-0.2, comparable_high=0.3)
    shown = activity.effects_figure(row).to_json() + activity.effects_alt(row)
    assert "p = 0.040" in shown and "0.005" not in shown and "comparable sets of other neurons" in shown
    assert "matched random sets" not in shown


def test_an_older_report_has_no_p_of_a_change_and_gets_none():
    row = effects_rows(p_change=None, p_change_adjusted=None, p_random=0.005, comparable_low=None, comparable_high=None)
    shown = activity.effects_figure(row).to_json() + activity.effects_alt(row)
    assert "p =" not in shown and "0.005" not in shown and "matched random sets" in shown
