"""Ablations as data: what is refused, and which gate rows they become."""

import pytest
import torch

from workbench.analysis.ablation import Ablation, check, derangement, gating
from workbench.errors import MethodError, RecordingMismatch
from workbench.neurons import sites
from workbench.neurons.columns import Columns

SOURCE, DRAW = Columns({}, 1, [0]), torch.tensor([0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "zeros"}, 'Did you mean "zero"'),
        ({"branch": "condition"}, 'Did you mean "cond"'),
        ({"factor": 0.5}, 'Take the kind "scaled"'),
        ({"kind": "held"}, "needs a source"),
        ({"kind": "mean"}, "needs a source"),
        ({"source": SOURCE}, "takes no source"),
        ({"kind": "resampled", "source": SOURCE}, "needs a draw"),
        ({"kind": "held", "source": SOURCE, "draw": DRAW}, "no other kind"),
        ({"calls": frozenset()}, "window of calls is empty"),
    ],
)
def test_what_means_nothing_is_refused_when_it_is_made(settings, message):
    with pytest.raises(MethodError, match=message):
        Ablation({}, **settings)


def test_each_ablation_is_one_gate_row_after_a_row_that_never_works(model):
    first, second = (layer.path for layer in sites.layers(model.unet, ["ff"])[:2])
    made = gating(
        model.unet,
        [
            Ablation({first: [0, 3]}),
            Ablation({second: [1], first: []}, "scaled", 0.25, calls=frozenset({2}), branch="both"),
            Ablation({first: [5]}, "resampled", source=SOURCE, draw=DRAW),
        ],
    )
    assert [layer.path for layer in made.layers] == sorted([first, second])
    for path, changed in ((first, {(1, 0): 0, (1, 3): 0, (3, 5): 0}), (second, {(2, 1): 0.25})):
        for row in range(4):
            for neuron in range(made.gates[path].shape[1]):
                assert made.gates[path][row, neuron] == changed.get((row, neuron), 1)
    works = [[limit.allows(call, branch) for call in (1, 2) for branch in ("cond", "uncond")] for limit in made.limits]
    assert works == [[False] * 4, [True, False] * 2, [False, False, True, True], [True, False] * 2]
    assert {path: list(rows) for path, rows in made.held.items()} == {first: [3]}


def test_sets_that_do_not_fit_the_unet_are_refused(model):
    path = sites.layers(model.unet, ["ff"])[0].path
    for neurons, message in (
        ({path: []}, "names no neurons"),
        ({path: [64]}, "neurons 0 to 63; 64 was named"),
        ({path[:-1] + "3": [0]}, "Did you mean"),
        ({"text_model.encoder.layers.0.mlp.fc2": [0]}, "no layer"),
    ):
        with pytest.raises(MethodError, match=message):
            gating(model.unet, [Ablation(neurons)])


def test_what_would_do_nothing_or_mix_up_prompts_is_refused():
    with pytest.raises(MethodError, match="does nothing at guidance 1"):
        check([Ablation({}, branch="uncond")], ["owl"], 1)
    check([Ablation({}, branch="uncond")], ["owl"], 5)
    source = Columns({}, 2, [0], units=["owl", "cat"])
    check([Ablation({}, "held", source=source)], ["owl", "cat"], 1)
    check([Ablation({}, "mean", source=source)], ["church"], 1)
    with pytest.raises(RecordingMismatch, match="held at values of 2 other prompts \\(owl, ...\\), but these are 2 \\(cat"):
        check([Ablation({}, "held", source=source)], ["cat", "owl"], 1)


def test_a_derangement_gives_every_prompt_another_one_and_uses_each_once():
    for n in (2, 3, 10):
        draw = derangement(n, seed=n).tolist()
        assert sorted(draw) == list(range(n)) and all(draw[i] != i for i in range(n))
    with pytest.raises(MethodError, match="at least 2"):
        derangement(1, 0)
