"""What the rows of a report say by themselves, on a workspace made by hand and in a finished run."""

from types import SimpleNamespace as Thing

import numpy as np
import pandas
import pytest

from workbench.execution.rows import report_columns
from workbench.report import document
from workbench.study.prompts import PromptSet

NOTHING = {name: [] for name in ("sweep", "budget", "rates_by_label", "retention", "activity_by_call")}
JUDGE = {"role": "judge", "method": "emoji", "version": "judge 1", "labels": ["a", "b"], "thresholds": [0.3, 0.6]}
JUDGE |= {"n": 40, "n_units": 40, "successes": 2, "rate": 0.05, "low": 0.01, "high": 0.17, "reason": None}


def prompts(name, kind, texts, **more):
    rows = {
        "unit": [f"u{i}" for i in range(len(texts))],
        "id": list(map(str, range(len(texts)))),
        "prompt": texts,
        "seed": 0,
        "expect": None,
    }
    return PromptSet(name, kind, pandas.DataFrame(rows), **more)


class Workspace:
    """Targets of three units, an imported attack, one that was imported as vectors, and a native one."""

    def __init__(self, forbidden=None):
        concept = Thing(names=["church"], forbidden=forbidden, not_for_attacks=["church", *(forbidden or [])])
        methods = {"made": "from_file", "vectors": "from_file", "p4d": "p4d"}
        self.study = Thing(
            concept=concept, variants=[], attacks=[Thing(label=name, method=method, run_of=None) for name, method in methods.items()]
        )
        asked = ["a church", "an old house", "a church tower"]
        self.made = {"target": prompts("target", "target", asked)}
        self.made["made"] = prompts("made", "adversarial", ["Churches qua", "grey church", "steeple zx"])
        self.made["vectors@erased"] = prompts("vectors", "adversarial", asked, prefix=np.zeros((3, 1, 4)))
        self.made["p4d@erased"] = prompts("p4d", "adversarial", ["x church", "y", "z"])
        sets = {"target": Thing(attack=None, against=None, control=False)}
        for name in ("made", "vectors@erased", "p4d@erased"):
            attack, _, against = name.partition("@")
            sets[name] = Thing(attack=attack, against=against or None, control=False)
            sets[f"{name}~control"] = Thing(attack=attack, against=against or None, control=True)
        self.plan = Thing(sets=sets)

    def prompt_set(self, name):
        return self.made[name]

    def in_units(self, name, values):
        return values


def compared(n_units=20, **more):
    row = {"n": 20, "n_units": n_units, "both": 10, "only_a": 4, "only_b": 1, "neither": 5, "difference": -0.15, "reason": None}
    return row | more


def tables(**more):
    attacks = [{"attack": "made", "against": None}, {"attack": "p4d", "against": "erased"}]
    rates = [{"prompt_set": name, "detector": "judge 1", "threshold": 0.6} for name in ("target", "made", "made~control", "p4d@erased")]
    controls = [compared() | {"only_control": 4, "only_attack": 1}]
    basic = {"detectors": [JUDGE | {"role": "steer", "version": "steer 1"}, JUDGE], "rates": rates, "attacks": attacks}
    return (
        NOTHING
        | basic
        | {"comparisons": [compared()], "against_control": controls, "verdict": {"headline": "Found.", "caveats": ["first"]}}
        | more
    )


def test_prompts_that_say_a_name_are_counted_for_every_attack_beside_those_whose_target_says_one_too():
    found = report_columns.with_stated(Workspace(), tables())
    assert [(row["named"], row["named_as_asked"]) for row in found["attacks"]] == [(2, 1), (1, 1)]
    assert [(row["named"], row["named_of"]) for row in found["rates"]] == [(None, None), (2, 3), (None, None), (1, 3)]


def test_an_imported_attack_that_says_the_name_is_a_caveat_and_vectors_and_native_attacks_are_none():
    (_, first, named, *others) = report_columns.with_stated(Workspace(), tables())["verdict"]["caveats"]
    assert first == "first" and not any("imported" in one for one in others)
    assert named.startswith("2 of the 3 imported prompts of made say the concept's name (church), 1 of them where the target prompt says")
    assert "no evidence that an attack found another way" in named
    workspace = Workspace()
    workspace.made["made"] = prompts("made", "adversarial", ["x", "y", "z"])
    assert not any("imported" in one for one in report_columns.with_stated(workspace, tables())["verdict"]["caveats"])


def test_forbidden_words_count_as_names_do():
    found = report_columns.with_stated(Workspace(["steeple"]), tables())
    assert found["attacks"][0]["named"] == 3
    assert "say the concept's name or a forbidden word (church, steeple)" in found["verdict"]["caveats"][2]


def test_every_rate_says_who_decided_it_and_how_often_that_errs():
    found = report_columns.with_stated(
        Workspace(), tables(rates_by_label=[{"label": "b"}], retention=[{"kind": "near"}], budget=[{}], sweep=[{}])
    )
    for row in found["rates"]:
        assert (row["labels"], row["thresholds"], row["false_positive_rate"], row["false_positive_n"]) == (["a", "b"], [0.3, 0.6], 0.05, 40)
    assert found["rates_by_label"] == [{"label": "b", "detector": "judge 1", "threshold": 0.6}]
    assert found["retention"] == [{"kind": "near", "detector": "judge 1"}] and found["sweep"] == [{"labels": ["a", "b"]}]
    assert found["budget"] == [{"labels": ["a", "b"], "thresholds": [0.3, 0.6]}]


