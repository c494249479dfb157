"""Laws of every site: what is recorded is what the module saw, gates work on it, and the text encoder is told apart from the UNet."""

import pytest
import torch

from tests import reference_scores
from tests.reference import KeepsEverything, same_bits
from workbench.diffusion.denoise import denoise
from workbench.errors import ModelError, RecordingMismatch
from workbench.models import text
from workbench.neurons import sites
from workbench.neurons.reduce import Parts, Statistics
from workbench.neurons.taps import Rows, Taps
from workbench.neurons.text_taps import ONCE, TextTaps

NORMS = ("norm", "row_norm")

UNET = [name for name, site in sites.SITES.items() if site.part == "unet"]
PROMPTS = ["owl in ink style", "a cat", "church"]


def layers_of(model, *names):
    return sites.layers(model.unet, names, model.text_encoder)


def sample(model, layers, reducer=None, gates=None):
    with torch.no_grad():
        states, empty = text.encode(model, PROMPTS), text.encode(model, [""])
    with Taps(model.unet, layers, reducer, gates) as taps:
        return denoise(model, states, empty, [1, 2, 3], n_steps=2, guidance=3.0, taps=taps)[0]


def spoken(model, layers, reducer=None, gates=None, gate=None):
    with torch.no_grad(), TextTaps(model.text_encoder, layers, reducer, gates) as taps:
        return taps.encode(model, PROMPTS, gate=gate)


