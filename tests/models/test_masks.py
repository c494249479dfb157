"""Masks as files and as sets: identity of saving, laws of combining, chance, undo bit for bit, noise that hides."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import same_bits
from workbench.errors import ModelError
from workbench.models import masks
from workbench.storage import read_arrays, read_metadata, write_arrays

NAME = "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2.weight"


def drawn(model, seed, share=0.1, names=(NAME,)):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(model.parameters()[name].shape, generator=generator) < share for name in names}


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.parameters().items()}


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 2**31))
def test_any_mask_survives_packing(tmp_path_factory, bits, number):
    path = tmp_path_factory.mktemp("m") / "m.safetensors"
    made = {"unet.a.weight": torch.tensor(bits)}
    masks.save(path, made, {"number": number})
    found, provenance = masks.load(path)
    assert same_bits(made, found) and provenance == {"number": number}


def test_a_damaged_or_foreign_file_is_told(model, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(ModelError, match="no mask file"):
        masks.load(path)
    path.write_bytes(b"not a mask")
    with pytest.raises(ModelError, match="contains text"):
        masks.load(path)
    write_arrays(path, {"a": torch.zeros(3)})
    with pytest.raises(ModelError, match="header has no shapes"):
        masks.load(path)
    masks.save(path, drawn(model, 0), {})
    with pytest.raises(ModelError, match="mask apply --undo"):
        masks.load_values(path)
    arrays = read_arrays(path)
    arrays[NAME][0] ^= 1
    write_arrays(path, arrays, read_metadata(path))
    with pytest.raises(ModelError, match="not as it was written"):
        masks.load(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shapes": "not JSON"}, "shapes is no JSON in its header"),
        ({"shapes": "[1, 2]"}, "shapes in its header is no mapping"),
        ({"shapes": json.dumps({NAME: "16"})}, "the shape of .* in its header is"),
        ({"shapes": json.dumps({NAME: [-16, -64]})}, "the shape of .* in its header is"),
        ({"shapes": json.dumps({NAME: [16.5]})}, "the shape of .* in its header is"),
        ({"shapes": json.dumps({NAME: [10**6, 10**6, 10**6]})}, "bits need"),
        ({"shapes": json.dumps({NAME: [32, 128], "more": [3]})}, "its bits do not fit its header"),
        ({"provenance": None}, "provenance is missing in its header"),
        ({"provenance": "{"}, "provenance is no JSON in its header"),
        ({"provenance": "[]"}, "provenance in its header is no mapping"),
        ({"provenance": '{"share": NaN}'}, "provenance is no JSON in its header"),
        ({"provenance": "[" * 100_000}, "provenance is no JSON in its header"),
    ],
)
def test_a_header_that_is_not_understood_is_told(model, tmp_path, changed, message):
    path = tmp_path / "m.safetensors"
    masks.save(path, drawn(model, 0), {"method": "hand"})
    header = {key: value for key, value in (read_metadata(path) | changed).items() if value is not None}
    write_arrays(path, read_arrays(path), header)
    with pytest.raises(ModelError, match=message):
        masks.load(path)


def test_weights_that_were_cut_are_checked_before_they_are_put_back(model, tmp_path):
    path = tmp_path / "undo.safetensors"
    mask = drawn(model, 0)
    masks.save(path, mask, {}, masks.prune(model.parameters(), mask))
    arrays, header = read_arrays(path), read_metadata(path)
    arrays[f"{NAME}|values"][0] += 1
    write_arrays(path, arrays, header)
    with pytest.raises(ModelError, match="the weights that were cut do not fit its header"):
        masks.load_values(path)
    header.pop("values_digest")  # as undo files of the first version
    write_arrays(path, arrays, header)
    assert masks.load_values(path).keys() == {NAME}


def test_a_folder_and_a_missing_mask_are_told(model, tmp_path):
    masks.save(tmp_path / "mine.safetensors", drawn(model, 0), {})
    with pytest.raises(ModelError, match='There is no mask file .*Did you mean "mine.safetensors"'):
        masks.load(tmp_path / "min.safetensors")
    with pytest.raises(ModelError, match="is a folder, no mask file"):
        masks.load(tmp_path)


def test_masks_combine_like_sets(model):
    a, b, c = (drawn(model, seed) for seed in (1, 2, 3))
    assert same_bits(masks.combine(a, b, "union"), masks.combine(b, a, "union"))
    left = masks.combine(masks.combine(a, b, "union"), c, "intersection")
    right = masks.combine(masks.combine(a, c, "intersection"), masks.combine(b, c, "intersection"), "union")
    assert same_bits(left, right)
    both, only = masks.combine(a, b, "intersection"), masks.combine(a, b, "difference")
    assert masks.count(both) + masks.count(only) == masks.count(a) and same_bits(masks.combine(both, only, "union"), a)
    assert same_bits(masks.inverted(masks.inverted(a)), a) and masks.count(masks.combine(a, masks.inverted(a), "intersection")) == 0
    other = {"unet.conv_in.weight": torch.ones(2, 2, dtype=torch.bool)}
    assert set(masks.combine(a, other, "union")) == {NAME, "unet.conv_in.weight"}
    with pytest.raises(ModelError, match='Did you mean "union"'):
        masks.combine(a, b, "unite")
    with pytest.raises(ModelError, match="two shapes|has the shapes"):
        masks.combine(other, {"unet.conv_in.weight": torch.ones(3, dtype=torch.bool)}, "union")


def test_masks_by_lot_overlap_by_chance_and_equal_ones_wholly(model):
    rows = [masks.compare(drawn(model, 2 * seed), drawn(model, 2 * seed + 1)) for seed in range(40)]
    inside = sum(row["chance_low"] <= row["iou"] <= row["chance_high"] for row, _ in rows)
    assert inside >= 34
    for row, total in rows:
        assert row["iou"] == pytest.approx(row["both"] / (row["first"] + row["second"] - row["both"]))
        assert total["layer"] == "all layers" and total["iou"] == row["iou"] and total["chance"] == pytest.approx(row["chance"])
    one = drawn(model, 0)
    assert masks.compare(one, one)[0]["iou"] == 1.0
    nothing = {NAME: torch.zeros_like(one[NAME])}
    assert masks.compare(nothing, nothing)[0]["iou"] is None


@pytest.mark.parametrize("fill", ["zeros", "noise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_undoing_gives_every_weight_back_bit_for_bit(tmp_path, fill, dtype):
    from tests import tiny
    from workbench.models.load import from_pipeline

    model = from_pipeline(tiny.pipeline(), "tiny", dtype=dtype)
    before, mask = snapshot(model), drawn(model, 4, names=(NAME, "unet.conv_in.weight"))
    values = masks.prune(model.parameters(), mask, fill, seed=3)
    cut = snapshot(model)
    for name, one in cut.items():
        kept = ~mask[name] if name in mask else torch.ones_like(one, dtype=torch.bool)
        assert torch.equal(one[kept], before[name][kept])
    assert not same_bits(before, cut)
    masks.save(tmp_path / "undo.safetensors", mask, {}, values)
    assert same_bits(masks.load(tmp_path / "undo.safetensors")[0], mask)
    masks.undo(model.parameters(), mask, masks.load_values(tmp_path / "undo.safetensors"))
    assert same_bits(before, snapshot(model))


def test_noise_has_the_size_of_the_kept_weights_no_zeros_and_a_seed(model):
    mask = drawn(model, 5, share=0.5)
    kept = model.parameters()[NAME].detach()[~mask[NAME]]
    values = masks.prune(model.parameters(), mask, "noise", seed=1)
    filled = model.parameters()[NAME].detach()[mask[NAME]].clone()
    assert filled.std() == pytest.approx(kept.std().item(), rel=0.1) and (filled != 0).all()
    masks.undo(model.parameters(), mask, values)
    masks.prune(model.parameters(), mask, "noise", seed=1)
    assert torch.equal(filled, model.parameters()[NAME].detach()[mask[NAME]])


def test_a_mask_of_another_model_and_foreign_values_change_nothing(model):
    before = snapshot(model)
    wrong = {NAME: torch.ones(3, dtype=torch.bool), "unet.nothing": torch.ones(3, dtype=torch.bool)}
    with pytest.raises(ModelError, match="of its 2 layers 0 fit, 1 are not there, 1 have another shape"):
        masks.prune(model.parameters(), wrong)
    mask = drawn(model, 6)
    for values in ({}, {NAME: torch.zeros(2)}, {NAME: torch.zeros(masks.count(mask), dtype=torch.float16)}):
        with pytest.raises(ModelError, match="pruned"):
            masks.undo(model.parameters(), mask, values)
    assert same_bits(before, snapshot(model))
