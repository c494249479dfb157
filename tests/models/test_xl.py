"""Pipelines with two text encoders: the whole way of a study, on a tiny SDXL, against the pipeline's own call."""

import shutil

import pytest
import torch

from tests import single_file, tiny, tiny_xl
from tests.reference import same_bits
from workbench.diffusion.denoise import denoise, evaluate, initial_noise
from workbench.errors import ModelError, PromptError
from workbench.methods.attacks import Context
from workbench.models import load, text
from workbench.models.load import from_pipeline
from workbench.models.variants import Variant, applied, describe
from workbench.neurons.reduce import Statistics
from workbench.neurons.sites import layers
from workbench.neurons.taps import Taps
from workbench.registry import method
from workbench.study.prompts import read_prompts

PROMPTS = ["an owl in ink, black outline", "a cat, water colour"]


@pytest.fixture
def pipeline():
    return tiny_xl.xl_pipeline()


@pytest.fixture
def model(pipeline):
    return from_pipeline(pipeline, "tiny xl")


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xl") / "model"
    tiny_xl.xl_pipeline().save_pretrained(folder)
    return folder


def states_of_pipeline(pipeline, prompts):
    """(states, pooled) as diffusers gives them."""
    found = pipeline.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=False)
    return found[0], found[2]


@torch.no_grad()
def sampled_by_pipeline(pipeline, prompts, seeds, guidance):
    """Final latents of diffusers' own call from the same noise."""
    model = from_pipeline(pipeline, "tiny xl")
    return pipeline(
        prompts,
        num_inference_steps=4,
        guidance_scale=guidance,
        latents=initial_noise(model, seeds),
        output_type="latent",
    ).images


def test_states_are_those_of_the_pipeline_with_the_pooled_text_as_last_row(pipeline, model):
    states, pooled = states_of_pipeline(pipeline, PROMPTS)
    found = text.encode(model, PROMPTS)
    assert found.shape == (2, 16 + 1, 80)
    assert torch.equal(found[:, :-1], states) and torch.equal(found[:, -1, : tiny_xl.POOLED], pooled)
    assert not found[:, -1, tiny_xl.POOLED :].any()
    assert all(torch.equal(a, b) for a, b in zip(text.unpacked(found, tiny_xl.POOLED), (states, pooled), strict=True))


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_sampling_equals_the_pipelines_own_call_bit_for_bit(pipeline, guidance):
    wanted = sampled_by_pipeline(pipeline, PROMPTS, [3, 4], guidance)
    model = from_pipeline(pipeline, "tiny xl")
    found, _ = denoise(model, text.encode(model, PROMPTS), text.unconditional(model), [3, 4], n_steps=4, guidance=guidance)
    assert torch.equal(found, wanted)
    image = pipeline.vae.decode(wanted / pipeline.vae.config.scaling_factor).sample
    assert torch.equal(model.decode(found), (image / 2 + 0.5).clamp(0, 1))


def test_the_uncond_branch_is_zeros_only_where_the_pipeline_says_so(pipeline):
    zeros = from_pipeline(pipeline, "zeros")
    assert zeros.zero_uncond and not text.unconditional(zeros).any()
    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    model = from_pipeline(pipeline, "empty prompt")
    assert torch.equal(text.unconditional(model), text.encode(model, [""]))
    found, _ = denoise(model, text.encode(model, PROMPTS[:1]), text.unconditional(model), [3], n_steps=4, guidance=5.0)
    assert torch.equal(found, sampled_by_pipeline(pipeline, PROMPTS[:1], [3], 5.0))


def test_sampling_in_v_equals_the_pipelines_own_call():
    pipeline = tiny_xl.xl_pipeline(prediction_type="v_prediction")
    wanted = sampled_by_pipeline(pipeline, PROMPTS, [3, 4], 5.0)
    model = from_pipeline(pipeline, "v")
    found, _ = denoise(model, text.encode(model, PROMPTS), text.unconditional(model), [3, 4], n_steps=4, guidance=5.0)
    assert torch.equal(found, wanted)


