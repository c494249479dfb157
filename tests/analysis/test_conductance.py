"""Conductance over the text embedding: by hand on a model one can do by hand, Captum's own, and what must add up."""

import numpy as np
import pytest
import torch
from captum.attr import LayerConductance

from tests import tiny
from workbench.analysis import attribution
from workbench.analysis.conductance import conductance
from workbench.diffusion.denoise import Trajectory
from workbench.diffusion.targets import Bound, Items, Linear, predict
from workbench.errors import MethodError
from workbench.models import text
from workbench.models.load import from_pipeline
from workbench.neurons import sites

PROMPTS = ["owl in ink style", "a cat", "a house"]


class Case:
    """A tiny model in float64 and three prompts of two units at two calls."""

    def __init__(self):
        self.model = from_pipeline(tiny.pipeline(), "tiny", dtype=torch.float64)
        self.layers = sites.layers(self.model.unet, ["ff"])
        inputs = torch.randn((3, 2, *self.model.latent_shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with torch.no_grad():
            self.states, self.empty = text.encode(self.model, PROMPTS), text.encode(self.model, [""])
        self.items = Items(Trajectory(inputs, [1, 2], [401.0, 201.0]), self.states, ["v", "u", "v"])
        self.target = Linear(self.states.flip(0), self.states, self.states.roll(1, 0))
        self.found = conductance(self.model, self.layers, self.items, self.target, self.empty, n_steps=24, watch=[0, 5], batch=2)


@pytest.fixture(scope="module")
def case():
    return Case()


class Toy:
    """Text state e (row, 1, 1) -> hidden a = (2 e, e^2) -> noise a_0 a_1 + 5 e, of which the last part goes round the hidden layer."""

    device, dtype, transform = torch.device("cpu"), torch.float64, None

    class Unet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.out = torch.nn.Identity()

        def forward(self, states):
            hidden = self.out(torch.cat([2 * states, states**2], dim=-1))
            return (hidden[..., :1] * hidden[..., 1:] + 5 * states)[:, None]

    def __init__(self):
        self.unet = self.Unet()

    def predict(self, inputs, timestep, states):
        return self.unet(states)


class Plain:
    """The noise itself as target."""

    name, setup = "noise", 0

    def at(self, model, batch):
        return Bound(self.name, len(batch), lambda eps, other, row: eps.flatten(1).sum(1))


def test_by_hand_each_neuron_has_its_own_part_of_the_path_and_what_goes_round_the_layer_is_left_out():
    # along e = 3 s:  dJ/da_0 da_0 = e^2 2 de, in all 2 * 27 / 3 = 18;  dJ/da_1 da_1 = 2 e 2 e de, in all 4 * 27 / 3 = 36
    toy, site = Toy(), sites.SITES["ff"]
    layers = [sites.Layer("out", site, 2)]
    states = torch.full((1, 1, 1), 3.0, dtype=torch.float64)
    items = Items(Trajectory(torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64), [0], [1.0]), states, ["u"])
    found = conductance(toy, layers, items, Plain(), torch.zeros_like(states), n_steps=400)
    assert found.scores["value"].tolist() == pytest.approx([18, 36], rel=1e-4)
    (row,) = found.items.to_dict("records")
    assert (row["value"], row["off"]) == (2 * 27 + 15, 0) and row["explained"] == pytest.approx(69, rel=1e-4)
    assert found.scores["value"].sum() == pytest.approx(row["value"] - 15, rel=1e-4)
    assert not toy.unet.out._forward_pre_hooks


def test_every_layer_has_what_captum_finds_when_it_is_asked_alone(case):
    start = 0
    for layer in case.layers:
        module, total = dict(case.model.unet.named_modules())[layer.path], torch.zeros(3, layer.n_neurons, dtype=torch.float64)
        for part in case.items.batches([0, 1, 2]):
            bound = case.target.at(case.model, part)
            forward = lambda fed, item, part=part, bound=bound: bound.value(predict(case.model, part, fed, item), item)  # noqa: E731
            attributed = LayerConductance(forward, module).attribute(
                part.states,
                bound.other,
                additional_forward_args=(torch.arange(3),),
                n_steps=96,
                internal_batch_size=96,
                attribute_to_layer_input=True,
            )
            total += attributed.detach().sum(dim=1) / 2
        by_unit = (total[1] + (total[0] + total[2]) / 2) / 2
        mine = case.found.scores["value"].to_numpy()[start : start + layer.n_neurons]
        assert np.abs(mine - by_unit.numpy()).max() < 0.02 * np.abs(mine).max(), layer.path
        start += layer.n_neurons


def test_over_the_text_itself_everything_adds_up(case):
    rows = case.found.items
    assert len(rows) == 6 and set(rows["unit"]) == {"u", "v"}
    sizes = (rows["value"] - rows["off"]).abs()
    assert (rows["delta"].abs() < 2e-3 * sizes.max()).all() and sizes.max() > 1e-3
    assert np.allclose(rows["delta"], rows["explained"] - (rows["value"] - rows["off"])) and np.allclose(rows["off"], 0)
    for place in (0, 1, 2):
        part = next(case.items.batches([place]))
        bound = case.target.at(case.model, part)
        row = rows[(rows["prompt"] == place) & (rows["call"] == 1)].iloc[0]
        for name, states in (("value", part.states), ("off", bound.other)):
            with torch.no_grad():
                assert row[name] == pytest.approx(float(bound.value(predict(case.model, part, states))), abs=1e-9)


def test_a_target_that_compares_with_no_prompt_starts_at_the_empty_one(case):
    rows = conductance(case.model, case.layers[:1], case.items, Plain(), case.empty, n_steps=2).items
    part = next(case.items.batches([0]))
    with torch.no_grad():
        expected = float(predict(case.model, part, case.empty).sum())
    assert rows[(rows["prompt"] == 0) & (rows["call"] == 1)]["off"].item() == pytest.approx(expected, abs=1e-9)


def test_more_steps_change_little_and_batches_nothing(case):
    other = conductance(case.model, case.layers, case.items, case.target, case.empty, n_steps=24, batch=3)
    assert np.allclose(other.scores["value"], case.found.scores["value"], atol=1e-12)
    assert np.allclose(case.found.watched[5].mean(), case.found.scores["value"][5]) and len(case.found.watched[0]) == 2
    assert (other.n_units, other.n_prompts, other.calls) == (2, 3, [1, 2]) and other.complete
    assert other.passes == {"forward": 25.0, "backward": 25.0, "setup": 3}
    assert set(other.scores) == set(attribution.attribute(case.model, case.layers, case.items, case.target).scores)


def test_no_hook_is_left_after_an_exception(case):
    class Broken(Plain):
        def at(self, model, batch):
            def fails(eps, other, row):
                raise ZeroDivisionError

            return Bound(self.name, len(batch), fails)

    with pytest.raises(ZeroDivisionError):
        conductance(case.model, case.layers, case.items, Broken(), case.empty)
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in case.model.unet.modules())


def test_layers_that_no_gradient_is_read_at_and_no_steps_are_refused(case):
    (update, *_) = sites.layers(case.model.unet, ["update"])
    with pytest.raises(MethodError, match="site ff"):
        conductance(case.model, [update], case.items, case.target, case.empty)
    with pytest.raises(MethodError, match="at least 1"):
        conductance(case.model, case.layers, case.items, case.target, case.empty, n_steps=0)
