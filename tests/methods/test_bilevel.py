"""Bilevel: equals the training of a UNet that really is smaller, row by row; removed neurons stay removed; killed, written, relearned."""

import io

import pandas
import pytest
import torch
from typer.testing import CliRunner

import workbench
from tests.students import file_of, small
from workbench import registry
from workbench.cli.main import app
from workbench.diffusion.denoise import denoise
from workbench.errors import MethodError
from workbench.execution import execute, variant_files
from workbench.methods.erasers import _pool, _training, bilevel, relearn
from workbench.models import channels, load, text
from workbench.models.masks import cut_incoming
from workbench.models.variants import Variant, applied, base_again

PAIRS = [("an owl in ink style", "an owl"), ("cat in ink", "cat")]
RETAINED = ["orange house", "a garden"]
METHOD = registry.method("erasers", "bilevel")
SMALL = {"iterations": 6, "lower_steps": 2, "steps": 3, "images": 2, "batch": 2}


def scores(model, layer, given):
    """The score of each neuron, one after the other."""
    above = model.unet.get_submodule(layer.removesuffix(".2"))
    first, second = above[0].proj.weight.detach(), above[2].weight.detach()
    n = second.shape[1]
    if given.criterion == "magnitude":
        return [torch.cat([first[i], first[i + n], second[:, i]]).norm().item() for i in range(n)]
    total, asked = torch.zeros(n, dtype=second.dtype), []  # asked: what the layer that reads the neurons is given
    handle = above[2].register_forward_pre_hook(lambda module, args: asked.append(args[0]))
    for prompt in RETAINED:
        states, empty = text.encode(model, [prompt]), text.unconditional(model)
        for latents, timestep in trajectory(model, states, empty, given):
            asked.clear()
            model.run_unet(latents, torch.tensor(timestep), states)
            total += asked[0].square().sum(dim=(0, 1))
    handle.remove()
    return [(second[:, i].norm() * total[i].sqrt()).item() for i in range(n)]


def trajectory(model, states, empty, given):
    """[(latents, timestep)] of every call of one image."""
    _, path = denoise(model, states, empty, [given.seed], n_steps=given.steps, guidance=given.guidance, keep=range(given.steps))
    return [(path.inputs[:, call], timestep) for call, timestep in enumerate(path.timesteps)]


@torch.no_grad()
def kept_of(model, given):
    """{layer: neurons that stay}, ranked one by one."""
    found = {}
    for layer in [name for name, _ in model.unet.named_modules() if name.endswith("ff.net.2")]:
        own = scores(model, layer, given)
        order = sorted(range(len(own)), key=lambda i: (own[i], i))
        found[layer] = sorted(order[int(given.share * len(own)) :])
    return found


