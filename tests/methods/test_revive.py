"""Revival: completion against a slow reference and a planted truth, signs and magnitudes, and a revived variant in a study."""

import numpy as np
import pytest
import torch

import workbench
from tests.reference import same_bits
from workbench.errors import MethodError
from workbench.execution import execute
from workbench.methods.erasers.revive import Parameters, completed, erase, revived
from workbench.models.masks import cut_incoming
from workbench.models.variants import Variant, applied

LAYER = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
INCOMING, OUTGOING = (f"mid_block.attentions.0.transformer_blocks.0.ff.net.{part}.weight" for part in ("0.proj", "2"))


def low_rank(n_rows, n_columns, rank, seed):
    draws = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, rank, dtype=torch.float64, generator=draws) for n in (n_rows, n_columns))
    return left @ right.T, torch.rand(n_rows, n_columns, generator=draws) < 0.2


def slow_completion(matrix, missing, threshold, iterations, start):
    """The definition, entry by entry, the singular values by the eigenvectors of X^T X (row, column with row >= column)."""
    known = [[0.0 if gone else value for value, gone in zip(*pair, strict=True)] for pair in zip(matrix, missing, strict=True)]
    x, taken = np.array(known), None
    if threshold != "smallest":
        taken = threshold * np.sqrt(np.linalg.eigvalsh(x.T @ x).max())
    for row, column in np.argwhere(missing):
        left = [matrix[r][column] for r in range(len(matrix)) if not missing[r][column]]
        x[row, column] = sum(left) / len(left) if start == "mean" and left else 0.0
    states = [x.copy()]
    for _ in range(iterations):
        squares, right = np.linalg.eigh(x.T @ x)
        values = np.sqrt(squares.clip(min=0))
        off = values.min() if taken is None else taken
        estimate = np.zeros_like(x)
        for value, direction in zip(values, right.T, strict=True):
            if value > off:
                estimate += (value - off) / value * np.outer(x @ direction, direction)
        for row, column in np.argwhere(missing):
            x[row, column] = estimate[row, column]
        states.append(x.copy())
        if len(states) > 2 and np.linalg.norm(states[-1] - states[-3]) <= 1e-5 * np.linalg.norm(states[-3]):
            break
    return x


@pytest.mark.parametrize("start", ["zero", "mean"])
@pytest.mark.parametrize("threshold", [0.05, "smallest"])
@pytest.mark.parametrize("iterations", [1, 12, 2000])
def test_completion_is_that_of_the_definition(threshold, start, iterations):
    matrix, _ = low_rank(9, 7, 2, 0)
    matrix += 0.2 * low_rank(9, 7, 7, 4)[0] + 0.5
    missing = low_rank(9, 7, 2, 0)[1]
    missing[:, 6] = iterations != 12  # a column of which nothing is left has no mean
    found = completed(matrix, missing, threshold, iterations, start)
    assert np.allclose(found.numpy(), slow_completion(matrix.numpy(), missing.numpy(), threshold, iterations, start), atol=1e-7)


def test_a_low_rank_matrix_is_completed_to_two_per_cent():
    matrix, missing = low_rank(40, 30, 2, 1)
    found = completed(matrix.masked_fill(missing, 0), missing, 0.002, 400)
    assert torch.equal(found[~missing], matrix[~missing])
    assert (found - matrix)[missing].norm() < 0.02 * matrix[missing].norm()


def test_the_largest_come_back_with_their_sign_and_their_rows_largest_weight():
    matrix = torch.tensor([[3.0, -4.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.25], [0.0, 0.0, 1.0, -2.0]])
    filled = torch.tensor([[3.0, -4.0, 0.1, -0.9], [-0.8, 0.5, 0.2, 0.25], [0.3, -0.7, 1.0, -2.0]])
    found = revived(matrix, matrix == 0, filled, 0.5)
    assert found.tolist() == [[3.0, -4.0, 0.0, -4.0], [-0.5, 0.5, 0.0, 0.25], [0.0, -2.0, 1.0, -2.0]]


