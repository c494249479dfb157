"""AC equals its formula written out row by row, in the UNet and in the vectors of words; a killed training continues; files are read."""

import pytest
import torch
from typer.testing import CliRunner

from workbench import registry
from workbench.cli.main import app
from workbench.errors import MethodError
from workbench.methods.erasers import _embedding, _pool, _training, ac
from workbench.models import load, text

PAIRS = [("an owl in ink style", "an owl"), ("cat, ink", "cat"), ("ink house", "")]
METHOD = registry.method("erasers", "ac")
SMALL = {"iterations": 3, "steps": 3, "images": 4, "batch": 2}
TABLE = "text_encoder.embeddings.token_embedding.weight"


def drawn(model, generator, given, images):
    """(pair, x_t, t, noise) of every row of one step, in the order of the pool's draws."""
    which = torch.randint(len(images), (given.batch,), generator=generator).tolist()
    at = torch.randint(model.scheduler.config.num_train_timesteps, (given.batch,), generator=generator)
    noise = torch.randn(given.batch, *model.latent_shape, generator=generator).double()
    for row in range(given.batch):
        a = model.scheduler.alphas_cumprod.double()[at[row]]
        x = a.sqrt() * images[which[row]] + (1 - a).sqrt() * noise[row]
        yield which[row] % len(PAIRS), x[None], at[row][None], noise[row][None]


def slow_ac(model, given):
    """AC in the UNet, one row after the other."""
    generator, own = torch.Generator().manual_seed(given.seed), dict(model.unet.named_parameters())
    images = _pool.of_images(model, PAIRS, given, given.images).latents
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in ac.trained_names(model.unet, given.modules)}
    optimiser = torch.optim.Adam(weights.values(), lr=given.learning_rate)
    for _ in range(given.iterations):
        losses = []
        for pair, x, t, noise in drawn(model, generator, given, images):
            anchor = model.predict(x, t, text.encode(model, [PAIRS[pair][1]]), weights)
            concept = model.predict(x, t, text.encode(model, [PAIRS[pair][0]]), weights)
            losses.append((concept - anchor.detach()).square().mean() + given.prior * (anchor - noise).square().mean())
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        optimiser.step()
    return {f"unet.{name}": weight.detach() for name, weight in weights.items()}


def slow_embedding(model, given, word):
    """AC in the vector of one word, one row after the other, written into the text encoder itself."""
    generator = torch.Generator().manual_seed(given.seed)
    images = _pool.of_images(model, PAIRS, given, given.images).latents
    anchors = [text.encode(model, [anchor]).detach() for _, anchor in PAIRS]
    (token,) = text.words(model, word)
    table = model.text_encoder.get_input_embeddings().weight
    first, vector = table[token].detach().clone(), table[token].detach().clone()
    average = square = torch.zeros_like(vector)
    for step in range(1, given.iterations + 1):
        gradient = torch.zeros_like(vector)
        for pair, x, t, _ in drawn(model, generator, given, images):
            with torch.no_grad():
                table[token] = vector
            table.requires_grad_(True)
            loss = (model.predict(x, t, text.encode(model, [PAIRS[pair][0]])) - model.predict(x, t, anchors[pair])).square().mean()
            gradient += torch.autograd.grad(loss, [table])[0][token] / given.batch
            table.requires_grad_(False)
        average = 0.9 * average + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        vector = vector - given.learning_rate * (average / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    with torch.no_grad():
        table[token] = first
    return token, vector


@pytest.mark.parametrize("modules", ["cross-attn", "attn", "full-weight"])
@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_ac_is_its_formula_row_by_row(exact, modules, prior):
    given = METHOD.parameters(**SMALL | {"modules": modules, "prior": prior, "seed": 2})
    found, slow = METHOD.call(exact, PAIRS, given), slow_ac(exact, given)
    own = exact.parameters()
    assert found.keys() == slow.keys() and all(torch.allclose(found[name], slow[name], rtol=0, atol=1e-9) for name in slow)
    assert max((value - own[name]).abs().max() for name, value in found.items()) > 1e-3


def test_the_embedding_form_is_its_formula_and_changes_nothing_else(exact):
    given = METHOD.parameters(**SMALL | {"modules": "embedding", "words": ["ink"], "seed": 2, "learning_rate": 0.01})
    before = exact.digest()
    found = METHOD.call(exact, PAIRS, given)
    token, vector = slow_embedding(exact, given, "ink")
    assert found.keys() == {TABLE} and exact.digest() == before
    own = exact.parameters()[TABLE]
    changed = (found[TABLE] != own).any(dim=1).nonzero().flatten().tolist()
    assert changed == [token] and torch.allclose(found[TABLE][token], vector, rtol=0, atol=1e-7)
    assert (vector - own[token]).abs().max() > 1e-2


def test_words_are_those_of_the_prompts_that_no_anchor_has(model):
    called = lambda *names, pairs=PAIRS: sorted(model.tokenizer.convert_ids_to_tokens(_embedding.chosen_tokens(model, pairs, names)))  # noqa: E731
    assert called("ink") == ["ink</w>"] and "ink</w>" in called() and not {"owl</w>", "cat</w>"} & set(called())
    assert "house</w>" in called() and called("ink", "owl") == ["ink</w>"]
    with pytest.raises(MethodError, match="No token of the words owl, orange is in a prompt and in no anchor"):
        called("owl", "orange")
    with pytest.raises(MethodError, match="No token of the prompts"):
        called(pairs=[("owl", "an owl")])


def test_the_loss_of_the_embedding_form_falls(model):
    losses = []
    given = METHOD.parameters(**SMALL | {"iterations": 80, "batch": 4, "modules": "embedding", "learning_rate": 0.01})
    METHOD.call(model, PAIRS, given, progress=lambda step, of, loss: losses.append(loss))
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])


