"""Variants and attacks with seeds: what they become, what is refused, and that studies without them keep every key."""

import re
import tomllib

import pytest

from workbench.errors import StudyError
from workbench.execution import plan as planning
from workbench.resources import study_files
from workbench.study import seeds
from workbench.study.study import Study, load_study

INK = tomllib.loads(study_files()["emoji-ink-style"].read_text())
ERASED = {"name": "erased", "method": "esd", "parameters": {"iterations": 2}}
CHILD = {"name": "child", "method": "learned_mask", "parent": "erased", "role": "pruned"}
PGD = {"method": "embedding_pgd", "against": ["erased"]}
STATIC = {"method": "paraphrase", "parameters": {"wordings": ["black outline"], "others": ["water colour"]}}


def study(variants, attacks=(), **more):
    return Study(**(INK | {"variants": list(variants), "attacks": list(attacks)} | more))


def names(parts):
    return [getattr(part, "label", part.name) for part in parts]


def refused(message, variants, attacks=(), **more):
    with pytest.raises(ValueError, match=re.escape(message)):
        study(variants, attacks, **more)


def test_a_variant_with_seeds_becomes_one_variant_for_each_and_knows_what_it_is_a_run_of():
    one = study([ERASED | {"seeds": [0, 7]}])
    assert names(one.variants) == ["erased-seed0", "erased-seed7"]
    assert [part.run_of for part in one.variants] == [("erased", 0), ("erased", 7)]
    assert [part.settings for part in one.variants] == [{"iterations": 2, "seed": 0}, {"iterations": 2, "seed": 7}]
    assert seeds.repeated(one.variants) == {"erased": ["erased-seed0", "erased-seed7"]} and seeds.written(one.variants) == ["erased"]


def test_a_run_is_computed_once_with_a_study_that_names_its_seed_by_hand():
    runs = planning.build(study([ERASED | {"seeds": [0, 7]}]), "model", 10)
    hand = planning.build(study([ERASED | {"parameters": {"iterations": 2, "seed": 7}}]), "model", 10)
    for stage in ("erase:{}", "generate:{}:target", "record:{}:reference"):
        assert runs.node(stage.format("erased-seed7")).key == hand.node(stage.format("erased")).key
    assert runs.node("erase:erased-seed0").key != runs.node("erase:erased-seed7").key


def test_what_is_made_from_a_variant_with_seeds_follows_it_seed_by_seed():
    pruned = {"name": "pruned", "method": "prune_neurons", "parent": "erased", "role": "pruned"}
    coin = {"name": "coin", "method": "random_mask", "like": "child", "parent": "erased", "role": "pruned"}
    coin |= {"parameters": {"layers": ["feeds", "reads"]}}
    one = study([ERASED | {"seeds": [0, 7]}, CHILD, pruned, coin])
    found = {part.name: (part.parent, part.like, part.parameters.get("seed")) for part in one.variants[2:]}
    assert found == {
        "child-seed0": ("erased-seed0", None, 0),
        "child-seed7": ("erased-seed7", None, 7),
        "pruned-seed0": ("erased-seed0", None, None),
        "pruned-seed7": ("erased-seed7", None, None),
        "coin-seed0": ("erased-seed0", "child-seed0", 0),
        "coin-seed7": ("erased-seed7", "child-seed7", 7),
    }
    only_child = study([ERASED, CHILD | {"seeds": [0, 7]}])
    assert [(part.name, part.parent) for part in only_child.variants[1:]] == [("child-seed0", "erased"), ("child-seed7", "erased")]


def test_attacks_with_seeds_are_made_with_each_against_each_run():
    one = study([ERASED | {"seeds": [0, 7]}], [PGD | {"seeds": [1, 2]}, STATIC])
    assert names(one.attacks) == ["embedding_pgd-seed1", "embedding_pgd-seed2", "paraphrase"]
    assert all(part.against == ["erased-seed0", "erased-seed7"] for part in one.attacks[:2])
    assert [part.settings["seed"] for part in one.attacks[:2]] == [1, 2]
    plan = planning.build(one, "model", 10)
    made = {node.id for node in plan.of_stage("attack")}
    assert {f"attack:embedding_pgd-seed{a}@erased-seed{v}" for a in (1, 2) for v in (0, 7)} < made


