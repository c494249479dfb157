"""Masks that spare watched neurons: none of their weights is cut, the share is of the others, and who spares nothing keeps its key."""

import numpy as np
import pytest
import torch

import workbench
from tests import reference_masks
from tests.execution.test_mask_studies import VARIANTS, written  # noqa: F401
from workbench.errors import MethodError, StudyError
from workbench.execution import execute, stages, variant_files
from workbench.methods.erasers import _gates, _layers, learned_mask
from workbench.models.variants import Variant, applied
from workbench.registry import method, methods
from workbench.storage import digest, read_table

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "cat")]
LAYER = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
FEEDS, READS = (LAYER.removesuffix("net.2") + end for end in ("net.0.proj.weight", "net.2.weight"))
WATCH = {LAYER: np.array([0, 2, 100])}
SAMPLED = {"steps": 3, "calls": 2}
SETTINGS = {
    "learned_mask": {"iterations": 3, "steps": 3, "trajectories": 2, "batch": 2},
    "cad": {"steps": 3, "trajectories": 2},
    **dict.fromkeys(("conceptprune", "fia", "wanda"), SAMPLED),
}
ABLE = sorted(name for name, one in methods("erasers").items() if "spare" in one.takes)


def made(model, name, **given):
    one = method("erasers", name)
    settings = {"layers": ["feeds", "reads", "attention"]} | SETTINGS.get(name, {}) | given
    return one.call(model, PAIRS, one.parameters(**settings), spare=WATCH)


def watched_places(model, name):
    """Where a weight belongs to a watched neuron, entry by entry."""
    places = torch.zeros(model.parameters()[name].shape, dtype=torch.bool)
    for neuron in WATCH[LAYER]:
        if name in (f"unet.{FEEDS}", f"unet.{FEEDS.removesuffix('weight')}bias"):
            places[neuron] = places[neuron + len(places) // 2] = True
        if name == f"unet.{READS}":
            places[:, neuron] = True
    return places


def test_every_mask_that_chooses_among_weights_can_spare():
    assert ABLE == ["cad", "conceptprune", "fia", "learned_mask", "magnitude", "random_mask", "wanda"]


@pytest.mark.parametrize(
    ("name", "given"),
    [(name, {}) for name in ABLE]
    + [("learned_mask", {"unit": "neuron", "group": "layer"}), ("random_mask", {"share": 0.9}), ("magnitude", {"group": "row"})],
)
def test_no_weight_of_a_watched_neuron_is_cut(model, name, given):
    masks = made(model, name, **given)
    assert not any(mask[watched_places(model, layer)].any() for layer, mask in masks.items())
    assert any(masks[f"unet.{one}"].any() for one in (FEEDS, READS) if f"unet.{one}" in masks)


@pytest.mark.parametrize("group", ["row", "layer", "global"])
def test_the_share_is_of_the_weights_that_are_left(model, group):
    masks = made(model, "magnitude", group=group, share=0.1)
    left = {name: ~watched_places(model, name) for name in masks}
    if group == "row":
        for name, mask in masks.items():
            assert mask.sum(dim=1).tolist() == [round(0.1 * n) for n in left[name].sum(dim=1).tolist()]
    elif group == "layer":
        assert all(int(mask.sum()) == round(0.1 * int(left[name].sum())) for name, mask in masks.items())
    else:
        assert sum(int(mask.sum()) for mask in masks.values()) == round(0.1 * sum(int(one.sum()) for one in left.values()))
    weight = model.parameters()[f"unet.{READS}"].detach().abs()[left[f"unet.{READS}"]].tolist()
    if group == "layer":
        chosen = reference_masks.smallest(weight, round(0.1 * len(weight)))
        assert set(masks[f"unet.{READS}"][left[f"unet.{READS}"]].nonzero().flatten().tolist()) == chosen


@pytest.mark.parametrize("unit", ["weight", "neuron"])
def test_learned_gates_of_watched_neurons_stay_open_and_are_not_counted(model, unit):
    weights = _layers.candidates(model.unet, ["feeds", "reads"])
    gated = _gates.Gated(model.unet, weights, unit, -1.0, _layers.watched(weights, WATCH))
    gates = gated.spread(gated.drawn(torch.Generator().manual_seed(0)))
    plain = _gates.Gated(model.unet, weights, unit, -1.0)
    others = plain.spread(plain.drawn(torch.Generator().manual_seed(0)))
    for name, gate in gates.items():
        places = watched_places(model, f"unet.{name}")
        assert (gate[places] == 1).all() and torch.equal(gate[~places], others[name][~places])
    assert gated.pruned_share().item() == pytest.approx(_gates.prunes(torch.tensor(-1.0)).item(), rel=1e-5)
    gated.phi[FEEDS].data[gated.spared[FEEDS]] = -9.0
    assert gated.pruned_share().item() == pytest.approx(_gates.prunes(torch.tensor(-1.0)).item(), rel=1e-5)
    chosen = learned_mask.binarised(gated, 0.1, "layer")
    n_left = int((~gated.spared[FEEDS]).sum())
    per_gate = 1 if unit == "weight" else 2 * weights[FEEDS].shape[1]
    assert int(chosen[f"unet.{FEEDS}"].sum()) == round(0.1 * n_left) * per_gate
    assert not chosen[f"unet.{FEEDS}"][watched_places(model, f"unet.{FEEDS}")].any()


@pytest.mark.parametrize(("name", "all_of_it"), [("conceptprune", {"skill_ratio": 1.0}), ("fia", {"share": 0.9999})])
def test_where_a_formula_takes_all_it_finds_sparing_takes_out_the_watched_alone(model, name, all_of_it):
    one = method("erasers", name)
    given = one.parameters(layers=["feeds", "reads"], **SAMPLED, **all_of_it)
    plain, spared = one.call(model, PAIRS, given), one.call(model, PAIRS, given, spare=WATCH)
    assert plain.keys() == spared.keys() and (plain[f"unet.{READS}"] & watched_places(model, f"unet.{READS}")).any()
    assert all(torch.equal(spared[layer], plain[layer] & ~watched_places(model, layer)) for layer in plain)


def test_the_share_of_a_row_is_of_the_weights_left_in_it(model):
    mask = made(model, "conceptprune", skill_ratio=0.02, calls=1)[f"unet.{READS}"]
    assert mask.shape[1] == 128 and int(mask.sum(dim=1).max()) == round(0.02 * 125)


def test_nobody_to_spare_is_refused(model):
    one = method("erasers", "random_mask")
    with pytest.raises(MethodError, match="leave `spare` out, or raise `choose.share`"):
        one.call(model, PAIRS, one.parameters(), spare={})


SPARED = VARIANTS.replace('parent = "erased"\n', 'parent = "erased"\nspare = "watch"\n')


def test_in_a_study_no_mask_cuts_into_the_watched_neurons(written, tmp_path):  # noqa: F811
    path = written(SPARED)
    path.write_text(path.read_text().replace("[choose]", "[choose]\nshare = 0.2"))
    planned, workspace = execute.prepare(path, tmp_path / "run")
    assert all("score" in planned.node(f"erase:{name}").inputs for name in ("masked", "lot", "small"))
    first = [node for node in planned.nodes if node.stage in ("generate", "record") and node.variant == "base"]
    needed = [node for node in first if node.prompt_set in ("target", "reference")]
    execute.run_nodes(workspace, [*needed, planned.node("score"), *planned.of_stage("erase")])
    table = read_table(workspace.result("score") / "neurons.parquet")
    watch = table[table["in_watch"] & (table["site"] == "ff")]
    counts = {}
    for name in ("masked", "lot", "small"):
        masks = variant_files.read_change(workspace.study.variant(name), workspace.result(f"erase:{name}")).masks
        assert len(watch) and not variant_files.cut_into(masks, watch["layer"], watch["index"]).any()
        for layer, index in zip(watch["layer"], watch["index"], strict=True):
            assert not masks.get(f"unet.{layer}.weight", torch.zeros(1, 1000, dtype=torch.bool))[:, index].any()
        counts[name] = {layer: int(mask.sum()) for layer, mask in masks.items()}
    assert counts["masked"] == counts["lot"] == counts["small"]
    assert variant_files.watched_caveats(workspace, table) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'method = "learned_mask"',
            'method = "esd"',
            "esd takes no `spare`. Methods that can spare the watched neurons: cad",
        ),
        ('spare = "watch"\nrole', "role", "which does not spare the watched neurons"),
        (
            'spare = "watch"\nrole = "pruned"\nlike',
            'role = "pruned"\nlike',
            'Set spare = "watch" here too, so that both masks choose among the same',
        ),
        ('spare = "watch"', 'spare = "concept"', "spare"),
    ],
)
def test_what_cannot_be_spared_is_told_when_the_study_is_read(written, old, new, message):  # noqa: F811
    assert old in SPARED
    with pytest.raises(StudyError, match=message):
        workbench.load_study(written(SPARED.replace(old, new, 1)))


