"""Tensors that cannot stand in a model: counted by `inspect`, refused as a variant, never a traceback."""

import json
import warnings

import pytest
import torch
from safetensors.torch import save_file

from tests.models import given
from workbench.errors import ModelError
from workbench.models import formats, inspect, load
from workbench.registry import method

NAME = f"{given.BLOCK}.attn2.to_k.weight"


def quantised(value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


UNFIT = {
    "int8": lambda value: (value * 100).to(torch.int8),
    "bool": lambda value: value > 0,
    "int64": lambda value: value.long(),
    "complex64": lambda value: value.to(torch.complex64),
    "sparse": lambda value: value.to_sparse(),
    "without values": lambda value: value.to("meta"),
    "quantised": quantised,
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_is_no_floating_point_tensor_is_named_and_refused(still, own, tmp_path, kind):
    whole = given.moved(own)
    torch.save({name: UNFIT[kind](value) if given.key_value(name) else value for name, value in whole.items()}, tmp_path / "x.pt")
    found = formats.read(tmp_path / "x.pt", still)
    assert len(found.unfit) == 8 and len(found.tensors) == 200 and found.complete == []
    assert all(row["problem"].startswith(kind) and given.key_value(row["parameter"]) for row in found.unfit)
    assert inspect.rows(found, still) == [] and json.dumps(found.unfit, allow_nan=False)
    with pytest.raises(ModelError, match=f"8 of its 208 tensors cannot be weights.* is {kind}.*floating-point numbers are needed"):
        formats.check(found, still)


@pytest.mark.parametrize("kind", ["int8", "bool", "int64"])
def test_the_header_alone_tells_a_type_that_is_no_weight(still, own, tmp_path, kind, monkeypatch):
    save_file({NAME: UNFIT[kind](own[NAME])}, tmp_path / "x.safetensors")
    monkeypatch.setattr(formats.container, "contents", None)  # no weight is read
    with pytest.raises(ModelError, match=f"1 of its 1 tensors cannot be weights.* is {kind}"):
        formats.check_header(tmp_path / "x.safetensors", still)


@pytest.mark.parametrize(
    ("value", "dtype", "counts"),
    [
        (float("nan"), torch.float32, {"nan": 2, "inf": 0, "overflow": 0}),
        (float("inf"), torch.float32, {"nan": 0, "inf": 2, "overflow": 0}),
        (float("-inf"), torch.float16, {"nan": 0, "inf": 2, "overflow": 0}),
        (1e300, torch.float64, {"nan": 0, "inf": 0, "overflow": 2}),
        (float("nan"), torch.float8_e4m3fn, {"nan": 2, "inf": 0, "overflow": 0}),
    ],
)
def test_numbers_that_are_not_finite_are_counted_per_tensor_and_refused(still, own, tmp_path, value, dtype, counts):
    part = {name: one.to(torch.float64) for name, one in given.moved(own).items() if given.key_value(name)}
    part[NAME][0, :2] = value
    torch.save({name: one.to(dtype) for name, one in part.items()}, tmp_path / "x.pt")
    found = formats.read(tmp_path / "x.pt", still)
    assert found.not_finite == {f"unet.{NAME}": counts}
    rows = {row["parameter"]: row for row in inspect.rows(found, still)}
    assert rows[f"unet.{NAME}"]["not_finite"] == 2 and rows[f"unet.{NAME}"]["relative_change"] is None
    assert sum(row["not_finite"] for row in rows.values()) == 2 and json.dumps(list(rows.values()), allow_nan=False)
    word = next(word for word, n in counts.items() if n)
    with pytest.raises(ModelError, match=rf"not finite in 1 of its 8 tensors, e.g. \"unet.{NAME}\" \(2 {word}\)"):
        formats.check(found, still)
    one = method("erasers", "from_checkpoint")
    for call in (lambda p: one.call(still, [], p), lambda p: one.module.check(p, still)):
        with pytest.raises(ModelError, match="not finite"):
            call(one.parameters(path=str(tmp_path / "x.pt")))


def test_an_adaptor_of_numbers_that_are_none_is_refused_too(still, own, tmp_path):
    content = given.peft(given.halves(own), "unet.")
    name = next(iter(content))
    content[name][0, 0] = float("nan")
    save_file(content, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="not finite in 1 of its 8"):
        formats.check(formats.read(tmp_path / "x.safetensors", still), still)
    content[name] = content[name].nan_to_num(0).to(torch.int8)
    save_file(content, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="1 of its 8 tensors cannot be weights.*int8"):
        formats.check(formats.read(tmp_path / "x.safetensors", still), still)


def test_numbers_of_eight_bits_with_a_point_are_weights(still, own, tmp_path):
    part = {name: one.to(torch.float8_e5m2) for name, one in given.moved(own).items() if given.key_value(name)}
    torch.save(part, tmp_path / "x.pt")
    found = formats.read(tmp_path / "x.pt", still)
    formats.check(found, still)
    assert len(inspect.rows(found, still)) == 8 and "float8_e5m2" in found.notes[0]


def test_a_large_change_has_a_size_all_the_same(still, own, tmp_path):
    part = {NAME: own[NAME] + 1e30, "conv_in.bias": own["conv_in.bias"] + 1e-40}
    torch.save(part, tmp_path / "x.pt")
    found = formats.read(tmp_path / "x.pt", still)
    (row,) = (row for row in inspect.rows(found, still) if row["parameter"] == f"unet.{NAME}")
    scale = own[NAME].double().norm()
    assert row["relative_change"] == pytest.approx((own[NAME].numel() ** 0.5 * 1e30 / scale).item(), rel=1e-4)
    assert row["rank_one"] == pytest.approx(1, abs=1e-3)


def test_a_base_model_with_weights_that_are_not_finite_is_refused(tiny_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file

    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.bias"][3] = float("nan")
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match='holds weights that are not finite, e.g. "unet.conv_in.bias"'):
        load.load(str(folder))
