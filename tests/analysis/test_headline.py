"""One rule says which attack is shown first; headline, card, pictures and neuron table follow it."""

import numpy as np
import pandas
import pytest

from tests.analysis.verdict_rows import effect, rate, tables, validity
from workbench.analysis import headline
from workbench.analysis.verdict import verdict
from workbench.execution.stages.measure import with_headline
from workbench.report.content import Report
from workbench.report.headline import cards
from workbench.study.neuron_choice import Choose
from workbench.ui import headline_numbers

WORDS = {"attack": "words", "provenance": "static", "against": None}
MOVED = {"attack": "pgd", "provenance": "transferred", "against": "other"}
OWN = {"attack": "pgd", "provenance": "optimised", "against": "esd"}


def first(effects, rates=(), role="erased"):
    return headline.first_attack(effects, list(rates), "esd", role)


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([(WORDS, 0.2), (MOVED, 0.9)], MOVED),
        ([(MOVED, 0.9), (OWN, 0.1), (WORDS, 0.5)], OWN),
        ([(WORDS, 0.4), (MOVED, 0.4)], WORDS),
        ([(OWN, None), (WORDS, -0.2)], WORDS),
        ([(OWN, None)], None),
        ([], None),
    ],
)
def test_made_against_the_variant_first_then_the_largest_reactivation(rows, shown):
    rows = [effect(0, 0, **made) | {"value": value} for made, value in rows]
    assert first(rows) == shown
    other = effect(0.9, 0.9, **OWN)
    strangers = [other | {"variant": "uce"}, other | {"effect": "gross_reactivation"}, other | {"neuron_set": "watch"}]
    assert first([*strangers, *rows]) == shown


def test_where_no_activity_was_measured_the_images_decide():
    rates = [
        rate(0.1, 0.3, **WORDS),
        rate(0.8, 0.9, control=True, **WORDS),
        rate(0.3, 0.5, **MOVED),
        rate(0.9, 1, definition="pre_asr", **WORDS),
    ]
    missing = [effect(0, 0, **OWN) | {"value": None}]
    assert first(missing, rates) == MOVED
    assert first(missing, [*rates, rate(0, 0.1, **OWN)]) == OWN
    assert first([effect(0.1, 0.2, **WORDS)], rates) == WORDS


NO_SET = [validity(valid=False, reason="No valid set: chance. Use more units or another score")]


@pytest.mark.parametrize(
    ("sets", "role", "shown"),
    [
        ([validity()], "erased", WORDS),
        (NO_SET, "erased", MOVED),
        ([], "erased", WORDS),  # a report from before this was asked
        ([*NO_SET, validity(neuron_set="watch")], "erased", MOVED),
        ([validity(), *(row | {"neuron_set": "watch"} for row in NO_SET)], "erased", WORDS),
        ([validity(), *(row | {"neuron_set": "watch"} for row in NO_SET)], "pruned", MOVED),
        ([validity(), *(row | {"trajectory": "target"} for row in NO_SET)], "erased", WORDS),
        ([validity(neuron_set="watch")], "erased", MOVED),  # of the set that would speak nothing is known
    ],
)
def test_reactivation_chooses_only_where_the_set_is_valid_else_the_images_do(sets, role, shown):
    effects = [effect(0.8, 0.9, neuron_set=name, **WORDS) for name in ("concept", "watch")]
    effects += [effect(0.1, 0.2, neuron_set=name, **MOVED) for name in ("concept", "watch")]
    rates = [rate(0.1, 0.3, **WORDS), rate(0.3, 0.5, **MOVED)]
    assert headline.first_attack(effects, rates, "esd", role, validity=sets) == shown
    # without images the attacks stand in no order that numbers of these neurons make
    alone = headline.first_attack(effects[::-1], [], "esd", role, validity=sets)
    assert alone == (WORDS if shown == WORDS else MOVED)


