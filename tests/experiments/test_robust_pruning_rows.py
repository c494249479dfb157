"""The plane of attack success against retention, by hand; the watched neurons of a tiny run beside the report's own numbers."""

from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from scipy import stats

import workbench
from experiments.robust_pruning.rows import against_rows, asr, plane_rows, retained, sensitivity_rows, together
from workbench.analysis import quality
from workbench.execution import execute
from workbench.statistics import wilson

UNITS = [f"u{i}" for i in range(10)]


class Made:
    """A workspace whose judge has already answered: {(variant, set): seen}, retained sets too."""

    def __init__(self, seen, variants, missing=(), ids=()):
        names = dict.fromkeys(name for _, name in seen)
        self.seen, self.looks, self.study = seen, None, SimpleNamespace(variants=[SimpleNamespace(name=v) for v in variants], choose=None)
        sets = {n: SimpleNamespace(kind="retained" if n in ("near", "far") else "target", attack=n.partition("@")[0]) for n in names}
        ids = {f"detect:{variant}:{name}" for variant, name in seen} | set(ids)
        self.plan = SimpleNamespace(sets=sets, has=lambda wanted: wanted in ids, node=lambda wanted: wanted)
        self.there = lambda node: node.removeprefix("detect:") not in missing

    def detections(self, variant, name):
        return pandas.DataFrame({"judge": self.seen[variant, name], "judge_expected": self.seen[variant, name], "unit": UNITS})

    def in_units(self, name, values):
        return values

    def prompt_set(self, name):
        return SimpleNamespace(units=UNITS)

    def units_of(self, name):
        return UNITS

    def detector(self, role):
        return SimpleNamespace(features=self.looks)

    def gather(self, stage, variant, name, read):
        return [self.looks[variant, name]]


def of(*positions):
    return np.isin(np.arange(10), positions)


@pytest.fixture
def made():
    everything = of(*range(10))
    seen = {("base", "target"): everything, ("base", "near"): everything, ("base", "far"): everything}
    seen |= {("erased", "target"): of(0), ("erased", "near"): of(*range(8)), ("erased", "far"): everything}
    seen |= {("m0", "target"): of(0), ("m0", "near"): of(*range(7)), ("m0", "far"): everything}
    seen |= {("m1", "target"): of(), ("m1", "near"): of(*range(9)), ("m1", "far"): everything}
    seen |= {("erased", "pgd@erased"): of(1, 2, 3, 4, 5), ("m0", "pgd@m0"): of(1, 2), ("m1", "pgd@m1"): of(1)}
    return Made(seen, ["erased", "m0", "m1"])


def test_the_asr_counts_what_is_seen_plainly_and_under_the_variants_own_attack(made):
    assert asr(made, "erased", "pgd").tolist() == of(0, 1, 2, 3, 4, 5).tolist()
    assert asr(made, "m1", "pgd").tolist() == of(1).tolist()
    assert asr(made, "erased", "uda") is None and asr(made, "base", "pgd") is None


def test_what_is_not_computed_is_left_open_not_zero(made):
    half = Made(made.seen, ["erased", "m0", "m1"], missing=("m0:pgd@m0", "m1:near", "m1:target"))
    assert asr(half, "m0", "pgd") is None and asr(half, "m1", "pgd") is None and retained(half, "m1") is None
    rows = {row["variant"]: row for row in plane_rows(half, ["pgd"])}
    assert set(rows) == {"base", "erased", "m0"} and rows["m0"]["asr"]["pgd"] is None and rows["erased"]["asr"]["pgd"]["rate"] == 0.6


def test_every_variant_has_its_place_on_the_plane(made):
    rows = {row["variant"]: row for row in plane_rows(made, ["pgd"])}
    assert rows["base"]["asr"]["pgd"] is None and rows["base"]["pre_asr"]["rate"] == 1
    assert rows["m0"]["asr"]["pgd"]["rate"] == 0.3 and rows["m0"]["near"]["rate"] == 0.7 and rows["m0"]["far"]["rate"] == 1
    assert rows["m0"]["retained"]["rate"] == 0.85 and rows["m0"]["retained"]["n"] == 20 and rows["m0"]["retained"]["n_units"] == 10
    by_hand = wilson(3, 10)
    assert (rows["m0"]["asr"]["pgd"]["low"], rows["m0"]["asr"]["pgd"]["high"]) == (by_hand.low, by_hand.high)
    assert rows["m0"]["kid"] is None


