"""Laws of limited and held gates: where they do not work nothing changes, where they work it is exactly what was asked."""

import pytest
import torch

from tests.neurons.test_taps import hooks
from tests.reference import KeepsEverything
from workbench.diffusion.denoise import denoise
from workbench.errors import RecordingMismatch
from workbench.models import text
from workbench.neurons import sites
from workbench.neurons.columns import Columns, Held
from workbench.neurons.taps import Limit, Taps

CHOSEN = [1, 5, 30]


def sample(model, layers, reducer=None, prompts=("owl in ink style", "a cat"), gate=None, **settings):
    with torch.no_grad():
        states, empty = text.encode(model, prompts), text.encode(model, [""])
    with Taps(model.unet, layers, reducer, **settings) as taps:
        return denoise(model, states, empty, list(range(len(prompts))), n_steps=4, guidance=3.0, taps=taps, gate=gate)[0]


def zeros(layer, chosen=slice(None)):
    """Gate row 0 = ones, row 1 = zeros at the chosen neurons."""
    gates = torch.ones(2, layer.n_neurons)
    gates[1, chosen] = 0
    return {layer.path: gates}


def raw(model, layers, **settings):
    """{(layer, call): (row, token, neuron)}; the first half of the rows is uncond."""
    seen = KeepsEverything()
    sample(model, layers, seen, **settings)
    return {key: values[0][0] for key, values in seen.raw.items()}


def ff(model):
    return sites.layers(model.unet, ["ff"])


def test_a_window_leaves_every_bit_of_the_calls_outside_it(model):
    layers = ff(model)
    gated = raw(model, layers, gates=zeros(layers[0]), limits=[Limit(), Limit(frozenset({2}))], gate=torch.tensor([1, 1]))
    plain = raw(model, layers)
    for layer in layers:
        for call in (0, 1):
            assert torch.equal(gated[layer.path, call], plain[layer.path, call])
    assert gated[layers[0].path, 2].abs().max() == 0
    assert gated[layers[0].path, 3].abs().min(dim=1).values.max() > 0
    assert not torch.equal(gated[layers[0].path, 3], plain[layers[0].path, 3]), "the image has changed by then"


@pytest.mark.parametrize("branch", ["cond", "uncond"])
def test_a_branch_leaves_every_bit_of_the_other_half(model, branch):
    layers = ff(model)
    gated = raw(model, layers, gates=zeros(layers[0]), limits=[Limit(), Limit(None, branch)], gate=torch.tensor([1, 1]))
    plain = raw(model, layers)
    silent, kept = (slice(2, 4), slice(0, 2)) if branch == "cond" else (slice(0, 2), slice(2, 4))
    for layer in layers:
        assert torch.equal(gated[layer.path, 0][kept], plain[layer.path, 0][kept])
    assert gated[layers[0].path, 0][silent].abs().max() == 0


def test_gates_that_work_nowhere_change_no_bit_of_the_image(model):
    layers, gate = ff(model), torch.tensor([1, 1])
    for limit in (Limit(frozenset({99})), Limit(frozenset(), "cond")):
        assert torch.equal(sample(model, layers), sample(model, layers, gates=zeros(layers[0]), limits=[Limit(), limit], gate=gate))


def test_rows_side_by_side_obey_their_own_limits(model):
    layers, limits = ff(model), [Limit(), Limit(frozenset({1}), "cond")]
    seen = raw(model, layers, gates=zeros(layers[0]), limits=limits, gate=torch.tensor([0, 1]))
    silent = seen[layers[0].path, 1].abs().amax(dim=(1, 2)) == 0
    assert silent.tolist() == [False, False, False, True]


def test_the_prompt_and_gate_of_each_row_can_be_said(model):
    layers, columns = ff(model)[:1], Columns({ff(model)[0].path: [0]}, 6, [0])
    with torch.no_grad():
        states, empty = text.encode(model, ["owl", "a cat"]), text.encode(model, [""])
    with Taps(model.unet, layers, columns) as taps:
        denoise(model, states, empty, [0, 1], n_steps=4, guidance=3.0, taps=taps, prompt=torch.tensor([5, 2]))
    (kept,) = columns.kept.values()
    assert [bool(row.isfinite().all()) for row in kept] == [False, False, True, False, False, True]


def recorded(model, layers, chosen=CHOSEN, calls=range(4), **settings):
    columns = Columns({layer.path: chosen for layer in layers}, 2, calls, branches=("cond", "uncond"))
    sample(model, layers, columns, **settings)
    return columns


def held(source, layer, chosen=CHOSEN, **settings):
    return {layer.path: {1: Held(source, layer.path, torch.tensor(chosen), **settings)}}


def test_columns_are_the_raw_activations_of_the_named_neurons_and_nothing_else(model):
    layers = ff(model)
    columns, everything = recorded(model, layers), raw(model, layers)
    size = 0
    for layer in layers:
        for call in range(4):
            for half, branch in enumerate(("uncond", "cond")):
                for prompt in range(2):
                    for place, neuron in enumerate(CHOSEN):
                        expected = everything[layer.path, call][2 * half + prompt, :, neuron]
                        assert torch.equal(columns.at(layer.path, CHOSEN, call, branch)[prompt, :, place], expected)
                        size += expected.numel() * 4
    assert columns.bytes == size


