"""The live session gives the numbers of the stages, computes nothing twice, and leaves the model as it found it."""

import copy

import numpy as np
import pytest
import torch

import workbench
from workbench.analysis.ablation import Ablation
from workbench.analysis.ablation_images import Images, Prompts
from workbench.analysis.one_step import OneStep
from workbench.errors import MethodError, RunError
from workbench.execution import execute
from workbench.execution.attribution_inputs import condition, encoded, picked, rows_of
from workbench.lab import MODES, Lab, NeuronAblation, Stopped, stopping
from workbench.models import text
from workbench.models.variants import applied
from workbench.neurons import taps
from workbench.study.study import load_study

VARIANT = "erased"


@pytest.fixture(scope="module")
def workspace(finished):
    study = load_study(next(iter(finished.folder.parent.glob("../finished-study*/tiny.toml")), None) or finished.folder / "study.toml")
    return execute.prepare(study, finished.folder)[1]


@pytest.fixture(scope="module")
def lab(finished):
    return Lab(finished)


@pytest.fixture(scope="module")
def asked(lab):
    rows = lab.prompts("target")
    return rows.prompts, rows.seeds


@pytest.fixture(scope="module")
def chosen(lab):
    return {layer.path: [0, 2, 5] for layer in lab.layers if layer.site.name == "ff"}


def in_stages(workspace, kind, factor, chosen):
    """(Images, OneStep, Ablation for each) of the code that the stage `ablate` runs, on the evaluation half."""
    rows = rows_of(workspace, "b")
    variant, study = workspace.variant(VARIANT), workspace.study
    detect = lambda images: (torch.zeros(len(images)), torch.zeros(len(images)))  # noqa: E731

    def images(name, change):
        prompts = picked(workspace, name, rows)
        with applied(workspace.model, change):
            group = Prompts(encoded(workspace, prompts), prompts.seeds, list(prompts.units), detect)
            empty = text.unconditional(workspace.model)
        return Images(workspace.model, {name: group}, empty, variant=change, n_steps=study.sampling.steps, guidance=study.sampling.guidance)

    def one_step(name, change):
        with condition(workspace, VARIANT if change else "base", name, rows) as (items, target):
            return OneStep(workspace.model, {name: (items, target)}, change)

    found = []
    for made in (images, one_step):
        calls = range(study.sampling.steps) if made is images else workspace.plan.calls
        more = {}
        if kind == "mean":
            record = made("reference", None).record
            more["source"] = record("reference", chosen, calls) if made is images else record("reference", chosen)
        if kind == "held":
            record = made("target", None).record
            more["source"] = record("target", chosen, calls) if made is images else record("target", chosen)
        found.append((made("target", variant), Ablation({k: np.array(v) for k, v in chosen.items()}, kind=kind, factor=factor, **more)))
    return found


@pytest.mark.parametrize(
    "mode, strength, kind, factor",
    [("zero", 1.0, "scaled", 0.0), ("zero", 0.25, "scaled", 0.75), ("scale", 2.0, "scaled", 2.0), ("mean", 1.0, "mean", 0.0)]
    + [("mean", 0.5, "mean", 0.5), ("patch", 1.0, "held", 0.0), ("patch", 0.5, "held", 0.5)],
)
def test_images_and_target_are_those_of_the_stage(workspace, lab, asked, chosen, mode, strength, kind, factor):
    (images, for_images), (one_step, for_one_step) = in_stages(workspace, kind, factor, chosen)
    ablation = NeuronAblation(chosen, mode, strength)
    pixels = images([for_images])
    intact = images._intact["target"]
    assert torch.allclose(lab.images(*asked, VARIANT), intact, atol=1e-5)
    mine = lab.images(*asked, VARIANT, ablation)
    change = next(one for one in pixels if one.outcome == "pixel_change").ablated[0]
    assert np.allclose((mine - intact).abs().flatten(1).mean(1), change, atol=1e-5) and change.max() > 1e-5
    (reading,) = one_step([for_one_step])
    assert np.allclose(lab.target(*asked, VARIANT), reading.intact, atol=1e-5)
    found = lab.target(*asked, VARIANT, ablation)
    assert np.allclose(found, reading.ablated[0], atol=1e-5) and np.abs(found - reading.intact).max() > 1e-5


def test_the_base_model_has_target_and_activity_one(lab, asked):
    assert np.allclose(lab.target(*asked), 1, atol=1e-5)
    assert lab.activity(lab.neurons("concept"), *asked) == pytest.approx(1, abs=1e-6)


def test_activity_is_that_of_the_report(lab, asked):
    rows = [row for row in lab.run.document["activity"] if (row["variant"], row["prompt_set"]) == (VARIANT, "target")]
    for site in ("ff", "update"):
        (row,) = [row for row in rows if (row["neuron_set"], row["trajectory"], row["site"]) == ("concept", "reference", site)]
        assert lab.activity(lab.neurons("concept", site), *asked, VARIANT) == pytest.approx(row["value"], abs=1e-4)