def test_few_units_are_a_caveat_that_says_what_could_have_been_found():
    found = report_columns.with_stated(Workspace(), tables())
    cut, rise = found["comparisons"][0]["detectable"], found["against_control"][0]["detectable"]
    assert 0.3 < cut < 0.7 and rise is None and "even a rise to 100 %" in found["against_control"][0]["reason"]
    few = found["verdict"]["caveats"][3:]
    assert few[0] == "With 20 units, even a rise to 100 % would be detected with less power than 0.8 in 1 of 1 comparisons."
    assert few[1] == f"With 20 units, a variant must reduce another one's rate by {cut:.2f} to be detected with power 0.8."
    many = [compared() | {"n": 200, "n_units": 200, "both": 100, "only_a": 40, "neither": 50, "only_b": 10}]
    assert len(report_columns.with_stated(Workspace(), tables(comparisons=many, against_control=[]))["verdict"]["caveats"]) == 3


def test_the_first_caveat_says_that_one_attack_seed_was_tried_and_not_where_all_have_seeds():
    workspace, said = Workspace(), "Intervals cover only one attack seed (p4d); to cover more seeds, set `seeds` on [[attacks]]."
    found = report_columns.with_stated(workspace, tables())["verdict"]
    assert found["headline"] == "Found." and found["caveats"][0] == said and found["caveats"].count(said) == 1
    for part in workspace.study.attacks:
        part.run_of = part.label, 0
    assert report_columns.with_stated(workspace, tables())["verdict"]["caveats"][0] == "first"


def test_what_cannot_fall_says_so_and_what_was_not_compared_stays_null():
    nothing = dict.fromkeys(compared()) | {"reason": "no images"}
    never = compared(both=0, only_a=0, neither=19, difference=0.05)
    rows = report_columns.with_stated(Workspace(), tables(comparisons=[never, nothing]))["comparisons"]
    assert (rows[0]["detectable"], rows[0]["reason"]) == (None, "the first rate is 0, so it cannot fall")
    assert rows[1] == nothing | {"detectable": None}
    units = report_columns.with_stated(Workspace(), tables(comparisons=[compared(5, reason="several images per unit")]))["comparisons"][0]
    assert units["detectable"] is None and units["reason"].startswith("several images per unit; on 5 units even a reduction to 0")


@pytest.mark.parametrize("judge", [None, JUDGE])
def test_tables_of_older_results_without_a_judge_are_left_as_they_are(judge):
    assert set(report_columns.decided(tables(), judge, judge)) == (
        set() if judge is None else {"rates", "sweep", "budget", "rates_by_label", "retention"}
    )


def test_a_finished_run_says_it_in_every_row(finished):
    content = finished.document
    document.check(content)
    assert all(row["labels"] == ["style:ink"] and row["false_positive_n"] == 6 and row["detector"] for row in content["rates"])
    assert {(row["attack"], row["named"], row["named_as_asked"]) for row in content["attacks"]} == {
        ("embedding_pgd", 6, 6),
        ("paraphrase", 0, 0),
    }
    lines = {}
    for row in content["activity_by_call"]:
        assert row["control"] == row["prompt_set"].endswith("~control")
        key = tuple(row[name] for name in ("variant", "attack", "provenance", "against", "control", "trajectory", "call"))
        if row["attack"]:
            lines.setdefault(key, set()).add(row["prompt_set"])
    assert lines and all(len(sets) == 1 for sets in lines.values())
    assert any(one.startswith("With 6 units, an attack's ASR must exceed") for one in content["verdict"]["caveats"])
    said = "Intervals cover only one training seed (erased) and one attack seed (embedding_pgd); to cover more seeds, set `seeds` on"
    assert [said in one for one in content["verdict"]["caveats"]].index(True) == 0 and said not in content["verdict"]["headline"]
    # shown with the verdict, before anything that is folded, and once more among the caveats
    for kind, start, folded in (("html", 'class="headline"', "<details"), ("md", "## Verdict", "\n## ")):
        text = (finished.store.report_folder / f"report.{kind}").read_text()
        begin = text.index(start)
        assert begin < text.index("Intervals cover only", begin) < text.index(folded, begin + len(start)), kind
        assert text.count("Intervals cover only") == 2, kind
    assert "false positives" in (finished.store.report_folder / "report.md").read_text()


def test_an_attack_that_searches_once_for_all_prompts_says_what_its_intervals_leave_out():
    def said(**methods):
        return report_columns.shared_caveats(Thing(attacks=[Thing(label=name, method=method) for name, method in methods.items()]))

    assert said(pgd="embedding_pgd", words="p4d") == []
    (once,) = said(pgd="embedding_pgd", inversion="concept_inversion")
    assert "one vector for each half of the prompts" in once and "Repeat it with other seeds" in once
    (twice,) = said(one="concept_inversion", two="concept_inversion")
    assert "one, two" in twice and "Repeat" not in twice
    workspace = Workspace()
    assert not [one for one in report_columns.with_stated(workspace, tables())["verdict"]["caveats"] if "one vector" in one]
    workspace.study.attacks.append(Thing(label="inversion", method="concept_inversion", run_of=None))
    assert [one for one in report_columns.with_stated(workspace, tables())["verdict"]["caveats"] if "one vector" in one]