def slow_bilevel(model, given):
    """(the smaller UNet after training, kept channels, upper losses): modules that really are smaller, torch's own Adam, row by row."""
    kept = kept_of(model, given)
    student, generator = small(model.unet, kept).requires_grad_(True), torch.Generator().manual_seed(given.seed)
    shown = _pool.of_images(model, PAIRS, given, given.images, "concept").latents
    others = _pool.of_images(model, [(one, one) for one in RETAINED], given, given.images).latents
    lower, upper = (torch.optim.Adam(student.parameters(), lr=rate) for rate in (given.learning_rate, given.upper_rate))
    alphas, losses = model.scheduler.alphas_cumprod.double(), []

    def drawn(images):
        which = torch.randint(len(images), (given.batch,), generator=generator).tolist()
        at = torch.randint(model.scheduler.config.num_train_timesteps, (given.batch,), generator=generator)
        noise = torch.randn(given.batch, *model.latent_shape, generator=generator).double()
        for row in range(given.batch):
            a = alphas[at[row]]
            yield which[row] % 2, (a.sqrt() * images[which[row]] + (1 - a).sqrt() * noise[row])[None], at[row][None], noise[row][None]

    def ask(unet, x, t, prompt):
        blocks = []
        handles = [
            part.register_forward_hook(lambda m, i, out: blocks.append(out[0] if isinstance(out, tuple) else out))
            for part in (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
        ]
        noise = unet(x, t, encoder_hidden_states=text.encode(model, [prompt])).sample
        for handle in handles:
            handle.remove()
        return noise, blocks

    def low():
        found = []
        for which, x, t, noise in drawn(others):
            own, blocks = ask(student, x, t, RETAINED[which])
            with torch.no_grad():
                teacher, theirs = ask(model.unet, x, t, RETAINED[which])
            snr = (alphas[t] / (1 - alphas[t])).item()
            loss = given.denoising * min(snr, given.snr_gamma) / snr * ((own - noise) ** 2).mean()
            loss = loss + given.output * ((own - teacher) ** 2).mean()
            found.append(loss + given.features * sum(((a - b) ** 2).mean() for a, b in zip(blocks, theirs, strict=True)) / len(blocks))
        return sum(found) / len(found)

    def up():
        found = []
        for which, x, t, _ in drawn(shown):
            concept, anchor = PAIRS[which]
            with torch.no_grad():
                c, a, e = (ask(model.unet, x, t, prompt)[0] for prompt in (concept, anchor, ""))
            start, without = {"anchor": (a, a), "concept": (c, e), "empty": (e, e)}[given.form]
            found.append(((ask(student, x, t, concept)[0] - (start - given.eta * (c - without))) ** 2).mean())
        return sum(found) / len(found)

    for step in range(given.iterations):
        above = step % (given.lower_steps + 1) == given.lower_steps
        loss = up() if above else low()
        if above:
            losses.append(loss.item())
            loss = loss + given.penalty * low() if given.penalty else loss
        optimiser = upper if above else lower
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return student, kept, losses


@pytest.mark.parametrize(
    "more",
    [
        {"criterion": "wanda", "share": 0.3, "penalty": 2.0},
        {"criterion": "magnitude", "share": 0.5, "penalty": 0.0, "form": "empty", "eta": 0.7, "seed": 3},
    ],
    ids=["wanda", "magnitude"],
)
def test_it_is_the_training_of_a_unet_that_really_is_smaller(exact, more):
    given, log = METHOD.parameters(**SMALL | {"learning_rate": 1e-4, "upper_rate": 3e-4} | more), []
    made = METHOD.call(exact, PAIRS, given, retained=RETAINED, log=log)
    student, kept, losses = slow_bilevel(exact, given)
    groups = channels.of(exact.unet)
    gone = channels.removed(groups, made)
    assert {layer: [i for i in range(groups[layer].n) if i not in index.tolist()] for layer, index in gone.items()} == kept
    slim = channels.slim(groups, made, kept)
    # Adam's first step has the size of the rate whatever the gradient, so that its sign must agree and not its last digits
    assert all(torch.allclose(slim[f"unet.{name}"], value, rtol=0, atol=1e-6) for name, value in file_of(student).items())
    assert [loss for _, loss, _ in log] == pytest.approx(losses, rel=1e-6) and [step for step, *_ in log] == [3, 6]


def test_the_lower_level_learns_to_denoise_and_the_model_stays(model):
    log, before = [], model.digest()
    alone = {"upper_rate": 1e-9, "penalty": 0.0, "output": 0.0, "features": 0.0, "snr_gamma": None, "share": 0.5}
    given = METHOD.parameters(**SMALL | {"iterations": 60, "lower_steps": 1, "batch": 4, "learning_rate": 3e-3} | alone)
    METHOD.call(model, PAIRS, given, retained=RETAINED, log=log)
    losses = [retention for *_, retention in log]
    assert sum(losses[-8:]) < 0.92 * sum(losses[:8]) and model.digest() == before
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())
    assert not any(module._forward_hooks for module in model.unet.modules())


