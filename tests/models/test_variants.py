"""Variants, masks, text states and loading."""

import functools

import pytest
import torch

from tests.reference import same_bits
from workbench.errors import ModelError, PromptError
from workbench.models import load, masks, text
from workbench.models.variants import SideBySide, Variant, applied, describe, plain


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.parameters().items()}


def test_leaving_a_variant_restores_every_bit_even_after_an_exception(model):
    before = snapshot(model)
    name = next(iter(before))
    with pytest.raises(ZeroDivisionError), applied(model, Variant("v", weights={name: torch.zeros_like(before[name])})):
        assert torch.count_nonzero(model.parameters()[name]) == 0
        raise ZeroDivisionError
    assert same_bits(before, snapshot(model))


def test_an_unknown_parameter_and_a_wrong_shape_are_refused(model):
    with pytest.raises(ModelError, match="does not have"), applied(model, Variant("v", weights={"unet.nothing": torch.zeros(1)})):
        pass
    name = "unet.conv_in.weight"
    with pytest.raises(ModelError, match="shape"), applied(model, Variant("v", weights={name: torch.zeros(1)})):
        pass


def test_a_mask_over_weights_prunes_the_weights_it_finds(model):
    name = "unet.conv_in.bias"
    parent = Variant("erased", "base", {name: torch.full((16,), 2.0)})
    mask = torch.arange(16) < 4
    with applied(model, Variant("pruned", "erased", masks={name: mask}).over(parent)):
        assert model.parameters()[name].tolist() == [0.0] * 4 + [2.0] * 12


def test_cutting_incoming_weights_silences_exactly_the_named_neurons(model):
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    cut = masks.cut_incoming(model.unet, {layer: [1, 5]})
    block = dict(model.unet.named_modules())[layer.removesuffix(".net.2")]
    inputs = torch.randn(1, 4, 32)
    before = block.net[0](inputs)
    with applied(model, Variant("pruned", masks=cut)):
        after = block.net[0](inputs)
    silent = (after == 0).all(dim=(0, 1)).nonzero().flatten().tolist()
    assert silent == [1, 5]
    keep = [i for i in range(before.shape[-1]) if i not in (1, 5)]
    assert torch.equal(before[..., keep], after[..., keep])


def three_variants(model):
    """base, one with other attention weights and another conv_in, and that one pruned."""
    own = model.parameters()
    drawn = torch.Generator().manual_seed(2)
    names = ["unet.conv_in.weight", *(name for name in own if name.startswith("unet.") and "attn2.to_k" in name)]
    erased = Variant("erased", weights={name: torch.randn(own[name].shape, generator=drawn) for name in names})
    mask = masks.cut_incoming(model.unet, {"mid_block.attentions.0.transformer_blocks.0.ff.net.2": [1, 5]})
    return [None, erased, Variant("pruned", "erased", masks=mask).over(erased)]


def test_rows_side_by_side_are_those_of_each_variant_alone(model):
    variants, owner = three_variants(model), torch.tensor([0, 2, 1, 1, 0])
    drawn = torch.Generator().manual_seed(3)
    inputs = torch.randn(10, *model.latent_shape, generator=drawn)
    with torch.no_grad():
        states, at = text.encode(model, ["a cat", "a dog"] * 5), torch.tensor(400.0)
        alone = []
        for variant in variants:
            with applied(model, variant):
                alone.append(model.predict(inputs, at, states))
        with SideBySide(model, variants) as side:
            side.owner = owner
            found = model.predict(inputs, at, states)  # twice as many rows as are shared out: the halves with and without the prompt
    for row, place in enumerate(owner.tolist() * 2):
        assert torch.allclose(found[row], alone[place][row], atol=1e-5), row
        assert all(not torch.allclose(found[row], alone[other][row], atol=1e-4) for other in range(3) if other != place)


