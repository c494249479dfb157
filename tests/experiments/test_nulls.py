"""The null calibration: what it records is null, what it draws is a study, and its table counts what was said."""

import numpy as np
import pytest
import torch

from experiments.nulls import draws as null_draws
from experiments.nulls import pool as null_pool
from experiments.nulls import tables
from workbench.execution import plan as planning
from workbench.study.prompts import read_pairs


@pytest.fixture(scope="module")
def change():
    generator = torch.Generator().manual_seed(0)
    return {"unet.a.weight": torch.randn(6, 4, generator=generator) * 0.1, "unet.a.bias": torch.randn(6, generator=generator)}


@pytest.mark.parametrize("kind, scale", [("noise", 1), ("noise", 20), ("rotated", 1)])
def test_a_null_eraser_changes_each_parameter_by_its_multiple_of_the_erasers_norm(change, kind, scale):
    made = null_pool.null_change(change, kind, scale, 3)
    for name, value in change.items():
        assert float(made[name].norm()) == pytest.approx(scale * float(value.norm()), rel=1e-5)
        assert not torch.allclose(made[name], value)
    assert all(torch.equal(a, b) for a, b in zip(made.values(), null_pool.null_change(change, kind, scale, 3).values(), strict=True))


def test_a_rotated_change_answers_to_the_same_inputs_as_strongly(change):
    before, after = change["unet.a.weight"].double(), null_pool.null_change(change, "rotated", 1, 0)["unet.a.weight"].double()
    assert torch.allclose(after.T @ after, before.T @ before, atol=1e-6)


def test_prompts_are_distinct_one_per_unit_and_none_of_them_trained_the_eraser(tmp_path):
    sets = null_pool.prompts()
    for name in ("target", "reference"):
        units, said, seeds, _ = zip(*sets[name], strict=True)
        assert len(set(units)) == len(set(seeds)) == null_pool.N_UNITS
    assert len({said for _, said, _, _ in sets["target"]}) == null_pool.N_UNITS
    trained = {said for said, _ in read_pairs(null_pool.resources.folder("data") / "prompts" / "emoji-ink-erase.csv")}
    assert not trained & {said for _, said, _, _ in sets["target"]}
    assert all(("ink" in said.split() or "lineart" in said) for _, said, _, _ in sets["target"])


def test_the_study_of_the_recordings_has_every_node_that_is_wanted(tmp_path):
    study = null_pool.study(tmp_path, n_units=8)
    plan = planning.build(study, "model", 10)
    ids = [node.id for node in null_pool.wanted(plan, [])]
    assert len(ids) == len(set(ids)) and {"record:esd:tokens-0", "generate:sham:target", "record:base:near", "attack:shared-3"} <= set(ids)
    place = {name: at for at, name in enumerate(ids)}
    assert all(place[needed] < place[name] for name in ids for needed in plan.node(name).inputs if needed in place)


N_NEURONS = 400
CONCEPT = np.arange(N_NEURONS) % 20 == 0


def pool(deactivated=0.0, drift=0.0, woken=0.0, n_units=60, seed=0):
    """A pool in which an eraser takes this share of the concept away, and an attack brings this share back."""
    rng = np.random.default_rng(seed)
    level = 2 + np.abs(rng.normal(size=N_NEURONS))
    prompt = rng.normal(0, 0.3, (n_units, N_NEURONS))

    def recorded(concept, shift=0.0):
        size = rng.normal(1, 0.2, (n_units, 1))
        noise = rng.normal(0, 0.05, (n_units, N_NEURONS))
        return (level + prompt + noise + (concept * size + shift) * CONCEPT).astype(np.float32)

    values = {
        ("base", "target"): recorded(1),
        ("base", "reference"): recorded(0),
        ("base", "near"): recorded(0),
        ("base", "far"): recorded(0),
    }
    left = 1 - deactivated
    values |= {("null", "target"): recorded(left, drift), ("null", "reference"): recorded(0, drift)}
    for kind in null_draws.PER_UNIT:
        for at in range(null_pool.DRAWS):
            values["base", f"{kind}-{at}"] = recorded(1)
            values["null", f"{kind}-{at}"] = recorded(left + woken * (at < 2), drift)
    seen = {"base": np.ones(n_units, bool), "null": rng.random(n_units) < left}
    return null_draws.Pool(values, np.repeat(["down", "up"], N_NEURONS // 2), CONCEPT.mean(), seen, dict.fromkeys(seen, np.ones(20, bool)))


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, "not deactivated"),
        ({"deactivated": 0.9}, "deactivated"),
        ({"deactivated": 0.9, "drift": -0.8}, "changed at large"),
    ],
)
def test_a_draw_says_what_the_pool_holds(settings, expected):
    for seed in range(2):
        found = null_draws.draw(pool(**settings), 12, seed)
        assert found["valid"] and found["variants"]["null"]["outcome"] == expected
        assert {row["kind"] for row in found["attacks"]} == set(null_draws.PER_UNIT)
        assert all(0 < row["p_change"] <= 1 for row in found["attacks"])