def test_masks_beside_a_comparator_by_hand(made):
    (row,) = against_rows(made, ["m0", "m1"], "erased", ["pgd"])
    assert row["asr"] == 0.6 and row["masked"] == pytest.approx(0.2) and (row["lowest"], row["highest"]) == (0.1, 0.3)
    assert row["difference"] == pytest.approx(-0.4) and row["cut"] == pytest.approx(1 - 0.2 / 0.6)
    assert row["cut_low"] < row["cut"] < row["cut_high"] and row["low"] < row["difference"] < row["high"]
    assert row["retained_difference"] == pytest.approx(np.mean([0.85, 0.95]) - 0.9)
    assert row["plain_difference"] == pytest.approx(0.05 - 0.1)
    # five prompts fail with at least one mask and not without, none the other way: 2 / 2^5
    assert row["p"] == pytest.approx(2 / 2**5) and row["n"] == 10 and row["n_masks"] == 2
    # three of them with the first mask
    assert against_rows(made, ["m0"], "erased", ["pgd"])[0]["p"] == pytest.approx(2 / 2**3)
    assert against_rows(made, ["m0"], "erased", ["uda"]) == []


def test_masks_that_are_farther_from_the_base_models_images_say_so(made):
    assert {r["kid_difference"] for r in against_rows(made, ["m0"], "erased", ["pgd"])} == {None}
    kept = [(variant, name) for variant, name in made.seen if name in ("near", "far")]
    made.looks = {which: np.random.default_rng(i).normal(size=(10, 4)) for i, which in enumerate(kept)}
    made.looks["m1", "near"] = made.looks["m1", "near"] + 2
    (row,) = against_rows(made, ["m0", "m1"], "erased", ["pgd"])
    base, erased, *masks = (np.concatenate([made.looks[v, "near"], made.looks[v, "far"]]) for v in ("base", "erased", "m0", "m1"))
    apart = [quality.kid(base, seen, UNITS * 2, UNITS * 2, n_resamples=10)["value"] for seen in (erased, *masks)]
    assert row["kid_difference"] == pytest.approx(np.mean(apart[1:]) - apart[0]) and row["kid_low"] > 0
    own = quality.kid(base, erased, UNITS * 2, UNITS * 2)
    assert row["kid_noise"] == pytest.approx(own["high"] - own["value"]) and row["kid_difference"] > row["kid_noise"] > 0
    (same,) = against_rows(made, ["erased"], "erased", ["pgd"])
    assert same["kid_difference"] == same["kid_low"] == same["kid_high"] == 0


def test_the_base_models_own_distance_is_to_its_images_of_the_same_prompts_from_other_noise(made):
    kept = [(variant, name) for variant in ("base", "erased", "m0", "m1", "seed") for name in ("near", "far")]
    looks = {which: np.random.default_rng(i).normal(size=(10, 4)) for i, which in enumerate(kept)}
    made.looks, made.study.choose = looks, SimpleNamespace(n_resamples=10, seed=0)
    assert plane_rows(made, ["pgd"])[0]["kid"] is None  # not made
    again = Made(made.seen, ["erased", "m0", "m1"], ids=[f"again:seed:{name}" for name in ("near", "far")])
    again.looks, again.study.choose = looks, made.study.choose
    found = plane_rows(again, ["pgd"])[0]["kid"]
    base, other = (np.concatenate([looks[variant, "near"], looks[variant, "far"]]) for variant in ("base", "seed"))
    assert found["n"] == 20 and found["value"] == quality.kid(base, other, UNITS * 2, UNITS * 2, n_resamples=10)["value"]