def test_a_study_that_spares_nothing_keeps_its_keys(written):  # noqa: F811
    """The key written out from what it was made of before `spare` was there."""
    study = workbench.load_study(written())
    said = {"name", "method", "parent", "role", "pairs", "parameters"}
    assert [set(part) - said for part in study.model_dump(mode="json")["variants"]] == [set(), set(), {"like"}, {"like"}]
    built, _ = execute.prepare(written())
    erased, masked, lot = (built.node(f"erase:{name}") for name in ("erased", "masked", "lot"))
    names = {"objective", "layers", "unit", "share", "group", "form", "eta", "retention", "retained_batch", "penalty", "adversarial_steps"}
    names |= {"adversarial_size", "iterations", "learning_rate", "start", "guidance", "steps", "batch", "trajectories", "seed"}
    assert set(masked.parameters["parameters"]) == names and masked.inputs == ("erase:erased",)
    assert set(lot.parameters) == {"model", "dtype", "method", "parameters", "pairs", "like"}
    base = {name: erased.parameters[name] for name in ("model", "dtype")}
    for node, inputs, more in ((masked, [erased.key], {}), (lot, [erased.key, masked.key], {"like": True})):
        part = study.variant(node.variant)
        content = base | {"method": part.method, "parameters": method("erasers", part.method).parameters(**part.parameters).model_dump()}
        content |= {"pairs": erased.parameters["pairs"]} | more
        assert node.shards[0].key == digest(["erase", stages.stage("erase").version, content, None, inputs])[:24]
    spared, _ = execute.prepare(written(SPARED))
    assert spared.node("erase:masked").key != masked.key and spared.node("erase:erased").key == erased.key


def test_a_spared_mask_is_a_second_stage_too(model):
    """What a parent cut among the watched neurons is its own affair; the mask adds nothing to it."""
    masks = made(model, "random_mask", share=0.3)
    before = {name: value.detach().clone() for name, value in model.parameters().items()}
    with applied(model, Variant("pruned", None, masks=masks)):
        for name in (f"unet.{FEEDS}", f"unet.{READS}"):
            places = watched_places(model, name)
            assert torch.equal(model.parameters()[name][places], before[name][places])