def test_runs_of_different_seeds_do_not_meet():
    other = ERASED | {"name": "other", "parameters": {"iterations": 3}}
    plan = planning.build(study([ERASED | {"seeds": [0, 7]}, CHILD, other], [PGD]), "model", 10)
    for stage in ("generate", "record"):
        met = {node.variant for node in plan.of_stage(stage) if node.prompt_set == "embedding_pgd@erased-seed7"}
        assert met - {"base"} == {"erased-seed7", "child-seed7", "other"}, stage


def test_a_study_without_seeds_says_nothing_new_in_its_dump_and_keeps_its_keys():
    plain = Study(**INK | {"concept": {name: value for name, value in INK["concept"].items() if name != "sensitive"}})
    assert not any("seeds" in part for parts in ("variants", "attacks") for part in plain.model_dump()[parts])
    assert all(part.run_of is None for part in (*plain.variants, *plain.attacks)) and seeds.cost(plain) is None
    assert plain.digest() == "33ad7eb848eeda3c83f31cbe54e87d1f96c6f00a06bcbe16a2cc5d636ec3fed1"
    plan = planning.build(plain, "model", 10)
    assert plan.node("measure").parameters["study"] == plain.model_dump(mode="json")


def test_a_dump_has_the_study_as_written_and_reads_back():
    one = study([ERASED | {"seeds": [0, 7]}, CHILD], [PGD | {"seeds": [1, 2]}])
    said = one.model_dump(mode="json", exclude_none=True)
    assert [part["name"] for part in said["variants"]] == ["erased", "child"] and said["variants"][0]["seeds"] == [0, 7]
    assert said["attacks"] == [PGD | {"seeds": [1, 2], "parameters": {}}]
    again = Study(**said)
    assert again.digest() == one.digest() and names(again.variants) == names(one.variants)
    changed = one.with_values(["variants.1.parameters.iterations=9", "variants.0.seeds=[3, 4]"])
    assert [part.parameters.get("iterations") for part in changed.variants] == [2, 2, 9, 9]
    assert names(changed.variants) == ["erased-seed3", "erased-seed4", "child-seed3", "child-seed4"]


def test_seeds_that_say_nothing_are_refused_with_what_is_possible():
    masked = CHILD | {"method": "prune_neurons", "seeds": [0, 1]}
    refused("prune_neurons takes no `seed`, so every run would be the same", [ERASED, masked])
    refused("Methods that can have seeds: ac, adv_unlearn, all_but_one, cad,", [ERASED, masked])
    other = {"method": "other_seeds", "seeds": [0, 1]}
    refused('attack "other_seeds": other_seeds takes no `seed`', [ERASED], [other])
    refused("`seeds` needs 2 to 20 different seeds, found 1; one seed is set as parameters.seed", [ERASED | {"seeds": [3]}])
    refused("needs 2 to 20 different seeds, found 21", [ERASED | {"seeds": list(range(21))}])
    refused('"3" is listed twice', [ERASED | {"seeds": [3, 3]}])
    both = ERASED | {"parameters": {"seed": 1}, "seeds": [0, 1]}
    refused('variant "erased" has both `seeds` and the parameter `seed`: leave `seed` out', [both])
    refused('attack "embedding_pgd" has both', [ERASED], [PGD | {"seeds": [0, 1], "parameters": {"seed": 1}}])


def test_a_child_cannot_have_other_seeds_than_its_parent():
    parent = ERASED | {"seeds": [0, 7]}
    refused('variant "child" has the seeds [0, 1], but its parent "erased" has [0, 7]', [parent, CHILD | {"seeds": [0, 1]}])
    assert len(study([parent, CHILD | {"seeds": [7, 0]}]).variants) == 4
    refused("it follows the seeds [0, 7]", [parent, CHILD | {"parameters": {"seed": 3}}])


