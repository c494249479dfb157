"""One rule says which attack is shown first; headline, card, pictures and neuron table follow it."""

import numpy as np
import pandas
import pytest

from tests.analysis.verdict_rows import effect, rate, tables
from workbench.analysis import headline
from workbench.analysis.verdict import verdict
from workbench.report import summary
from workbench.run.measure import with_headline
from workbench.study.study import Choose

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
    card = summary.cards(document, "esd")
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
    found = with_headline(pandas.DataFrame(table), given["effects"], study, "reference")
    assert found["r_esd"].item() == found["delta_esd"].item() == 0.25
    assert np.isclose(card["reactivation"]["value"], 0.225)
