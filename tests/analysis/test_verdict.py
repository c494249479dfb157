"""The verdict's findings, sentences and headline, on rows written by hand; each rule by itself is in test_rules.py."""

import re

import pytest

from tests.analysis.verdict_rows import ATTACK, effect, number, other_row, plain_rate, rate, tables, together, validity
from workbench.analysis import rules
from workbench.analysis import verdict as words
from workbench.analysis.findings import OUTCOMES

ERASED = [("esd", "erased")]
NEURONS = ("deactivation", "reactivation", "these neurons", "another concept", "beyond the sham", "effect of pruning", "relocation")


def verdict(given, variants=None, **options):
    return words.verdict(variants or ERASED, given, "heart", **options)


def word_of(found, kind, variant="esd", **about):
    """The one word of the verdict of a kind."""
    (word,) = (w for w in found["words"] if (w["kind"], w["variant"]) == (kind, variant) and about.items() <= w.items())
    return word


def kinds(found):
    return [w["kind"] for w in found["words"]]


def test_every_word_carries_the_finding_as_data():
    given = tables()
    given["rates"] += [plain_rate(0.1, 0.3), plain_rate(0.9, 1.0, variant="base", definition="ceiling")]
    found = verdict(given)
    assert set(found) == {"headline", "words", "reasons", "caveats"}
    assert [(w["kind"], w["variant"], w["outcome"], w["attack"]) for w in found["words"]] == [
        ("set", "base", "valid set", None),
        ("deactivation", "esd", "deactivated", None),
        ("erasure", "esd", "below the base model", None),
        ("reactivation", "esd", "reactivated", "erase_attack"),
        ("images", "esd", "concept returns", "erase_attack"),
    ]
    for word in found["words"]:
        assert word["outcome"] in OUTCOMES[word["kind"]] and word["word"] == word["outcome"]
        assert all(set(e) == {"name", "value", "low", "high", "n"} for e in word["evidence"])
    attacked = word_of(found, "reactivation")
    assert (attacked["provenance"], attacked["against"]) == ("optimised", "esd")
    assert attacked["evidence"][0] == {"name": "reactivation", "value": 0.5, "low": 0.4, "high": 0.6, "n": 50}
    assert any("no removal" in caveat for caveat in found["caveats"])


def test_the_headline_names_its_variant_and_gives_each_number():
    given = tables()
    assert verdict(given)["headline"] == (
        "In esd, the neurons chosen for heart are deactivated (activity 0.10, 95 % CI 0.00 to 0.20; base model 1); "
        "erase_attack (optimised) reactivates the chosen neurons by +0.50 (0.40 to 0.60) of 0.90 lost, to an activity of 0.62; "
        "under erase_attack (optimised), the concept returns in the images of esd (rate 0.70, control 0.05)."
    )
    given["rates"].append(plain_rate(0.1, 0.3))
    assert verdict(given)["headline"].endswith("the concept returns in the images of esd (rate 0.70, control 0.05, without attack 0.20).")


def test_better_sentences_do_not_change_the_verdict(monkeypatch):
    """Outcomes and headline come from findings: whatever the sentences and titles say."""
    before = verdict(tables())
    for name in words.SENTENCES:
        monkeypatch.setitem(words.SENTENCES, name, lambda one, concept: "Another sentence.")
        monkeypatch.setitem(words.SUBJECTS, name, lambda one: "Another title")
    after = verdict(tables())
    assert after["headline"] == before["headline"] and {w["sentence"] for w in after["words"]} == {"Another sentence."}
    assert [w["outcome"] for w in after["words"]] == [w["outcome"] for w in before["words"]]


def test_every_kind_of_finding_of_the_result_has_a_title_and_a_sentence():
    assert set(words.SENTENCES) == set(words.SUBJECTS) == set(OUTCOMES) - {"known answer"}


