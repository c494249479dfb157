"""Figures and tables about attribution, clusters and ablation: every row has its place, nulls are words, nothing is computed."""

import pytest

from tests.report.example import VARIANTS, example
from workbench.report import wording
from workbench.report.charts import forest, lines
from workbench.report.content import Report
from workbench.report.section import Drawing
from workbench.report.sections import ablation, attribution, clusters, neuron_sets

DRAWN = {
    "attribution": attribution.ATTRIBUTION_FIGURE,
    "cluster_effects": clusters.EFFECTS_FIGURE,
    "ablation": ablation.DOSE_FIGURE,
    **dict.fromkeys(("leave_one_out", "greedy", "shapley", "necessity", "sufficiency", "set_ablation"), ablation.SETS_FIGURE),
    "set_effects": neuron_sets.EFFECTS_FIGURE,
}


def numbers(figure):
    """All values of markers that stand for a row."""
    return [x for trace in figure.data if trace.customdata is not None for x in trace.x if x is not None]


@pytest.mark.parametrize("table", DRAWN)
def test_the_values_of_the_rows_are_in_the_figure_and_nulls_are_words(table):
    rows = example()[table]
    drawing = Drawing("", (rows,))
    figure = DRAWN[table].drawn(drawing)
    shown = [row for row in rows if row["value"] is not None and row.get("effect") != "sensitivity"]
    curves = [y for trace in figure.data if trace.name == "the highest ranked" for y in trace.y]
    values = curves if table == "ablation" else numbers(figure)
    expected = [row["credit" if table == "attribution" else "value"] for row in shown]
    assert sorted(values) == pytest.approx(sorted(expected))
    words = " ".join(annotation.text for annotation in figure.layout.annotations)
    nulls = [row for row in rows if row["value"] is None]
    assert all(row["reason"].split(":")[0][:20] in " ".join(words.replace("<br>", " ").split()) for row in nulls)
    alt = DRAWN[table].words(drawing)
    assert all(wording.number(value) in alt for value in expected)


def test_no_title_of_a_panel_is_longer_than_its_panel_and_what_is_missing_stands_in_its_own():
    rows = example()["ablation"]
    figure = ablation.dose_figure(rows)
    names = list(dict.fromkeys(map(ablation.reading, rows)))
    titles = [annotation.text.replace("<b>", "").replace("</b>", "") for annotation in figure.layout.annotations[: len(names)]]
    assert [" ".join(title.split("<br>")) for title in titles] == names and "T2 J_lin of prompts with the concept (one step, zero)" in names
    assert max(len(line) for title in titles for line in title.split("<br>")) <= lines.TITLE
    tallest = max(title.count("<br>") for title in titles)
    assert figure.layout.margin.t == lines.TOP + lines.TITLE_LINE * tallest > lines.TOP
    (missing,) = [annotation for annotation in figure.layout.annotations if annotation.text.startswith("<i>")]
    # without a trace plotly.js would draw no axes there, and put the words into the first panel
    assert missing.xref == "x3 domain" and any(trace.xaxis == "x3" for trace in figure.data)
    assert list(figure.layout.xaxis.ticktext) == ["1", "4"]


def test_a_long_legend_gets_lines_of_its_own_above_the_panels():
    short, long = ([{**row, "attack": row["attack"] and name} for row in example()["cluster_profiles"]] for name in ("a", "a" * 60))
    plain, tall = (clusters.cluster_profiles_figure(rows, VARIANTS).layout for rows in (short, long))
    assert tall.margin.t == plain.margin.t + lines.KEY_LINE and tall.height - tall.margin.t == plain.height - plain.margin.t


def test_a_long_heading_of_a_forest_plot_takes_lines_not_the_width_of_the_numbers():
    figure = ablation.sets_figure(example()["leave_one_out"])
    heads = [words for words in figure.layout.yaxis.ticktext if words.startswith("<b>")]
    assert any("<br>" in words for words in heads)
    assert max(len(line) for words in heads for line in words.replace("<b>", "").replace("</b>", "").split("<br>")) <= forest.HEAD_WRAP


def test_clusters_differ_by_symbol_and_those_in_none_are_named():
    points = [{"layer": "<l>", "index": i, "cluster": float(i % 3 - 1), "cluster_x": 0.1 * i, "cluster_y": 1.0} for i in range(9)]
    figure = clusters.cluster_map_figure(points)
    assert len({trace.marker.symbol for trace in figure.data}) == 3 and figure.data[-1].name == "unclustered (3)"
    assert "<l>" not in figure.to_json().replace("\\u003c", "<").replace("&lt;l", "")
    assert "cluster 1: 3" in clusters.cluster_map_alt(points)


def test_each_cluster_has_a_panel_of_its_own():
    rows = example()["cluster_profiles"]
    figure = clusters.cluster_profiles_figure(rows, VARIANTS)
    titles = [annotation.text for annotation in figure.layout.annotations[:2]]
    assert titles == ["<b>cluster 0</b>", "<b>cluster 1</b>"]
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == 6 and sorted(y for trace in lines for y in trace.y) == pytest.approx(sorted(row["value"] for row in rows))


def test_the_neurons_that_add_most_come_first_with_both_halves():
    neurons = [
        {"layer": "l", "index": i, "attribution": value, "attribution_b": 0.5, "attribution_b_low": 0.4, "attribution_b_high": 0.6}
        for i, value in enumerate((0.1, 0.3, None, 0.2))
    ]
    view = attribution.top_attributed(Report(example(), neurons), limit=2)
    assert [row[1] for row in view.rows] == ["1", "3"] and attribution.top_attributed(
        Report(example(), [{"layer": "l", "index": 0}])
    ) is None
