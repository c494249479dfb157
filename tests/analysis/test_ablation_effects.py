"""What ablations show, against loops over units and sets, on a world where each neuron's effect is known."""

from itertools import permutations

import numpy as np
import pandas
import pytest

from tests.planted import LAYER, PLANTED
from workbench.analysis import coalitions
from workbench.analysis.ablation import Ablation
from workbench.analysis.ablation_effects import Reading, dose_response, greedy, leave_one_out, necessity, shapley, sufficiency
from workbench.errors import StatisticsError

N = 40
INDEX = pandas.DataFrame({"layer": ["a"] * 24 + ["b"] * 16, "index": [*range(24), *range(16)], "site": "ff"})
UNITS = [f"unit {i // 2}" for i in range(12)]


class World:
    """Ablating a set lowers the target by the sum of its neurons' weights, times a factor of each row's own, plus a product
    of neurons 0 and 1, which hang together; image change is the number of neurons.
    """

    def __init__(self, weight, noise=0.05, together=0.0):
        rng = np.random.default_rng(0)
        self.weight, self.together, self.asked = weight, together, []
        self.intact = {"target": 1 + noise * rng.normal(size=12), "far": rng.normal(size=12)}
        self.factor = 1 + noise * rng.normal(size=12)

    def lost(self, members):
        return sum(self.weight[i] for i in np.flatnonzero(members)) + self.together * (members[0] and members[1])

    def members(self, ablation):
        return np.concatenate([np.isin(np.arange(n), ablation.neurons.get(layer, [])) for layer, n in (("a", 24), ("b", 16))])

    def __call__(self, ablations):
        self.asked.append(ablations)
        sets = [self.members(one) for one in ablations]
        target = np.array([self.intact["target"] - self.factor * self.lost(one) for one in sets])
        far = np.array([self.intact["far"] for _ in sets])
        size = np.array([np.full(12, one.sum() / 10.0) for one in sets])
        return [
            Reading("target", "T2", UNITS, self.intact["target"], target),
            Reading("far", "T2", UNITS, self.intact["far"], far),
            Reading("target", "pixel_change", UNITS, np.zeros(12), size, signed=False),
        ]


def weights(**known):
    values = 0.001 * (1 + np.sin(np.arange(N)))
    for neuron, value in known.items():
        values[int(neuron[1:])] = value
    return values


def members(*neurons):
    return np.isin(np.arange(N), neurons)


def mean_change(world, chosen):
    """Mean over rows of ablated - intact, looped."""
    return -sum(float(world.factor[row]) * world.lost(chosen) for row in range(12)) / 12


def test_dose_response_is_the_mean_change_of_the_top_share_beside_its_matched_random_sets():
    world = World(weights(n0=0.4, n1=0.3, n2=0.2, n30=0.1))
    found = dose_response(world, world.weight, INDEX, shares=(0.1, 0.05), n_random=60, seed=3)
    assert found["share"].drop_duplicates().tolist() == [0.05, 0.1] and set(found["n_random"]) == {60}
    ablations = world.asked[0]
    for share, neurons in ((0.05, (0, 1)), (0.1, (0, 1, 2, 30))):
        row = found[(found["share"] == share) & (found["group"] == "target") & (found["outcome"] == "T2")].iloc[0]
        assert row["n_neurons"] == len(neurons) and row["n"] == 6
        assert row["value"] == pytest.approx(mean_change(world, members(*neurons)))
        assert row["low"] <= row["value"] <= row["high"] and row["low"] < row["high"]
        same = [world.members(one) for one in ablations]
        per_layer = lambda one: (one[:24].sum(), one[24:].sum())  # noqa: E731
        null = [mean_change(world, one) for one in same if per_layer(one) == per_layer(members(*neurons)) and not one[list(neurons)].any()]
        assert row["random_mean"] == pytest.approx(np.mean(null), abs=0.02)
        assert row["p"] == pytest.approx(1 / 61)
    far = found[found["group"] == "far"]
    assert (far["value"] == 0).all() and (far["p"] == 1).all()


def test_random_sets_are_as_many_distinct_ablations_and_keep_the_template():
    world = World(weights(n0=0.4))
    template = Ablation({}, "scaled", 2.0, calls=frozenset({3}), branch="both")
    dose_response(world, world.weight, INDEX, template, shares=(0.025, 0.1), n_random=50)
    asked = world.asked[0]
    assert all((one.kind, one.factor, one.calls, one.branch) == ("scaled", 2.0, frozenset({3}), "both") for one in asked)
    assert len({world.members(one).tobytes() for one in asked}) == len(asked) and len(asked) > 60


def test_a_world_without_concept_neurons_shows_nothing():
    rng = np.random.default_rng(1)
    p = []
    for seed in range(10):
        world = World(rng.normal(size=N))
        found = dose_response(world, rng.normal(size=N), INDEX, shares=(0.1,), n_random=50, seed=seed)
        p.append(found["p"].iloc[0])
    assert np.mean(np.array(p) <= 0.1) <= 0.4 and max(p) > 0.5