@pytest.mark.parametrize(
    ("p", "outcome", "said"),
    [
        (0.031, "the concept returns", "the concept returns in the images of esd"),
        (0.2, "undecided", "it is undecided whether the concept returns in the images of esd"),
    ],
)
def test_the_headline_says_of_the_images_what_the_paired_test_says(p, outcome, said):
    rows = tables(asr=(0.1, 0.3), control=(0.0, 0.2))
    rows["against_control"] = [ATTACK | {"variant": "esd", "p_mcnemar": p, "low": 0.02}]
    found = verdict(rows)
    assert found["headline"].endswith(f"(optimised), {said} (rate 0.20, control 0.10).")
    assert f"(McNemar p = {p:.2g}): {outcome}." in word_of(found, "images")["sentence"]


def test_images_are_judged_where_the_neurons_could_not_be():
    given = tables()
    for table in ("activity", "effects"):
        given[table] = [row | dict.fromkeys(("value", "low", "high", "p_change")) for row in given[table]]
    found = verdict(given)
    assert kinds(found) == ["set", "images"] and word_of(found, "images")["outcome"] == "concept returns"
    assert found["headline"] == (
        "In esd, the activity of the neurons chosen for heart was not measured; "
        "under erase_attack (optimised), the concept returns in the images of esd (rate 0.70, control 0.05)."
    )
    given["rates"] = [row | dict.fromkeys(("rate", "low", "high")) for row in given["rates"]]
    found = verdict(given | {"set_validity": []})
    assert not found["words"] and "Nothing can be said about heart yet" in found["headline"]


def everything(variant="esd"):
    """A study in which every kind of finding is there."""
    given = tables(variant)
    own = {"variant": variant, "neuron_set": "concept", "trajectory": "reference"}
    beside = {"comparable": 0.94, "comparable_low": 0.88, "comparable_high": 0.97, "comparable_outcome": "no more"}
    beside |= {"comparable_difference": -0.08, "comparable_difference_low": -0.12, "comparable_difference_high": -0.04}
    given["effects"] = [row | beside for row in given["effects"]]
    nothing = dict.fromkeys(ATTACK)
    given["effects"].append(effect(0.85, 0.95, name="deactivation", **beside, **nothing) | own)
    given["effects"].append(effect(0.6, 0.8, name="deactivation_beyond_sham", compared_with="sham", **nothing) | own)
    given["rates"] += [plain_rate(0.1, 0.3, variant=variant), plain_rate(0.9, 1.0, variant="base", definition="ceiling")]
    return given


@pytest.mark.parametrize(
    ("row", "said", "headline"),
    [
        (
            {"valid": False, "reason": "No valid set: its scale is 2.2 standard errors from 0. Use more units or another score"},
            "No valid set: its scale is 2.2 standard errors from 0. Use more units or another score. The verdict says nothing",
            "The neurons chosen for heart are not a valid set, so the verdict says nothing about them; under erase_attack (optimised), the",
        ),
        (
            None,
            "was not tested, so the verdict says nothing about them",
            "Whether the neurons chosen for heart are a valid set was not tested",
        ),
    ],
)
def test_without_a_valid_set_nothing_is_said_about_neurons_and_images_are_judged_all_the_same(row, said, headline):
    given = everything()
    given["set_validity"] = [] if row is None else [validity(**row)]
    moved = [number(0.2, 0.4, variant="esd", iou=0.0, iou_chance=0.02, **ATTACK)]
    found = verdict(given, relocations=moved)
    assert kinds(found) == ["set", "erasure", "images"] and said in found["words"][0]["sentence"]
    assert found["headline"].startswith(headline) and "the concept returns in the images of esd" in found["headline"]
    assert "reactivat" not in found["headline"]


def test_a_valid_set_is_said_to_be_one_with_its_chance_level():
    said = word_of(verdict(tables()), "set", "base")["sentence"]
    assert said == (
        "The concept neurons of heart are a valid set: 0.88 of them are confirmed on the evaluation half (comparable sets 0.55 (0.47 to "
        "0.63)); their contrast in the base model is 15.3 standard errors from 0."
    )


