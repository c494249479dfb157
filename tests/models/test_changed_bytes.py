"""Files whose bytes were changed at random are read or told in one sentence: no traceback, no endless reading."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from tests.models import given as made
from workbench.errors import WorkbenchError
from workbench.models import formats, inspect, masks
from workbench.neurons.sets import NeuronSet

SOME = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def originals(own, tmp_path_factory):
    """{kind: bytes} of one small file of every kind that is read."""
    folder = tmp_path_factory.mktemp("originals")
    part = {name: value for name, value in made.moved(own).items() if made.key_value(name)}
    torch.save({"unet": part, "epoch": 3}, folder / "zip")
    torch.save(part, folder / "old", _use_new_zipfile_serialization=False)
    (folder / "safetensors").write_bytes(save(part, {"train_method": "esd-x"}))
    (folder / "lora").write_bytes(
        save(made.peft(made.halves(own), "unet."), {"lora_adapter_metadata": '{"unet.r": 2, "unet.lora_alpha": 4}'})
    )
    masks.save(folder / "mask", {"unet.conv_in.bias": torch.arange(16) < 4}, {"method": "hand"}, {"unet.conv_in.bias": torch.ones(4)})
    NeuronSet("one", "m" * 64, {"mid.ff": [1, 2, 3]}, {"made": "by hand", "widths": {"mid.ff": 8}}).save(folder / "set")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(data, content):
    """The bytes, some of them changed, cut off, doubled or put in; the first 400 are changed most: they say what follows."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(400, len(content) - 1)) | st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["change", "cut", "double", "put in"]))
        if how == "change":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            content = content[: max(1, at)]
        elif how == "double":
            content = content[:at] + content[at : at + 20] + content[at:]
        else:
            content[at:at] = data.draw(st.binary(max_size=9))
    return bytes(content)


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors", "lora"])
@SOME
@given(data=st.data())
def test_a_changed_checkpoint_is_read_or_told(still, originals, tmp_path_factory, kind, data):
    path = tmp_path_factory.getbasetemp() / f"changed-{kind}.pt"
    path.write_bytes(changed(data, originals[kind]))
    try:
        found = formats.read(path, still)
        if not found.shapes:
            json.dumps(inspect.rows(found, still), allow_nan=False)
        formats.check(found, still)
    except WorkbenchError as error:
        assert "weights_only" not in str(error) and "\x1b" not in str(error)


@SOME
@given(data=st.data())
def test_a_changed_mask_is_read_or_told(originals, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed-mask.safetensors"
    path.write_bytes(changed(data, originals["mask"]))
    try:
        found, provenance = masks.load(path)
        values = masks.load_values(path)
    except WorkbenchError:
        return
    assert masks.count(found) == 4 and isinstance(provenance, dict)
    assert all(torch.equal(value, torch.ones(4)) for value in values.values())


@SOME
@given(data=st.data())
def test_a_changed_neuron_set_is_what_it_was_or_told(originals, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed-set.safetensors"
    path.write_bytes(changed(data, originals["set"]))
    try:
        found = NeuronSet.load(path)
    except WorkbenchError:
        return
    if b'"digest"' in path.read_bytes():
        assert {layer: index.tolist() for layer, index in found.neurons.items()} == {"mid.ff": [1, 2, 3]} and found.name == "one"
