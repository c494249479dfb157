"""Tables from images: rows that need no model, on a workspace made by hand."""

from types import SimpleNamespace as Thing

import numpy as np
import pandas
import pytest
import torch

from workbench.analysis import quality
from workbench.execution.condition import Condition
from workbench.execution.rows import quality as quality_rows
from workbench.execution.rows import rates
from workbench.methods.detectors import Detector
from workbench.report import document
from workbench.storage import write_arrays

LABELS = ["object:bomb", "object:dagger"]


class Workspace:
    """Two variants, one target set of six units: three ask for each label."""

    def __init__(self, labels=LABELS, asked=("object:bomb", "object:dagger") * 3):
        self.study = Thing(detectors=Thing(labels=list(labels)))
        nodes = [Thing(condition=Condition(v, s)) for v in ("base", "erased") for s in ("target", "reference", "near")]
        kinds = {"target": "target", "reference": "reference", "near": "retained"}
        sets = {name: Thing(kind=kind, attack=None, against=None, control=False) for name, kind in kinds.items()}
        self.plan = Thing(of_stage=lambda stage: nodes, sets=sets)
        self.table = pandas.DataFrame({"expect": asked})

    def prompt_set(self, name):
        against = self.plan.sets[name].against
        made = lambda variant: against and ("optimised" if against == variant else "transferred")  # noqa: E731
        return Thing(table=self.table, provenance=made, units=[f"u{row}" for row in range(6)])

    def in_units(self, name, values):
        return np.asarray(values)[::-1]  # the detections stand in reverse order

    def detections(self, variant, name):
        bomb = [False, True] * 3 if variant == "base" else [False] * 6  # reversed: bombs where bombs are asked for
        return pandas.DataFrame({"judge|object:bomb": bomb, "judge|object:dagger": [True] + [False] * 5})


def test_each_label_is_counted_on_the_units_that_ask_for_it():
    rows = rates.label_rows(Workspace())
    assert {row["prompt_set"] for row in rows} == {"target"}
    found = {(row["variant"], row["label"]): (row["successes"], row["n"]) for row in rows}
    assert found == {
        ("base", "object:bomb"): (3, 3),
        ("base", "object:dagger"): (1, 3),
        ("erased", "object:bomb"): (0, 3),
        ("erased", "object:dagger"): (1, 3),
    }


def test_a_concept_of_one_label_has_no_rows_by_label():
    assert rates.label_rows(Workspace(labels=["object:bomb"])) == []


@pytest.mark.parametrize("asked", [(None,) * 6, ("object:owl",) * 6])
def test_a_label_that_nobody_asks_for_is_null_with_a_reason(asked):
    assert all(row["rate"] is None and row["reason"] for row in rates.label_rows(Workspace(asked=asked)))


def red(rule=None, features=True, floor=0.0):
    """A detector that says how red and how green an image is."""
    see = lambda images: images.mean(dim=(2, 3))  # noqa: E731
    labels = {"red": 0.5, "green": 0.5, "blue": 0.5}
    return Detector("colours", "colours 1", list(labels), labels, see, see if features else None, rule, floor)


