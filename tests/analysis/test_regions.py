"""Maps recorded in the shared regime; the table finds a planted bright place."""

import numpy as np
import pandas
import pytest
import torch

from tests.reference import KeepsEverything
from workbench.analysis.regions import record_maps, regions
from workbench.diffusion.denoise import denoise, evaluate
from workbench.errors import RecordingMismatch
from workbench.models import text
from workbench.neurons import sites
from workbench.neurons.maps import TokenMaps
from workbench.neurons.sets import NeuronSet
from workbench.neurons.taps import Taps


def test_recorded_maps_are_those_of_the_same_inputs_and_leave_no_hook(model):
    layers = sites.layers(model.unet, ["ff"])
    with torch.no_grad():
        states, empty = text.encode(model, ["owl", "a cat"]), text.encode(model, [""])
    _, trajectory = denoise(model, states, empty, [1, 2], n_steps=3, guidance=2.0, keep=[0, 2])
    path, slow = layers[1].path, KeepsEverything()
    found = record_maps(model, states, trajectory, layers, {path: np.array([3, 0])})
    with Taps(model.unet, layers, slow) as taps:
        evaluate(model, states, [trajectory], taps)
    expected = sum(slow.raw[path, call][0][0][:, :, [3, 0]].abs() for call in (0, 2)) / 2
    assert torch.allclose(found.values[path], expected, rtol=1e-5) and list(found.values) == [path]
    assert not any(module._forward_pre_hooks for module in model.unet.modules())


def test_the_table_says_where_a_set_is_active_in_each_picture():
    values = torch.ones(2, 64, 3)
    values[0, 8 * 6 + 1, 0] = 200
    maps = TokenMaps({"a": np.arange(3)}, {"a": values})
    sets = {
        0: NeuronSet("cluster 0", "m", {"a": [0]}, {"made": "by hand"}),
        1: NeuronSet("cluster 1", "m", {"a": [1, 2]}, {"made": "by hand"}),
    }
    about = pandas.DataFrame({"id": ["x", "y"], "prompt": ["an owl", "a cat"]})
    table, pictures = regions(maps, sets, (8, 8), (8, 8), about)
    first = table.iloc[0]
    assert (first["peak_y"], first["peak_x"]) == (6.5 / 8, 1.5 / 8) and first["prompt"] == "an owl"
    assert first["peak"] == pytest.approx(float(pictures[0][0].max())) and first["level"] > 1 > table["level"][1]
    assert first["share_in_brightest_tenth"] == pytest.approx((200 + 5) / 263)
    assert table["share_in_brightest_tenth"][2:].tolist() == pytest.approx([6 / 64] * 2)
    assert pictures[1].shape == (2, 8, 8) and torch.allclose(pictures[1], torch.ones(2, 8, 8))
    with pytest.raises(RecordingMismatch, match="1 prompts do not pair"):
        regions(maps, sets, (8, 8), (8, 8), about[:1])
