"""A model whose text encoders and VAE wait in the computer's memory: they come to the device for their work, and results are the same."""

from contextlib import contextmanager

import pytest
import torch

from tests.tiny import pipeline
from tests.tiny_xl import xl_pipeline
from workbench.models import text
from workbench.models.load import from_pipeline

PROMPTS = ["a red house", "a dog"]


@contextmanager
def moves(model, monkeypatch):
    """Told in their order: (part, where to) of every move of a part, and "work" where a part computes."""
    told, original = [], torch.nn.Module.to
    parts = {id(module): name for name, module in model.modules.items()}

    def to(module, *args, **more):
        if id(module) in parts:
            told.append((parts[id(module)], str(args[0])))
        return original(module, *args, **more)

    handles = [
        module.register_forward_hook(lambda *_, name=name: told.append((name, "work")))
        for name, module in model.modules.items()
        if name.startswith("text")
    ]
    handles.append(model.vae.decoder.register_forward_hook(lambda *_: told.append(("vae", "work"))))
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "to", to)
        yield told
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("made", [pipeline, xl_pipeline])
def test_parts_come_to_the_device_for_their_work_and_go_back(made, monkeypatch):
    model, plain = from_pipeline(made(), "tiny", offload=True), from_pipeline(made(), "tiny")
    latents = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    with moves(model, monkeypatch) as told, torch.no_grad():
        monkeypatch.setattr(type(model), "device", torch.device("cpu:0"))  # a name of its own, so that it is told from where parts rest
        states, images = text.encode(model, PROMPTS), model.decode(latents)
    encoders = [name for name in model.modules if name.startswith("text")]
    for name in (*encoders, "vae"):
        assert [what for part, what in told if part == name] == ["cpu:0", "work", "cpu"]
    assert "unet" not in {part for part, _ in told}
    with torch.no_grad():
        assert torch.equal(states, text.encode(plain, PROMPTS)) and torch.equal(images, plain.decode(latents))


def test_while_gradients_are_recorded_they_stay(monkeypatch):
    model = from_pipeline(pipeline(), "tiny", offload=True)
    vectors = torch.randn(2, 1, model.text_encoder.config.hidden_size, requires_grad=True)
    with moves(model, monkeypatch) as told:
        text.encode(model, PROMPTS, vectors).square().mean().backward()
    assert [what for part, what in told if part == "text_encoder"] == ["cpu", "work"] and vectors.grad.abs().sum() > 0


def test_nothing_moves_without_it(monkeypatch):
    model = from_pipeline(pipeline(), "tiny")
    with moves(model, monkeypatch) as told, torch.no_grad():
        text.encode(model, PROMPTS)
    assert told == [("text_encoder", "work")]