def test_predicted_noise_of_a_model_in_v_is_the_noise_the_scheduler_takes_out():
    model = from_pipeline(tiny_xl.xl_pipeline(prediction_type="v_prediction"), "v")
    states, latents = text.encode(model, PROMPTS), torch.randn(2, *model.latent_shape)
    at = torch.tensor([800, 17])
    found = model.predict(latents, at, states)
    for row, t in enumerate(at.tolist()):
        v = model.run_unet(latents[row : row + 1], t, states[row : row + 1])
        a = float(model.scheduler.alphas_cumprod[t])
        clean = a**0.5 * latents[row] - (1 - a) ** 0.5 * v[0]
        noise = (latents[row] - a**0.5 * clean) / (1 - a) ** 0.5
        assert torch.allclose(found[row], noise, atol=1e-5)
    between = model.signal(16.25, latents)
    assert between.item() == pytest.approx(
        0.75 * float(model.scheduler.alphas_cumprod[16]) + 0.25 * float(model.scheduler.alphas_cumprod[17])
    )


def test_a_denoising_loss_of_zero_is_reached_by_the_true_v(monkeypatch):
    from workbench.diffusion.objectives import denoising_loss

    model = from_pipeline(tiny_xl.xl_pipeline(prediction_type="v_prediction"), "v")
    clean, noise = torch.randn(2, 2, *model.latent_shape)
    at = torch.tensor([400, 900])
    a = model.scheduler.alphas_cumprod[at].reshape(-1, 1, 1, 1)
    monkeypatch.setattr(model, "run_unet", lambda *given: a.sqrt() * noise - (1 - a).sqrt() * clean)
    assert denoising_loss(model, clean, noise, at, None).max() < 1e-8


def test_vectors_of_tokens_give_the_states_of_the_tokens_in_both_encoders(model):
    words = "yellow garden"
    vectors = text.token_vectors(model)[text.words(model, words)][None]
    assert vectors.shape == (1, 2, 80)
    read = text.encode(model, [f"{words} owl in ink"])
    assert torch.allclose(text.encode(model, ["owl in ink"], vectors), read, atol=1e-6)
    assert torch.allclose(text.encode_tokens(model, vectors), text.encode(model, [words]), atol=1e-6)
    ids = text.tokenize(model.tokenizer, [f"{words} owl in ink"])
    assert torch.equal(text.encode_ids(model, ids), read)
    places = torch.zeros_like(ids, dtype=torch.bool)
    places[0, 1:3] = True
    assert torch.allclose(text.encode_ids(model, ids.masked_fill(places, 0), vectors[0], places), read, atol=1e-6)
    assert not any(encoder.get_input_embeddings()._forward_hooks for encoder in model.text_encoders)


def test_a_prompt_cut_by_vectors_still_ends(model):
    vectors = text.token_vectors(model)[text.words(model, "yellow garden")][None]
    long = " ".join(["owl"] * 30)
    assert torch.allclose(text.encode(model, [long], vectors), text.encode(model, [f"yellow garden {long}"]), atol=1e-6)


def test_gradients_reach_the_vectors_of_both_encoders(model):
    """Through the states those of both, through the pooled text those of the second alone."""
    first, _ = tiny_xl.WIDTHS
    for rows, reached in ((slice(0, -1), [True, True]), (slice(-1, None), [False, True])):
        vectors = torch.zeros(1, 2, 80, requires_grad=True)
        text.encode(model, ["owl"], vectors)[:, rows].square().sum().backward()
        assert [bool(part.any()) for part in (vectors.grad[..., :first], vectors.grad[..., first:])] == reached


