"""A study with seeds on a variant and on an attack, end to end, beside a slow reference made from the values of each unit."""

import math
from types import SimpleNamespace as Thing

import numpy as np
import pytest
from scipy import stats

import workbench
from tests.analysis.test_repeats import by_hand
from tests.analysis.verdict_rows import PLAIN, plain_rate, tables, together
from tests.tiny_study import written
from workbench.analysis.sensitivity import Sensitivity
from workbench.analysis.verdict import verdict
from workbench.execution import execute
from workbench.execution.rows import over_runs, rates
from workbench.execution.stages import measure
from workbench.report import document

SEEDED = 'name = "erased"\nseeds = [0, 1]\n'
A = "embedding_pgd"
ATTACKED = 'method = "embedding_pgd"\nseeds = [3, 4]\n'


@pytest.fixture(scope="module")
def repeated(tmp_path_factory, tiny_folder, finished):
    """(run, workspace) of the tiny study with two trainings of the eraser and two searches of its attack."""
    path = written(tmp_path_factory.mktemp("seeds"), tiny_folder)
    text = path.read_text().replace('name = "erased"\n', SEEDED, 1).replace('method = "embedding_pgd"\n', ATTACKED, 1)
    text = text.replace('sites = ["ff", "update"]\ncalls = [0, 2]', 'sites = ["ff"]\ncalls = [2]\ntrajectories = ["reference"]')
    path.write_text(text)
    study = workbench.load_study(path)
    run = workbench.run(study, tmp_path_factory.mktemp("over") / "runs", others=[finished.folder])
    return run, execute.prepare(study, run.folder)[1]


def picked(run, **wanted):
    return [row for row in run.document["over_runs"] if wanted.items() <= row.items()]


def test_every_run_is_a_variant_of_its_own_and_each_attack_is_made_against_each(repeated):
    run, workspace = repeated
    variants = {row["variant"] for row in run.document["models"]}
    assert variants == {"base", *(f"{name}-seed{s}" for name in ("erased", "pruned") for s in (0, 1))}
    assert len({row["digest"] for row in run.document["models"]}) == 5
    made = {node.id for node in workspace.plan.of_stage("attack")}
    assert made == {f"attack:embedding_pgd-seed{a}@erased-seed{v}" for a in (3, 4) for v in (0, 1)} | {"attack:paraphrase"}
    document.check(run.document)


def test_an_effect_over_runs_is_that_of_a_slow_reference(repeated):
    run, workspace = repeated
    half_b = ~workspace.units_in_half_a()
    chosen = run.neurons["in_concept"].to_numpy()
    activity = lambda v, s: workspace.unit_means(s, workspace.mean_abs(v, s, "reference")).mean(axis=1)[half_b][:, chosen].sum(axis=1)  # noqa: E731
    scale = activity("base", "target") - activity("base", "reference")
    sets = [[f"embedding_pgd-seed{a}@erased-seed{v}" for a in (3, 4)] for v in (0, 1)]
    changes = [
        np.mean([activity(f"erased-seed{v}", name) - activity(f"erased-seed{v}", f"{name}~control") for name in sets[v]], axis=0)
        for v in (0, 1)
    ]
    (row,) = picked(run, quantity="effect", name="reactivation", variant="erased", neuron_set="concept", trajectory="reference", attack=A)
    value = np.mean(changes) / scale.mean()
    variance, freedom = by_hand([list((one - value * scale) / scale.mean()) for one in changes])
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((value, value - reach, value + reach), rel=1e-4)
    variance, freedom = by_hand([list(one) for one in changes])
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(np.mean(changes)) / math.sqrt(variance), freedom), rel=1e-4)
    assert (row["n_runs"], row["n_inner"], row["n_units"], row["provenance"], row["against"]) == (2, 2, 3, "optimised", "erased")
    assert row["variants"] == ["erased-seed0", "erased-seed1"]
    assert row["attacks"] == ["embedding_pgd-seed3", "embedding_pgd-seed4"]
    (plain,) = picked(run, quantity="activity", variant="erased", prompt_set="target", neuron_set="concept", trajectory="reference")
    wanted = np.mean([activity(f"erased-seed{v}", "target") - activity("base", "reference") for v in (0, 1)]) / scale.mean()
    assert plain["value"] == pytest.approx(wanted, rel=1e-5) and plain["n_inner"] == 1 and plain["attacks"] == []