def test_what_stays_away_is_counted_by_cutting_off():
    matrix, missing = torch.ones(1, 8), torch.tensor([[True] * 7 + [False]])
    for keep, n in ((0.6, 5), (0.5, 4), (0.2, 2), (1.0, 7)):  # int(0.4 * 7) = 2, int(0.5 * 7) = 3, int(0.8 * 7) = 5 stay 0
        back = revived(matrix.masked_fill(missing, 0), missing, torch.arange(1.0, 9.0)[None], keep)
        assert int((back[0, :7] != 0).sum()) == n


def n_back(mask, keep=0.6):
    return int(mask.sum()) - int((1 - keep) * int(mask.sum()))


@pytest.mark.parametrize("keep", [0.2, 0.6, 1.0])
def test_as_many_come_back_as_are_kept_and_the_others_stay_bit_for_bit(model, keep):
    draws = torch.Generator().manual_seed(2)
    names = [INCOMING, OUTGOING, "conv_in.weight"]
    masks = {f"unet.{name}": torch.rand(dict(model.unet.named_parameters())[name].shape, generator=draws) < 0.05 for name in names}
    with applied(model, Variant("pruned", masks=masks)):
        pruned = {name: value.detach().clone() for name, value in model.parameters().items()}
        made = erase(model, [], Parameters(wiring="matrix", keep=keep))
    assert set(made) == set(masks)
    for name, value in made.items():
        back = masks[name] & (value != 0)
        assert int(back.sum()) == n_back(masks[name], keep)
        assert torch.equal(value[~masks[name]], pruned[name][~masks[name]])
        largest = pruned[name].flatten(1).abs().amax(dim=1)[:, None].expand_as(pruned[name].flatten(1))
        assert torch.allclose(value.flatten(1).abs()[back.flatten(1)], largest[back.flatten(1)], rtol=1e-5)


@pytest.fixture
def planted(model):
    """The tiny model with ff weights of rank 3, in which a neuron's outgoing weights say what feeds it."""
    parameters = dict(model.unet.named_parameters())
    width, n = parameters[OUTGOING].shape
    joined, _ = low_rank(n, 3 * width, 3, 3)
    joined = joined.float() / 50
    parameters[INCOMING].data.copy_(torch.cat([joined[:, :width], joined[:, width : 2 * width]]))
    parameters[OUTGOING].data.copy_(joined[:, 2 * width :].T * 0.1)
    return model


def test_a_neuron_cut_as_a_whole_is_filled_in_from_its_outgoing_weights(planted):
    cut = [3, 40, 77]
    masks = cut_incoming(planted.unet, {LAYER: cut})
    truth = planted.parameters()[f"unet.{INCOMING}"].detach().clone()
    with applied(planted, Variant("pruned", masks=masks)):
        with pytest.raises(MethodError, match='Set wiring = "auto" or "neuron"'):
            erase(planted, [], Parameters(wiring="matrix"))
        made = erase(planted, [], Parameters())
    (name,) = made
    assert name == f"unet.{INCOMING}" and torch.equal(made[name][~masks[name]], truth[~masks[name]])
    back = masks[name] & (made[name] != 0)
    assert int(back.sum()) == n_back(masks[name])
    assert (made[name].sign() == truth.sign())[back].float().mean() > 0.95


def random_masks(model, names, share, seed=6):
    draws, own = torch.Generator().manual_seed(seed), dict(model.unet.named_parameters())
    return {f"unet.{name}": torch.rand(own[name].shape, generator=draws) < share for name in names}


