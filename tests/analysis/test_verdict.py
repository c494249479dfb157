"""The verdict's findings, sentences and headline, on rows written by hand; each rule by itself is in test_rules.py."""

import re

import pytest

from tests.analysis.verdict_rows import ATTACK, PLAIN, effect, number, plain_rate, rate, tables, together
from workbench.analysis import rules
from workbench.analysis import verdict as words
from workbench.analysis.findings import OUTCOMES

ERASED = [("esd", "erased")]


def verdict(given, variants=None, **options):
    return words.verdict(variants or ERASED, given, "heart", **options)


def word_of(found, kind, variant="esd", **about):
    """The one word of the verdict of a kind."""
    (word,) = (w for w in found["words"] if (w["kind"], w["variant"]) == (kind, variant) and about.items() <= w.items())
    return word


def test_every_word_carries_the_finding_as_data():
    given = tables()
    given["rates"] += [plain_rate(0.5, 0.7), plain_rate(0.9, 1.0, variant="base", definition="ceiling")]
    found = verdict(given)
    assert set(found) == {"headline", "words", "reasons", "caveats"}
    assert [(w["kind"], w["outcome"], w["attack"]) for w in found["words"]] == [
        ("deactivation", "deactivated", None),
        ("erasure", "below the base model", None),
        ("reactivation", "reactivated", "erase_attack"),
        ("images", "concept returns", "erase_attack"),
    ]
    for word in found["words"]:
        assert word["variant"] == "esd" and word["outcome"] in OUTCOMES[word["kind"]] and word["word"] == word["outcome"]
        assert all(set(e) == {"name", "value", "low", "high", "n"} for e in word["evidence"])
    attacked = word_of(found, "reactivation")
    assert (attacked["provenance"], attacked["against"]) == ("optimised", "esd")
    assert attacked["evidence"][0] == {"name": "reactivation", "value": 0.5, "low": 0.4, "high": 0.6, "n": 50}
    assert any("no removal" in caveat for caveat in found["caveats"])


def test_the_headline_names_its_variant_and_gives_each_number():
    given = tables()
    assert verdict(given)["headline"] == (
        "In esd the neurons that carry heart are deactivated (activity 0.10 (0.00 to 0.20); the base model is 1); "
        "erase_attack (optimised) reactivates them by +0.50 (0.40 to 0.60) against its control; "
        "under erase_attack (optimised) the images show the concept at a rate of 0.70, control 0.05: the concept returns."
    )
    given["rates"].append(plain_rate(0.5, 0.7))
    assert verdict(given)["headline"].endswith("at a rate of 0.70, control 0.05, without attack 0.60: the concept returns.")


def test_better_sentences_do_not_change_the_verdict(monkeypatch):
    """Outcomes and headline come from findings: whatever the sentences and titles say."""
    before = verdict(tables())
    for name in words.SENTENCES:
        monkeypatch.setitem(words.SENTENCES, name, lambda one, concept: "Another sentence.")
        monkeypatch.setitem(words.SUBJECTS, name, lambda one: "Another title")
    after = verdict(tables())
    assert after["headline"] == before["headline"] and {w["sentence"] for w in after["words"]} == {"Another sentence."}
    assert [w["outcome"] for w in after["words"]] == [w["outcome"] for w in before["words"]]


@pytest.mark.parametrize(("p", "outcome"), [(0.031, "the concept returns"), (0.2, "undecided")])
def test_the_headline_says_of_the_images_what_the_paired_test_says(p, outcome):
    rows = tables(asr=(0.1, 0.3), control=(0.0, 0.2))
    rows["against_control"] = [ATTACK | {"variant": "esd", "p_mcnemar": p, "low": 0.02}]
    found = verdict(rows)
    assert found["headline"].endswith(f"at a rate of 0.20, control 0.10: {outcome}.")
    assert f"(McNemar p = {p:.2g}): {outcome}." in word_of(found, "images")["sentence"]