@pytest.mark.parametrize("modules", ["cross-attn", "embedding"])
def test_a_killed_training_continues_to_the_same_weights(model, monkeypatch, modules):
    monkeypatch.setattr(_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(_training, "KEEPING", 0.0)
    parameters, saved = METHOD.parameters(**SMALL | {"iterations": 4, "modules": modules}), {}
    whole = METHOD.call(model, PAIRS, parameters)

    def keep(name, state):
        copied = lambda value: value.clone() if isinstance(value, torch.Tensor) else value  # noqa: E731
        saved[name] = {key: {n: v.clone() for n, v in value.items()} if key == "weights" else copied(value) for key, value in state.items()}
        if state["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        METHOD.call(model, PAIRS, parameters, keep=keep)
    steps = []
    again = METHOD.call(model, PAIRS, parameters, kept=saved.get, progress=lambda step, of, loss: steps.append((step, of)))
    assert all(torch.equal(again[name], value) for name, value in whole.items()) and steps == [(3, 4), (4, 4)]


def test_the_text_encoder_that_it_writes_comes_back(tiny_folder, tmp_path):
    words = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    given = ["erase", "ac", "--model", str(tiny_folder), "--concept", "owl in ink style", "--anchor", "owl", *words]
    done = CliRunner().invoke(app, [*given, "--set", "modules=embedding", "--set", 'words=["ink"]', "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    base, reader = load.load(str(tiny_folder)), registry.method("erasers", "from_checkpoint")
    found = reader.call(base, [], reader.parameters(path=str(tmp_path / "out")), folder=tmp_path)
    made = METHOD.call(base, [("owl in ink style", "owl")], METHOD.parameters(**SMALL, modules="embedding", words=["ink"]))
    assert found.keys() == made.keys() == {TABLE} and torch.equal(found[TABLE], made[TABLE])


def test_settings_that_do_not_belong_together_are_refused(model):
    with pytest.raises(MethodError, match="`prior` changes nothing. Set prior = 0"):
        METHOD.check_training(METHOD.parameters(modules="embedding", prior=1.0), PAIRS)
    with pytest.raises(MethodError, match='`words` is for modules = "embedding"; here modules = "attn"'):
        METHOD.call(model, PAIRS, METHOD.parameters(modules="attn", words=["ink"]))
    model.text_encoder_2 = model.text_encoder
    with pytest.raises(MethodError, match="this model has two"):
        METHOD.call(model, PAIRS, METHOD.parameters(**SMALL, modules="embedding"))


def test_studies_without_words_keep_their_keys():
    assert "words" not in METHOD.parameters().model_dump() and METHOD.parameters(modules="embedding", words=["ink"]).model_dump()["words"]