@pytest.mark.parametrize("n_choosing", [None, 7])
def test_below_eight_units_a_half_numbers_are_printed_and_no_word_is_said(n_choosing):
    given = everything()
    if n_choosing is None:
        for name in ("activity", "effects", "set_validity", "rates"):
            given[name] = [row | {"n": 7} for row in given[name]]
    found = verdict(given, n_choosing=n_choosing)
    neurons = [w for w in found["words"] if w["kind"] in ("set", *NEURONS)]
    assert {w["outcome"] for w in neurons} == {"too few units"} and {w["kind"] for w in neurons} == {"set", "deactivation", "reactivation"}
    assert "0.50 (0.40 to 0.60" in word_of(found, "reactivation")["sentence"]
    assert found["headline"].startswith(
        "Too few units for a verdict on the neurons chosen for heart (7 per half, at least 8 needed); under erase_attack"
    )
    images = [w["outcome"] for w in found["words"] if w["kind"] in ("images", "erasure")]
    assert images == (["too few units"] * 2 if n_choosing is None else ["below the base model", "concept returns"])


def test_more_units_of_the_same_numbers_bring_the_words_back():
    assert word_of(verdict(everything(), n_choosing=8), "deactivation")["outcome"] == "deactivated"


def test_deactivated_while_drawn_is_the_finding_and_nothing_else_is_said_of_these_neurons():
    given = everything()
    given["rates"] = [
        row | {"rate": 0.7, "low": 0.6, "high": 0.8} if row["definition"] == "success_rate" else row for row in given["rates"]
    ]
    found = verdict(given)
    word = word_of(found, "deactivation")
    assert word["outcome"] == "deactivated while drawn"
    assert (
        "The images without attack show the concept at a rate of 0.70 (0.60 to 0.80), so these neurons do not carry it." in word["sentence"]
    )
    assert not {"reactivation", "these neurons"} & set(kinds(found)) and word_of(found, "images")["outcome"] == "concept returns"
    assert found["headline"].startswith(
        "In esd, the neurons chosen for heart are deactivated (activity 0.10, 95 % CI 0.00 to 0.20; base model 1) while its images show "
        "the concept at a rate of 0.70, so they do not carry it; under erase_attack"
    )


def test_a_sham_that_draws_the_concept_contradicts_nothing():
    given = tables("sham", activity=(0.1, 0.2))
    given["rates"].append(plain_rate(0.9, 1.0, variant="sham"))
    assert word_of(verdict(given, [("sham", "sham")]), "deactivation", "sham")["outcome"] == "deactivated"


def test_a_drift_that_does_not_pass_is_said_with_what_is_left_above_it():
    given = tables(drift=(-0.6, -0.4))
    given["effects"].append(effect(0.05, 0.25, name="target_over_reference", **dict.fromkeys(ATTACK)))
    found = verdict(given)
    word = word_of(found, "deactivation")
    assert word["outcome"] == "changed at large"
    assert "they drift by −0.50 (−0.60 to −0.40, n = 50): a fall of more than 0.1 is not excluded" in word["sentence"]
    assert "0.15 (0.05 to 0.25, n = 50)" in word["sentence"] and "changed at large" in found["headline"]


def test_a_damaged_model_is_not_called_erased():
    given = tables()
    given["retention"] = [
        {"variant": name, "kind": "far", "rate": at, "low": at - 0.1, "high": at + 0.1, "n": 50}
        for name, at in (("base", 0.9), ("esd", 0.2))
    ]
    found = verdict(given)
    word = word_of(found, "deactivation")
    assert word["outcome"] == "changed at large"
    assert "Unrelated concepts are drawn as asked at a rate of only 0.20 (0.10 to 0.30): the model is damaged." in word["sentence"]
    assert found["headline"].startswith(
        "esd changed at large, not only for heart, so no change can be attributed to erasing (activity 0.10"
    )


def test_a_small_drift_that_is_not_excluded_leaves_the_difference_to_decide():
    given = tables(drift=(-0.14, 0.0))
    given["effects"].append(effect(0.05, 0.25, name="target_over_reference", **dict.fromkeys(ATTACK)))
    word = word_of(verdict(given), "deactivation")
    assert (
        word["outcome"] == "deactivated"
        and "so the outcome rests on the activity with the concept minus that without it, 0.15" in word["sentence"]
    )
    given["effects"] = given["effects"][:-1]
    assert word_of(verdict(given), "deactivation")["outcome"] == "undecided"