def test_too_few_units_give_no_word():
    found = null_draws.draw(pool(deactivated=0.9), 6, 0)
    assert found["variants"]["null"]["outcome"] == "too few units"
    assert {row["outcome"] for row in found["attacks"]} == {"too few units"}


def test_an_attack_and_its_control_are_never_the_same_draw_and_a_shared_one_is_the_same_for_all():
    drawn = null_draws._Drawn(pool(), 10, 0)
    attack, control = null_draws._pair(drawn, "tokens")
    assert (attack != control).all() and len({tuple(pair) for pair in zip(attack, control, strict=True)}) == 12
    attack, control = null_draws._pair(drawn, null_draws.SHARED)
    assert len(set(attack)) == len(set(control)) == 1 and attack[0] != control[0]


def test_second_draws_of_a_control_are_found_at_the_level_of_the_test():
    """p of flipped signs over 240 null attacks: below 0.05 in about 5 %."""
    one = pool(n_units=40)
    drawn = [null_draws._Drawn(one, 8, seed) for seed in range(120)]
    p = [null_draws._attacked(each, "null", kind)[1][0]["p_change"] for each in drawn for kind in null_draws.PER_UNIT]
    assert len(p) == 240 and 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1


def test_draws_are_kept_and_go_on_where_they_were(tmp_path):
    one = pool()
    first = null_draws.kept(tmp_path / "draws.json", lambda: one, 2, (8,))
    more = null_draws.kept(tmp_path / "draws.json", lambda: one, 3, (8,))
    assert more[8][:2] == first[8] and len(more[8]) == 3
    again = null_draws.kept(tmp_path / "draws.json", lambda: pytest.fail("the pool was read"), 3, (8,))
    assert again == more


def said(outcome, p=0.5, variant="esd", kind="tokens"):
    return {"variant": variant, "kind": kind, "outcome": outcome, "p_change": p, "value": 0.0, "low": -0.1, "high": 0.1, "null_high": 0.1}


def eraser(outcome, activity=1.0, broken=False):
    return {"outcome": outcome, "activity": activity, "activity_reference": 0.0, "drift_low": -0.05, "broken": broken, "rate": 0.9}


def test_the_tables_count_what_was_said():
    noise = {"noise-x1-0": eraser("not deactivated"), "noise-x1-1": eraser("deactivated", 0.2)}
    attacks = [said("reactivated", 0.01), said("reactivated in part", 0.2), said(None, None), said("undecided", 0.04)]
    draws = {8: [{"valid": True, "scale_over_se": 9.0, "variants": noise, "attacks": attacks}]}
    (line,) = [line for line in tables.attacks(draws) if line[0] == tables.KINDS["tokens"]]
    assert line[1:3] == [8, 4] and line[3].startswith("66.7%") and line[4].startswith("50.0%") and line[5:] == [0, 1, 0, 1]
    (line,) = tables.erasers(draws)
    assert line[:4] == ["noise of 1 times ESD's norm", 2, 8, 2] and line[4].startswith("0.60") and line[7] == "0%"
    assert line[8].startswith("50.0%") and line[9:] == [1, 0, 0, 0, 0]
    assert tables.validity(draws)[0][2].startswith("100.0%")
    clusters = [
        {"kind": "normal", "size": "few", "n": 20, "said": 1, "right": None},
        {"kind": "3 groups", "size": "few", "n": 20} | {"said": 20, "right": 19},
    ]
    power = [
        {"cut": 0.4, "true_cut": 0.41, "correlation": 0.3, "n": 40, "n_draws": 100, "found": 60, "printed": 0.63, "at_correlation": 0.6}
    ]
    whole = tables.document(draws, clusters, power, "today")
    assert (
        "in 5.0% (0.9% to 23.6%) of 20 draws" in whole
        and "| 41% | 0.30 | 40 | 60.0%" in whole
        and "no evidence about Stable Diffusion" in whole
    )