def test_leaving_one_cluster_out_shows_what_it_adds_beyond_as_many_random_neurons():
    world = World(weights(n0=0.2, n1=0.2, n30=0.3, n31=0.001), together=0.25)
    clusters = {"apart": members(0), "pair": members(1, 2), "other layer": members(30), "idle": members(31)}
    found = leave_one_out(world, clusters, INDEX, n_random=99)
    whole = members(0, 1, 2, 30, 31)
    target = found[(found["group"] == "target") & (found["outcome"] == "T2")].set_index("cluster")
    for name, chosen in clusters.items():
        assert target.loc[name, "value"] == pytest.approx(mean_change(world, whole) - mean_change(world, whole & ~chosen))
    assert target.loc["apart", "value"] < -0.4, "its product with neuron 1 is lost with it"
    assert (target.loc[["apart", "pair", "other layer"], "p"] <= 0.02).all() and target.loc["idle", "p"] > 0.02
    assert target.loc["other layer", "random_mean"] == pytest.approx(-0.001, abs=5e-4)


def test_one_cluster_alone_adds_its_whole_effect():
    world = World(weights(n0=0.2))
    found = leave_one_out(world, {"only": members(0)}, INDEX, n_random=10).iloc[0]
    assert found["value"] == pytest.approx(mean_change(world, members(0))) and found["n_neurons"] == 1


@pytest.mark.parametrize("lower", [True, False])
def test_greedy_finds_the_order_on_one_half_and_reports_the_other(lower):
    world = World(weights(n0=0.1, n5=0.5, n30=0.3, n31=-0.2))
    clusters = {"small": members(0), "large": members(5), "middle": members(30), "raises": members(31)}
    found = greedy(world, clusters, INDEX, "target", "T2", lower=lower, n_random=20, seed=2)
    target = found[(found["group"] == "target") & (found["outcome"] == "T2")]
    order = ["large", "middle", "small", "raises"]
    assert target["added"].tolist() == (order if lower else order[::-1])
    assert target["n_neurons"].tolist() == [1, 2, 3, 4] and set(target["n"]) == {3}
    from workbench.statistics import split_halves

    other = np.flatnonzero(~split_halves(UNITS, 2))
    first = clusters[target["added"].iloc[0]]
    expected = -sum(float(world.factor[row]) for row in other) / len(other) * world.lost(first)
    assert target["value"].iloc[0] == pytest.approx(expected)


def test_bad_clusters_and_readings_that_do_not_exist_are_refused():
    world = World(weights())
    with pytest.raises(StatisticsError, match="2 neurons are in several clusters"):
        leave_one_out(world, {"a": members(0, 1, 2), "b": members(1, 2)}, INDEX)
    with pytest.raises(StatisticsError, match="boolean array over the 40 neurons"):
        leave_one_out(world, {}, INDEX)
    with pytest.raises(StatisticsError, match='no reading "near/T2". Possible: target/T2, far/T2'):
        greedy(world, {"a": members(0)}, INDEX, "near", "T2")
    with pytest.raises(StatisticsError, match="Choose a smaller share"):
        dose_response(world, world.weight, INDEX, shares=(0.9,))


@pytest.fixture(scope="module")
def planted():
    """(run of (variant, token) by T2, index, planted set) on the planted model; "erased" cuts token A's route, B keeps its own."""
    import torch

    from tests.planted import planted_model
    from workbench.analysis.one_step import OneStep
    from workbench.diffusion.denoise import Trajectory
    from workbench.diffusion.targets import Items, Linear
    from workbench.models.variants import base_again
    from workbench.neurons import sites
    from workbench.neurons.sets import index_table

    model, states, erased = planted_model()
    wide = {name: state.expand(4, -1, -1) for name, state in states.items()}
    inputs = torch.randn(4, 1, *model.latent_shape, generator=torch.Generator().manual_seed(4))
    own = {name: parameter.data for name, parameter in model.parameters().items()}
    target = Linear(wide["plain"], wide["A"], wide["plain"], lambda: base_again(model, own))

    def run(variant, token):
        items = Items(Trajectory(inputs, [0], [501.0]), wide[token], list("abcd"))
        return OneStep(model, {"target": (items, target)}, erased if variant == "erased" else None)

    index = index_table(sites.layers(model.unet, ["ff"]))
    truth = (index["layer"] == f"{LAYER}.ff.net.2") & index["index"].isin(PLANTED)
    return run, index, truth.to_numpy()