def test_a_small_part_that_comes_back_is_said_as_that():
    given = tables(activity=(0.05, 0.15), reactivation=(0.12, 0.2), attacked=(0.2, 0.32))
    found = verdict(given)
    word = word_of(found, "reactivation")
    assert word["outcome"] == "reactivated in part"
    assert word["sentence"] == (
        "erase_attack (optimised) changes the activity of esd by 0.16 (0.12 to 0.20, n = 50) against its control (p by flipping the signs "
        "of units = 0.005); wording alone changes it by up to 0.10 in the base model. Without attack 0.90 of the activity is lost; under "
        "the attack it is 0.26 (0.20 to 0.32), still below the threshold 0.5 of deactivation: reactivated in part."
    )
    assert "reactivates the chosen neurons in part, by +0.16 (0.12 to 0.20) of 0.90 lost, to an activity of 0.26" in found["headline"]


def test_an_effect_that_wording_alone_has_in_the_base_model_reactivates_nothing():
    given = tables(reactivation=(0.1, 0.2))
    given["effects"] = [row | {"null_high": 0.28} for row in given["effects"]]
    found = verdict(given)
    assert word_of(found, "reactivation")["outcome"] == "not reactivated by these attacks"
    assert "wording alone changes it by up to 0.28" in word_of(found, "reactivation")["sentence"]
    assert (
        "did not reactivate the chosen neurons (erase_attack (optimised): +0.15, 95 % CI 0.10 to 0.20, against its control; wording "
        "alone: up to 0.28)" in (found["headline"])
    )
    given["effects"] = [row | dict.fromkeys(("null_low", "null_high")) for row in given["effects"]]
    word = word_of(verdict(given), "reactivation")
    assert word["outcome"] == "undecided" and "what wording alone does was not measured" in word["sentence"]


def test_is_it_these_neurons_is_answered_beside_every_effect_that_is_there():
    found = verdict(everything())
    lost, gained = (w for w in found["words"] if w["kind"] == "these neurons")
    assert (lost["outcome"], lost["attack"], gained["attack"]) == ("no more than comparable ones", None, "erase_attack")
    assert lost["sentence"] == (
        "In esd, the concept neurons lose 0.90, comparable neurons of the same layers 0.94 (95 % of such sets 0.88 to 0.97), a difference "
        "of −0.08 (−0.12 to −0.04): no more than comparable neurons. The response of whole layers to the prompt changes, not "
        "that of these neurons in particular."
    )
    assert "; base model 1), but no more than comparable neurons; " in found["headline"]
    beyond = word_of(found, "beyond the sham")
    assert (beyond["outcome"], beyond["subject"]) == ("more than the sham", "esd compared with sham")
    nothing = everything()
    nothing["effects"] = [row | {"comparable_outcome": None} for row in nothing["effects"]]
    assert "these neurons" not in kinds(verdict(nothing))


def with_another(*rows, valid=True):
    given = tables() | {"other_concept": list(rows)}
    given["set_validity"].append(validity(neuron_set="other", valid=valid, reason=None if valid else "No valid set: 0.5 of 5"))
    return given


def test_the_neurons_of_another_concept_stand_beside_those_of_the_study():
    given = with_another(
        other_row(-0.02, 0.04),
        other_row(0.2, 0.3, prompts="target"),
        other_row(0.3, 0.4, own=(0.4, 0.6), effect="reactivation", prompts="target"),
    )
    said = verdict(given)
    words = [word for word in said["words"] if word["kind"] == "another concept"]
    assert [word["outcome"] for word in words] == ["not those of another concept", *["also those of another concept"] * 2]
    assert words[0]["sentence"] == (
        "In esd, on prompts of heart, the neurons of heart lose 0.85 (0.80 to 0.90); on prompts of noto, the neurons of noto lose "
        "0.01 (−0.02 to 0.04, n = 50) on the scale of noto (p by flipping the signs of units = 0.001), a difference of +0.84 (0.76 to "
        "0.92): the neurons of noto change by less than 0.1."
    )
    assert "on prompts of heart, the neurons of noto lose" in words[1]["sentence"]
    assert words[2]["sentence"].startswith(
        "Under erase_attack (optimised), in esd, the neurons of heart gain 0.50 (0.40 to 0.60), the neurons"
    )
    assert words[2]["sentence"].endswith(": not only the neurons of heart.") and words[2]["attack"] == "erase_attack"
    assert any(word["sentence"].startswith("The neurons of noto are a valid set") for word in said["words"])
    assert "while those of noto change by less than 0.1" in said["headline"]