def test_images_are_judged_where_the_neurons_could_not_be():
    given = tables()
    for table in ("activity", "effects"):
        given[table] = [row | dict.fromkeys(("value", "low", "high", "p_random")) for row in given[table]]
    found = verdict(given)
    assert [w["kind"] for w in found["words"]] == ["images"] and word_of(found, "images")["outcome"] == "concept returns"
    assert found["headline"] == (
        "In esd the activity of the neurons that carry heart was not measured; "
        "under erase_attack (optimised) the images show the concept at a rate of 0.70, control 0.05: the concept returns."
    )
    given["rates"] = [row | dict.fromkeys(("rate", "low", "high")) for row in given["rates"]]
    assert not verdict(given)["words"] and "Nothing can be said about heart yet" in verdict(given)["headline"]


def test_images_that_show_the_concept_without_neural_activity_are_said_in_the_headline():
    found = verdict(tables(reactivation=(-0.05, 0.05)))
    assert word_of(found, "reactivation")["outcome"] == "not reactivated by these attacks"
    assert "the attacks tried here did not reactivate them" in found["headline"] and "concept returns" in found["headline"]
    none = verdict(tables(reactivation=(-0.05, 0.05), asr=(0.0, 0.2)))
    assert "concept returns" not in none["headline"]


def at_the_ceiling(variant="esd", shown=(0.93, 1.0)):
    """A variant whose images show the concept as often as the base model's without attack."""
    given = tables(variant, asr=(0.96, 1.0), control=(0.95, 1.0))
    given["rates"] += [plain_rate(*shown, variant=variant), plain_rate(0.93, 1.0, variant="base", definition="ceiling")]
    return given


def test_at_the_ceiling_without_attack_no_sentence_speaks_of_reactivation():
    found = verdict(at_the_ceiling())
    assert word_of(found, "erasure")["outcome"] == "as in the base model"
    for kind in ("reactivation", "images"):
        assert word_of(found, kind)["outcome"] == "nothing to reactivate"
    told = [found["headline"], *(w["sentence"] for w in found["words"])]
    assert not any(re.search(r"reactivat(es|ed)|returns", sentence) for sentence in told)
    assert found["headline"] == (
        "In esd the neurons that carry heart are deactivated (activity 0.10 (0.00 to 0.20); the base model is 1); its images without "
        "attack show the concept as in the base model (rate 0.97 (0.93 to 1.00), base model 0.97 (0.93 to 1.00)), so there was nothing "
        "to reactivate."
    )


def test_the_ceiling_is_decided_by_pairs_where_they_are():
    given = at_the_ceiling(shown=(0.7, 0.98))
    assert word_of(verdict(given), "erasure")["outcome"] == "undecided"
    pair = {"variant_a": "base", "variant_b": "esd", "prompt_set": "target", "attack": None, "p_mcnemar": 0.001, "n": 50}
    given["comparisons"] = [pair | {"difference": -0.12, "low": -0.2, "high": -0.04}]
    found = verdict(given)
    assert word_of(found, "erasure")["outcome"] == "below the base model"
    assert "a difference of −0.12 (−0.20 to −0.04): below the base model" in word_of(found, "erasure")["sentence"]
    assert word_of(found, "reactivation")["outcome"] == "reactivated"


def test_neurons_as_active_as_in_the_base_model_leave_nothing_to_reactivate():
    found = verdict(tables(activity=(0.95, 1.05)))
    assert word_of(found, "reactivation")["outcome"] == "nothing to reactivate"
    assert "its neurons are as active as in the base model" in word_of(found, "reactivation")["sentence"]
    assert "not deactivated" in found["headline"] and "reactivates" not in found["headline"]
    assert word_of(found, "images")["outcome"] == "concept returns"


def several():
    """Three erased variants: one deactivated, one not, one at the ceiling."""
    one = tables("esd", activity=(0.0, 0.2), asr=(0.5, 0.7))
    two = tables("uce", activity=(0.6, 0.8), reactivation=(-0.04, 0.04), asr=(0.02, 0.04), control=(0.0, 0.1))
    return together(one, two, at_the_ceiling("ac")), [("esd", "erased"), ("uce", "erased"), ("ac", "erased")]


