"""What an attack is called, its preset, and what the keys of older studies rest on."""

import re
import tomllib

import pytest

from workbench import registry
from workbench.errors import StudyError
from workbench.execution import plan as planning
from workbench.methods import detectors
from workbench.resources import study_files
from workbench.study.study import Study, load_study

INK = tomllib.loads(study_files()["emoji-ink-style"].read_text())


def study(*attacks, **more):
    return Study(**(INK | {"attacks": list(attacks)} | more))


def refused(message, *attacks):
    with pytest.raises(ValueError, match=re.escape(message)):
        study(*attacks)


def keys(one):
    return {node.id: node.key for node in planning.build(one, "model", 10).nodes if node.stage not in ("measure", "report")}


P4D = {"method": "p4d", "against": ["erased"]}


@pytest.fixture
def published(monkeypatch):
    """The attack P4D, as if it stated these published values."""
    monkeypatch.setattr(registry.method("attacks", "p4d").module, "PUBLISHED", {"iterations": 77, "n_tokens": 9}, raising=False)


def test_an_attack_is_called_by_its_method_unless_it_has_a_name():
    one = study(P4D, P4D | {"name": "p4d-k", "parameters": {"form": "K"}})
    assert [attack.label for attack in one.attacks] == ["p4d", "p4d-k"]
    plan = planning.build(one, "model", 10)
    assert {"p4d@erased", "p4d-k@erased", "p4d-k@erased~control"} <= set(plan.sets)
    assert plan.sets["p4d-k@erased~control"].attack == "p4d-k" and plan.sets["p4d@erased"].attack == "p4d"
    assert plan.node("attack:p4d-k@erased").parameters["method"] == "p4d"
    assert plan.node("attack:p4d-k@erased").parameters["parameters"]["form"] == "K"


def test_no_number_has_two_meanings_because_no_two_attacks_share_a_name():
    other = P4D | {"against": ["pruned"], "parameters": {"form": "K"}}
    refused('two attacks are called "p4d": give each a `name`', P4D, other)
    refused('two attacks are called "x"', P4D | {"name": "x"}, other | {"name": "x"})


@pytest.mark.parametrize("name", ["embedding_pgd", "target", "far", "base"])
def test_an_attack_is_not_called_like_something_else(name):
    refused(f'cannot be called "{name}"', P4D | {"name": name})
    assert study(P4D | {"name": "p4d"}).attacks[0].label == "p4d"


@pytest.mark.parametrize("name", ["a@b", "a~control", "", "two words", "[red]"])
def test_a_name_holds_no_sign_that_sets_use(name):
    with pytest.raises(ValueError, match="pattern"):
        study(P4D | {"name": name})


def test_the_preset_gives_the_published_values_and_parameters_go_on_top(published):
    parameters = {"iterations": 5, "form": "K"}
    one = study(P4D | {"preset": "published", "parameters": parameters})
    found = planning.build(one, "model", 10).node("attack:p4d@erased").parameters["parameters"]
    assert (found["iterations"], found["n_tokens"], found["form"]) == (5, 9, "K")
    assert planning.build(study(P4D), "model", 10).node("attack:p4d@erased").parameters["parameters"]["n_tokens"] != 9


def test_a_published_value_is_checked_like_a_given_one(published, monkeypatch):
    monkeypatch.setattr(registry.method("attacks", "p4d").module, "PUBLISHED", {"iteration": 3})
    refused('Did you mean "iterations"', P4D | {"preset": "published"})


def test_a_preset_that_is_not_there_is_told_with_those_that_are(published, monkeypatch):
    monkeypatch.delattr(registry.method("attacks", "other_seeds").module, "PUBLISHED", raising=False)
    refused("other_seeds states no published values", {"method": "other_seeds", "preset": "published"})
    with pytest.raises(ValueError, match="'published'"):
        study(P4D | {"preset": "paper"})
    refused('Did you mean "p4d"', P4D | {"method": "p4", "preset": "published"})


def test_a_study_that_gives_neither_keeps_its_keys():
    plain = study(P4D)
    assert set(plain.model_dump(mode="json")["attacks"][0]) == {"method", "against", "parameters"}
    assert "quality" not in plain.model_dump(mode="json")
    assert keys(plain) == keys(study(P4D | {"name": "p4d"}))
    named = study(P4D | {"name": "other", "preset": None})
    assert named.model_dump(mode="json")["attacks"][0]["name"] == "other" and named.digest() != plain.digest()
    assert keys(named)["attack:other@erased"] == keys(plain)["attack:p4d@erased"]


def test_a_name_can_be_set_on_the_command_line():
    one = load_study("emoji-ink-style").with_values(["attacks.0.name=pgd", "quality.noise_floor=['seed']"])
    assert one.attacks[0].label == "pgd" and one.quality.noise_floor == ["seed"] and one.quality.clip is None
    with pytest.raises(StudyError, match="noise_floor"):
        one.with_values(["quality.noise_floor=['seeds']"])


def test_floors_and_clip_are_nodes_of_their_own_and_change_no_other_key(monkeypatch):
    monkeypatch.setattr(detectors, "placed_folder", lambda path, beside, kind: path)
    monkeypatch.setattr(detectors, "model_digest", lambda path: f"digest of {path}")
    plain, more = study(P4D), study(P4D, quality={"clip": "here", "noise_floor": ["seed", "dtype"]})
    new = keys(more)
    variants = ("base", "erased", "pruned", "sham")
    added = {f"clip:{variant}:{name}" for variant in variants for name in ("near", "far")}
    added |= {f"again:dtype:{name}" for name in ("near", "far")}
    assert {f"again:seed:{name}" for name in ("near", "far")} <= set(keys(plain)) & set(new)
    assert set(new) - set(keys(plain)) == added and len({new[node] for node in added}) == len(added)
    assert {node: new[node] for node in keys(plain)} == keys(plain)
    measured = planning.build(more, "model", 10).node("measure")
    assert added <= set(measured.inputs)
    without = set(keys(study(P4D, quality={"noise_floor": []})))
    assert not any(node.startswith("again:") for node in without) and len(without) == len(keys(plain)) - 2