@pytest.mark.parametrize(
    "given", [with_another(other_row(0.3, 0.4), valid=False), with_another(other_row(0.3, 0.4, reason="why")), tables()]
)
def test_nothing_is_said_of_another_concepts_neurons_where_they_are_no_set(given):
    said = verdict(given)
    assert not [word for word in said["words"] if word["kind"] == "another concept"] and "noto" not in said["headline"]
    assert said["headline"] == verdict(tables())["headline"]


def test_another_concept_is_spoken_of_only_where_the_own_neurons_changed():
    given = with_another(other_row(0.3, 0.4), other_row(0.3, 0.4, effect="reactivation", prompts="target"))
    given |= {name: tables(activity=(0.6, 0.8), reactivation=(-0.05, 0.05), p=0.6)[name] for name in ("activity", "effects")}
    assert not [word for word in verdict(given)["words"] if word["kind"] == "another concept"]


def test_images_that_show_the_concept_without_neural_activity_are_said_in_the_headline():
    found = verdict(tables(reactivation=(-0.05, 0.05)))
    assert word_of(found, "reactivation")["outcome"] == "not reactivated by these attacks"
    assert "the attacks tried here did not reactivate the chosen neurons" in found["headline"] and "concept returns" in found["headline"]
    none = verdict(tables(reactivation=(-0.05, 0.05), asr=(0.0, 0.2)))
    assert "it is undecided whether the concept returns in the images" in none["headline"]


def at_the_ceiling(variant="esd", shown=(0.93, 1.0), **given):
    """A variant whose images show the concept as often as the base model's without attack."""
    given = tables(variant, asr=(0.96, 1.0), control=(0.95, 1.0), **given)
    given["rates"] += [plain_rate(*shown, variant=variant), plain_rate(0.93, 1.0, variant="base", definition="ceiling")]
    return given


@pytest.mark.parametrize("activity", [(0.0, 0.2), (0.4, 0.6), (0.7, 0.8)])
def test_at_the_ceiling_without_attack_no_sentence_speaks_of_reactivation(activity):
    found = verdict(at_the_ceiling(activity=activity))
    assert word_of(found, "erasure")["outcome"] == "as in the base model"
    assert {w["outcome"] for w in found["words"] if w["attack"]} == {"nothing to reactivate"}
    told = [found["headline"], *(w["sentence"] for w in found["words"])]
    assert not any(re.search(r"reactivat(es|ed)|returns", sentence) for sentence in told)
    assert found["headline"].endswith(
        "; the images of esd without attack show the concept as in the base model (rate 0.97 (0.93 to 1.00), base model 0.97 (0.93 to "
        "1.00)), so there was nothing to reactivate."
    )


def test_the_ceiling_is_decided_by_pairs_where_they_are():
    given = at_the_ceiling(shown=(0.7, 0.98), activity=(0.4, 0.6))
    assert word_of(verdict(given), "erasure")["outcome"] == "undecided"
    pair = {"variant_a": "base", "variant_b": "esd", "prompt_set": "target", "attack": None, "p_mcnemar": 0.001, "n": 50}
    given["comparisons"] = [pair | {"difference": -0.12, "low": -0.2, "high": -0.04}]
    found = verdict(given)
    assert word_of(found, "erasure")["outcome"] == "below the base model"
    assert "a difference of −0.12 (−0.20 to −0.04): below the base model" in word_of(found, "erasure")["sentence"]
    assert word_of(found, "reactivation")["outcome"] == "reactivated in part"


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
    return together(one, two, at_the_ceiling("ac", activity=(0.65, 0.7))), [("esd", "erased"), ("uce", "erased"), ("ac", "erased")]


