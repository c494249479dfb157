"""Laws of the whole way from recordings to words, on planted recordings: what must not change an answer does not change it.

The stages score and measure run as they do in a study, on activations and pictures that are made up: concept neurons rise with the concept,
fall by erasing, and come back as far as the attack is planted to do. Nothing is drawn by a model.
"""

from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pandas
import pytest

import workbench
from workbench.analysis.findings import CANNOT_TELL, TOO_FEW, UNDECIDED
from workbench.analysis.verdict import verdict
from workbench.execution import plan as planning
from workbench.execution.rows import choice, rates
from workbench.execution.stages import measure, score
from workbench.execution.workspace import Workspace
from workbench.study.prompts import PromptSet
from workbench.study.study import BASE

N_UNITS, N_NEURONS, N_CALLS = 24, 120, 2
STUDY = """
schema_version = 1
name = "laws"
title = "A planted study"
[concept]
name = "ink"
kind = "style"
names = ["ink"]
[model]
base = "nowhere"
[prompts]
target = "target.csv"
reference = "reference.csv"
near = "near.csv"
[prompts.other]
name = "noto"
target = "noto.csv"
reference = "plain.csv"
[detectors]
labels = ["style:ink"]
steer = { method = "emoji", which = "steer" }
judge = { method = "emoji", which = "judge" }
[sampling]
steps = 4
[[variants]]
name = "erased"
method = "esd"
[[variants]]
name = "pruned"
method = "prune_neurons"
parent = "erased"
role = "pruned"
[[variants]]
name = "sham"
method = "esd"
role = "sham"
[[attacks]]
method = "embedding_pgd"
against = ["erased", "pruned"]
[[attacks]]
method = "random_tokens"
[record]
calls = [0, 2]
trajectories = ["reference"]
[choose]
compare = []
share = 0.1
n_random = 19
n_resamples = 100
"""
EMPTY = '[[attacks]]\nmethod = "random_tokens"\nname = "nothing"\nparameters = { seed = 9 }\n'
TEMPLATES = {"target": "{} in ink style", "reference": "{} plain", "near": "{} in fluent style", "noto": "{} in noto style", "plain": "{}"}