def test_rates_over_runs_pool_the_images_and_say_how_many_runs(repeated):
    run, workspace = repeated
    (row,) = picked(run, quantity="rate", name="asr", variant="erased", attack=A, control=False)
    seen = [[rates.seen(workspace, f"erased-seed{v}", f"embedding_pgd-seed{a}@erased-seed{v}").mean() for a in (3, 4)] for v in (0, 1)]
    assert row["value"] == pytest.approx(np.mean(seen)) and row["low"] < row["high"]
    assert (row["n_units"], row["n_runs"], row["n_inner"]) == (6, 2, 2)
    (kept,) = picked(run, quantity="retained", variant="pruned")
    assert (kept["prompt_set"], kept["n_runs"]) == ("near", 2)
    (paired,) = picked(run, quantity="attack minus control", variant="erased", attack=A)
    assert paired["value"] is not None and paired["low"] < paired["high"]


def test_a_child_stands_beside_its_parent_run_by_run_and_runs_of_other_seeds_are_not_compared(repeated):
    run, workspace = repeated
    pairs = {(row["variant_a"], row["variant_b"]) for row in run.document["comparisons"]}
    assert pairs == {("base", f"erased-seed{s}") for s in (0, 1)} | {(f"erased-seed{s}", f"pruned-seed{s}") for s in (0, 1)}
    (row,) = picked(run, quantity="difference between variants", variant="pruned", beside="erased", prompt_set="target")
    found = [
        rates.seen(workspace, f"pruned-seed{s}", "target").mean() - rates.seen(workspace, f"erased-seed{s}", "target").mean()
        for s in (0, 1)
    ]
    assert row["value"] == pytest.approx(np.mean(found)) and row["n_runs"] == 2
    met = {row["variant"] for row in run.document["rates"] if row["prompt_set"] == "embedding_pgd-seed3@erased-seed1"}
    assert met == {"erased-seed1", "pruned-seed1"}