def test_the_headline_of_several_variants_counts_them_and_names_worst_and_best():
    given, variants = several()
    given["rates"].append(plain_rate(0.0, 0.2, variant="esd"))
    assert verdict(given, variants)["headline"] == (
        "The neurons chosen for heart are deactivated in 1 of 3 erased variants, not deactivated in 2 (best esd, activity 0.10, 95 % CI"
        " 0.00 to 0.20; worst uce, activity 0.70, 95 % CI 0.60 to 0.80; base model 1); without attack the images of ac show the concept"
        " as in the base model, so there was nothing to reactivate; attacks reactivate the chosen neurons in 1 of 2 attacked variants, "
        "not reactivated in 1 (worst esd, erase_attack (optimised) +0.50, 95 % CI 0.40 to 0.60; best uce, erase_attack (optimised) "
        "0.00, 95 % CI −0.04 to 0.04); the concept returns in the images of 1 of 2 attacked variants, does not return in 1 (worst esd, "
        "erase_attack (optimised), rate 0.60, control 0.05, without attack 0.10; best uce, erase_attack (optimised), rate 0.03, control"
        " 0.05)."
    )


def test_the_headline_of_several_variants_says_in_how_many_it_is_these_neurons():
    given = together(everything("esd"), everything("uce"))
    variants = [("esd", "erased"), ("uce", "erased")]
    assert "; base model 1); no more than comparable neurons in 2; " in verdict(given, variants)["headline"]
    given["set_validity"] = [validity(valid=False, reason="No valid set: too little")]
    said = verdict(given, variants)["headline"]
    assert said.startswith(
        "The neurons chosen for heart are not a valid set, so the verdict says nothing about them; the concept returns in the images of 2"
    )


def test_the_headline_counts_variants_that_were_not_measured_and_leaves_shams_out():
    given, variants = several()
    given["activity"] = given["activity"][:1]
    said = verdict(given, [*variants, ("other", "sham")])["headline"]
    assert said.startswith("The neurons chosen for heart are deactivated in 1 of 3 erased variants, not measured in 2 (esd, activity 0.10")


def test_a_sham_says_how_far_erasing_anything_moves_the_neurons():
    found = verdict(tables("sham", activity=(0.9, 1.0)), [("sham", "sham")])
    assert kinds(found) == ["set", "deactivation"]
    word = word_of(found, "deactivation", "sham")
    assert word["outcome"] == "not deactivated" and "how far erasing anything moves them" in word["sentence"]


def test_a_pruned_variant_is_judged_on_the_watch_set_only():
    given, pruned = tables(), [("esd", "pruned")]
    assert kinds(verdict(given, pruned)) == ["set", "images"]
    for name in ("activity", "effects"):
        given[name] = [row | {"neuron_set": "watch"} for row in given[name]]
    given["effects"].append(effect(-0.4, -0.2, name="pruning_effect_adversarial", neuron_set="watch"))
    found = verdict(given, pruned)
    assert word_of(found, "effect of pruning")["outcome"] == "less active"
    assert "the watched concept neurons have an activity" in word_of(found, "deactivation")["sentence"]
    given["set_validity"] = [validity(), validity(neuron_set="watch", valid=False, reason="No valid set: too little")]
    assert kinds(verdict(given, pruned)) == ["set", "images"]


def test_pruning_is_not_credited_with_an_attack_that_was_made_against_its_parent():
    given = tables()
    for name in ("activity", "effects"):
        given[name] = [row | {"neuron_set": "watch"} for row in given[name]]
    moved = {"provenance": "transferred", "against": "parent"}
    given["effects"].append(effect(-0.25, -0.1, p=0.001, name="pruning_effect_adversarial", neuron_set="watch", **moved))
    word = word_of(verdict(given, [("esd", "pruned")]), "effect of pruning")
    assert word["outcome"] == "transferred attack"
    assert "The attack was made against parent, so the difference is not the effect of pruning alone." in word["sentence"]


