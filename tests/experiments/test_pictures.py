"""Pictures of the claim: a point for whatever was computed, nothing drawn of what was not."""

from experiments import pictures


def rate(value):
    return {"n": 100, "rate": value, "low": value - 0.05, "high": value + 0.05, "reason": None}


ROWS = [
    {"variant": "base", "pre_asr": rate(1.0), "retained": rate(1.0), "asr": {"pgd": None, "inversion": None}},
    {"variant": "erased", "pre_asr": rate(0.1), "retained": rate(0.9), "asr": {"pgd": rate(0.3), "inversion": None}},
    {"variant": "masked-0", "pre_asr": rate(0.1), "retained": rate(0.8), "asr": {"pgd": rate(0.2), "inversion": rate(0.4)}},
    {"variant": "revived-0", "pre_asr": rate(0.1), "retained": None, "asr": {"pgd": None, "inversion": None}},
]


def test_the_plane_has_a_point_for_each_rate_of_a_variant_whose_retention_is_known():
    figure = pictures.plane(ROWS, ["pgd", "inversion"])
    found = sorted((trace.name, round(trace.x[0]), round(trace.y[0])) for trace in figure.data if trace.x[0] is not None)
    assert found == [("erased", 90, 10), ("erased", 90, 30), ("masked-0", 80, 10), ("masked-0", 80, 20), ("masked-0", 80, 40)]
    assert pictures.plane(ROWS[:1], ["pgd"]) is None


def test_a_scatter_has_one_named_point_per_variant():
    figure = pictures.scatter({"erased": (0.2, 0.3), "masked-0": (0.1, 0.1)}, "activity", "ASR")
    assert [(trace.name, trace.x[0], trace.y[0]) for trace in figure.data] == [("erased", 0.2, 0.3), ("masked-0", 0.1, 0.1)]
    assert pictures.scatter({}, "activity", "ASR") is None


def test_a_picture_is_written_where_there_is_a_browser_and_nothing_where_there_is_not(tmp_path, monkeypatch):
    figure = pictures.scatter({"erased": (0.2, 0.3)}, "activity", "ASR")
    monkeypatch.setattr(pictures, "CHROMIUM", str(tmp_path / "none"))
    assert pictures.save({tmp_path / "a.png": figure}) == [] and not list(tmp_path.iterdir())