def test_the_headline_of_several_variants_counts_them_and_names_worst_and_best():
    given, variants = several()
    given["rates"].append(plain_rate(0.0, 0.2, variant="esd"))
    given["activity"][-1] = given["activity"][-1] | number(0.3, 0.4)
    assert verdict(given, variants)["headline"] == (
        "The neurons that carry heart are deactivated in 2 of 3 erased variants, not deactivated in 1 (best esd, activity 0.10 (0.00 to "
        "0.20); worst uce, activity 0.70 (0.60 to 0.80); the base model is 1); without attack the images of ac show the concept as in the "
        "base model, so there was nothing to reactivate; attacks reactivate them in 1 of 2 attacked variants, not reactivated in 1 "
        "(worst esd, erase_attack (optimised) by +0.50 (0.40 to 0.60); best uce, erase_attack (optimised) by 0.00 (−0.04 to "
        "0.04)); in the images the concept returns in 1 of 2, does not return in 1 (worst esd, erase_attack "
        "(optimised) at a rate of 0.60, control 0.05, without attack 0.10; best uce, erase_attack (optimised) at a rate of 0.03, control "
        "0.05)."
    )


def test_the_headline_counts_variants_that_were_not_measured_and_leaves_shams_out():
    given, variants = several()
    given["activity"] = given["activity"][:1]
    said = verdict(given, [*variants, ("other", "sham")])["headline"]
    assert said.startswith("The neurons that carry heart are deactivated in 1 of 3 erased variants, not measured in 2 (esd, activity 0.10")


def test_a_sham_says_how_far_erasing_anything_moves_the_neurons():
    found = verdict(tables("sham", activity=(0.9, 1.0)), [("sham", "sham")])
    (word,) = found["words"]
    assert (word["kind"], word["outcome"]) == ("deactivation", "not deactivated")
    assert "this is how far erasing anything moves them" in word["sentence"]


def test_a_pruned_variant_is_judged_on_the_watch_set_only():
    given, pruned = tables(), [("esd", "pruned")]
    assert [w["kind"] for w in verdict(given, pruned)["words"]] == ["images"]
    for name in ("activity", "effects"):
        given[name] = [row | {"neuron_set": "watch"} for row in given[name]]
    given["effects"].append(effect(-0.4, -0.2, name="pruning_effect_adversarial", neuron_set="watch"))
    found = verdict(given, pruned)
    assert word_of(found, "effect of pruning")["outcome"] == "less active"
    assert "the watched concept neurons have an activity" in word_of(found, "deactivation")["sentence"]


def test_comparisons_and_relocation_become_words():
    given = tables()
    given["comparisons"] = [
        number(-0.5, -0.3, variant_a="esd", variant_b="pruned", prompt_set="adversarial", attack="erase_attack")
        | {"difference": -0.4, "p_mcnemar": 0.0001}
    ]
    moved = [number(0.2, 0.4, variant="esd", iou=0.0, iou_chance=0.02, **ATTACK)]
    found = verdict(given, relocations=moved)
    word = word_of(found, "comparison", "pruned")
    assert (word["outcome"], word["beside"], word["attack"]) == ("fewer images", "esd", "erase_attack")
    assert word["subject"] == "pruned beside esd, images under erase_attack"
    assert word_of(found, "relocation")["outcome"] == "relocated"
    assert "erase_attack (optimised) reactivates them by +0.50" in found["headline"]