class Planted(Workspace):
    """A workspace whose recordings and pictures are made up; everything else is the real one's.

    strength   how much of what erasing took the attack gives back;  order   (neuron,) the place of each neuron in the tables
    """

    def __init__(self, study, plan, strength=0.8, drawn=0.1, seed=0, order=None):
        super().__init__(study, plan, None)
        self.strength, self.drawn, self.seed = strength, drawn, seed
        self.order = np.arange(N_NEURONS) if order is None else order

    @cached_property
    def neurons(self):
        index = np.tile(np.arange(N_NEURONS // 2), 2)
        return pandas.DataFrame({"layer": np.repeat(["one", "two"], N_NEURONS // 2), "index": index, "site": "ff"})

    @cached_property
    def layers(self):
        return []

    def detector(self, role, remembering=False):
        return SimpleNamespace(version="made up", thresholds={"style:ink": 0.5})

    def trajectory(self, name, rows):
        return SimpleNamespace(calls=[0, 2], timesteps=[9.0, 5.0])

    def gather(self, stage, variant, prompt_set, reader):
        return [{"calls": [0, 2], "timesteps": [9.0, 5.0]}]  # of calls.json, all that is asked for here

    def prompt_set(self, name):
        planned = self.plan.sets[name]
        if planned.table is not None:
            return planned.table
        target = self.plan.sets["target"].table
        said = "" if planned.attack == "nothing" else f"{name} "
        table = target.table.assign(prompt=[said + prompt for prompt in target.prompts])
        return PromptSet(name, planned.kind, table, None, planned.attack, planned.against, planned.control)

    def _rng(self, *what):
        """One stream for what is said; the empty attack says what its control does, and what the targets say."""
        return np.random.default_rng([self.seed, *(sum(map(ord, part)) for part in what)])

    def _said(self, name):
        return "target" if self.plan.sets[name].attack == "nothing" else name

    def _of_units(self, rng, name, *shape):
        """(row, ...) random numbers that belong to the unit by its seed, not to its place in the file."""
        seeds = np.array(self.prompt_set(name).seeds) - 1000
        return rng.normal(size=(200, *shape))[seeds]

    def mean_abs(self, variant, prompt_set, trajectory, quantity="mean_abs"):
        name = self._said(prompt_set)
        planned = self.plan.sets[prompt_set]
        concept, noto = np.zeros(N_NEURONS), np.zeros(N_NEURONS)
        concept[[*range(0, 6), *range(60, 66)]], noto[[*range(10, 16), *range(70, 76)]] = 1.0, 1.0
        lean = np.random.default_rng(3).uniform(-0.12, 0.12, N_NEURONS)  # every neuron has some contrast
        asked = 1.0 if name == "target" or planned.attack else 0.0
        level = {BASE: 1.0, "sham": 0.95}.get(variant, 0.1)
        if planned.attack and not planned.control and name != "target" and planned.against and level < 0.5:
            level += self.strength * 0.9
        rise = asked * (level * concept + lean) + (name == "other-target") * noto
        unit = self._of_units(self._rng("unit"), prompt_set)
        noise = 0.3 * self._of_units(self._rng("noise", variant, name), prompt_set, N_CALLS, N_NEURONS)
        values = 3 + rise * (1 + 0.1 * unit[:, None]) + 0.1 * unit[:, None]
        return (values[:, None, :] + noise)[..., self.order].astype(np.float32)

    def detections(self, variant, prompt_set):
        name, planned = self._said(prompt_set), self.plan.sets[prompt_set]
        chance = {"reference": 0.02, "near": 0.02}.get(name, 0.95 if variant in (BASE, "sham") else self.drawn)
        if planned.attack and not planned.control and name != "target" and variant not in (BASE, "sham"):
            chance = max(chance, self.strength)
        drawn = self._of_units(self._rng("images", name), prompt_set)
        there = drawn < np.quantile(np.random.default_rng(0).normal(size=10000), chance)
        return pandas.DataFrame({"judge": there, "judge_score": there.astype(float), "judge_expected": there})


@pytest.fixture
def study(tmp_path):
    """study(more attacks, order of the rows, rows given twice) -> the loaded study."""

    def write(more="", order=range(N_UNITS), twice=(), text=STUDY):
        for name, template in TEMPLATES.items():
            rows = [f"u{u},{template.format(f'thing {u}')},{1000 + u},style:x" for u in order]
            rows += [f"again{u},{template.format(f'thing {u}')},{1000 + u},style:x" for u in twice]
            (tmp_path / f"{name}.csv").write_text("unit,prompt,seed,expect\n" + "\n".join(rows) + "\n")
        (tmp_path / "laws.toml").write_text(text + more)
        return workbench.load_study(tmp_path / "laws.toml")

    return write


def answered(study, folder, **planted):
    """(tables, verdict, neuron table) of a planted workspace."""
    workspace = Planted(study, planning.build(study, "model", 5), **planted)
    folder.mkdir(exist_ok=True)
    score.run(workspace, workspace.plan.node("score"), None, folder)
    table = pandas.read_parquet(folder / "neurons.parquet")
    made = {
        "rates": rates.rate_rows(workspace),
        "retention": [],
        "comparisons": rates.comparison_rows(workspace),
        "against_control": rates.control_rows(workspace),
    }
    other = measure.other_concept.pair(workspace, table)
    table = measure.other_concept.with_column(table, other)
    found, table = measure.trajectory_tables(workspace, "reference", table, other, made["rates"])
    more = found.pop("validity of the other concept")
    made |= found
    made["set_validity"] = choice.with_validity(workspace, table, made["set_validity"], measure.Thresholds()) + more
    variants = [(variant.name, variant.role) for variant in study.variants]
    n = int(workspace.units_in_half_a().sum())
    return made, verdict(variants, made, "ink", relocations=made["relocation"], n_choosing=n), table


def by_question(said):
    """{what a word is about: the word}; a question may be asked twice, such as on the prompts of each concept."""
    keys, found = ("kind", "variant", "attack", "provenance", "against", "beside", "subject"), {}
    for word in said["words"]:
        key = tuple(word[key] for key in keys)
        found[*key, sum(one[:-1] == key for one in found)] = word
    assert len(found) == len(said["words"])
    return found


def numbers(word):
    return {one["name"]: [one[key] for key in ("value", "low", "high", "n")] for one in word["evidence"]}


def same_words(first, second):
    one, two = by_question(first), by_question(second)
    assert list(one) == list(two)
    for question, word in one.items():
        assert word["outcome"] == two[question]["outcome"], question
        mine, theirs = numbers(word), numbers(two[question])
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            for a, b in zip(values, theirs[name], strict=True):
                assert a == b or a == pytest.approx(b, rel=1e-4, abs=1e-5), (question, name)


def test_the_planted_study_has_every_word_there_is_to_lose(study, tmp_path):
    """The laws below are about something: what was planted is what is said."""
    said = by_question(answered(study(), tmp_path / "a")[1])
    outcomes = {(key[0], key[1], key[2]): word["outcome"] for key, word in reversed(said.items())}
    assert outcomes["set", BASE, None] == "valid set"
    assert outcomes["deactivation", "erased", None] == "deactivated"
    assert outcomes["reactivation", "erased", "embedding_pgd"] in ("reactivated", "reactivated in part")
    assert outcomes["another concept", "erased", None] == "not those of another concept"
    assert outcomes["images", "erased", "embedding_pgd"] == "concept returns"
    assert outcomes["erasure", "erased", None] == "below the base model"


# the attack is one more condition under which variants are compared, so these families of tests are larger by it
FAMILIES = ("comparison", "effect of pruning")


@pytest.mark.parametrize(("strength", "seed"), [(0.0, 0), (0.2, 1), (0.8, 2)])
def test_an_attack_that_does_nothing_changes_no_word_about_other_things(study, tmp_path, strength, seed):
    """Its prompts are its control's. In a family of tests that it enlarges a p may grow, so that a word becomes undecided; none gets
    stronger. All other findings stay to the last digit."""
    plain = answered(study(), tmp_path / "a", strength=strength, seed=seed)[1]
    more = answered(study(EMPTY), tmp_path / "b", strength=strength, seed=seed)[1]
    before, after = by_question(plain), by_question(more)
    new = [key for key in after if key not in before]
    assert all("nothing" in str(key) or key[0] == "comparison" for key in new)
    for question, word in before.items():
        if question[0] in FAMILIES:
            there = after.get(question)
            assert there is None or there["outcome"] in (word["outcome"], UNDECIDED)
            # what is undecided of two variants shares one entry
            assert there is not None or (question[0] == "comparison" and word["outcome"] != UNDECIDED)
        else:
            assert after[question] == word
    assert all(after[key]["outcome"] in (UNDECIDED, "concept does not return by this attack") for key in new if key[0] == "images")
    assert all(after[key]["outcome"] not in ("reactivated", "reactivated in part") for key in new)


def test_permuting_prompts_and_units_changes_nothing_but_order(study, tmp_path):
    order = np.random.default_rng(5).permutation(N_UNITS)
    first = answered(study(), tmp_path / "a", strength=0.5)
    second = answered(study(order=order), tmp_path / "b", strength=0.5)
    same_words(first[1], second[1])
    assert first[2]["in_concept"].tolist() == second[2]["in_concept"].tolist()


def test_permuting_the_neurons_of_a_layer_changes_nothing_but_order(study, tmp_path):
    rng = np.random.default_rng(6)
    order = np.concatenate([rng.permutation(N_NEURONS // 2), N_NEURONS // 2 + rng.permutation(N_NEURONS // 2)])
    first = answered(study(), tmp_path / "a", strength=0.5)
    second = answered(study(), tmp_path / "b", strength=0.5, order=order)
    for column in ("in_concept", "in_suppressed", "in_watch", "in_other"):
        assert first[2][column].to_numpy()[order].tolist() == second[2][column].tolist()
    same_words(first[1], second[1])


def test_units_that_are_given_twice_narrow_nothing(study, tmp_path):
    first = answered(study(), tmp_path / "a", strength=0.5)
    second = answered(study(twice=range(N_UNITS)), tmp_path / "b", strength=0.5)
    for name in ("activity", "effects", "other_concept", "set_validity"):
        assert len(first[0][name]) == len(second[0][name])
        for one, two in zip(first[0][name], second[0][name], strict=True):
            assert one["n"] == two["n"], name
            if one.get("low") is not None:
                assert (one["low"], one["high"]) == pytest.approx((two["low"], two["high"]), rel=1e-4, abs=1e-5)
            assert one.get("p_change") == pytest.approx(two.get("p_change"), abs=1e-6)
    for one, two in zip(first[0]["rates"], second[0]["rates"], strict=True):
        assert two["n"] == 2 * one["n"] and two["n_units"] == one["n"] == N_UNITS
        assert two["n_effective"] <= one["n"] + 1e-9
    kinds = [word["outcome"] for key, word in by_question(first[1]).items() if key[0] not in FAMILIES]
    assert kinds == [word["outcome"] for key, word in by_question(second[1]).items() if key[0] not in FAMILIES]


def test_no_law_holds_because_nothing_is_said(study, tmp_path):
    """With a quarter of the units the same numbers have no words."""
    said = answered(replace_units(study()), tmp_path / "a")[1]
    assert {word["outcome"] for word in said["words"]} <= {TOO_FEW, CANNOT_TELL, UNDECIDED, "transferred attack"}


def replace_units(one):
    return one.with_values(["prompts.limit=12"])