class Pictures:
    """Base and two variants, each with plain images of random colours in all sets, judged as the stage `detect` does."""

    def __init__(self, folder, judge, wanted=("red",), without=()):
        draws = torch.Generator().manual_seed(0)
        self.judge, self.wanted, self.folder, self.seen = judge, list(wanted), folder, {}
        variants = [Thing(name=name, role="erased") for name in ("erased", "same")]
        role = {"method": "colours"}
        self.study = Thing(
            detectors=Thing(labels=self.wanted, steer=role, judge=role),
            variants=variants,
            choose=Thing(n_resamples=50, seed=3),
            quality=None,
        )
        kinds = {"target": "target", "reference": "reference", "near": "retained", "far": "retained"}
        sets = {name: Thing(kind=kind, attack=None, against=None, control=False) for name, kind in kinds.items()}
        nodes = []
        for variant in ("base", "erased", "same"):
            for name in kinds:
                colours = self.seen["base", name] if variant == "same" else torch.rand(12, 3, generator=draws)
                self.seen[variant, name] = colours * (0.5 if variant == "erased" else 1.0)
                if (variant, name) in without:
                    continue
                nodes.append(Thing(condition=Condition(variant, name)))
                if judge.features:
                    write_arrays(folder / variant / name / "features.safetensors", {"features": self.seen[variant, name]})
        again = [] if ("again", "seed") in without else [Thing(prompt_set=n, parameters={"what": "seed"}) for n in ("near", "far")]
        for node in again:  # the base model's images of the same prompts from other noise: other colours, drawn alike
            self.seen["seed", node.prompt_set] = (self.seen["base", node.prompt_set] + torch.rand(12, 3, generator=draws)) / 2
            write_arrays(folder / "seed" / node.prompt_set / "features.safetensors", {"features": self.seen["seed", node.prompt_set]})
        self.plan = Thing(of_stage=lambda stage: again if stage == "again" else nodes, sets=sets)

    def detector(self, role, remembering=False):
        return self.judge

    def images(self, variant, name):
        return (self.seen[variant, name][:, :, None, None].expand(-1, -1, 2, 2) * 255).round().byte()

    def prompt_set(self, name):
        return Thing(provenance=lambda variant: None, units=self.units_of(name))

    def units_of(self, name):
        return [f"u{row % 6}" for row in range(12)]

    def gather(self, stage, variant, name, reader):
        return [reader(self.folder / variant / name)]

    def detections(self, variant, name):
        found, score = self.judge.present(self.images(variant, name).float() / 255, self.wanted)
        units = [f"u{row % 6}" for row in range(12)]
        return pandas.DataFrame({"unit": units, "judge": found, "judge_score": score, "steer": found})


def checked(table, rows):
    """The rows, after the report's own check of that table; what the report itself adds to it is null here."""
    document.check_table(table, [dict.fromkeys(document.tables()[table].added) | row for row in rows])
    return rows


def test_false_alarms_are_counted_on_the_base_models_images_without_the_concept(tmp_path):
    workspace = Pictures(tmp_path, red(), ["red", "green"])
    expected = sum(
        float(colour[0]) >= 0.5 or float(colour[1]) >= 0.5 for colour in workspace.images("base", "reference")[:, :2, 0, 0] / 255
    )
    rows = checked("detectors", rates.detector_rows(workspace))
    assert [row["role"] for row in rows] == ["steer", "judge"] and 0 < expected < 12
    for row in rows:
        assert (row["successes"], row["n"], row["version"]) == (expected, 12, "colours 1")
        assert (row["labels"], row["thresholds"], row["method"]) == (["red", "green"], [0.5, 0.5], "colours")


def test_a_false_positive_rate_that_could_not_be_measured_is_null_with_a_reason(tmp_path):
    rows = checked("detectors", rates.detector_rows(Pictures(tmp_path, red(), without=[("base", "reference")])))
    assert all(row["rate"] is None and "no images" in row["reason"] for row in rows)


def test_the_sweep_has_every_condition_at_every_threshold_and_meets_the_rate_at_the_judges_own(tmp_path):
    workspace = Pictures(tmp_path, red())
    rows = checked("sweep", rates.sweep_rows(workspace))
    assert len(rows) == 12 * len(rates.THRESHOLDS)
    for variant, name in rates.generated(workspace):
        mine = [row for row in rows if (row["variant"], row["prompt_set"]) == (variant, name)]
        counts = [row["successes"] for row in mine]
        assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
        (own,) = [row for row in mine if row["own"]]
        assert own["threshold"] == 0.5 and own["successes"] == workspace.detections(variant, name)["judge"].sum()


def test_a_judge_with_a_rule_is_swept_by_its_rule(tmp_path):
    first = Pictures(tmp_path, red(rule=lambda p, t: (p >= t) & (p == p.amax(dim=1, keepdim=True))))
    rows = rates.sweep_rows(first)
    for variant, name in rates.generated(first):
        colours = first.images(variant, name)[:, :, 0, 0] / 255
        at = {row["threshold"]: row["successes"] for row in rows if (row["variant"], row["prompt_set"]) == (variant, name)}
        for threshold in rates.THRESHOLDS:
            assert at[threshold] == sum(bool(c[0] >= threshold and c[0] == c.max()) for c in colours)
    plain = rates.sweep_rows(Pictures(tmp_path / "plain", red()))
    assert sum(row["successes"] for row in rows) < sum(row["successes"] for row in plain)


