"""Relearning: its first step by hand, its loss, masks lifted or kept, the steps of a longer one, a killed one, one in a study."""

import io
from contextlib import contextmanager

import pytest
import torch

import workbench
from tests.reference import same_bits
from workbench.diffusion.denoise import denoise
from workbench.errors import MethodError
from workbench.execution import execute, variant_files
from workbench.execution.rows import rates
from workbench.methods.erasers import _training, relearn
from workbench.models import text
from workbench.models.masks import cut_incoming
from workbench.models.variants import Variant, applied, base_again
from workbench.study.variants import VariantTable

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "cat")]
SMALL = {"steps": 3, "images": 2, "batch": 2, "iterations": 4}
LAYER = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
INCOMING = "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight"


def settings(**given):
    return relearn.Parameters(**SMALL | given)


def by_lot(model):
    """A mask of a tenth of the weights into a layer's neurons."""
    draws = torch.Generator().manual_seed(3)
    return {INCOMING: torch.rand(model.parameters()[INCOMING].shape, generator=draws) < 0.1}


def copies(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@contextmanager
def changed_in(model, change, seed=1):
    """The model with noise on its attention: some eraser's work; yields the way to the base model."""
    own = {name: parameter.data for name, parameter in model.parameters().items()}
    draws = torch.Generator().manual_seed(seed)
    weights = {
        name: value + 0.3 * torch.randn(value.shape, generator=draws, dtype=torch.float32).to(value.dtype)
        for name, value in own.items()
        if ".attn2." in name and value.ndim > 1
    }
    with applied(model, Variant("erased", None, weights, change)):
        yield lambda: base_again(model, own)


def first_loss(model, base, given):
    """The loss of the first draw, written out: {name: weight} -> float."""
    prompts = [pair[0] for pair in PAIRS]
    with torch.no_grad():
        with base():
            states, empty = text.encode(model, prompts), text.unconditional(model)
            seeds = [(given.seed + relearn.OTHER_NOISE) * 100_003 + row for row in (0, 1)]
            images, _ = denoise(model, states, empty, seeds, n_steps=given.steps, guidance=given.guidance)
        states = text.encode(model, prompts)
    generator = torch.Generator().manual_seed(given.seed)
    rows = torch.randint(2, (given.batch,), generator=generator)
    at = torch.randint(model.scheduler.config.num_train_timesteps, (given.batch,), generator=generator)
    noise = torch.randn(given.batch, *model.latent_shape, generator=generator).double()
    signal = model.scheduler.alphas_cumprod[at].double()[:, None, None, None]
    noised = signal.sqrt() * images[rows] + (1 - signal).sqrt() * noise

    @torch.no_grad()
    def loss(weights):
        predicted = torch.func.functional_call(model.unet, weights, (noised, at), {"encoder_hidden_states": states[rows]}).sample
        return ((predicted - noise) ** 2).mean().item()

    return loss


def test_the_first_step_is_the_one_computed_by_hand(exact):
    """Adam's first step is learning_rate * slope / (|slope| + 1e-8), the slope of the loss by differences in double precision."""
    given, losses, h = settings(iterations=1), [], 1e-5
    with changed_in(exact, {}) as base:
        before = copies(exact.parameters())
        made = relearn.erase(exact, PAIRS, given, base=base, log=losses)
        loss = first_loss(exact, base, given)
        assert losses == [(1, pytest.approx(loss({}), rel=1e-9))]
        for name in ("conv_in.weight", INCOMING.removeprefix("unet."), "conv_out.bias"):
            own = before[f"unet.{name}"]
            for place in (0, own.numel() // 2, own.numel() - 1):
                shift = torch.zeros(own.shape, dtype=own.dtype)
                shift.flatten()[place] = h
                slope = (loss({name: own + shift}) - loss({name: own - shift})) / (2 * h)
                moved = (made[f"unet.{name}"] - own).flatten()[place].item()
                assert abs(slope) > 1e-8 and moved == pytest.approx(-given.learning_rate * slope / (abs(slope) + 1e-8), rel=1e-3)


def test_an_erased_parent_models_images_of_the_concept_better_afterwards(model):
    with changed_in(model, {}) as base:
        before, log = copies(model.parameters()), []
        made = relearn.erase(model, PAIRS, settings(iterations=60, learning_rate=1e-3, batch=4), base=base, log=log)
        losses = [loss for _, loss in log]
        assert [step for step, _ in log] == list(range(1, 61))
        assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
        assert same_bits(before, copies(model.parameters()))
    assert any(not torch.equal(made[name], before[name]) for name in made)


def test_the_images_are_the_base_models_and_the_words_are_the_parents(model):
    """A parent whose text encoder says nothing has to learn from that; its own images would teach it what it knows."""
    silent = {name: torch.zeros_like(p) for name, p in model.text_encoder.named_parameters() if name.endswith("final_layer_norm.weight")}
    seen, own = [], {name: parameter.data for name, parameter in model.parameters().items()}

    @contextmanager
    def base():
        with base_again(model, own):
            seen.append(text.encode(model, ["owl"]))
            yield

    given, log = settings(iterations=1), []
    with applied(model, Variant("erased", None, {f"text_encoder.{name}": value for name, value in silent.items()})):
        relearn.erase(model, PAIRS, given, base=base, log=log)
        assert not torch.equal(text.encode(model, ["owl"]), seen[0]) and len(seen) == 1
        model.unet.double(), model.vae.double(), model.text_encoder.double()
        own = {name: value.double() for name, value in own.items()}
        assert log[0][1] == pytest.approx(first_loss(model, base, given)({}), rel=1e-4)


def test_other_modules_stay_bit_for_bit_what_the_parent_is(model):
    mask = cut_incoming(model.unet, {LAYER: [1, 2]})
    parent = Variant("pruned", None, masks=mask)
    with applied(model, parent):
        pruned = copies(model.parameters())
        made = relearn.erase(model, PAIRS, settings(modules="x"))
    assert made and all(".attn2." in name for name in made)
    with applied(model, Variant("back", "pruned", made, lifts_masks=True).over(parent)):
        rest = {name: value for name, value in copies(model.parameters()).items() if name not in made}
    assert same_bits(rest, {name: pruned[name] for name in rest}) and (rest[INCOMING][[1, 2]] == 0).all()


def test_all_is_every_linear_layer_and_convolution(model):
    names = relearn.trained_names(model.unet, "all")
    others = [name for name, _ in model.unet.named_parameters() if name not in names]
    assert len(names) == 142 and others and all("norm" in name for name in others)


@pytest.mark.parametrize("lift", [True, False])
def test_cut_weights_come_back_only_where_masks_are_lifted(model, lift):
    parent, given = Variant("pruned", None, masks=by_lot(model)), settings(lift=lift)
    with applied(model, parent):
        before = model.parameters()[INCOMING].detach().clone()
        made = relearn.erase(model, PAIRS, given)
    child, mask = Variant("back", "pruned", made, lifts_masks=relearn.lifts_masks(given)).over(parent), parent.masks[INCOMING]
    with applied(model, child):
        assert torch.equal(model.parameters()[INCOMING], made[INCOMING])
    assert (made[INCOMING][mask] != 0).all() if lift else (made[INCOMING][mask] == 0).all()
    assert (made[INCOMING][~mask] != before[~mask]).float().mean() > 0.99 and bool(child.masks) != lift


def test_a_neuron_cut_as_a_whole_cannot_relearn(model):
    """value * gelu(gate) has no slope where both are 0: what the guide says of masks that cut whole neurons."""
    mask = cut_incoming(model.unet, {LAYER: [1, 2]})
    with applied(model, Variant("pruned", None, masks=mask)):
        made = relearn.erase(model, PAIRS, settings(lift=True))
    assert all((made[name][where] == 0).all() and (made[name][~where] != 0).any() for name, where in mask.items())


def kept_states(model, monkeypatch, **given):
    monkeypatch.setattr(_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(_training, "KEEPING", 0)
    states, log = [], []
    made = relearn.erase(model, PAIRS, settings(**given), keep=lambda name, state: states.append(saved(state)), log=log)
    return made, states, log


def saved(state):
    """What the run folder gives back of it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_fewer_steps_are_the_beginning_of_more(model, monkeypatch):
    made, states, log = kept_states(model, monkeypatch)
    for k in (1, 3):
        shorter, losses = relearn.erase(model, PAIRS, settings(iterations=k)), []
        assert same_bits(shorter, {f"unet.{name}": value for name, value in states[k - 1]["weights"].items()})
        relearn.erase(model, PAIRS, settings(iterations=k), log=losses)
        assert losses == log[:k]
    assert not same_bits(made, relearn.erase(model, PAIRS, settings(seed=1)))


@pytest.mark.parametrize("lift", [True, False])
def test_a_killed_one_goes_on_to_the_same_weights(model, monkeypatch, lift):
    with applied(model, Variant("pruned", None, masks=by_lot(model))):
        made, states, log = kept_states(model, monkeypatch, lift=lift)
        later, steps = [], []
        resumed = relearn.erase(
            model,
            PAIRS,
            settings(lift=lift),
            kept=lambda name: states[1],
            log=later,
            progress=lambda step, of, loss: steps.append((step, of)),
        )
    assert [state["step"] for state in states] == [1, 2, 3, 4] and steps == [(3, 4), (4, 4)]
    assert later == log and same_bits(made, resumed)


def test_the_control_learns_from_images_without_the_concept(model, monkeypatch):
    asked = []
    genuine = text.encode

    def watched(model, prompts, prefix=None):
        asked.append(list(prompts))
        return genuine(model, prompts, prefix)

    monkeypatch.setattr(text, "encode", watched)
    made = relearn.erase(model, PAIRS, settings(shows="anchor"))
    assert asked and not any("ink" in prompt for prompts in asked for prompt in prompts)
    assert not same_bits(made, relearn.erase(model, PAIRS, settings()))


def test_no_pairs_is_refused_and_the_estimate_counts_images_and_steps(model):
    with pytest.raises(MethodError, match="whose images it trains on"):
        relearn.erase(model, [], relearn.Parameters())
    given = settings(images=2, steps=3, batch=2, iterations=4)
    assert relearn.passes(given, 5) == 5 * 3 * 2 + 4 * 2 * 2.5


def test_a_pruned_variant_relearns_in_a_study(study_file, tmp_path):
    given = "iterations = 2, steps = 3, images = 2, batch = 2"
    parts = "".join(
        f'[[variants]]\nname = "{name}"\nmethod = "relearn"\nparent = "lot"\nparameters = {{ {given}, lift = {lift} }}\n'
        for name, lift in (("lifted", "true"), ("held", "false"))
    )
    lot = '[[variants]]\nname = "lot"\nmethod = "random_mask"\nparent = "erased"\nrole = "pruned"\n'
    text_, path = study_file.read_text(), study_file.parent / "relearned.toml"
    start, end = text_.index("[[variants]]", text_.index("[[variants]]") + 1), text_.index("[record]")
    path.write_text(text_[:start] + lot + parts + text_[end:])
    plan, workspace = execute.prepare(workbench.load_study(path), tmp_path / "run")
    assert plan.node("erase:lifted").passes > 0
    execute.run_nodes(workspace, plan.of_stage("erase"))
    masks = workspace.variant("lot").masks
    for name in ("lifted", "held"):
        with applied(workspace.model, workspace.variant(name)):
            back = sum(int((workspace.model.parameters()[layer][mask] != 0).sum()) for layer, mask in masks.items())
        assert (back > 0) == (name == "lifted")
    rows = variant_files.training_rows(workspace)
    assert [(row["variant"], row["step"]) for row in rows] == [("lifted", 1), ("lifted", 2), ("held", 1), ("held", 2)]
    assert all(row["loss"] > 0 and row["retention"] is None and row["expected_share"] is None for row in rows)


def test_the_same_relearning_over_a_mask_and_over_the_unpruned_eraser_is_compared():
    def part(name, parent, method="relearn", **given):
        return VariantTable(name=name, method=method, parent=parent, parameters=given)

    erased, masked = (
        VariantTable(name="erased", method="esd"),
        VariantTable(name="masked", method="magnitude", parent="erased", role="pruned"),
    )
    first, again = part("erased-20", "erased", iterations=20), part("masked-20", "masked", iterations=20)
    others = [part("masked-40", "masked", iterations=40), part("control-20", "masked", iterations=20, shows="anchor")]
    others.append(part("masked-20-20", "masked-20", iterations=20))
    pairs = list(rates._compared([erased, masked, first, again, *others]))
    assert ("erased-20", "masked-20") in pairs and ("masked", "masked-20") in pairs
    assert ("masked-20", "control-20") in pairs and ("masked-20", "masked-40") in pairs
    assert not any(("erased-20", other) in pairs for other in ("masked-40", "control-20", "masked-20-20")) and len(pairs) == len(set(pairs))
    two = [part("back", "masked", "revive"), part("lot-back", "lot", "revive")]
    assert ("back", "lot-back") not in list(rates._compared(two))