def test_an_attack_that_was_repeated_is_the_mean_of_its_runs(made):
    made = Made(made.seen | {("erased", "pgd-2@erased"): of(1), ("m0", "pgd-2@m0"): of(1, 2, 3, 4)}, ["erased", "m0", "m1"])
    repeats = {"pgd": ("pgd", "pgd-2", "pgd-3")}  # the third has not been run
    (row,) = against_rows(made, ["m0", "m1"], "erased", ["pgd"], repeats)
    assert (row["x_lowest"], row["x_highest"], row["n_runs"]) == (0.2, 0.6, 2) and row["asr"] == pytest.approx(0.4)
    assert (row["lowest"], row["highest"]) == (0.1, 0.4) and row["masked"] == pytest.approx((np.mean([0.3, 0.5]) + 0.1) / 2)
    assert row["cut"] == pytest.approx(1 - 0.25 / 0.4) and row["p_over"] == "runs"
    assert row["p"] == pytest.approx(stats.ttest_ind([0.6, 0.2], [0.4, 0.1], equal_var=False).pvalue)
    (alone,) = against_rows(made, ["m0", "m1"], "erased", ["pgd"])
    assert row["high"] - row["low"] > alone["high"] - alone["low"] and alone["p_over"] == "units"
    (erased,) = [r["asr"]["pgd"] for r in plane_rows(made, ["pgd"], repeats) if r["variant"] == "erased"]
    assert erased["rate"] == pytest.approx(0.4) and erased["n_runs"] == 2 and erased["low"] <= 0.2 and erased["high"] >= 0.6
    three = Made(made.seen | {("erased", "pgd-3@erased"): of(1, 2, 3)}, ["erased", "m0", "m1"])
    (sure,) = [r["asr"]["pgd"] for r in plane_rows(three, ["pgd"], repeats) if r["variant"] == "erased"]
    assert sure["n_runs"] == 3 and sure["high"] - sure["low"] < erased["high"] - erased["low"]


def test_a_comparator_that_never_fails_gives_no_cut(made):
    made.seen |= {("erased", "target"): of(), ("erased", "pgd@erased"): of()}
    (row,) = against_rows(made, ["m0"], "erased", ["pgd"])
    assert row["cut"] is None and row["cut_low"] is None and row["difference"] == pytest.approx(0.3)


def test_a_correlation_over_variants_has_n_interval_and_a_reason_when_there_is_none():
    found = together([1, 2, 3, 4, 5, 6], [2, 4, 5, 8, 9, 30])
    assert found["spearman"] == pytest.approx(1) and found["n"] == 6 and found["low"] <= 1 <= found["high"] and found["reason"] is None
    assert together([1, 2, 3], [1, 2, 3])["spearman"] is None and "3 variants" in together([1, 2, 3], [1, 2, 3])["reason"]
    assert together([1, 1, 1, 1], [1, 2, 3, 4])["spearman"] is None
    noise = np.random.default_rng(0).normal(size=(2, 40))
    assert together(*noise)["low"] < 0 < together(*noise)["high"]


def test_the_watched_neurons_are_those_of_the_report(finished, study_file):
    workspace = execute.prepare(workbench.load_study(study_file), finished.folder)[1]
    report = finished.document
    optimised = {p.attack for p in workspace.plan.sets.values() if p.against and not p.control}
    compared = 0
    for attack in optimised:
        for row in sensitivity_rows(
            workspace, attack, trajectory=workspace.study.record.trajectories[0], n_random=workspace.study.choose.n_random
        ):
            wanted = {"variant": row["variant"], "effect": "reactivation", "attack": attack, "against": row["variant"]}
            wanted |= {"neuron_set": row["neuron_set"], "trajectory": workspace.study.record.trajectories[0]}
            (own,) = [effect for effect in report["effects"] if wanted.items() <= effect.items()]
            if own["value"] is not None and row["value"] is not None:
                assert [row[k] for k in ("value", "low", "high", "p_random")] == pytest.approx(
                    [own[k] for k in ("value", "low", "high", "p_random")]
                )
                compared += 1
            (shift,) = [
                r
                for r in report["relocation"]
                if wanted.items() - {("effect", "reactivation"), ("neuron_set", row["neuron_set"])} <= r.items()
            ]
            assert row["relocated"] == pytest.approx(shift["value"]) if shift["value"] is not None else row["relocated"] is None
    assert compared