def test_taps_record_and_gate(model):
    found = layers(model.unet, ["ff"])
    states, empty = text.encode(model, PROMPTS), text.unconditional(model)
    recorded = Statistics(found, 2, range(3))
    with Taps(model.unet, found, recorded) as taps:
        plain, path = denoise(model, states, empty, [1, 2], n_steps=3, guidance=4.0, taps=taps, keep=range(3))
    assert torch.equal(plain, denoise(model, states, empty, [1, 2], n_steps=3, guidance=4.0)[0])
    kept = recorded.to_tensors()
    assert all(kept[f"{layer.path}|mean_abs"].shape == (2, 3, layer.n_neurons) for layer in found)
    again = Statistics(found, 2, range(3))
    with Taps(model.unet, found, again) as taps:
        evaluate(model, states, [path], taps)
    name = f"{found[0].path}|mean_abs"
    assert torch.allclose(again.to_tensors()[name].float(), kept[name].float(), rtol=2e-2, atol=1e-3)
    silent = {layer.path: torch.zeros(1, layer.n_neurons) for layer in found}
    with Taps(model.unet, found, gates=silent) as taps:
        gated, _ = denoise(model, states, empty, [1, 2], n_steps=3, guidance=4.0, taps=taps)
    assert not torch.equal(gated, plain)
    with Taps(model.unet, found, gates={path: torch.ones_like(gate) for path, gate in silent.items()}) as taps:
        assert torch.equal(denoise(model, states, empty, [1, 2], n_steps=3, guidance=4.0, taps=taps)[0], plain)


def test_esd_trains_and_its_variant_applies(model):
    one = method("erasers", "esd")
    before = {name: parameter.detach().clone() for name, parameter in model.parameters().items()}
    losses = []
    settings = one.parameters(iterations=16, steps=2, trajectories=1, batch=2, learning_rate=1e-2)
    weights = one.call(model, [("owl in ink style", "owl")], settings, progress=lambda step, of, loss: losses.append(loss))
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert same_bits(before, {name: parameter.detach() for name, parameter in model.parameters().items()})
    with applied(model, Variant("erased", weights=weights)):
        assert model.digest() != from_pipeline(tiny_xl.xl_pipeline(), "base").digest()


@pytest.fixture
def targets(tmp_path):
    (tmp_path / "t.csv").write_text("unit,prompt,seed\na,owl in ink style,1\nb,cat in ink style,2\n")
    return read_prompts(tmp_path / "t.csv", "target", "target")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("embedding_pgd", {"iterations": 2}),
        ("unlearn_diff_atk", {"timesteps": 2, "iterations": 1}),
        ("p4d", {"iterations": 2}),
        ("p4d", {"iterations": 2, "form": "K"}),
        ("concept_inversion", {"iterations": 2}),
        ("ring_a_bell", {"population": 4, "generations": 2}),
        ("random_embedding", {}),
    ],
)
def test_attacks_run(model, targets, name, settings):
    one = method("attacks", name)
    context = Context(["ink"], "erased", torch.randn(2, *model.latent_shape))
    made = one.call(model, targets, one.parameters(**settings), context)
    assert made.units == targets.units and made.digest() != targets.digest()
    if made.prefix is not None:
        assert made.prefix.shape[2] == 80 and made.prefix.abs().amax(dim=(0, 1)).gt(0).all()


def test_a_learned_embedding_is_written_as_published_and_comes_back_side_by_side(model, targets, tmp_path):
    from safetensors.torch import save_file

    from workbench.study import imports

    context = Context(["ink"], "erased", torch.randn(2, *model.latent_shape), folder=tmp_path)
    one = method("attacks", "concept_inversion")
    made = one.call(model, targets, one.parameters(n_vectors=2, iterations=1), context)
    written = context.files["learned_embeds.safetensors"]
    assert {name: tuple(part.shape) for name, part in written.items()} == {"clip_l": (2, 32), "clip_g": (2, 48)}
    save_file(written, tmp_path / "learned_embeds.safetensors")
    found = imports.recognise(tmp_path / "learned_embeds.safetensors")
    assert torch.equal(found.vectors["learned_embeds"], made.prefix[0])
    note = imports.write(found, tmp_path / "learned_embeds.safetensors", tmp_path / "out", "transferred", "another SDXL")
    read = method("attacks", "from_file")
    again = read.call(model, targets, read.parameters(file=note["file"]), context)
    assert torch.equal(again.prefix, made.prefix[:1].expand_as(made.prefix))  # this file holds what the first half is attacked with
    with pytest.raises(PromptError, match="80 channels, the text encoder of one takes 32"):
        read.call(from_pipeline(tiny.pipeline(), "one"), targets, read.parameters(file=note["file"]), context)
    save_file({"clip_l": torch.zeros(2, 32), "clip_g": torch.zeros(1, 48)}, tmp_path / "uneven.safetensors")
    with pytest.raises(PromptError, match="2 vectors clip_l and 1 clip_g"):
        imports.recognise(tmp_path / "uneven.safetensors")