def test_words_are_about_the_variant_as_written_and_say_over_how_many_seeds(repeated):
    run, _ = repeated
    words = [word for word in run.document["verdict"]["words"] if word["kind"] != "set"]
    assert {word["variant"] for word in words} == {"erased", "pruned"}
    for word in words:
        over = "2 training seeds and 2 attack seeds" if word["attack"] == A else "2 training seeds"
        assert word["sentence"].endswith(f" Over {over}."), word["sentence"]
    said = run.document["verdict"]["headline"]
    assert said.endswith("Intervals cover units and 2 training seeds of erased and 2 attack seeds of embedding_pgd.")
    assert "seed0" not in said and "Intervals cover only" not in said
    page, text = ((run.store.report_folder / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert "Over 2 training seeds and 2 attack seeds." in page
    assert "Over repeated runs (seeds)" in page and "Over repeated runs (seeds)" in text


def test_an_attack_alone_with_seeds_has_runs_of_its_own_and_what_has_none_is_left_out():
    attacks = [part("pgd-seed3", ("pgd", 3)), part("pgd-seed4", ("pgd", 4)), part("static")]
    groups = over_runs.Runs(Thing(variants=[part("erased")], attacks=attacks))
    rows = [{"variant": "erased", "attack": f"pgd-seed{s}", "against": "erased", "prompt_set": f"pgd-seed{s}@erased"} for s in (3, 4)]
    rows += [{"variant": "erased", "attack": "static", "against": None, "prompt_set": "static"}]
    ((about, found, counts),) = groups.gathered(zip(rows, "abc", strict=True), "variant", "prompt_set")
    assert about == {"variant": "erased", "attack": "pgd", "against": "erased", "prompt_set": "pgd@erased"}
    assert found == [["a"], ["b"]] and counts == {"n_runs": 2, "n_inner": 1, "variants": [], "attacks": ["pgd-seed3", "pgd-seed4"]}
    assert groups.prompt_set("pgd-seed3@erased~control") == "pgd@erased~control" and groups.prompt_set("target") == "target"


def test_a_study_without_seeds_has_an_empty_table_and_keeps_its_others(finished):
    assert finished.document["over_runs"] == []
    tables = {"rates": [{"variant": "erased"}]}
    assert over_runs.merged(over_runs.Runs(finished_study(finished)), tables, {}, None) is tables


def finished_study(run):
    from workbench.study.study import Study

    return Study(**run.store.study())


def part(name, run_of=None):
    return Thing(name=name, label=name, run_of=run_of, role="erased")


def trained(levels, n_units=40):
    """(study, merged tables) of an eraser trained with several seeds, whose neurons keep these activities."""
    names = [f"erased-seed{i}" for i in range(len(levels))]
    study = Thing(variants=[part(name, ("erased", i)) for i, name in enumerate(names)], attacks=[])
    rng, groups = np.random.default_rng(0), over_runs.Runs(study)
    at = lambda level: 3 + level + rng.normal(0, 0.1, (n_units, 60))  # noqa: E731
    values = {("base", "target"): at(1), ("base", "reference"): at(0)}
    for name, level in zip(names, levels, strict=True):
        values |= {(name, "target"): at(level), (name, "reference"): at(0)}
    measured, chosen = Sensitivity(values, np.array(["mid"] * 60), 20), np.arange(60) < 20
    keys = {"trajectory": "reference", "control": False, "compared_with": None} | PLAIN
    activity = [(keys | {"variant": name, "prompt_set": "target"}, (name, "target")) for name in names]
    drift = [(keys | {"variant": name, "effect": "drift"}, (name, "reference"), ("base", "reference")) for name in names]
    effect = lambda pairs, members: measured.effect_over_runs(pairs, members, 19)  # noqa: E731
    found = over_runs.neurons(groups, measured, activity, drift, {("concept", "ff"): chosen}, effect, lambda keys, group, site: {})
    of_each = together(*(tables(variant=name, activity=(x - 0.02, x + 0.02)) for name, x in zip(names, levels, strict=True)))
    found |= {name: [] for name in ("retention", "comparisons", "against_control")}
    found["rates"] = [plain_rate(0.0, 0.2, variant="erased", n_runs=len(names))]
    judged = over_runs.merged(groups, of_each, found, lambda rows: measure.with_adjusted(rows, {"erased": "concept"}))
    return study, judged


def words_of(levels):
    study, judged = trained(levels)
    found = over_runs.said(verdict([("erased", "erased")], judged, "heart"), study)
    (word,) = [word for word in found["words"] if word["kind"] == "deactivation"]
    return word, found["headline"]


def test_the_word_follows_the_interval_over_runs_not_that_of_one_training():
    word, headline = words_of((0.1, 0.1, 0.12))
    assert word["outcome"] == "deactivated" and word["variant"] == "erased" and word["sentence"].endswith(" Over 3 training seeds.")
    assert "are deactivated" in headline and headline.endswith("Intervals cover units and 3 training seeds of erased.")
    word, headline = words_of((0.02, 0.02, 0.45))  # each of them by itself lies below the threshold 0.5
    assert word["outcome"] == "undecided" and "is undecided" in headline
    (activity,) = [one for one in word["evidence"] if one["name"] == "activity"]
    assert activity["value"] == pytest.approx(0.163, abs=0.02) and activity["high"] > 0.5
    assert words_of((0.02, 0.02))[0]["sentence"].endswith(" Over 2 training seeds.")


def test_a_difference_that_no_pair_shows_has_no_interval_of_width_0():
    units, nothing = [f"u{i}" for i in range(20)], np.zeros(20, bool)
    row = {"variant": "erased", "prompt_set": "pgd@erased", "p_mcnemar": None, "p_permutation": None}
    counts = {"n_runs": 2, "n_inner": 1, "variants": [], "attacks": []}
    found = over_runs._difference(row, [[(nothing, nothing)], [(nothing, nothing)]], counts, units)
    assert found["difference"] == 0 and found["low"] < 0 < found["high"] and found["p"] == 1
    every = over_runs._difference(row, [[(nothing, ~nothing)], [(nothing, ~nothing)]], counts, units)
    assert every["difference"] == 1 and every["low"] < every["high"] and every["p"] < 1e-4
    assert (every["n"], every["n_units"], every["only_b"]) == (40, 20, 40)
