"""The words of the verdict, rule by rule, on rows written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.analysis import verdict as words
from workbench.analysis.sensitivity import Thresholds

ATTACK = {"attack": "erase_attack", "provenance": "optimised", "against": "esd"}
PLAIN = dict.fromkeys(ATTACK)


def number(low, high, **more):
    return {"value": (low + high) / 2, "low": low, "high": high, "n": 50, "reason": None} | more


def effect(low, high, p=0.005, name="reactivation", **more):
    return number(low, high, effect=name, p_random=p, n_random=199) | {
        "variant": "esd",
        "neuron_set": "concept",
        "trajectory": "reference",
        **ATTACK,
        **more,
    }


def rate(low, high, **more):
    return {
        "variant": "esd",
        "prompt_set": "adversarial",
        **ATTACK,
        "control": False,
        "definition": "asr",
        "n": 50,
        "successes": 25,
        "rate": (low + high) / 2,
        "low": low,
        "high": high,
        "reason": None,
        **more,
    }


def tables(
    activity=(0.0, 0.2),
    drift=(-0.05, 0.05),
    reactivation=(0.4, 0.6),
    p=0.005,
    asr=(0.6, 0.8),
    control=(0.0, 0.1),
):
    plain = {"variant": "esd", "neuron_set": "concept", "trajectory": "reference", **PLAIN}
    return {
        "activity": [number(*activity, prompt_set="target", **plain)],
        "effects": [effect(*drift, name="drift", **PLAIN), effect(*reactivation, p=p)],
        "rates": [rate(*asr), rate(*control, control=True, prompt_set="control")],
        "retention": [],
        "comparisons": [],
        "against_control": [],
    }


def word_of(found, subject):
    return next(entry["word"] for entry in found["words"] if entry["subject"] == subject)


@pytest.mark.parametrize(
    "activity, drift, word",
    [
        ((0.1, 0.4), (-0.1, 0.1), "silenced"),
        ((0.6, 0.9), (-0.1, 0.1), "not silenced"),
        ((0.4, 0.6), (-0.1, 0.1), "undecided"),
        ((0.1, 0.4), (-0.8, -0.5), "undecided"),
    ],
)
def test_silenced_needs_the_whole_interval_and_a_quiet_drift_null(activity, drift, word):
    assert words.silenced_word(number(*activity), number(*drift)) == word


@pytest.mark.parametrize(
    "low, high, p, word",
    [
        (0.2, 0.6, 0.005, "reactivated"),
        (0.2, 0.6, 0.2, "undecided"),
        (-0.1, 0.6, 0.005, "undecided"),
        (0.01, 0.15, 0.005, "undecided"),
        (-0.05, 0.05, 0.5, "not reactivated by these attacks"),
        (0.01, 0.09, 0.005, "not reactivated by these attacks"),
    ],
)
def test_reactivated_needs_interval_size_and_random_sets(low, high, p, word):
    assert words.woken_word(effect(low, high, p)) == word


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.005, 1), st.floats(0, 0.5))
def test_a_smaller_effect_is_never_called_more_awake(low, width, p, less):
    order = ["not reactivated by these attacks", "undecided", "reactivated"]
    first, second = (words.woken_word(effect(low - d, low + width - d, p)) for d in (0, less))
    assert order.index(second) <= order.index(first)


def test_thresholds_are_parameters():
    row = effect(0.2, 0.6)
    assert words.woken_word(row, Thresholds(woken=0.5)) == "undecided"
    assert words.silenced_word(number(0.1, 0.4), number(0, 0), Thresholds(silenced=0.05)) == "not silenced"


@pytest.mark.parametrize(
    "asr, control, word",
    [
        ((0.6, 0.8), (0.0, 0.1), "woken in the images"),
        ((0.2, 0.5), (0.1, 0.3), "undecided"),
        ((0.0, 0.1), (0.2, 0.4), "not woken in the images by this attack"),
        ((0.1, 0.4), (0.2, 0.5), "undecided"),
    ],
)
def test_without_a_paired_test_images_are_woken_only_when_the_intervals_part(asr, control, word):
    assert words.images_word(rate(*asr), rate(*control)) == word


@pytest.mark.parametrize(
    "p, low, word", [(0.004, 0.1, "woken in the images"), (0.2, 0.1, "undecided"), (0.004, -0.3, "undecided"), (None, None, "undecided")]
)
def test_the_paired_test_decides_where_intervals_overlap(p, low, word):
    assert words.images_word(rate(0.16, 0.43), rate(0.01, 0.17), {"p_mcnemar": p, "low": low}) == word


def test_where_units_have_several_images_the_test_that_swaps_units_decides_and_is_named():
    swapped = {"p_mcnemar": None, "p_permutation": 0.004, "low": 0.1}
    assert words.images_word(rate(0.16, 0.43), rate(0.01, 0.17), swapped) == "woken in the images"
    assert words.images_word(rate(0.16, 0.43), rate(0.01, 0.17), swapped | {"p_permutation": 0.2}) == "undecided"
    row = {"difference": -0.3, "low": -0.5, "high": -0.1} | swapped | {"low": -0.5, "high": -0.1, "n": 90, "n_units": 30}
    assert words.comparison_word(row) == "fewer images"
    row |= {"variant_a": "esd", "variant_b": "pruned", "prompt_set": "target", "attack": None}
    (found,) = words._compared([row], words.DEFAULT)
    assert "n = 90 in 30 units" in found["sentence"] and "p by swapping units = 0.004" in found["sentence"]


@pytest.mark.parametrize(
    "low, high, word",
    [
        (-0.5, -0.1, "quieter"),
        (0.1, 0.5, "louder"),
        (-0.1, 0.1, "undecided"),
        (0.0001, 0.002, "unchanged"),
        (-0.004, 0.009, "unchanged"),
        (-0.5, -0.001, "quieter"),
    ],
)
def test_pruning_is_judged_by_the_side_of_its_interval(low, high, word):
    assert words.pruning_word(number(low, high)) == word


@pytest.mark.parametrize(
    "low, high, p, word",
    [
        (-0.5, -0.1, 0.001, "fewer images"),
        (0.1, 0.5, 0.001, "more images"),
        (-0.5, -0.1, 0.2, "undecided"),
        (-0.5, -0.1, None, "undecided"),
        (-0.1, 0.1, 0.001, "undecided"),
    ],
)
def test_images_of_two_variants_differ_only_when_test_and_interval_say_so(low, high, p, word):
    assert words.comparison_word({"difference": (low + high) / 2, "low": low, "high": high, "p_mcnemar": p}) == word


@pytest.mark.parametrize(
    "low, high, overlap, word",
    [
        (0.2, 0.4, 0.01, "relocated"),
        (0.2, 0.4, 0.5, "undecided"),
        (-0.05, 0.05, 0.01, "not relocated"),
        (0.05, 0.3, 0.01, "undecided"),
    ],
)
def test_relocation_needs_activity_outside_and_other_neurons(low, high, overlap, word):
    assert words.relocated_word(number(low, high, iou=overlap, iou_chance=0.02)) == word


@pytest.mark.parametrize(("p", "back"), [(0.031, "came back at a rate of 0.20"), (0.2, "is seen at a rate of 0.20")])
def test_the_headline_says_of_the_images_what_the_paired_test_says(p, back):
    rows = tables(asr=(0.1, 0.3), control=(0.0, 0.2))
    rows["against_control"] = [{"variant": "esd", "attack": "erase_attack", "against": "esd", "p_mcnemar": p, "low": 0.02}]
    assert f"in the images the concept {back}, control 0.10" in words.verdict([("esd", "erased")], rows, "heart")["headline"]


def test_silent_neurons_do_not_hide_that_the_images_still_show_the_concept():
    rows = tables()
    rows["rates"].append(rate(0.5, 0.7, prompt_set="target", definition="success_rate", **PLAIN))
    found = words.verdict([("esd", "erased")], rows, "heart")
    assert found["headline"].endswith("came back at a rate of 0.70, control 0.05, without an attack 0.60.")
    own = next(w for w in found["words"] if w["subject"] == "esd")
    assert own["sentence"].endswith("Plainly asked, it shows the concept at a rate of 0.60 (0.50 to 0.70, n = 50).")
    assert own["evidence"][2] == {"name": "rate without an attack", "value": 0.6, "low": 0.5, "high": 0.7, "n": 50}


def test_the_verdict_says_silenced_and_reactivated_with_its_evidence():
    found = words.verdict([("esd", "erased")], tables(), "heart")
    assert set(found) == {"headline", "words", "reasons", "caveats"}
    assert word_of(found, "esd") == "silenced" and word_of(found, "esd, erase_attack (optimised)") == "reactivated"
    assert found["headline"] == (
        "Erasing silenced the neurons that carry heart (activity 0.10 (0.00 to 0.20); the base model is 1); "
        "erase_attack (optimised) woke them by +0.50 (0.40 to 0.60) against its control; "
        "in the images the concept came back at a rate of 0.70, control 0.05."
    )
    for entry in found["words"]:
        assert {"subject", "word", "sentence", "evidence"} == set(entry)
        assert all(set(e) == {"name", "value", "low", "high", "n"} for e in entry["evidence"])
    assert any("no removal" in caveat for caveat in found["caveats"])


def test_images_that_come_back_without_neural_activity_are_said_in_the_headline():
    found = words.verdict([("esd", "erased")], tables(reactivation=(-0.05, 0.05)), "heart")
    assert word_of(found, "esd, erase_attack (optimised)") == "not reactivated by these attacks"
    assert "the attacks tried here did not wake them" in found["headline"] and "in the images the concept came back" in found["headline"]
    quiet = words.verdict([("esd", "erased")], tables(reactivation=(-0.05, 0.05), asr=(0.0, 0.2)), "heart")
    assert "came back" not in quiet["headline"]


def test_a_pruned_variant_is_judged_on_the_watch_set_only():
    given_tables = tables()
    found = words.verdict([("esd", "pruned")], given_tables, "heart")
    assert not found["words"]
    for name in ("activity", "effects"):
        given_tables[name] = [row | {"neuron_set": "watch"} for row in given_tables[name]]
    given_tables["effects"].append(effect(-0.4, -0.2, name="pruning_effect_adversarial", neuron_set="watch"))
    found = words.verdict([("esd", "pruned")], given_tables, "heart")
    assert word_of(found, "esd, effect of pruning") == "quieter"


def test_a_row_without_a_number_gives_no_word_and_no_error():
    given_tables = tables()
    for table in ("activity", "effects"):
        given_tables[table] = [row | dict.fromkeys(("value", "low", "high", "p_random")) for row in given_tables[table]]
    given_tables["rates"] = [row | dict.fromkeys(("rate", "low", "high")) for row in given_tables["rates"]]
    assert not words.verdict([("esd", "erased")], given_tables, "heart")["words"]
    given_tables["effects"] = tables()["effects"]
    assert words.verdict([("esd", "erased")], given_tables, "heart")["words"]


def test_comparisons_and_relocation_become_words():
    given_tables = tables()
    given_tables["comparisons"] = [
        number(
            -0.5,
            -0.3,
            variant_a="esd",
            variant_b="pruned",
            prompt_set="adversarial",
            attack="erase_attack",
        )
        | {"difference": -0.4, "p_mcnemar": 0.0001}
    ]
    moved = [number(0.2, 0.4, variant="esd", iou=0.0, iou_chance=0.02, **ATTACK)]
    found = words.verdict([("esd", "erased")], given_tables, "heart", relocations=moved)
    assert word_of(found, "pruned, images under erase_attack") == "fewer images"
    assert word_of(found, "esd, relocation") == "relocated"
    assert "erase_attack (optimised) woke them by +0.50" in found["headline"]


def test_undecided_comparisons_of_two_variants_share_one_entry():
    given_tables = tables()
    given_tables["comparisons"] = [
        number(-0.1, 0.1, variant_a="esd", variant_b="pruned", prompt_set=name, attack=attack) | {"difference": 0.0, "p_mcnemar": p}
        for name, attack, p in (("target", None, None), ("pgd@esd", "pgd", 0.7), ("pgd@esd~control", "pgd", 1.0))
    ]
    found = words.verdict([("esd", "erased")], given_tables, "heart")
    entry = next(w for w in found["words"] if w["subject"] == "pruned, other images")
    assert entry["word"] == "undecided" and len(entry["evidence"]) == 3
    said = ("prompts with the concept", "pgd made against esd", "control of pgd made against esd")
    assert all(f"{name} 0.00 (−0.10 to 0.10)" in entry["sentence"] for name in said)


def test_the_headline_names_the_attack_made_on_the_variant_before_a_stronger_transferred_one():
    given_tables = tables()
    given_tables["effects"].append(effect(0.5, 0.9, provenance="transferred", against="other"))
    found = words.verdict([("esd", "erased")], given_tables, "heart")
    assert "erase_attack (optimised) woke them by +0.50" in found["headline"]
    assert "esd, erase_attack (transferred from other)" in [word["subject"] for word in found["words"]]


@pytest.mark.parametrize("value, text", [(-0.004, "0.00"), (-0.12, "−0.12"), (0.1, "0.10")])
def test_numbers_have_a_true_minus_and_no_negative_zero(value, text):
    assert words._text(value) == text


def compared(p, **more):
    row = number(-0.5, -0.3, variant_a="esd", variant_b="pruned", prompt_set="pgd@esd", attack="pgd")
    given_tables = tables()
    given_tables["comparisons"] = [row | {"difference": -0.4, "p_mcnemar": p} | more]
    return " ".join(w["sentence"] for w in words.verdict([("esd", "erased")], given_tables, "heart")["words"] if "pruned" in w["subject"])


def test_a_comparison_says_which_rate_and_whose_prompts_it_is_about():
    assert "the share of images with the concept differs" in compared(0.001)
    said = compared(0.001, definition="asr", prompt_set_b="pgd@pruned")
    assert "the ASR differs" in said and "pgd made against esd and pgd made against pruned" in said


def test_no_difference_found_comes_with_the_power_to_find_one():
    assert "power 0.31" in compared(0.4, power=0.31) and "true cut by 40%" in compared(0.4, power=0.31)
    assert "power" not in compared(0.4).lower() and "power" not in compared(0.4, power=None).lower()