def test_held_at_its_own_values_the_image_stays_as_it_is(model):
    layers = ff(model)
    source = recorded(model, layers)
    image = sample(model, layers, gates=zeros(layers[0], CHOSEN), held=held(source, layers[0]), gate=torch.tensor([1, 1]))
    assert torch.equal(image, sample(model, layers))


def test_held_neurons_have_the_other_conditions_values_and_the_others_their_own(model):
    layers = ff(model)
    source, plain = recorded(model, layers, prompts=("church", "house")), raw(model, layers)
    seen = raw(model, layers, gates=zeros(layers[0], CHOSEN), held=held(source, layers[0]), gate=torch.tensor([0, 1]))
    for call in range(4):
        for row, branch in ((1, "uncond"), (3, "cond")):
            values = source.at(layers[0].path, CHOSEN, call, branch)[1]
            for place, neuron in enumerate(CHOSEN):
                assert torch.equal(seen[layers[0].path, call][row, :, neuron], values[:, place])
        assert torch.equal(seen[layers[0].path, call][0], plain[layers[0].path, call][0])
    others = [neuron for neuron in range(layers[0].n_neurons) if neuron not in CHOSEN]
    assert torch.equal(seen[layers[0].path, 0][3][:, others], plain[layers[0].path, 0][3][:, others])


def test_a_factor_leaves_that_share_of_the_own_activation(model):
    layers = ff(model)
    source, plain = recorded(model, layers, prompts=("church", "house")), raw(model, layers)
    gates = torch.ones(2, layers[0].n_neurons)
    gates[1, CHOSEN] = 0.25
    seen = raw(model, layers, gates={layers[0].path: gates}, held=held(source, layers[0]), gate=torch.tensor([1, 1]))
    for place, neuron in enumerate(CHOSEN):
        own, other = plain[layers[0].path, 0][2, :, neuron], source.at(layers[0].path, CHOSEN, 0, "cond")[0, :, place]
        assert torch.allclose(seen[layers[0].path, 0][2, :, neuron], 0.25 * own + 0.75 * other, atol=1e-6)


def test_a_draw_takes_another_prompts_values_and_an_average_one_value_for_all(model):
    layers = ff(model)
    source, gate = recorded(model, layers, prompts=("church", "house")), torch.tensor([1, 1])
    settings = {"gates": zeros(layers[0], CHOSEN), "gate": gate}
    drawn = raw(model, layers, held=held(source, layers[0], draw=torch.tensor([1, 0])), **settings)
    values = source.at(layers[0].path, CHOSEN, 3, "cond")
    for prompt in range(2):
        assert torch.equal(drawn[layers[0].path, 3][2 + prompt][:, CHOSEN], values[1 - prompt])
    averaged = raw(model, layers, held=held(source, layers[0], average=True), **settings)
    for place, neuron in enumerate(CHOSEN):
        mean = (
            sum(values[prompt, token, place].double() for prompt in range(2) for token in range(values.shape[1])) / values[..., 0].numel()
        )
        assert torch.allclose(averaged[layers[0].path, 3][2:, :, neuron].double(), mean.expand(2, values.shape[1]), atol=1e-6)


def test_sites_whose_neurons_are_channels_can_be_held_too(model):
    layers, few = sites.layers(model.unet, ["update"]), [1, 5]
    source = recorded(model, layers, few, prompts=("church", "house"))
    seen = raw(model, layers, gates=zeros(layers[0], few), held=held(source, layers[0], few), gate=torch.tensor([1, 1]))
    assert torch.equal(seen[layers[0].path, 1][2][:, few], source.at(layers[0].path, few, 1, "cond")[0])


def test_values_that_were_not_recorded_are_refused_with_what_there_is(model):
    layers = ff(model)
    source = recorded(model, layers, calls=[0, 1])
    with pytest.raises(RecordingMismatch, match="call 2, uncond branch.*Recorded calls of that branch: 0, 1"):
        sample(model, layers, gates=zeros(layers[0], CHOSEN), held=held(source, layers[0]), gate=torch.tensor([1, 1]))
    with pytest.raises(RecordingMismatch, match="1 neurons .* e.g. 7"):
        source.at(layers[0].path, [1, 7], 0, "cond")
    with pytest.raises(RecordingMismatch, match="takes its values from prompt 4 of a source with 2 prompts"):
        Held(source, layers[0].path, torch.tensor(CHOSEN), draw=torch.tensor([4]))._prompt(0, 2)
    with pytest.raises(RecordingMismatch, match="has neurons 0 to 63; 64 was named"):
        sample(model, layers[:1], Columns({layers[0].path: [64]}, 2, [0]))
    with pytest.raises(RecordingMismatch, match="Prompt 2 .* never recorded"):
        wide = Columns({layers[0].path: CHOSEN}, 3, [0])
        sample(model, layers, wide)
        wide.at(layers[0].path, CHOSEN, 0, "cond")


def test_no_hook_survives_a_held_value_that_fails_in_the_middle(model):
    layers, before = ff(model), hooks(model.unet)
    source = recorded(model, layers, calls=[0, 1])
    with pytest.raises(RecordingMismatch):
        sample(model, layers, gates=zeros(layers[0], CHOSEN), held=held(source, layers[0]), gate=torch.tensor([1, 1]))
    assert hooks(model.unet) == before