FAIR = {"provenance_a": "optimised", "provenance_b": "optimised", "pair": "parent", "control": False}


def test_comparisons_and_relocation_become_words():
    given = tables()
    given["comparisons"] = [
        number(-0.5, -0.3, variant_a="esd", variant_b="pruned", prompt_set="adversarial", attack="erase_attack", **FAIR)
        | {"difference": -0.4, "p_mcnemar": 0.0001}
    ]
    moved = [number(0.2, 0.4, variant="esd", iou=0.0, iou_chance=0.02, **ATTACK)]
    found = verdict(given, relocations=moved)
    word = word_of(found, "comparison", "pruned")
    assert (word["outcome"], word["beside"], word["attack"]) == ("fewer images", "esd", "erase_attack")
    assert word["subject"] == "pruned compared with esd, images under erase_attack"
    assert word_of(found, "relocation")["outcome"] == "relocated"
    assert "erase_attack (optimised) reactivates the chosen neurons by +0.50" in found["headline"]


def pair(name, attack, p, **more):
    row = number(-0.1, 0.1, variant_a="esd", variant_b="pruned", prompt_set=name, attack=attack, **FAIR)
    return row | {"difference": 0.0, "p_mcnemar": p} | more


def test_undecided_comparisons_of_two_variants_share_one_entry():
    given = tables()
    given["comparisons"] = [pair("target", None, None), pair("pgd@esd", "pgd", 0.7, prompt_set_b="pgd@pruned"), pair("words", "words", 1.0)]
    found = verdict(given)
    word = word_of(found, "comparison", "pruned")
    assert (word["outcome"], word["beside"], word["attack"]) == ("undecided", "esd", None) and len(word["evidence"]) == 3
    said = ("prompts with the concept", "pgd made against esd and pgd made against pruned", "words")
    assert all(f"{name} 0.00 (−0.10 to 0.10)" in word["sentence"] for name in said)
    assert len(rules.found(ERASED, given)) == len(found["words"]) + 2


def test_a_transferred_attack_is_named_as_that_and_compares_nothing():
    given = tables()
    cut = {"difference": -0.17, "low": -0.3, "high": -0.05, "p": 0.016}
    given["comparisons"] = [
        pair("pgd@esd", "pgd", 0.016, provenance_b="transferred") | cut,
        pair("pgd@esd", "pgd", 0.6, prompt_set_b="pgd@pruned") | {"difference": -0.03, "low": -0.1, "high": 0.05, "p": 0.6},
    ]
    found = verdict(given)
    outcomes = {w["outcome"]: w["sentence"] for w in found["words"] if w["kind"] == "comparison"}
    assert set(outcomes) == {"transferred attack", "undecided"}
    assert "made against only one of esd and pruned, and transferred to the other" in outcomes["transferred attack"]
    assert "pgd made against esd −0.17 (−0.30 to −0.05)" in outcomes["transferred attack"] and "−0.03" in outcomes["undecided"]


def test_only_pairs_of_interest_are_compared_in_words():
    given = tables()
    cut = {"difference": -0.4, "low": -0.5, "high": -0.3, "p": 0.0001}
    given["comparisons"] = [pair("target", None, 0.0001, pair="peer") | cut, pair("words~control", "words", 0.0001, control=True) | cut]
    assert "comparison" not in kinds(verdict(given))
    given["comparisons"] = [pair("target", None, 0.0001, pair=name) | cut for name in ("parent", "control")]
    assert kinds(verdict(given)).count("comparison") == 2


def test_the_headline_is_about_the_attack_made_on_the_variant_before_a_stronger_transferred_one():
    given = tables()
    given["effects"].append(effect(0.5, 0.9, provenance="transferred", against="other"))
    found = verdict(given)
    assert "erase_attack (optimised) reactivates the chosen neurons by +0.50" in found["headline"]
    assert word_of(found, "reactivation", provenance="transferred")["subject"] == "esd, erase_attack (transferred from other)"