@pytest.mark.parametrize(
    ("cut", "as_with"),
    [((OUTGOING,), "matrix"), ((INCOMING,), "matrix"), ((INCOMING, OUTGOING), "matrix"), ("neurons", "neuron")],
    ids=["outgoing", "incoming here and there", "both", "whole neurons"],
)
def test_each_matrix_is_completed_by_itself_unless_neurons_were_cut_as_wholes(planted, cut, as_with):
    masks = cut_incoming(planted.unet, {LAYER: [3, 40]}) if cut == "neurons" else random_masks(planted, cut, 0.1)
    with applied(planted, Variant("pruned", masks=masks)):
        auto, other = (erase(planted, [], Parameters(wiring=wiring)) for wiring in ("auto", as_with))
        assert same_bits(auto, other)
        if cut == (OUTGOING,):
            assert not same_bits(auto, erase(planted, [], Parameters(wiring="neuron")))


def test_the_published_settings_bring_signs_back(planted):
    """A matrix of rank 3 with noise: nearly every sign that comes back is the one that was cut."""
    parameters = dict(planted.unet.named_parameters())
    noise = torch.randn(parameters[OUTGOING].shape, generator=torch.Generator().manual_seed(8))
    parameters[OUTGOING].data += 0.02 * parameters[OUTGOING].std() * noise
    truth, masks = parameters[OUTGOING].detach().clone(), random_masks(planted, [OUTGOING], 0.05)
    with applied(planted, Variant("pruned", masks=masks)):
        made = erase(planted, [], Parameters(start="mean", threshold="smallest", iterations=500))[f"unet.{OUTGOING}"]
    back = masks[f"unet.{OUTGOING}"] & (made != 0)
    assert (made.sign() == truth.sign())[back].float().mean() > 0.95


def test_a_model_without_zeros_is_refused(model):
    with pytest.raises(MethodError, match="Nothing of this UNet is pruned.*pruned `parent`"):
        erase(model, [], Parameters())


def test_revived_weights_hold_where_the_parent_pruned(planted):
    parent = Variant("pruned", "base", masks=cut_incoming(planted.unet, {LAYER: [3]}))
    before = {name: value.detach().clone() for name, value in planted.parameters().items()}
    with applied(planted, parent):
        made = erase(planted, [], Parameters())
    child = Variant("revived", "pruned", made, lifts_masks=True).over(parent)
    with applied(planted, child):
        assert all(torch.equal(planted.parameters()[name], value) for name, value in made.items())
        assert (planted.parameters()[f"unet.{INCOMING}".replace("weight", "bias")][[3, 131]] == 0).all()
    with applied(planted, Variant("again", "pruned", made).over(parent)):
        assert (planted.parameters()[f"unet.{INCOMING}"][[3, 131]] == 0).all()
    assert same_bits(before, {name: value.detach() for name, value in planted.parameters().items()})


def test_a_pruned_variant_is_revived_in_a_study(study_file, tmp_path):
    text = study_file.read_text()
    head, tail = text[: text.index("[[attacks]]")], text[text.index("[record]") :]
    revived_part = '[[variants]]\nname = "revived"\nmethod = "revive"\nparent = "pruned"\n'
    path = study_file.parent / "revived.toml"
    path.write_text(head + revived_part + tail.replace("[choose]", "[choose]\nshare = 0.2"))
    study = workbench.load_study(path)
    folder = tmp_path / "run"
    workbench.run(study, folder)
    plan, workspace = execute.prepare(study, folder)
    pruned, back = (workspace.variant(name) for name in ("pruned", "revived"))
    assert set(back.weights) - set(pruned.weights) == {name for name in pruned.masks if name.endswith("weight")}
    with applied(workspace.model, pruned):
        cut = {name: (value == 0).clone() for name, value in workspace.model.parameters().items() if name in pruned.masks}
    with applied(workspace.model, back):
        found = sum(int((workspace.model.parameters()[name][cut[name]] != 0).sum()) for name in cut if name.endswith("weight"))
    assert found == sum(n_back(zero) for name, zero in cut.items() if name.endswith("weight"))