def test_without_a_valid_set_no_number_of_neurons_is_on_the_card_and_the_images_are():
    given = tables(reactivation=(0.4, 0.6)) | {"set_validity": NO_SET}
    given["effects"].append(effect(0.1, 0.2, **WORDS))
    given["rates"] += [rate(0.9, 0.95, **WORDS), rate(0.0, 0.1, control=True, **WORDS)]
    document = given | {"models": [{"variant": "base", "role": "base"}, {"variant": "esd", "role": "erased"}]}
    card = cards(Report(document), "esd")
    assert card["reactivation"]["value"] is card["reactivation"]["low"] is card["reactivation"]["high"] is None
    assert card["reactivation"]["reason"] == "No valid set: chance. Use more units or another score"
    assert (card["attack"]["rate"], card["control"]["control"]) == (pytest.approx(0.7), True)
    (shown,) = (one for one in headline_numbers.headline_numbers(Report(document | {"retention": []}), "esd") if one.key == "reactivation")
    assert (shown.value, shown.words) == ("—", "No valid set: chance. Use more units or another score.")
    valid = cards(Report(document | {"set_validity": [validity()]}), "esd")["reactivation"]
    assert valid["value"] == pytest.approx(0.5) and valid["reason"] is None


def test_the_card_of_a_valid_set_says_the_p_of_a_change_and_not_that_among_random_sets():
    given = tables(reactivation=(0.4, 0.6))
    given["effects"][1] |= {"p_change": 0.002, "p_change_adjusted": 0.004, "n_family": 2, "p_random": 0.6, "n_random": 199}
    document = given | {"models": [{"variant": "base", "role": "base"}, {"variant": "esd", "role": "erased"}]}
    (shown,) = (one for one in headline_numbers.headline_numbers(Report(document), "esd") if one.key == "reactivation")
    assert "p = 0.004 by flipping the signs of units, Benjamini-Hochberg over 2 tests" in shown.words and "random" not in shown.words


def test_a_pruned_variant_is_read_on_the_watch_set_and_latents_without_the_concept_come_first():
    rows = [effect(0.9, 0.9, **WORDS), effect(0.1, 0.1, neuron_set="watch", **OWN), effect(0.95, 0.95, trajectory="target", **MOVED)]
    assert first(rows) == WORDS and first(rows, role="pruned") == OWN
    assert first([row | {"trajectory": "target"} for row in rows]) == MOVED


@pytest.mark.parametrize("strong", [WORDS, MOVED])
def test_headline_card_and_neuron_table_are_about_one_attack(strong):
    """The attack made against the variant is undecided, another one reactivates: three places, one attack."""
    given = tables(reactivation=(-0.05, 0.5))
    given["effects"].append(effect(0.5, 0.9, **strong))
    given["rates"] += [rate(0.6, 0.8, **strong), rate(0.0, 0.1, control=True, **strong)]
    shown = {"attack": "erase_attack", "provenance": "optimised", "against": "esd"}
    document = given | {"models": [{"variant": "base", "role": "base"}, {"variant": "esd", "role": "erased"}]}
    card = cards(Report(document), "esd")
    assert headline.made(card["reactivation"]) == headline.made(card["attack"]) == headline.made(card["control"]) == shown
    said = verdict([("esd", "erased")], given, "heart")["headline"]
    assert said.index("erase_attack (optimised)") < said.index(strong["attack"] + " (")

    made = f"{strong['attack']}@other" if strong["against"] else strong["attack"]
    table = {
        "contrast_a": [1.0],
        "contrast_b": [1.0],
        "kappa_reference": [1.0],
        "kappa_se_reference": [0.1],
        "excluded_reference": [False],
        "d_esd_reference": [1.0],
    }
    for name, value in (("erase_attack@esd", 0.25), (made, 0.75)):
        table |= {f"r_esd_reference_{name}": [value], f"delta_esd_reference_{name}": [value]}
    study = type("Study", (), {"choose": Choose(), "variants": [type("Part", (), {"name": "esd", "role": "erased"})]})
    found = with_headline(pandas.DataFrame(table), given, study, "reference")
    assert found["r_esd"].item() == found["delta_esd"].item() == 0.25
    assert np.isclose(card["reactivation"]["value"], 0.225)
