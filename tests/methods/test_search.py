"""The search that all optimising attacks share: looks, budget, leaving the batch, going on after a kill."""

import copy

import pandas
import pytest

from workbench.methods.attacks import Context, Look, reworded
from workbench.methods.attacks._search import Budget, Searcher, generator, most_passes, search
from workbench.study.prompts import PromptSet

UNITS = ["a", "b", "c", "d"]


class Counting(Searcher):
    """The candidate of a prompt is how often it was improved."""

    passes_per_step = 2.5

    def __init__(self, targets, context):
        self.targets, self.context, self.count, self.batches = targets, context, [0] * len(targets), []

    def step(self, rows, iteration):
        self.batches.append(list(rows))
        for row in rows:
            self.count[row] += 1
        return [float(self.count[row]) for row in rows]

    def candidate(self, rows):
        return reworded(self.targets.picked(rows), [f"word {self.count[row]}" for row in rows], self.context)

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = list(state["count"])


@pytest.fixture
def targets():
    rows = [{"id": u, "unit": u, "prompt": f"a {u}", "seed": i, "expect": None} for i, u in enumerate(UNITS)]
    return PromptSet("target", "target", pandas.DataFrame(rows))


def watching(needed, scores=None):
    """A context whose detector succeeds once a prompt was improved as often as `needed` says for its unit."""
    kept = {}

    def looks(candidate):
        found = []
        for unit, prompt in zip(candidate.units, candidate.prompts, strict=True):
            n = int(prompt.split()[1])
            found.append(Look(n >= needed[unit], scores[unit, n] if scores else n / 100))
        return found

    context = Context(
        ["ink"],
        "erased",
        succeeds=looks,
        kept=kept.get,
        keep=lambda name, state: kept.update({name: copy.deepcopy(state)}),
        passes_per_look=20,
    )
    return context, kept


def test_whoever_succeeds_leaves_the_batch_and_keeps_the_first_success(targets):
    context, _ = watching({"a": 2, "b": 4, "c": 99, "d": 1})
    counting = Counting(targets, context)
    made = search(counting, targets, context, Budget(looks=4), 8)
    assert made.prompts == ["word 2", "word 4", "word 8", "word 2"] and made.units == UNITS
    assert counting.count == [2, 4, 8, 2]


def test_without_a_success_the_highest_score_is_kept(targets):
    scores = {(u, n): 1 - abs(n - 4) / 10 for u in UNITS for n in (2, 4, 6)}
    context, _ = watching(dict.fromkeys(UNITS, 99), scores)
    assert search(Counting(targets, context), targets, context, Budget(looks=3), 6).prompts == ["word 4"] * 4


def test_without_looks_the_last_candidate_is_kept(targets):
    context, _ = watching(dict.fromkeys(UNITS, 0))
    assert search(Counting(targets, context), targets, context, Budget(looks=0), 5).prompts == ["word 5"] * 4


def test_without_a_look_the_final_candidate_is_kept_whatever_is_shown(targets):
    class Best(Counting):
        def final(self, rows):
            return reworded(self.targets.picked(rows), [f"best {self.count[row]}" for row in rows], self.context)

    context, _ = watching({"a": 2, "b": 99, "c": 99, "d": 99})
    assert search(Best(targets, context), targets, context, Budget(looks=0), 3).prompts == ["best 3"] * 4
    assert search(Best(targets, context), targets, context, Budget(looks=1), 3).prompts == ["word 3"] * 4


def test_a_step_may_cost_more_for_some(targets):
    class Dear(Counting):
        def costs(self, rows):
            return [self.passes_per_step + row for row in rows]

    context, _ = watching(dict.fromkeys(UNITS, 99))
    search(Dear(targets, context), targets, context, Budget(looks=0), 4)
    assert {row["id"]: row["passes"] for row in context.log if row["iteration"] == 4} == {"a": 10, "b": 14, "c": 18, "d": 22}


def test_the_budget_of_passes_ends_a_prompt(targets):
    context, _ = watching(dict.fromkeys(UNITS, 99))
    counting = Counting(targets, context)
    search(counting, targets, context, Budget(looks=0, max_passes=10), 100)
    assert counting.count == [4] * 4
    assert max(row["passes"] for row in context.log) == 10


def test_the_log_holds_every_step_and_every_look(targets):
    context, _ = watching({"a": 2, "b": 4, "c": 99, "d": 1})
    search(Counting(targets, context), targets, context, Budget(looks=2, batch=3), 4)
    log = pandas.DataFrame(context.log)
    looks = log[log["found"].notna()]
    assert len(log[log["loss"].notna()]) == 4 * 4 - 2 * 2 and len(looks) == 4 + 2
    assert looks.groupby("id")["passes"].max().to_dict() == {"a": 25, "b": 50, "c": 50, "d": 25}
    assert set(log["of"]) == {"attack"} and (log["seconds"] >= 0).all()


def test_a_killed_search_goes_on_as_if_nothing_had_happened(targets):
    needed = {"a": 2, "b": 5, "c": 99, "d": 1}
    context, _ = watching(needed)
    whole = search(Counting(targets, context), targets, context, Budget(looks=4), 8)
    context, kept = watching(needed)

    class Dying(Counting):
        def step(self, rows, iteration):
            if iteration == 6:
                raise KeyboardInterrupt
            return super().step(rows, iteration)

    with pytest.raises(KeyboardInterrupt):
        search(Dying(targets, context), targets, context, Budget(looks=4), 8)
    assert kept["attack"]["iteration"] == 4
    again = Counting(targets, context)
    resumed = search(again, targets, context, Budget(looks=4), 8)
    assert resumed.table.to_dict("list") == whole.table.to_dict("list") and len(again.batches) == 4
    assert len(context.log) == len({(row["id"], row["iteration"], row["found"] is None) for row in context.log})


def test_a_prompts_draws_do_not_depend_on_its_neighbours():
    import torch

    draws = [torch.rand(3, generator=generator(0, name, 5)).tolist() for name in ("a", "b", "a")]
    assert draws[0] == draws[2] != draws[1]
    assert torch.rand(3, generator=generator(1, "a", 5)).tolist() != draws[0]


def test_the_estimate_counts_the_looks_of_attack_and_control():
    assert most_passes(Budget(looks=2), 10, 24, 100.0) == 10 * (100 + 48 + 48)
    assert most_passes(Budget(looks=2, max_passes=60), 10, 24, 100.0) == 10 * (60 + 48)
