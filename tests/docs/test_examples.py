"""The methods that the how-tos show run on the tiny model."""

import textwrap

import numpy as np
import torch

from tests.docs.pages import ROOT
from tests.docs.test_commands import blocks


def example(page):
    """The names that the first Python block of a how-to defines."""
    found = {}
    exec(compile(textwrap.dedent(blocks(ROOT / "docs" / "develop" / page, "python")[0]), page, "exec"), found)
    return found


def test_the_eraser_of_the_how_to_changes_what_it_says(model):
    made = example("add-an-eraser.md")
    before = {name: value.detach().clone() for name, value in model.unet.named_parameters()}
    changed = made["erase"](model, [("owl in ink", "owl")], made["Parameters"](strength=2.0))
    assert changed and all(name.endswith("attn2.to_v.weight") for name in changed)
    for name, value in changed.items():
        assert torch.allclose(value, before[name.removeprefix("unet.")] * 0.98)
    assert all(torch.equal(value, before[name]) for name, value in model.unet.named_parameters())


def test_the_score_of_the_how_to_is_its_formula():
    made = example("add-a-score.md")
    target, reference = np.array([[1.0, 4.0], [3.0, 4.0], [9.0, 4.0]]), np.array([[1.0, 5.0], [1.0, 5.0]])
    assert made["score"](target, reference).tolist() == [2.0, -1.0] and made["NEEDS"] == ("target", "reference")
