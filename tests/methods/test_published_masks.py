"""ConceptPrune and FIA as their authors run them: measured while the sampler calls the UNet, then loop by loop over single weights."""

import numpy as np
import pytest
import torch

from tests import reference_masks, reference_scores
from workbench.diffusion.denoise import denoise
from workbench.methods.erasers import conceptprune, fia
from workbench.models import text

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "cat"), ("house in ink style", "house")]
TWO = [*PAIRS, ("owl in lineart style", "owl"), ("cat in lineart", "cat"), ("a bridge in lineart", "a bridge")]
SAMPLED = {"steps": 4, "calls": 3, "guidance": 4.0, "seeds": 1, "seed": 5}
LAYERS = [
    f"{block}.transformer_blocks.0.ff.net.2"
    for block in ("down_blocks.0.attentions.0", "mid_block.attentions.0", "up_blocks.1.attentions.1")
]
MIDDLE = LAYERS[1]


def seen_by_the_sampler(model, prompts, layer, branches):
    """[prompt][call] = (tokens of inputs, tokens of outputs) of a layer, from hooks on the sampling loop itself."""
    found, empty = [], text.unconditional(model)
    for prompt in prompts:
        calls = []
        hook = model.unet.get_submodule(layer).register_forward_hook(lambda module, x, y, calls=calls: calls.append((x[0], y)))
        with torch.no_grad():
            denoise(model, text.encode(model, [prompt]), empty, [SAMPLED["seed"]], n_steps=SAMPLED["steps"], guidance=SAMPLED["guidance"])
        hook.remove()
        rows = {"both": [0, 1], "cond": [1]}[branches]  # of a guided batch: uncond, cond
        kept = [[torch.cat([part[row] for row in rows]).double().numpy() for part in call] for call in calls[: SAMPLED["calls"]]]
        found.append(kept)
    return found


def row_norms(side):
    """(prompt, call, neuron): each token is brought to length 1, then the squares of each neuron are added over tokens."""
    result = []
    for prompt in side:
        by_call = []
        for inputs, _ in prompt:
            squares = [0.0] * inputs.shape[1]
            for token in inputs.tolist():
                length = sum(value * value for value in token) ** 0.5
                for i, value in enumerate(token):
                    squares[i] += (value / length) ** 2
            by_call.append([square**0.5 for square in squares])
        result.append(by_call)
    return np.array(result)


def sides(model, pairs, layer, branches):
    """What `row_norms` gives for the prompts with the concept and without."""
    return [row_norms(seen_by_the_sampler(model, [pair[side] for pair in pairs], layer, branches)) for side in (0, 1)]


def weight_of(model, layer):
    return model.unet.get_submodule(layer).weight.detach().double().numpy()


@pytest.mark.parametrize("branches", ["both", "cond"])
def test_conceptprune_is_that_of_loops_over_what_the_sampler_saw(model, branches):
    given = conceptprune.Parameters(**SAMPLED, branches=branches, skill_ratio=0.03)
    found = conceptprune.erase(model, PAIRS, given)
    for layer in LAYERS:
        slow = reference_scores.conceptprune_mask(weight_of(model, layer), *sides(model, PAIRS, layer, branches), 0.03, 3, 0.0)
        assert slow.any() and np.array_equal(found[f"unet.{layer}.weight"].numpy(), slow), layer


def test_pooling_both_branches_is_the_default_and_changes_the_mask(model):
    assert conceptprune.Parameters().branches == fia.Parameters().branches == "both" and fia.Parameters().form == "code"
    for one in (conceptprune, fia):
        masks = [one.erase(model, PAIRS, one.Parameters(**SAMPLED, branches=branches)) for branches in ("both", "cond")]
        assert any(not torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


@pytest.mark.parametrize("branches", ["both", "cond"])
@pytest.mark.parametrize(("pairs", "concepts", "alpha"), [(PAIRS, (), 0.6), (TWO, ("ink", "lineart"), 0.8)], ids=["one", "two"])
def test_fia_is_the_code_form_by_loops(model, pairs, concepts, alpha, branches):
    given = fia.Parameters(**SAMPLED, branches=branches, concepts=concepts, alpha=alpha, share=0.03, often=0.07)
    found = fia.erase(model, pairs, given)
    for layer in LAYERS:
        weight, votes = weight_of(model, layer), []
        for group in fia.by_concept(pairs, concepts):
            important = reference_scores.fia_importance(weight, *sides(model, group, layer, branches), 0.07)
            votes.append(reference_scores.fia_selected(important, 0.03).ravel().tolist())
        slow = np.reshape(reference_masks.fia_fused(votes, alpha), weight.shape)
        assert slow.any() and np.array_equal(found[f"unet.{layer}.weight"].numpy(), slow), layer


@pytest.mark.parametrize("branches", ["both", "cond"])
def test_fia_is_the_papers_form_by_loops(model, branches):
    found = fia.erase(model, PAIRS, fia.Parameters(**SAMPLED, form="paper", branches=branches, share=0.03, often=0.07))
    both = [seen_by_the_sampler(model, [pair[side] for pair in PAIRS], MIDDLE, branches) for side in (0, 1)]
    slow = reference_scores.fia_selected(reference_scores.fia_paper(weight_of(model, MIDDLE), *both, 0.07), 0.03)
    assert slow.any() and np.array_equal(found[f"unet.{MIDDLE}.weight"].numpy(), slow)
    code = fia.erase(model, PAIRS, fia.Parameters(**SAMPLED, branches=branches, share=0.03, often=0.07))
    assert not torch.equal(code[f"unet.{MIDDLE}.weight"], found[f"unet.{MIDDLE}.weight"])


def test_several_images_of_a_prompt_are_as_many_prompts_to_fia(model):
    twice = fia.erase(model, PAIRS, fia.Parameters(**SAMPLED | {"seeds": 2}, form="paper"))
    again = fia.erase(model, PAIRS, fia.Parameters(**SAMPLED | {"seeds": 2}, form="paper"))
    once = fia.erase(model, PAIRS, fia.Parameters(**SAMPLED, form="paper"))
    assert all(torch.equal(twice[name], again[name]) for name in twice) and any(not torch.equal(twice[name], once[name]) for name in twice)


def test_a_share_of_less_than_one_weight_of_a_row_is_refused_with_the_reason(model):
    from workbench.errors import MethodError

    with pytest.raises(MethodError, match=r"int\(0.005 \* 128\) = 0 weights. Raise `skill_ratio`"):
        conceptprune.erase(model, PAIRS, conceptprune.Parameters(**SAMPLED, skill_ratio=0.005))


def test_the_estimate_counts_both_branches():
    both, cond = (conceptprune.passes(conceptprune.Parameters(steps=20, calls=10, seeds=1, branches=b), 3) for b in ("both", "cond"))
    assert both - cond == 6 * 10