def test_leaving_variants_side_by_side_restores_the_model_even_after_an_exception(model):
    before = snapshot(model)
    inputs, states = torch.randn(3, *model.latent_shape), text.encode(model, ["a cat"] * 3)
    wrapped = model.unet.conv_in
    wrapped.forward = own = functools.partial(type(wrapped).forward, wrapped)  # as libraries do that move weights about
    with pytest.raises(ModelError, match="cannot be shared out"), SideBySide(model, three_variants(model)) as side, torch.no_grad():
        side.owner = torch.tensor([0, 1])
        model.predict(inputs, torch.tensor(3.0), states)
    assert wrapped.__dict__.pop("forward") is own
    assert same_bits(before, snapshot(model)) and not any("forward" in module.__dict__ for module in model.unet.modules())


def test_a_variant_that_changes_more_than_the_unet_has_no_place_side_by_side(model):
    name = next(name for name in model.parameters() if name.startswith("text_encoder."))
    other = Variant("texts", weights={name: model.parameters()[name].detach() + 1})
    assert plain(None) and plain(three_variants(model)[2]) and not plain(other)
    with pytest.raises(ModelError, match="a batch of its own"):
        SideBySide(model, [None, other])


def test_a_mask_survives_saving_with_its_provenance(model, tmp_path):
    made = masks.cut_incoming(model.unet, {"mid_block.attentions.0.transformer_blocks.0.ff.net.2": [0, 9]})
    masks.save(tmp_path / "m.safetensors", made, {"method": "prune_neurons"})
    found, provenance = masks.load(tmp_path / "m.safetensors")
    assert same_bits(made, found) and provenance == {"method": "prune_neurons"}
    assert masks.count(found) == 2 * 2 * (32 + 1)


def test_the_description_of_a_change_counts_what_changed(model):
    name = "unet.conv_in.bias"
    changed = model.parameters()[name].detach().clone()
    changed[:3] += 1
    found = describe(model, Variant("v", weights={name: changed}))
    total = sum(p.numel() for p in model.parameters().values())
    assert found["parameters_changed"] == 1 and found["share_changed"] == pytest.approx(3 / total)
    assert found["digest"] != describe(model, None)["digest"] == model.digest()


def test_vectors_of_tokens_give_the_states_of_the_tokens(model):
    words = "yellow garden"
    ids = model.tokenizer(words, add_special_tokens=False).input_ids
    vectors = text.token_vectors(model)[ids][None]
    with_vectors = text.encode(model, ["owl in ink"], vectors)
    assert torch.allclose(with_vectors, text.encode(model, [f"{words} owl in ink"]), atol=1e-6)
    assert not model.text_encoder.get_input_embeddings()._forward_hooks


def test_gradients_reach_the_vectors(model):
    vectors = torch.zeros(1, 2, 32, requires_grad=True)
    text.encode(model, ["owl"], vectors).square().sum().backward()
    assert vectors.grad.abs().sum() > 0


def test_no_prompts_are_an_error(model):
    with pytest.raises(PromptError, match="empty"):
        text.encode(model, [])


def test_permitted_tokens_hold_no_special_token_and_no_name(model):
    permitted = text.permitted_tokens(model, ["garden", "ink"])
    words = {model.tokenizer.decode([i]).strip() for i in permitted}
    assert "garden" not in words and "mountain" in words
    assert not set(permitted) & set(model.tokenizer.all_special_ids)


def test_a_saved_pipeline_loads_and_equals_itself(model, tiny_folder):
    assert load.load(str(tiny_folder)).digest() == model.digest()


def test_truncated_weights_are_told_in_one_sentence(tiny_folder, tmp_path):
    import shutil

    broken = shutil.copytree(tiny_folder, tmp_path / "broken")
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load.load(str(broken))


def test_a_folder_without_a_pipeline_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no model_index.json"):
        load.load(str(tmp_path))
    with pytest.raises(ModelError, match="no hub id"):
        load.load("nothing-here")


def test_a_model_that_is_not_there_says_how_to_get_it():
    with pytest.raises(ModelError, match="hf download nobody/nothing.* --set model.base=PATH"):
        load.load("nobody/nothing")