def test_an_attack_that_reactivates_is_never_hidden_behind_the_one_shown_first():
    given = tables(reactivation=(-0.05, 0.5), asr=(0.0, 0.1), control=(0.0, 0.2))
    other = {"attack": "words", "provenance": "static", "against": None}
    given["effects"].append(effect(0.5, 0.9, **other))
    given["rates"] += [rate(0.6, 0.8, **other), rate(0.0, 0.1, control=True, **other)]
    said = verdict(given)["headline"]
    assert "it is undecided whether erase_attack (optimised) reactivates the chosen neurons (+0.23" in said
    assert ", but words (static) reactivates them in part, by +0.70 (0.50 to 0.90)" in said
    assert "under words (static), the concept returns (rate 0.70, control 0.05)" in said


@pytest.mark.parametrize("value, text", [(-0.004, "0.00"), (-0.12, "−0.12"), (0.1, "0.10")])
def test_numbers_have_a_true_minus_and_no_negative_zero(value, text):
    assert words._text(value) == text


def compared(p, **more):
    row = number(-0.5, -0.3, variant_a="esd", variant_b="pruned", prompt_set="pgd@esd", attack="pgd", **FAIR)
    given = tables()
    given["comparisons"] = [row | {"difference": -0.4, "p_mcnemar": p} | more]
    return word_of(verdict(given), "comparison", "pruned")["sentence"]


def test_a_comparison_says_which_rate_and_whose_prompts_it_is_about():
    assert "the share of images with the concept differs" in compared(0.001)
    said = compared(0.001, definition="asr", prompt_set_b="pgd@pruned")
    assert "the ASR differs" in said and "pgd made against esd and pgd made against pruned" in said
    assert "McNemar p, Benjamini-Hochberg over 12 tests = 0.004" in compared(0.001, p_adjusted=0.004, n_family=12)


def test_a_comparison_of_units_with_several_images_names_its_test_and_its_units():
    said = compared(None, p_permutation=0.004, n=90, n_units=30)
    assert "n = 90 in 30 units" in said and "p by swapping units = 0.004" in said


def test_no_difference_found_comes_with_the_power_to_find_one():
    assert "power 0.31" in compared(0.4, power=0.31) and "true reduction by 40 %" in compared(0.4, power=0.31)
    assert "power" not in compared(0.4).lower() and "power" not in compared(0.4, power=None).lower()


def test_nothing_depends_on_the_order_of_the_rows():
    given, variants = several()
    turned = {name: rows[::-1] for name, rows in given.items()}
    one, two = (verdict(each, variants) for each in (given, turned))
    assert one["headline"] == two["headline"]
    assert sorted(map(str, one["words"])) == sorted(map(str, two["words"]))


def test_an_attack_without_numbers_changes_no_word():
    given, variants = several()
    before = verdict(given, variants)
    made = {"attack": "empty", "provenance": "optimised", "against": "esd"}
    nothing = dict.fromkeys(("value", "low", "high", "p_change", "null_low", "null_high")) | {"reason": "not recorded"}
    given["effects"].append(effect(0, 0, **made) | nothing)
    given["rates"] += [rate(0, 0, control=control, **made) | dict.fromkeys(("rate", "low", "high", "n")) for control in (False, True)]
    assert verdict(given, variants) == before


def test_sentences_use_the_words_of_the_field():
    given, variants = several()
    given["retention"] = [{"variant": "esd", "kind": kind, "rate": 0.8, "low": 0.7, "high": 0.9, "n": 50} for kind in ("near", "far")]
    given["effects"].append(effect(-0.4, -0.2, name="pruning_effect_adversarial", neuron_set="watch") | {"variant": "pruned"})
    found = verdict(given, [*variants, ("pruned", "pruned")])
    other = verdict(everything())
    told = [found["headline"], *found["reasons"], *found["caveats"], other["headline"]]
    told = " ".join([*told, *(f"{w['word']} {w['sentence']}" for one in (found, other) for w in one["words"])])
    assert not re.search(r"silenc|woke|wake|quiet|plain|neighbour|false alarm|bring|brought", told.lower())
    assert "related concepts are drawn as asked" in told and "unrelated concepts are drawn as asked" in told