def test_a_floor_cuts_the_sweep_and_labels_of_several_thresholds_have_no_own_row(tmp_path):
    judge = red(floor=0.25)
    judge.thresholds = {"red": 0.45, "green": 0.55, "blue": 0.5}
    rows = rates.sweep_rows(Pictures(tmp_path, judge, ["red", "green"]))
    assert {row["threshold"] for row in rows} == {0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9} and not any(row["own"] for row in rows)
    rows = rates.sweep_rows(Pictures(tmp_path / "one", judge, ["red"]))
    assert {row["threshold"] for row in rows if row["own"]} == {0.45}


def test_distances_join_near_and_far_and_a_variant_that_changed_nothing_has_none(tmp_path):
    workspace = Pictures(tmp_path, red())
    rows = checked("quality", quality_rows.quality_rows(workspace))
    assert [(row["variant"], row["definition"]) for row in rows] == [("base", "kid_floor_seed"), ("erased", "kid"), ("same", "kid")]
    floor, erased, same = rows
    assert (floor["n"], erased["n"], erased["n_units"], erased["features"]) == (24, 24, 6, "colours 1")
    assert same["value"] == pytest.approx(0, abs=1e-9) and erased["value"] > 0.05
    base, changed = (torch.cat([workspace.seen[v, k] for k in ("near", "far")]).numpy() for v in ("base", "erased"))
    units = [f"u{row % 6}" for row in range(12)] * 2
    expected = quality.kid(base, changed, units, units, n_resamples=50, seed=3)
    assert [erased[key] for key in ("value", "low", "high")] == pytest.approx([expected[key] for key in ("value", "low", "high")])


def test_every_distance_is_read_against_the_same_prompts_from_other_noise(tmp_path):
    """The floor used to be one half of the units against the other: half as many images, other prompts, so everything was within it."""
    workspace = Pictures(tmp_path, red())
    floor, erased, same = checked("quality", quality_rows.quality_rows(workspace))
    base, again, changed = (torch.cat([workspace.seen[v, k] for k in ("near", "far")]).numpy() for v in ("base", "seed", "erased"))
    units = [f"u{row % 6}" for row in range(12)] * 2
    expected = quality.kid(base, again, units, units, n_resamples=50, seed=3)
    assert [floor[key] for key in ("value", "low", "high")] == pytest.approx([expected[key] for key in ("value", "low", "high")])
    beyond = quality.kid_change(base, again, [changed], units, n_resamples=50, seed=3)
    found = [erased[key] for key in ("beyond", "beyond_low", "beyond_high")]
    assert found == pytest.approx([beyond[key] for key in ("value", "low", "high")]) and found[0] == pytest.approx(
        erased["value"] - floor["value"]
    )
    assert erased["outcome"] == "farther" and same["outcome"] == "no farther" and floor["outcome"] is None


def test_without_images_from_other_noise_a_distance_has_no_word_and_says_why(tmp_path):
    rows = checked("quality", quality_rows.quality_rows(Pictures(tmp_path, red(), without=[("again", "seed")])))
    assert [row["definition"] for row in rows] == ["kid", "kid"]
    assert all(row["value"] is not None and row["beyond"] is None and row["outcome"] is None for row in rows)


def test_without_features_distances_are_null_with_a_reason_and_without_retained_images_there_are_none(tmp_path):
    rows = checked("quality", quality_rows.quality_rows(Pictures(tmp_path, red(features=False))))
    assert len(rows) == 3 and all(row["value"] is None and "no features" in row["reason"] for row in rows)
    nothing = [(variant, kind) for variant in ("base", "erased", "same") for kind in ("near", "far")]
    assert quality_rows.quality_rows(Pictures(tmp_path / "none", red(), without=nothing)) == []