def test_embedding_pgd_moves_the_vectors_of_both_encoders(model, targets):
    one = method("attacks", "embedding_pgd")
    context = Context(["ink"], "erased", torch.randn(2, *model.latent_shape))
    few, more = (one.call(model, targets, one.parameters(iterations=n), context).prefix for n in (1, 3))
    assert (few != more).all(dim=1).float().mean(dim=0).gt(0.5).all()


def test_a_variant_of_the_second_text_encoder_applies_and_is_undone_bit_for_bit(model):
    name = "text_encoder_2.text_model.encoder.layers.0.mlp.fc2.weight"
    before, digest = text.encode(model, PROMPTS), model.digest()
    variant = Variant("v", weights={name: model.parameters()[name] + 0.1})
    with applied(model, variant):
        inside = text.encode(model, PROMPTS)
        assert model.digest() != digest
    assert torch.equal(inside[..., :32][:, :-1], before[..., :32][:, :-1])  # the first encoder's channels
    assert not torch.equal(inside[:, :-1, 32:], before[:, :-1, 32:]) and not torch.equal(inside[:, -1], before[:, -1])
    assert torch.equal(text.encode(model, PROMPTS), before) and model.digest() == digest
    assert describe(model, variant)["largest_changes"][0]["module"] == name
    with applied(model, Variant("pruned", masks={name: torch.ones_like(before[0, 0, :1], dtype=torch.bool).expand(48, 96)})):
        assert not model.parameters()[name].any()
    assert model.digest() == digest


def test_a_saved_pipeline_loads_and_equals_itself(model, xl_folder):
    found = load.load(str(xl_folder))
    assert found.digest() == model.digest() and found.zero_uncond
    assert torch.equal(text.encode(found, PROMPTS), text.encode(model, PROMPTS))


def configuration(folder, to):
    """A copy of a diffusers folder without its weights."""
    return shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))


def test_a_single_file_with_its_configuration_beside_it_equals_the_folder(pipeline, model, xl_folder, tmp_path):
    single_file.save(pipeline, tmp_path / "xl.safetensors")
    configuration(xl_folder, tmp_path / "xl")
    found = load.load(str(tmp_path / "xl.safetensors"))
    assert found.digest() == model.digest()
    states, empty = text.encode(found, PROMPTS), text.unconditional(found)
    sampled = [denoise(one, states, empty, [1, 2], n_steps=2, guidance=3.0)[0] for one in (found, model)]
    assert torch.equal(*sampled) and torch.equal(found.decode(sampled[0]), model.decode(sampled[1]))


def test_a_single_file_of_the_first_kind_loads_too(tiny_folder, tmp_path):
    pipeline = tiny.pipeline()
    single_file.save(pipeline, tmp_path / "sd.safetensors")
    configuration(tiny_folder, tmp_path / "sd")
    assert load.load(str(tmp_path / "sd.safetensors")).digest() == from_pipeline(pipeline, "sd").digest()


def test_a_single_file_without_configuration_says_what_to_put_beside_it(pipeline, tmp_path):
    single_file.save(pipeline, tmp_path / "xl.safetensors")
    with pytest.raises(ModelError, match="put a diffusers folder of its kind beside it as .*xl "):
        load.load(str(tmp_path / "xl.safetensors"))


def test_a_file_with_a_unet_alone_is_called_a_variant(pipeline, tmp_path):
    from safetensors.torch import save_file

    save_file(pipeline.unet.state_dict(), tmp_path / "unet.safetensors")
    with pytest.raises(ModelError, match="are a variant, not a base"):
        load.load(str(tmp_path / "unet.safetensors"))