def test_one_run_is_never_named_and_names_stay_apart():
    parent = ERASED | {"seeds": [0, 7]}
    refused('has the parent "erased-seed7", which is one run of "erased": write "erased"', [parent, CHILD | {"parent": "erased-seed7"}])
    refused('is against "erased-seed0", which is one run of "erased"', [parent], [PGD | {"against": ["erased-seed0"]}])
    refused('two variants are called "erased-seed7"', [parent, ERASED | {"name": "erased-seed7"}])
    refused('two variants are called "erased"', [parent, ERASED])
    refused('two attacks are called "embedding_pgd"', [ERASED], [PGD, PGD | {"seeds": [0, 1]}])
    refused("more than 100", [ERASED | {"name": "e" * 99, "seeds": [0, 1]}])
    many = [ERASED | {"name": f"e{i}", "seeds": list(range(20))} for i in range(11)]
    refused("the seeds ask for 220 variants, more than the 200", many)


def test_a_known_rate_is_of_the_variant_as_written():
    known = {"variant": "erased", "definition": "success_rate", "low": 0.0, "high": 1.0, "source": "paper"}
    assert study([ERASED | {"seeds": [0, 7]}], expect=[known]).expect
    refused('no variant is called "erased-seed0"', [ERASED | {"seeds": [0, 7]}], expect=[known | {"variant": "erased-seed0"}])


def test_the_caveat_names_what_was_made_with_one_seed_and_goes_where_all_have_seeds():
    said = seeds.caveat(study([ERASED], [PGD, STATIC]))
    assert said == (
        "Intervals cover only one training seed (erased) and one attack seed (embedding_pgd); to cover more seeds, set `seeds` on "
        "[[variants]] and [[attacks]]."
    )
    assert seeds.caveat(study([ERASED | {"seeds": [0, 1]}], [PGD])) == (
        "Intervals cover only one attack seed (embedding_pgd); to cover more seeds, set `seeds` on [[attacks]]."
    )
    assert seeds.caveat(study([ERASED | {"seeds": [0, 1]}], [PGD | {"seeds": [0, 1]}, STATIC])) is None
    two = seeds.caveat(study([ERASED, ERASED | {"name": "longer", "parameters": {"iterations": 9}}]))
    assert "one training seed (erased, longer), so a difference between variants may be one between trainings" in two
    assert seeds.caveat(study([{"name": "closed", "method": "revive", "parameters": {}}], [STATIC])) is None


def test_a_checkpoint_is_one_training_that_no_setting_repeats(tmp_path):
    one = study([{"name": "theirs", "method": "from_checkpoint", "parameters": {"path": str(tmp_path / "theirs.safetensors")}}])
    assert seeds.caveat(one) == "Intervals cover only one checkpoint (theirs)."


def test_the_dry_run_says_what_seeds_cost():
    assert seeds.cost(Study(**INK)) is None
    one = study([ERASED | {"seeds": [0, 7]}, CHILD], [PGD | {"seeds": [1, 2]}, STATIC])
    assert seeds.cost(one) == (
        "Seeds: erased is made 2 times (erased-seed0, erased-seed7); child is made 2 times (child-seed0, child-seed7); embedding_pgd is "
        "made 4 times."
    )
    assert seeds.cost(one) in planning.build(one, "model", 10).notes


def test_a_file_with_seeds_loads_and_a_bad_one_is_told_in_one_sentence(tmp_path):
    text = study_files()["emoji-ink-style"].read_text()
    path = tmp_path / "study.toml"
    path.write_text(text.replace('name = "erased"\n', 'name = "erased"\nseeds = [0, 1, 2]\n', 1))
    assert names(load_study(path).variants)[:3] == ["erased-seed0", "erased-seed1", "erased-seed2"]
    path.write_text(text.replace('name = "erased"\n', 'name = "erased"\nseeds = 3\n', 1))
    with pytest.raises(StudyError, match="seeds: Input should be a valid list"):
        load_study(path)
