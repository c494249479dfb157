"""Attribution on gates: what Captum says equals what hooks, loops and single passes say."""

import gc
from functools import cached_property

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from scipy import stats

from tests import tiny
from tests.planted import LAYER, PLANTED, planted_model
from workbench.analysis.ablation_effects import shapley
from workbench.analysis.attribution import attribute
from workbench.analysis.gated import Gated, single
from workbench.analysis.one_step import OneStep
from workbench.diffusion.denoise import Trajectory
from workbench.diffusion.targets import Items, Linear, predict
from workbench.errors import MethodError, StatisticsError
from workbench.models import text
from workbench.models.load import from_pipeline
from workbench.neurons import sites
from workbench.neurons.sets import index_table
from workbench.neurons.taps import Rows, Taps

UNITS = ["b", "a", "b", "c"]
CALLS, TIMESTEPS = [1, 4], [601.0, 101.0]


class Case:
    """A tiny model in float64, four prompts of three units at two calls, and T2."""

    def __init__(self, model=None):
        self.model = model or from_pipeline(tiny.pipeline(), "tiny", dtype=torch.float64)
        things = ["owl", "cat", "church", "bridge"]
        with torch.no_grad():
            target, reference = (text.encode(self.model, [f"a {x} in {s} style" for x in things]) for s in ("ink", "noto"))
        shape = (4, 2, *self.model.latent_shape)
        inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.layers = sites.layers(self.model.unet, ["ff"])
        self.items = Items(Trajectory(inputs, CALLS, TIMESTEPS), target, UNITS)
        self.target = Linear(reference, target, reference)
        self.n = sum(layer.n_neurons for layer in self.layers)

    def attribute(self, method="gradient", **more):
        return attribute(self.model, self.layers, self.items, self.target, method, **more)

    @cached_property
    def parts(self):
        """Every (prompt, batch of one row at one call, target bound to it)."""
        parts = [(prompt, part) for prompt in range(4) for part in self.items.batches([prompt])]
        return [(prompt, part, self.target.at(self.model, part)) for prompt, part in parts]

    def value(self, part, bound, gates, baseline=None, both=False):
        """The target when the neurons have these gates (neuron,), by taps alone."""
        per_layer = dict(zip((x.path for x in self.layers), gates[None].split([x.n_neurons for x in self.layers], dim=1), strict=True))
        with Taps(self.model.unet, self.layers, gates=per_layer, baseline=baseline) as taps, torch.no_grad():
            eps = []
            for states in (part.states, *([self.target.reference[part.prompt]] if both else [])):
                taps.tell(Rows(part.call, part.timestep, part.prompt, ["cond"]))
                eps.append(predict(self.model, part, states))
        return float(bound.value(eps[0], other=eps[1] if both else None)[0])

    def over_units(self, of_part):
        """(mean, low, high) of of_part(part, bound) -> (k,) over units; prompts and calls of a unit first averaged."""
        per_unit = {}
        for prompt, part, bound in self.parts:
            per_unit.setdefault(UNITS[prompt], []).append(np.asarray(of_part(part, bound)))
        means = np.array([np.mean(values, axis=0) for values in per_unit.values()])
        spread = stats.t.ppf(0.975, len(means) - 1) * means.std(axis=0, ddof=1) / np.sqrt(len(means))
        return means.mean(axis=0), means.mean(axis=0) - spread, means.mean(axis=0) + spread


@pytest.fixture(scope="module")
def case():
    return Case()


def by_hand(case, part, bound):
    """(neuron,) sum over tokens of a dJ/da, by plain hooks."""
    kept, modules = {}, dict(case.model.unet.named_modules())

    def hook(module, args):
        activation = args[0] if args[0].requires_grad else args[0].requires_grad_()
        activation.retain_grad()
        kept[module] = activation

    handles = [modules[layer.path].register_forward_pre_hook(hook) for layer in case.layers]
    try:
        bound.value(predict(case.model, part, part.states)).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    activations = [kept[modules[layer.path]] for layer in case.layers]
    return torch.cat([(a * a.grad).sum(dim=(0, 1)) for a in activations]).detach().numpy()


def test_gradient_equals_activation_times_gradient_by_hand_with_intervals_over_units(case):
    made = case.attribute()
    for name, expected in zip(("value", "low", "high"), case.over_units(lambda part, bound: by_hand(case, part, bound)), strict=True):
        assert np.allclose(made.scores[name], expected, rtol=1e-9, atol=1e-13), name
    assert made.target == "T2 J_lin" and made.n_units == 3 and made.n_prompts == 4 and made.calls == CALLS
    assert made.passes == {"forward": 1.0, "backward": 1.0, "setup": 3}