def saved(state):
    """What the run folder gives back of it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_killed_training_continues_to_the_same_weights(model, monkeypatch):
    monkeypatch.setattr(_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(_training, "KEEPING", 0.0)
    given, states, log = METHOD.parameters(**SMALL | {"iterations": 9}), [], []
    whole = METHOD.call(model, PAIRS, given, retained=RETAINED, log=log, keep=lambda name, state: states.append(saved(state)))
    later, steps = [], []
    again = METHOD.call(
        model,
        PAIRS,
        given,
        retained=RETAINED,
        kept=lambda name: states[1],
        log=later,
        progress=lambda step, of, loss: steps.append((step, of, loss)),
    )
    assert [state["step"] for state in states] == [3, 6, 9] and later == log and steps == [(9, 9, log[-1][1])]
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_the_parent_is_the_student_where_nothing_more_is_removed(model):
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    own, mask = {name: value.data for name, value in model.parameters().items()}, cut_incoming(model.unet, {layer: [1, 2]})
    given = METHOD.parameters(**SMALL | {"share": 0.0})
    with applied(model, Variant("pruned", masks=mask)):
        made = METHOD.call(model, PAIRS, given, retained=RETAINED, base=lambda: base_again(model, own))
    for name, places in mask.items():
        assert (made[name][places] == 0).all() and (made[name][~places] != own[name][~places]).any()
    with pytest.raises(MethodError, match="there is no student"):
        METHOD.call(model, PAIRS, given, retained=RETAINED)


def test_a_student_is_written_without_its_neurons_and_read_back_to_the_bit(tiny_folder, tmp_path):
    words = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    given = ["erase", "bilevel", "--model", str(tiny_folder), "--concept", "owl in ink style", "--anchor", "owl", *words]
    done = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    assert (tmp_path / "out" / "channels.json").is_file()
    base, reader = load.load(str(tiny_folder)), registry.method("erasers", "from_checkpoint")
    found = reader.call(base, [], reader.parameters(path=str(tmp_path / "out")), folder=tmp_path)
    made = METHOD.call(base, [("owl in ink style", "owl")], METHOD.parameters(**SMALL))
    assert found.keys() <= made.keys() and all(torch.equal(value, made[name]) for name, value in found.items()) and len(found) > 100
    seen = CliRunner().invoke(app, ["inspect", str(tmp_path / "out"), "--model", str(tiny_folder)])
    assert seen.exit_code == 0 and "It has fewer channels than the model" in seen.output


def test_removed_neurons_do_not_come_back_by_relearning(model):
    student = Variant("student", weights=dict(METHOD.call(model, PAIRS, METHOD.parameters(**SMALL), retained=RETAINED)))
    own = {name: value.data for name, value in model.parameters().items()}
    with applied(model, student):
        made = relearn.erase(
            model, PAIRS, relearn.Parameters(steps=3, images=2, batch=2, iterations=4), base=lambda: base_again(model, own)
        )
    back = Variant("back", "student", made, lifts_masks=True).over(student)
    groups = channels.of(model.unet)
    before, after = (channels.removed(groups, one.weights) for one in (student, back))
    assert len(before) == 4 and {k: v.tolist() for k, v in before.items()} == {k: v.tolist() for k, v in after.items()}
    assert any(not torch.equal(back.weights[name], student.weights[name]) for name in made)


def test_a_student_is_made_and_relearned_in_a_study(study_file, tmp_path):  # noqa: F811
    small_words = ", ".join(f"{name} = {value}" for name, value in SMALL.items())
    parts = f'[[variants]]\nname = "student"\nmethod = "bilevel"\nparameters = {{ {small_words} }}\n'
    parts += '[[variants]]\nname = "back"\nmethod = "relearn"\nparent = "student"\n'
    parts += "parameters = { iterations = 2, steps = 3, images = 2, batch = 2 }\n"
    content, path = study_file.read_text(), study_file.parent / "student.toml"
    start, end = content.index("[[variants]]", content.index("[[variants]]") + 1), content.index("[record]")
    path.write_text(content[:start] + parts + content[end:])
    plan, workspace = execute.prepare(workbench.load_study(path), tmp_path / "run")
    execute.run_nodes(workspace, plan.of_stage("erase"))
    assert plan.node("erase:student").passes > 0
    student, back = workspace.variant("student"), workspace.variant("back")
    groups = channels.of(workspace.model.unet)
    gone = channels.removed(groups, student.weights)
    assert gone and {k: v.tolist() for k, v in channels.removed(groups, back.weights).items()} == {k: v.tolist() for k, v in gone.items()}
    layer, index = next(iter(gone.items()))
    first, other = int(index[0]), next(i for i in range(groups[layer].n) if i not in index.tolist())
    table = pandas.DataFrame({"layer": [layer] * 3, "index": [first, other, first], "site": "ff", "in_concept": [True, True, False]})
    said = variant_files.removed_caveats(workspace, table)
    assert [one.split(" of the site")[0] for one in said] == [f"{name} lacks 1 of the 2 concept neurons" for name in ("student", "back")]
    rows = [row for row in variant_files.training_rows(workspace) if row["variant"] == "student"]
    assert [row["step"] for row in rows] == [3, 6] and all(row["loss"] > 0 and row["retention"] > 0 for row in rows)


def test_what_cannot_be_trained_is_refused_and_the_estimate_counts_both_levels(model):
    with pytest.raises(MethodError, match="needs prompts with the concept"):
        METHOD.call(model, [], METHOD.parameters())
    with pytest.raises(MethodError, match="No neuron would be removed"):
        METHOD.call(model, PAIRS, METHOD.parameters(**SMALL | {"share": 1e-6}))
    given = bilevel.Parameters(images=4, steps=5, iterations=7, lower_steps=2, batch=2, penalty=0.0, criterion="magnitude")
    assert bilevel.passes(given, 6) == (6 + 4) * 5 * 2 + 3 * 2 * (2 * 3.5 + 4.5)
    more = given.model_copy(update={"penalty": 1.0, "form": "concept", "criterion": "wanda"})
    assert bilevel.passes(more, 6) == 100 + 6 * 15 + 3 * 2 * (2 * 3.5 + 5.5 + 3.5)