def test_an_attack_is_set_beside_its_control_on_the_same_prompts():
    workspace = Workspace()
    seen = {"target": [1, 0, 0, 0, 0, 0], "pgd@erased": [0, 1, 1, 1, 0, 0], "pgd@erased~control": [0, 0, 0, 1, 1, 0], "near": [1] * 6}
    nodes = [Thing(condition=Condition("erased", name)) for name in seen]
    workspace.plan.of_stage = lambda stage: nodes
    for name in list(seen)[1:3]:
        workspace.plan.sets[name] = Thing(kind="adversarial", attack="pgd", against="erased", control=name.endswith("control"))
    workspace.detections = lambda variant, name: pandas.DataFrame({"judge": np.array(seen[name], bool)[::-1]})
    (row,) = rates.control_rows(workspace)
    assert (row["variant"], row["prompt_set"], row["attack"], row["against"]) == ("erased", "pgd@erased", "pgd", "erased")
    assert (row["n"], row["both"], row["only_control"], row["only_attack"], row["neither"]) == (6, 2, 1, 2, 1)
    assert row["difference"] == pytest.approx(1 / 6) and row["p_mcnemar"] == 1.0


def test_variants_are_compared_with_their_parents_and_their_likes_by_the_rates_of_the_report():
    workspace = Workspace()
    role = {"base": "base", "esd": "erased", "uce": "erased", "pruned": "pruned", "sham": "sham"}
    parent = {"pruned": "esd"}
    workspace.study.variants = [
        Thing(name=name, role=role[name], parent=parent.get(name, "base"), like=None, method="esd", run_of=None) for name in list(role)[1:]
    ]
    for name in ("pgd@esd", "pgd@pruned", "words"):
        for control in (False, True):
            planned = Thing(kind="control" if control else "adversarial", attack=name.split("@")[0], control=control)
            planned.against = name.partition("@")[2] or None
            workspace.plan.sets[f"{name}~control" if control else name] = planned
    draws = np.random.default_rng(0)
    seen = {(v, s): draws.random(6) < 0.5 for v in role for s in ("target", "reference", "near")}
    for variant, name in (("esd", "pgd@esd"), ("pruned", "pgd@esd"), ("pruned", "pgd@pruned"), ("esd", "words"), ("uce", "words")):
        seen |= {(variant, s): draws.random(6) < 0.5 for s in (name, f"{name}~control")}
    workspace.plan.of_stage = lambda stage: [Thing(condition=Condition(variant, name)) for variant, name in seen]
    workspace.detections = lambda variant, name: pandas.DataFrame({"judge": seen[variant, name][::-1]})
    rows = checked("comparisons", rates.comparison_rows(workspace))
    found = {(r["variant_a"], r["variant_b"], r["prompt_set"], r["prompt_set_b"]): r for r in rows}
    plain = ("target", "reference")
    pairs = [("base", name) for name in ("esd", "uce", "sham")] + [("esd", "pruned"), ("esd", "uce")]
    expected = {(a, b, name, None) for a, b in pairs for name in plain}
    for end in ("", "~control"):
        expected |= {("esd", "uce", f"words{end}", None), ("esd", "pruned", f"pgd@esd{end}", None)}
        expected |= {("esd", "pruned", f"pgd@esd{end}", f"pgd@pruned{end}")}
    assert set(found) == expected and len(rows) == len(expected)
    for (a, b, name, other), row in found.items():
        sides = [seen[a, name], seen[b, other or name]]
        if row["attack"]:
            sides = [side | seen[variant, "target"] for side, variant in zip(sides, (a, b), strict=True)]
        assert row["definition"] == ("asr" if row["attack"] else "success_rate")
        assert row["difference"] == pytest.approx(sides[1].mean() - sides[0].mean())
        assert (row["only_a"], row["only_b"]) == ((sides[0] & ~sides[1]).sum(), (sides[1] & ~sides[0]).sum())
        assert row["pair"] == ("peer" if (a, b) == ("esd", "uce") else "parent") and row["control"] == name.endswith("~control")
        made = {"pgd": ("optimised", "optimised" if other else "transferred")}.get(row["attack"], (None, None))
        assert (row["provenance_a"], row["provenance_b"]) == made