def test_gradient_of_a_neuron_is_cads_sum_over_its_outgoing_weights(case):
    (_, part, bound), layer = case.parts[0], case.layers[0]
    weight = dict(case.model.unet.named_modules())[layer.path].weight
    weight.requires_grad_()
    try:
        (slope,) = torch.autograd.grad(bound.value(predict(case.model, part, part.states)).sum(), weight)
    finally:
        weight.requires_grad_(False)
    gated = Gated(case.model, case.layers, part, bound)
    assert torch.allclose(gated.gradient(gated.ones())[0, : layer.n_neurons], (weight * slope).sum(dim=0), atol=1e-13)


@pytest.mark.parametrize("how", ["zero", "mean", "both"])
def test_exact_ablation_equals_a_loop_of_single_passes(case, how):
    chosen = [3, 70, case.n - 1]
    generator = torch.Generator().manual_seed(2)
    means = {x.path: torch.randn(x.n_neurons, generator=generator, dtype=torch.float64) for x in case.layers}
    more = {"baseline": means if how == "mean" else None, "both": how == "both"}

    def loop(part, bound):
        ones = torch.ones(case.n, dtype=torch.float64)
        whole, lost = case.value(part, bound, ones, **more), []
        for neuron in chosen:
            gates = ones.clone()
            gates[neuron] = 0
            lost.append(whole - case.value(part, bound, gates, **more))
        return lost

    made = case.attribute("ablation", columns=single(case.n, chosen), **more)
    assert np.allclose(made.scores["value"], case.over_units(loop)[0], rtol=1e-7, atol=1e-12)


def test_permuting_neurons_permutes_their_scores(case):
    before = case.attribute().scores["value"].to_numpy()
    other = Case()
    layer = other.layers[1]
    start, order = other.layers[0].n_neurons, torch.randperm(layer.n_neurons, generator=torch.Generator().manual_seed(4))
    modules = dict(other.model.unet.named_modules())
    reads, feeds = modules[layer.path], modules[layer.path.removesuffix(".2") + ".0"].proj
    reads.weight.data = reads.weight.data[:, order]
    for tensor in (feeds.weight, feeds.bias):
        tensor.data = torch.cat([half[order] for half in tensor.data.chunk(2)])
    expected = before.copy()
    expected[start : start + layer.n_neurons] = before[start + order.numpy()]
    assert np.allclose(other.attribute().scores["value"], expected, rtol=1e-8, atol=1e-13)
    assert not np.allclose(expected, before)


def clusters(case, n=4):
    return np.arange(case.n) * n // case.n


@pytest.mark.parametrize("method, settings", [("integrated", {"n_steps": 12}), ("shapley", {"n_samples": 2})])
def test_complete_methods_explain_the_whole_difference_of_every_item(case, method, settings):
    columns = clusters(case) if method == "shapley" else None
    made = case.attribute(method, columns=columns, **settings)
    assert made.complete and len(made.items) == 8
    assert np.allclose(made.items["value"], 1, atol=1e-9), "base x target is 1 under T2"
    assert made.items["delta"].abs().max() < 1e-4 * (made.items["value"] - made.items["off"]).abs().max()


def test_items_state_the_value_with_all_gates_on_and_off(case):
    items = case.attribute().items
    for prompt, part, bound in case.parts:
        row = items[(items["prompt"] == prompt) & (items["call"] == part.call)].iloc[0]
        assert row["unit"] == UNITS[prompt]
        assert row["off"] == pytest.approx(case.value(part, bound, torch.zeros(case.n, dtype=torch.float64)), abs=1e-10)


def test_shapley_of_two_clusters_is_what_each_adds_in_the_order_that_was_drawn(case):
    columns = clusters(case, 2)
    items = Items(Trajectory(case.items.trajectory.inputs[:1, :1], CALLS[:1], TIMESTEPS[:1]), case.items.states[:1], ["a"])
    value = lambda kept: case.value(*case.parts[0][1:], torch.tensor(np.isin(columns, kept), dtype=torch.float64))  # noqa: E731
    alone, last = value([0]) - value([]), value([0, 1]) - value([1])
    drawn = set()
    for seed in range(4):
        found = attribute(case.model, case.layers, items, case.target, "shapley", columns=columns, n_samples=1, seed=seed).scores["value"][
            0
        ]
        drawn.add(min((alone, last), key=lambda x: abs(x - found)))
        assert np.isclose(found, [alone, last], rtol=1e-4).any()
    assert drawn == {alone, last}