def hooks(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


@pytest.mark.parametrize("name", UNET)
def test_what_a_site_records_is_what_plain_hooks_see(model, name):
    layers, kept, raw = layers_of(model, name), Statistics(layers_of(model, name), 3, range(2), NORMS), KeepsEverything()
    modules, seen = dict(model.unet.named_modules()), {}

    def watch(path, reads):
        def hook(module, args, kwargs, output):
            stream = args[0] if args else kwargs["hidden_states"]
            result = output if torch.is_tensor(output) else output[0]
            read = {"input": lambda: stream, "output": lambda: result, "update": lambda: result - stream}[reads]
            seen.setdefault(path, []).append(read().clone())

        return modules[path].register_forward_hook(hook, with_kwargs=True)

    handles = [watch(layer.path, layer.site.reads) for layer in layers]
    sample(model, layers, kept)
    for handle in handles:
        handle.remove()
    sample(model, layers, raw)
    for layer in layers:
        for call in range(2):
            own = seen[layer.path][call]
            axes = [axis for axis in range(1, own.ndim) if axis != layer.site.neuron_axis % own.ndim]
            assert own.shape[layer.site.neuron_axis] == layer.n_neurons
            assert torch.allclose(kept.mean_abs[layer.path][:, call], own[3:].abs().mean(dim=axes), rtol=1e-4, atol=1e-6)
            assert torch.allclose(kept.mean_abs[layer.path][1, call].double(), raw.mean_abs(layer.path, call, 1), rtol=1e-4, atol=1e-6)


def test_values_of_cross_attention_have_a_row_for_every_text_token_padding_included(model):
    layers, raw = layers_of(model, "attn_value"), KeepsEverything()
    sample(model, layers, raw)
    for activations in raw.raw.values():
        assert activations[0][0].shape[1] == model.tokenizer.model_max_length


@pytest.mark.parametrize("name", UNET)
def test_gates_work_on_every_site_of_the_unet(model, name):
    layers = layers_of(model, name)
    untouched = sample(model, layers)
    assert torch.equal(untouched, sample(model, layers, gates={layer.path: torch.ones(1, layer.n_neurons) for layer in layers}))
    seen, first = Statistics(layers, 3, range(2)), layers[0]
    gate = torch.ones(1, first.n_neurons)
    gate[:, 1::2] = 0
    changed = sample(model, layers, seen, {first.path: gate})
    assert not torch.equal(untouched, changed)
    values = seen.mean_abs[first.path]
    assert values[..., 1::2].abs().max() == 0 and values[..., ::2].max() > 0


def test_a_silenced_convolution_puts_out_zeros(model):
    layer = layers_of(model, "conv")[0]
    module, out = dict(model.unet.named_modules())[layer.path], []
    with Taps(model.unet, [layer], gates={layer.path: torch.zeros(1, layer.n_neurons)}) as taps, torch.no_grad():
        handle = module.register_forward_hook(lambda module, args, output: out.append(output))
        taps.tell(Rows(0, 10.0, torch.tensor([0]), ["cond"]))
        model.unet(torch.ones(1, *model.latent_shape), torch.tensor(10.0), encoder_hidden_states=text.encode(model, ["owl"]))
        taps.check()
    handle.remove()
    assert len(out) == 1 and out[0].ndim == 4 and out[0].abs().max() == 0


def test_no_hook_survives_on_any_site_and_weights_stay(model):
    layers = layers_of(model, *sites.SITES)
    of = {part: [layer for layer in layers if layer.site.part == part] for part in ("unet", "text_encoder")}
    before = [hooks(model.unet), hooks(model.text_encoder)]
    weights = {name: value.clone() for name, value in model.text_encoder.state_dict().items()}
    for part, taps in (("unet", Taps), ("text_encoder", TextTaps)):
        with pytest.raises(ZeroDivisionError), taps(getattr(model, part), of[part]):
            raise ZeroDivisionError
    spoken(model, of["text_encoder"])
    assert [hooks(model.unet), hooks(model.text_encoder)] == before
    assert same_bits(weights, model.text_encoder.state_dict())


def test_the_text_encoder_is_recorded_once_per_prompt_over_all_tokens(model):
    layers = layers_of(model, "text_mlp")
    modules, raw = dict(model.text_encoder.named_modules()), {}
    handles = [
        modules[layer.path].register_forward_pre_hook(lambda module, args, path=layer.path: raw.setdefault(path, args[0].clone()))
        for layer in layers
    ]
    with torch.no_grad():
        alone = text.encode(model, PROMPTS)
    for handle in handles:
        handle.remove()
    kept = Statistics(layers, 3, [ONCE], NORMS)
    assert torch.equal(spoken(model, layers, kept), alone)
    assert len(layers) == 2 and {layer.n_neurons for layer in layers} == {64}
    for layer in layers:
        assert raw[layer.path].shape == (3, 16, 64)
        assert torch.allclose(kept.mean_abs[layer.path][:, 0], raw[layer.path].abs().mean(dim=1), rtol=1e-5, atol=1e-7)


def test_gates_on_the_text_encoder_change_what_it_says_row_by_row(model):
    layers = layers_of(model, "text_mlp")
    alone = spoken(model, layers)
    ones = {layer.path: torch.ones(1, layer.n_neurons) for layer in layers}
    assert torch.equal(spoken(model, layers, gates=ones), alone)
    kept = Statistics(layers, 3, [ONCE])
    gates = {layers[0].path: torch.stack([torch.ones(64), torch.zeros(64)])}
    said = spoken(model, layers, kept, gates, torch.tensor([0, 1, 0]))
    assert torch.allclose(said[[0, 2]], alone[[0, 2]], atol=1e-6) and not torch.allclose(said[1], alone[1], atol=1e-3)
    values = kept.mean_abs[layers[0].path]
    assert values[1].abs().max() == 0 and values[0].min() > 0


def test_text_encoded_behind_the_back_of_the_taps_is_refused(model):
    with TextTaps(model.text_encoder, layers_of(model, "text_mlp")), pytest.raises(RecordingMismatch, match="Use TextTaps.encode"):
        text.encode(model, PROMPTS)


def test_a_site_that_is_unknown_or_not_there_is_refused(model):
    with pytest.raises(ModelError, match='Did you mean "attn_value"'):
        sites.layers(model.unet, ["attn_valu"])
    with pytest.raises(ModelError, match="Pass it as text_encoder"):
        sites.layers(model.unet, ["text_mlp"])
    with pytest.raises(ModelError, match="This text encoder has no layer"):
        sites.layers(model.unet, ["text_mlp"], model.unet)


def test_reading_weights_are_the_columns_through_which_neurons_write(model):
    layers = layers_of(model, *sites.SITES)
    found = sites.reading_weights(layers, model.unet, model.text_encoder)
    assert set(found) == {layer.path for layer in layers if layer.site.name in ("ff", "text_mlp")}
    assert all(found[layer.path].shape[1] == layer.n_neurons for layer in layers if layer.path in found)


def test_norms_equal_loops_over_raw_activations_and_a_token_of_zeros_adds_nothing():
    layer = sites.Layer("somewhere.ff.net.2", sites.SITES["ff"], 3)
    raw = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    raw[2, 1] = 0
    rows = Rows(7, 1.0, torch.tensor([0, 1, 0, 1]), ["cond", "cond", "cond", "cond"])
    two = [Statistics([layer], 2, [7], NORMS) for _ in range(2)]
    Parts(two).add(layer, raw, rows)
    for row in range(4):
        for neuron in range(3):
            for name in NORMS:
                expected = getattr(reference_scores, name)(raw[row].tolist(), neuron)
                assert float(two[row // 2].norms[layer.path, name][row % 2, 0, neuron]) == pytest.approx(expected, rel=1e-5)


def test_row_norms_do_not_see_how_loud_a_layer_is_and_norms_do():
    layer = sites.Layer("somewhere.ff.net.2", sites.SITES["ff"], 3)
    raw, rows = torch.randn(1, 5, 3), Rows(0, 1.0, torch.tensor([0]), ["cond"])
    kept = [Statistics([layer], 1, [0], NORMS) for _ in range(2)]
    for one, factor in zip(kept, (1, 4), strict=True):
        one.add(layer, raw * factor, rows)
    assert torch.allclose(kept[0].norms[layer.path, "row_norm"], kept[1].norms[layer.path, "row_norm"], rtol=1e-5)
    assert torch.allclose(4 * kept[0].norms[layer.path, "norm"], kept[1].norms[layer.path, "norm"], rtol=1e-5)


def test_norms_are_kept_only_when_asked_for_and_where_weights_read_the_neurons(model):
    layers = layers_of(model, "ff", "conv")
    assert Statistics(layers, 1, [0]).norms == {}
    assert {path for path, _ in Statistics(layers, 1, [0], ["norm"]).norms} == {layer.path for layer in layers if layer.site.name == "ff"}


def test_what_is_stored_per_prompt_is_what_was_seen_bit_for_bit():
    """Half precision made ties, and its largest norm was 65,504."""
    layer = sites.Layer("somewhere.ff.net.2", sites.SITES["ff"], 3)
    kept = Statistics([layer], 1, [0], NORMS)
    kept.add(layer, torch.full((1, 400, 3), 1e4) * torch.tensor([1, 1 + 1e-6, 2]), Rows(0, 1.0, torch.tensor([0]), ["cond"]))
    stored = kept.to_tensors()
    assert torch.equal(stored[f"{layer.path}|mean_abs"], kept.mean_abs[layer.path]) and stored[f"{layer.path}|norm"].max() > 65_504
    assert all(stored[f"{layer.path}|{name}"].dtype == torch.float32 for name in ("mean_abs", *NORMS))
    assert len(set(stored[f"{layer.path}|mean_abs"][0, 0].tolist())) == 3