def test_undecided_comparisons_of_two_variants_share_one_entry():
    given = tables()
    given["comparisons"] = [
        number(-0.1, 0.1, variant_a="esd", variant_b="pruned", prompt_set=name, attack=attack) | {"difference": 0.0, "p_mcnemar": p}
        for name, attack, p in (("target", None, None), ("pgd@esd", "pgd", 0.7), ("pgd@esd~control", "pgd", 1.0))
    ]
    found = verdict(given)
    word = word_of(found, "comparison", "pruned")
    assert (word["outcome"], word["beside"], word["attack"]) == ("undecided", "esd", None) and len(word["evidence"]) == 3
    said = ("prompts with the concept", "pgd made against esd", "control of pgd made against esd")
    assert all(f"{name} 0.00 (−0.10 to 0.10)" in word["sentence"] for name in said)
    assert len(rules.found(ERASED, given)) == len(found["words"]) + 2


def test_the_headline_is_about_the_attack_made_on_the_variant_before_a_stronger_transferred_one():
    given = tables()
    given["effects"].append(effect(0.5, 0.9, provenance="transferred", against="other"))
    found = verdict(given)
    assert "erase_attack (optimised) reactivates them by +0.50" in found["headline"]
    assert word_of(found, "reactivation", provenance="transferred")["subject"] == "esd, erase_attack (transferred from other)"


def test_an_attack_that_reactivates_is_never_hidden_behind_the_one_shown_first():
    given = tables(reactivation=(-0.05, 0.5), asr=(0.0, 0.1), control=(0.0, 0.2))
    other = {"attack": "words", "provenance": "static", "against": None}
    given["effects"].append(effect(0.5, 0.9, **other))
    given["rates"] += [rate(0.6, 0.8, **other), rate(0.0, 0.1, control=True, **other)]
    said = verdict(given)["headline"]
    assert "erase_attack (optimised) leaves undecided whether it reactivates them (by +0.23" in said
    assert "words (static) reactivates them by +0.70 (0.50 to 0.90)" in said
    assert "under words (static) at 0.70, control 0.05: the concept returns" in said


@pytest.mark.parametrize("value, text", [(-0.004, "0.00"), (-0.12, "−0.12"), (0.1, "0.10")])
def test_numbers_have_a_true_minus_and_no_negative_zero(value, text):
    assert words._text(value) == text


def compared(p, **more):
    row = number(-0.5, -0.3, variant_a="esd", variant_b="pruned", prompt_set="pgd@esd", attack="pgd")
    given = tables()
    given["comparisons"] = [row | {"difference": -0.4, "p_mcnemar": p} | more]
    return word_of(verdict(given), "comparison", "pruned")["sentence"]


def test_a_comparison_says_which_rate_and_whose_prompts_it_is_about():
    assert "the share of images with the concept differs" in compared(0.001)
    said = compared(0.001, definition="asr", prompt_set_b="pgd@pruned")
    assert "the ASR differs" in said and "pgd made against esd and pgd made against pruned" in said


def test_a_comparison_of_units_with_several_images_names_its_test_and_its_units():
    said = compared(None, p_permutation=0.004, n=90, n_units=30)
    assert "n = 90 in 30 units" in said and "p by swapping units = 0.004" in said


def test_no_difference_found_comes_with_the_power_to_find_one():
    assert "power 0.31" in compared(0.4, power=0.31) and "true cut by 40%" in compared(0.4, power=0.31)
    assert "power" not in compared(0.4).lower() and "power" not in compared(0.4, power=None).lower()


def test_sentences_use_the_words_of_the_field():
    given, variants = several()
    given["retention"] = [{"variant": "esd", "kind": kind, "rate": 0.8, "low": 0.7, "high": 0.9, "n": 50} for kind in ("near", "far")]
    given["effects"].append(effect(-0.4, -0.2, name="pruning_effect_adversarial", neuron_set="watch") | {"variant": "pruned"})
    found = verdict(given, [*variants, ("pruned", "pruned")])
    told = " ".join([found["headline"], *found["reasons"], *found["caveats"], *(f"{w['word']} {w['sentence']}" for w in found["words"])])
    assert not re.search(r"silenc|woke|wake|quiet|plain|neighbour|false alarm|bring|brought", told.lower())
    assert "related concepts are drawn right" in told and "unrelated concepts are drawn right" in told
    assert PLAIN.keys() <= found["words"][0].keys()
