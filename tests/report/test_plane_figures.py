from tests.report.example import VARIANTS, example
from workbench.report import wording
from workbench.report.content import Report
from workbench.report.sections.retention import WITHOUT_ATTACK, plane_alt, plane_figure, plane_points


def test_a_point_is_the_rate_of_the_attack_beside_what_the_same_variant_retains():
    document = example()
    points = plane_points(Report(document))
    for point in points:
        kept = [row for row in document["retention"] if row["variant"] == point["variant"] and row["kind"] == "near"]
        assert [point["kept"]] == kept
        if point["condition"] == WITHOUT_ATTACK:
            continue
        same = [
            row
            for row in document["rates"]
            if (row["variant"], f"attack {row['attack']}", row["definition"], row["control"])
            == (point["variant"], point["condition"], "asr", False)
        ]
        assert (point["rate"], point["low"], point["high"]) in {(row["rate"], row["low"], row["high"]) for row in same}
    assert {point["variant"] for point in points} == {"esd", "uce", "esd-pruned"}


def test_base_nulls_and_variants_without_retention_have_no_point():
    document = example()
    document["retention"] = [row for row in document["retention"] if row["variant"] != "uce"]
    points = plane_points(Report(document))
    assert {point["variant"] for point in points} == {"esd", "esd-pruned"}
    for row in document["rates"]:
        row["rate"] = None
    assert plane_points(Report(document)) == []


def test_every_point_has_one_marker_with_its_intervals_and_transferred_attacks_are_open():
    points = plane_points(Report(example()))
    figure = plane_figure(points, VARIANTS)
    drawn = [trace for trace in figure.data if trace.x[0] is not None]
    assert len(drawn) == len(points)
    found = sorted((trace.x[0], trace.y[0], trace.marker.symbol.endswith("-open")) for trace in drawn)
    wanted = sorted((100 * p["kept"]["rate"], 100 * p["rate"], p["provenance"] == "transferred") for p in points)
    assert found == wanted and any(moved for *_, moved in found) and not all(moved for *_, moved in found)
    for trace in drawn:
        assert trace.error_y.array[0] > 0 and trace.error_x.arrayminus[0] > 0
    legend = [trace.name for trace in drawn if trace.showlegend is not False]
    assert sorted(legend) == sorted({point["variant"] for point in points})


def test_how_an_attack_was_made_is_read_as_data_not_from_its_words(monkeypatch):
    monkeypatch.setattr(wording, "provenance", lambda row: "made for another variant" if row["provenance"] == "transferred" else "")
    figure = plane_figure(plane_points(Report(example())), VARIANTS)
    assert any(trace.marker.symbol.endswith("-open") for trace in figure.data if trace.x[0] is not None)


def test_the_axes_hold_every_interval_and_are_equal_in_all_panels():
    points = plane_points(Report(example()))
    figure = plane_figure(points, VARIANTS)
    (across,) = {tuple(axis.range) for axis in figure.select_xaxes()}
    (up,) = {tuple(axis.range) for axis in figure.select_yaxes()}
    assert across[0] < 100 * min(p["kept"]["low"] for p in points) <= across[0] + 13 and across[1] > 100
    assert up[0] < 0 and up[1] > 100 * max(p["high"] for p in points) >= up[1] - 13


def test_the_sentence_names_every_point():
    points = plane_points(Report(example()))
    words = plane_alt(points, VARIANTS)
    assert all(f"{point['variant']}, {point['condition']}" in words for point in points) and words.count("retained") == len(points)