def test_shapley_of_ablated_clusters_is_what_captum_finds_in_all_orders(case):
    columns = clusters(case, 3)

    def captum(part, bound):
        gated = Gated(case.model, case.layers, part, bound, columns)
        return ShapleyValues(gated).attribute(gated.ones(), 0.0, None, (gated.item(),)).detach().numpy()[0]

    groups = {f"cluster {number}": columns == number for number in range(3)}
    made = shapley(OneStep(case.model, {"target": (case.items, case.target)}), groups, index_table(case.layers), n_random=0)
    rows = np.array([np.mean([captum(part, bound) for at, part, bound in case.parts if at == prompt], axis=0) for prompt in range(4)])
    assert np.allclose(made["value"], -rows.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_integrated_gradients_over_a_vanishing_share_are_the_gradient(case):
    near = case.attribute("integrated", share=1e-6, n_steps=1).scores["value"]
    assert np.allclose(near, case.attribute().scores["value"], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("method", ["gradient", "integrated", "ablation"])
def test_scores_do_not_depend_on_the_batch(case, method):
    columns = single(case.n, [1, 2, 200])
    few = {"integrated": {"n_steps": 3}}.get(method, {})
    small, large = (case.attribute(method, columns=columns, batch=n, **few) for n in (1, 3))
    assert np.allclose(small.scores, large.scores, rtol=1e-6, atol=1e-12)


def test_watched_scores_average_to_the_scores(case):
    made = case.attribute(watch=[5, 0])
    for column, per_unit in made.watched.items():
        assert per_unit.shape == (3,) and per_unit.mean() == pytest.approx(made.scores["value"][column])


def test_planted_neurons_come_first_by_the_size_of_their_scores():
    model, states, _ = planted_model()
    layers, n = sites.layers(model.unet, ["ff"]), 4
    inputs = torch.randn(n, 1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    target, reference = (states[name].expand(n, -1, -1) for name in ("A", "plain"))
    items = Items(Trajectory(inputs, [1], [401.0]), target, list("abcd"))
    made = attribute(model, layers, items, Linear(reference, target, reference))
    index = index_table(layers).iloc[np.argsort(-made.scores["value"].abs())[: len(PLANTED)]]
    assert set(index["layer"]) == {f"{LAYER}.ff.net.2"} and sorted(index["index"]) == PLANTED


def test_no_hook_and_no_changed_weight_is_left_behind(case):
    unet = case.model.unet
    before, digest = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules()], case.model.digest()
    case.attribute("ablation", columns=single(case.n, [0]))
    assert before == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules()]
    assert case.model.digest() == digest and not any(p.requires_grad for p in unet.parameters())


def test_memory_does_not_grow_with_the_number_of_prompts(case, monkeypatch):
    held = {}

    def count(self, model, batch, at=Linear.at):
        prompt = int(batch.prompt[0])
        if prompt in (2, 11) and batch.call == CALLS[0]:
            gc.collect()
            held[prompt] = sum(x.numel() for x in gc.get_objects() if type(x) is torch.Tensor)
        return at(self, model, batch)

    monkeypatch.setattr(Linear, "at", count)
    at = np.arange(12) % 4
    trajectory = Trajectory(case.items.trajectory.inputs[at][:, :1], CALLS[:1], TIMESTEPS[:1])
    items = Items(trajectory, case.items.states[at], [f"{i:02}" for i in range(12)])
    target = Linear(case.target.reference[at], case.target.base_target[at], case.target.base_reference[at])
    attribute(case.model, case.layers, items, target, batch=1)
    assert abs(held[11] - held[2]) < case.n, "nine prompts later there is not one more row of neurons"


def test_an_unknown_method_or_setting_and_gating_nothing_are_refused(case):
    with pytest.raises(MethodError, match='Did you mean "gradient"'):
        case.attribute("gradients")
    with pytest.raises(MethodError, match='no setting "steps".*n_steps'):
        case.attribute("integrated", steps=3)
    with pytest.raises(MethodError, match="one per neuron"):
        case.attribute(columns=[0, 1])
    with pytest.raises(MethodError, match="up to 1"):
        case.attribute("integrated", share=0)
    one = Items(Trajectory(case.items.trajectory.inputs[:1], CALLS, TIMESTEPS), case.items.states[:1], ["a"])
    with pytest.raises(StatisticsError, match="at least 2"):
        attribute(case.model, case.layers, one, case.target, "curvature")