def test_a_neuron_that_is_off_has_no_activity_and_a_clamped_one_the_size_it_is_given(lab, asked, chosen):
    off = lab.activity(chosen, *asked, VARIANT, NeuronAblation(chosen, "zero"))
    doubled, held = (lab.activity(chosen, *asked, "base", NeuronAblation(chosen, *how)) for how in (("scale", 2.0), ("clamp", 1.0)))
    one = lab.activity(chosen, *asked, "base")
    assert off < one < doubled or off > one > doubled  # by the sign of the set's contrast
    twice = lab.activity(chosen, *asked, "base", NeuronAblation(chosen, "clamp", 2.0))
    # |v| grows in proportion to the strength: off, once and twice lie on a line
    assert twice - held == pytest.approx(held - off, rel=1e-3)


def test_a_window_and_a_branch_limit_where_it_works(lab, asked, chosen):
    whole = lab.images(*asked, VARIANT, NeuronAblation(chosen))
    late = lab.images(*asked, VARIANT, NeuronAblation(chosen, calls=(2, 2)))
    uncond = lab.images(*asked, VARIANT, NeuronAblation(chosen, branch="uncond"))
    plain = lab.images(*asked, VARIANT)
    assert not torch.equal(whole, late) and not torch.equal(whole, uncond) and not torch.equal(uncond, plain)
    assert (late - plain).abs().mean() < (whole - plain).abs().mean()
    assert np.allclose(
        lab.target(*asked, VARIANT, NeuronAblation(chosen, calls=(1, 1))), lab.target(*asked, VARIANT)
    )  # call 1 is not measured
    with pytest.raises(MethodError, match="cond branch"):
        lab.target(*asked, VARIANT, NeuronAblation(chosen, branch="uncond"))
    with pytest.raises(MethodError, match="behind the last call"):
        lab.images(*asked, VARIANT, NeuronAblation(chosen, calls=(7, 9)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", ["base", VARIANT])
def test_before_and_after_side_by_side_are_those_of_one_after_the_other(finished, asked, chosen, mode, variant):
    ablation = NeuronAblation(chosen, mode, 0.5)
    one, other = Lab(finished, batch=4), Lab(finished)  # with 4, the rows do not fit into one batch
    before, after = one.before_and_after(*asked, variant, ablation)
    assert torch.allclose(before, other.images(*asked, variant), atol=1e-5)
    assert torch.allclose(after, other.images(*asked, variant, ablation), atol=1e-5)
    changed = bool((after - before).abs().max() > 1e-4)
    assert changed == ((variant, mode) != ("base", "patch"))  # its own values change nothing
    assert np.allclose(one.target(*asked, variant), other.target(*asked, variant), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_prepared_side_by_side_is_what_is_asked_for_one_after_the_other(finished, asked, chosen, mode, monkeypatch):
    asked, names = tuple(part[:2] for part in asked), ["base", VARIANT, "pruned"]
    ablation = NeuronAblation(chosen, mode, 0.5)
    one, other = Lab(finished, batch=8), Lab(finished)
    vectors = {VARIANT: torch.randn(2, 1, one.model.text_encoder.config.hidden_size, generator=torch.Generator().manual_seed(5))}
    one.prepare(*asked, names, ablation, vectors)
    monkeypatch.setattr(one.model.unet, "forward", None)  # all is there
    for name in names:
        for change in (None, ablation):
            given = (*asked, name, change, vectors.get(name))
            assert torch.allclose(one.images(*given), other.images(*given), atol=1e-5), name
            assert np.allclose(one.target(*given), other.target(*given), atol=1e-5), name
            assert one.activity(chosen, *given) == pytest.approx(other.activity(chosen, *given), abs=1e-4), name


def count_rows(lab, monkeypatch):
    """The list that holds how many rows each call of the UNet had."""
    rows, own = [], lab.model.unet.forward
    monkeypatch.setattr(lab.model.unet, "forward", lambda sample, *given, **more: rows.append(len(sample)) or own(sample, *given, **more))
    return rows


@pytest.mark.parametrize("mode", ["zero", "patch"])
def test_a_typed_prompt_computes_no_more_of_the_empty_reference_than_its_latents_need(finished, chosen, mode, monkeypatch):
    asked, names, ablation = (["a teapot on a horse"], [77]), ["base", VARIANT], NeuronAblation(chosen, mode, 0.5)
    one, other = Lab(finished), Lab(finished)
    assert one.reference(asked[0][0]) == "" and 0 < one.calls[-1] < one.study.sampling.steps
    rows = count_rows(one, monkeypatch)
    one.prepare(*asked, names, ablation)
    steps, last = one.study.sampling.steps, one.calls[-1]
    images = 2 * 4 * steps + last  # two variants before and after, two branches each; the reference: one branch up to the last call
    pairs = 4 + 2 + 5  # words on latents: base, base ablated, erased
    held = {"zero": 0, "patch": 2 * len(one.calls)}[mode]
    assert sum(rows) == images + pairs * len(one.calls) + held
    monkeypatch.setattr(one.model.unet, "forward", None)  # all is there
    for name in names:
        for change in (None, ablation):
            assert torch.allclose(one.images(*asked, name, change), other.images(*asked, name, change), atol=1e-5)
            assert np.allclose(one.target(*asked, name, change), other.target(*asked, name, change), atol=1e-5)
            assert one.activity(chosen, *asked, name, change) == pytest.approx(other.activity(chosen, *asked, name, change), abs=1e-4)
    empty = one._rows("", 77, None)
    assert torch.allclose(one._trajectory(empty).inputs, other._base(empty)[0].inputs, atol=1e-5)


def test_means_can_be_warmed_in_pieces_and_stopped_between_two(finished, asked, chosen, monkeypatch):
    one, other = Lab(finished, batch=4), Lab(finished)
    looks = []
    assert one.warm_means(lambda: looks.append(1) or len(looks) > 2) is False and len(looks) == 3
    assert one.warm_means() and one.warm_means()
    sampled = []
    monkeypatch.setattr(one, "_gather", lambda *given: sampled.append(given))
    for mode in ("mean", "clamp"):
        ablation = NeuronAblation(chosen, mode)
        assert torch.allclose(one.images(*asked, VARIANT, ablation), other.images(*asked, VARIANT, ablation), atol=1e-5)
        assert np.allclose(one.target(*asked, VARIANT, ablation), other.target(*asked, VARIANT, ablation), atol=1e-5)
    assert not sampled


def test_what_is_sampled_for_its_latents_alone_stops_at_the_last_call_and_has_the_same(finished, asked):
    one, other = Lab(finished), Lab(finished)
    whole = torch.stack([base.inputs for base in one._base(one._rows(*asked, None))])
    assert torch.equal(other._trajectory(other._rows(*asked, None)).inputs, whole)


def test_what_did_not_change_is_not_computed_again(lab, asked, chosen, monkeypatch):
    ablation = NeuronAblation(chosen, "zero")
    first = lab.images(*asked, VARIANT, ablation), lab.target(*asked, VARIANT, ablation)
    lab.images(*asked, VARIANT)
    passes = []
    own = lab.model.run_unet
    monkeypatch.setattr(type(lab.model), "run_unet", lambda self, *given, **more: passes.append(1) or own(*given, **more))
    assert torch.equal(lab.images(*asked, VARIANT, ablation), first[0]) and not passes
    assert torch.equal(lab.images(*asked, VARIANT, NeuronAblation(chosen, "zero", 0.0)), lab.images(*asked, VARIANT)) and not passes
    one = [asked[0][0]], [asked[1][0] + 500]
    lab.images([asked[0][0], *one[0]], [asked[1][0], *one[1]], VARIANT, ablation)
    assert len(passes) == lab.study.sampling.steps  # the new row alone


def test_rows_in_one_batch_do_not_disturb_each_other(lab, asked, chosen):
    ablation = NeuronAblation(chosen, "patch")
    together = lab.images(*asked, "pruned", ablation)
    fresh = Lab(lab.run, batch=1)
    assert torch.allclose(fresh.images(*asked, "pruned", ablation), together, atol=1e-5)


def test_the_model_is_as_before_after_everything_also_after_an_error(lab, asked, chosen, monkeypatch):
    before = {name: tensor.clone() for name, tensor in lab.model.parameters().items()}
    hooks = lambda: [m for part in lab.model.modules.values() for m in part.modules() if m._forward_hooks or m._forward_pre_hooks]  # noqa: E731
    for mode in MODES:
        lab.images(*asked, VARIANT, NeuronAblation(chosen, mode, 0.5))
    lab.attack(*asked, VARIANT, NeuronAblation(chosen, "patch"), iterations=1)
    monkeypatch.setattr(taps.Taps, "check", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lab.images(*asked, VARIANT, NeuronAblation(chosen, "scale", 3.0))
    assert not hooks()
    assert all(torch.equal(tensor, before[name]) for name, tensor in lab.model.parameters().items())


def test_an_attack_learns_against_the_ablated_model_and_can_be_stopped(lab, asked, chosen):
    prompts, seeds = asked[0][:2], asked[1][:2]
    plain = lab.attack(prompts, seeds, VARIANT, iterations=3)
    assert torch.equal(plain, lab.attack(prompts, seeds, VARIANT, iterations=3))
    everything = {layer.path: list(range(layer.n_neurons)) for layer in lab.layers if layer.site.name == "ff"}
    for mode, strength in (("zero", 1.0), ("mean", 1.0), ("clamp", 2.0), ("patch", 1.0)):
        against = lab.attack(prompts, seeds, VARIANT, NeuronAblation(everything, mode, strength), iterations=3)
        assert against.shape == plain.shape == (2, 3, plain.shape[2]) and not torch.equal(plain, against), mode
    none = lab.attack(prompts, seeds, VARIANT, NeuronAblation(everything, "zero", 0.0), iterations=3)
    assert torch.equal(none, plain)
    assert not torch.equal(lab.images(prompts, seeds, VARIANT, vectors=plain), lab.images(prompts, seeds, VARIANT))
    assert np.isfinite(lab.target(prompts, seeds, VARIANT, vectors=plain)).all()
    steps = []
    with pytest.raises(Stopped), stopping(lab, lambda: len(steps) >= 2, lambda step, of, note="": steps.append(step)):
        lab.attack(prompts, seeds, VARIANT, iterations=50)
    assert len(steps) == 2


def test_gradients_of_an_attack_see_the_ablation_as_sampling_does(lab, asked, chosen):
    """The taps of attacks give a UNet call the values that the taps of sampling give it."""
    from workbench.analysis import ablation as ablations
    from workbench.lab import _Everywhere, _Row
    from workbench.neurons.taps import Rows, Taps

    rows = [_Row(*one) for one in zip(*asked, strict=True)]
    timesteps = [float(t) for t in lab.model.new_scheduler(lab.study.sampling.steps).timesteps]
    states = lab._states(rows)
    noise = torch.randn(len(rows), *lab.model.latent_shape, generator=torch.Generator().manual_seed(3))
    for mode in MODES:
        made = lab._whole(NeuronAblation(chosen, mode, 0.5, calls=(1, 2)), rows)
        for call in range(3):
            at = torch.full((len(rows),), timesteps[call])
            gating = ablations.gating(lab.model.unet, [made])
            with torch.no_grad(), _Everywhere(lab.model.unet, gating, timesteps):
                one = lab.model.predict(noise, at, states)
            gating = ablations.gating(lab.model.unet, [made])
            with torch.no_grad(), Taps(lab.model.unet, gating.layers, gates=gating.gates, limits=gating.limits, held=gating.held) as open_:
                open_.tell(
                    Rows(call, timesteps[call], torch.arange(len(rows)), ["cond"] * len(rows), torch.ones(len(rows), dtype=torch.long))
                )
                other = lab.model.predict(noise, at, states)
            assert torch.allclose(one, other, atol=1e-5), (mode, call)


def test_a_mask_of_the_lab_is_the_eraser_prune_neurons(lab, chosen, tmp_path):
    from workbench.models import masks

    path = lab.save_mask(tmp_path / "mask.safetensors", chosen)
    found, about = masks.load(path)
    assert masks.count(found) and about["base_digest"]
    with pytest.raises(RunError, match="exists already"):
        lab.save_mask(path, chosen)


def test_bad_requests_are_refused_in_words(lab, asked):
    with pytest.raises(MethodError, match="No neuron is picked"):
        NeuronAblation({})
    with pytest.raises(MethodError, match='No mode is called "zeros"'):
        NeuronAblation({"a": [1]}, "zeros")
    with pytest.raises(MethodError, match="between 0 and 1"):
        NeuronAblation({"a": [1]}, "zero", 1.5)
    with pytest.raises(MethodError, match="between 0 and 1"):
        NeuronAblation({"a": [1]}, "zero", float("nan"))
    with pytest.raises(MethodError, match="empty"):
        NeuronAblation({"a": [1]}, calls=(3, 1))
    with pytest.raises(RunError, match='no variant "erasd"'):
        lab.images(*asked, "erasd")
    with pytest.raises(MethodError, match="no layer"):
        lab.images(*asked, VARIANT, NeuronAblation({"nowhere": [0]}))
    with pytest.raises(MethodError, match="do not pair"):
        lab.images(asked[0], [1, 2, 3, 4, 5, 6, 7, 8])
    with pytest.raises(RunError, match="no neurons with the role"):
        lab.neurons("concepts")


def test_the_lab_of_the_package_opens_a_run_by_its_folder(finished, asked):
    lab = workbench.Lab(finished.folder)
    assert lab.variants == ["base", "erased", "pruned"] and lab.reference("owl in ink style") == "owl in noto style"
    assert lab.reference("something else") == ""
    present, score = lab.found(copy.copy(lab.images(*asked)))
    assert present.shape == score.shape == (len(asked[0]),)
