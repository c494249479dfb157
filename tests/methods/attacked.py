"""What the tests of attacks share: contexts, looks that find nothing, an eraser that changes words, a kill and a resume."""

import copy
from contextlib import contextmanager

import pytest
import torch

from workbench.methods.attacks import Context, Look
from workbench.models.variants import Variant, applied, base_again


def context_of(model, n=3, **given):
    """A context that forbids `ink`, with random images of n prompts."""
    return Context(["ink"], "erased", torch.randn(n, *model.latent_shape, generator=torch.Generator().manual_seed(0)), **given)


def in_vain(made):
    """Looks that find nothing."""
    return [Look(False, 0.0)] * len(made)


def n_looks(context):
    """{"attack": looks, "control": looks} that a context's log holds."""
    return {of: sum(row["found"] is not None for row in context.log if row["of"] == of) for of in ("attack", "control")}


def id_of(model, word):
    """The token of a word."""
    return model.tokenizer(word, add_special_tokens=False).input_ids[0]


@contextmanager
def erasing(model, changes):
    """The model with these rows {token: vector} of its embedding table erased; gives the context's `base`."""
    name = next(n for n in model.parameters() if n.endswith("token_embedding.weight"))
    own = {n: p.data for n, p in model.parameters().items()}
    table = own[name].clone()
    for token, vector in changes.items():
        table[token] = vector
    with applied(model, Variant("erased", "base", {name: table})):
        yield lambda: base_again(model, own)


def halved(model):
    """The model with half its output weights: a base that differs."""
    return base_again(model, {"unet.conv_out.weight": model.unet.conv_out.weight.data / 2})


def whole_and_resumed(attack, context_with, at, kept_at):
    """An attack run through, and the same killed at step `at`, when `kept_at` was kept, and resumed; for each prompts and log rows."""
    kept = {}

    def context(progress=lambda step, of, note="": None):
        return context_with(
            succeeds=in_vain,
            kept=kept.get,
            keep=lambda name, state: kept.update({name: copy.deepcopy(state)}),
            progress=progress,
        )

    def die(step, of, note=""):
        if step == at:
            raise KeyboardInterrupt

    def run():
        own = context()
        made = attack(own)
        return made.prompts, [{name: value for name, value in row.items() if name != "seconds"} for row in own.log]

    whole = run()
    kept.clear()
    with pytest.raises(KeyboardInterrupt):
        attack(context(die))
    assert kept["attack"]["iteration"] == kept_at
    return whole, run()