def test_held_at_their_unattacked_values_planted_neurons_lose_the_concept_and_random_ones_do_not(planted):
    run, index, truth = planted
    plain = run("erased", "A")
    found, control = (
        necessity(run("erased", token), lambda neurons: plain.record("target", neurons), truth, index, n_random=19).iloc[0]
        for token in ("B", "control")
    )
    assert found["intact"] > 0.7 and found["value"] < -0.2 and found["high"] < -0.1 and found["p"] == pytest.approx(1 / 20)
    assert max(abs(found["random_low"]), abs(found["random_high"])) < 1e-3
    assert abs(control["value"]) < 0.02, "a token that drives none of them has nothing to lose"


def test_given_their_base_values_planted_neurons_bring_the_concept_back(planted):
    run, index, truth = planted
    base = run("base", "A")
    found = sufficiency(run("erased", "A"), lambda neurons: base.record("target", neurons), truth, index, n_random=19).iloc[0]
    assert found["value"] > 0.2 and found["low"] > 0.1 and found["p"] == pytest.approx(1 / 20)
    assert max(abs(found["random_low"]), abs(found["random_high"])) < 1e-3


def by_orders(players, value):
    """Shapley values by walking through every order."""
    found, orders = dict.fromkeys(players, 0.0), list(permutations(players))
    for order in orders:
        for place, player in enumerate(order):
            found[player] += (value(order[: place + 1]) - value(order[:place])) / len(orders)
    return found


GROUPS = {"first": members(0), "second": members(1), "pair": members(2, 30)}


def test_shapley_values_are_those_of_every_order_and_add_up_to_taking_out_all():
    world = World(weights(n0=0.1, n1=0.2, n2=0.3, n30=0.1), together=0.4)
    found = shapley(world, GROUPS, INDEX, seed=1)
    target = found[(found["group"] == "target") & (found["outcome"] == "T2")].set_index("cluster")
    value = lambda names: mean_change(world, np.any([GROUPS[name] for name in names], axis=0)) if names else 0.0  # noqa: E731
    expected = by_orders(list(GROUPS), value)
    assert target["value"].to_dict() == pytest.approx(expected) and set(target["n"]) == {6} and set(target["n_random"]) == {19}
    assert (target["low"] < target["value"]).all() and (target["value"] < target["high"]).all()
    assert target["whole"].iloc[0] == pytest.approx(value(list(GROUPS))) and target["summed"].iloc[0] == pytest.approx(
        sum(expected.values())
    )
    assert np.allclose(target["delta"], 0, atol=1e-12) and set(target["n_sets"]) == {7} and target["n_orders"].isna().all()
    # what hangs together is shared, where leaving one out gives all of it to each
    alone = leave_one_out(world, GROUPS, INDEX).set_index(["group", "outcome", "cluster"])["value"]["target"]["T2"]
    assert alone["first"] - target.loc["first", "value"] == pytest.approx(-0.2 * world.factor.mean())


def test_random_partitions_are_disjoint_matched_by_layer_and_judged_in_the_same_orders():
    world = World(weights(n0=0.5, n1=0.5, n2=0.4, n30=0.4))
    found = shapley(world, GROUPS, INDEX, n_random=25, seed=2)
    asked = [world.members(one) for one in world.asked[0]]
    assert len(asked) <= 7 * 26
    together = np.any(list(GROUPS.values()), axis=0)
    for one in asked[7:]:
        assert not (one & together).any() and one[:24].sum() <= 3 and one[24:].sum() <= 1
    rows = found[(found["group"] == "target") & (found["outcome"] == "T2")]
    assert (rows["p"] <= 2 / 26).all() and (rows["random_low"] > -0.01).all() and rows["reason"].isna().all()


def test_without_random_partitions_values_stand_with_a_reason():
    world = World(weights(n0=0.5))
    many = {"most": np.arange(N) < 20, "other": members(30)}
    for found, words in ((shapley(world, GROUPS, INDEX, n_random=0), "no random partition"), (shapley(world, many, INDEX), "too few")):
        assert found["value"].notna().all() and found[["p", "n_random", "random_mean", "random_low"]].isna().all().all()
        assert found["reason"].str.contains(words).all()


@pytest.mark.parametrize("n", [1, 2, 4, coalitions.EXACT + 1, coalitions.EXACT + 3])
def test_weights_of_coalitions_give_shapley_values_of_any_game(n):
    rng = np.random.default_rng(n)
    single, pair = rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1)
    value = lambda inside: float(single @ inside + inside @ pair @ inside)  # noqa: E731
    taken, weight, n_orders = coalitions.weights(n)
    found = weight.T @ np.array([value(one.astype(float)) for one in taken])
    assert len(taken) <= coalitions.n_sets(n) and len({one.tobytes() for one in taken}) == len(taken)
    assert found.sum() == pytest.approx(value(np.ones(n)))
    # with its reverse an order gives each half of a pair once: exact for games of pairs, drawn or not
    assert found == pytest.approx(single + (pair + pair.T).sum(axis=1) / 2)
    assert (n_orders is None) == (n <= coalitions.EXACT)
