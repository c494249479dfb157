"""AdvUnlearn: its loss equals a slow reference, it steers away, a killed training continues to the same weights, its folder comes back."""

import math

import pytest
import torch
from typer.testing import CliRunner

from tests.reference import unlearned
from workbench import registry
from workbench.cli.main import app
from workbench.errors import MethodError
from workbench.methods.erasers import _adv_unlearn, _training
from workbench.models import load, text

PAIRS = [("an owl in ink style", "an owl"), ("cat in ink", "cat")]
METHOD = registry.method("erasers", "adv_unlearn")
SMALL = {"iterations": 3, "warmup": 1, "steps": 3, "trajectories": 2, "batch": 2, "adversarial_steps": 2, "retained_batch": 2}


def test_only_the_text_encoder_changes_and_the_model_stays(model):
    before, log = model.digest(), []
    found = METHOD.call(model, PAIRS, METHOD.parameters(**SMALL), retained=["red house"], log=log)
    assert {name.partition(".")[0] for name in found} == {"text_encoder"} and model.digest() == before
    own = model.parameters()
    assert any(not torch.equal(value, own[name]) for name, value in found.items())
    assert [step for step, _ in log] == [1, 2, 3] and all(math.isfinite(loss) for _, loss in log)
    assert not any(parameter.requires_grad for parameter in model.text_encoder.parameters())


@pytest.mark.parametrize("form", ["anchor", "concept", "empty"])
def test_the_loss_of_a_step_is_its_reference(model, form):
    given = METHOD.parameters(**SMALL | {"warmup": 5, "form": form, "eta": 1.5, "retention": 0.3, "seed": 4})
    training = _adv_unlearn.Training(model, PAIRS, ["red house"], given)
    state = training.generator.get_state()
    drawn = training.pool.draw(model, training.generator, 2)
    which, rows = (torch.randint(high, (2,), generator=training.generator) for high in (len(training.others), 2))
    training.generator.set_state(state)
    expected = unlearned(model, PAIRS, drawn, form, 1.5) + 0.0  # what the copy adds to retention is 0 before the first step
    assert training.improve() == pytest.approx(expected, rel=1e-4)
    with torch.no_grad(), training.reading():
        states = text.encode(model, [training.others[one] for one in which.tolist()])
    assert not torch.equal(states, training.other_states[which]) and len(rows) == 2


@pytest.mark.parametrize("rule", ["adam", "sign"])
def test_the_attack_brings_the_prediction_nearer_to_the_concept(model, rule):
    given = METHOD.parameters(
        **SMALL | {"adversarial_steps": 40, "adversarial_rate": 0.02, "rule": rule, "learning_rate": 0.01, "warmup": 99}
    )
    training = _adv_unlearn.Training(model, PAIRS, [], given)
    for _ in range(10):
        training.improve()
    drawn = training.pool.draw(model, training.generator, 2)
    _, before = training.targets(drawn)
    state = training.generator.get_state()
    found = training.attacked(drawn, before)
    training.generator.set_state(state)
    chosen = torch.randint(len(training.words), (2,), generator=training.generator)
    start = training.words[chosen][:, None]
    distance = lambda vectors: (training.predicted(drawn, vectors) - before).square().mean().item()  # noqa: E731
    assert distance(found) < 0.97 * distance(start)


def test_the_loss_falls(model):
    log = []
    given = SMALL | {"iterations": 60, "warmup": 60, "learning_rate": 0.01, "retention": 0.0}
    METHOD.call(model, PAIRS[:1], METHOD.parameters(**given), log=log)
    losses = [loss for _, loss in log]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_a_killed_training_continues_to_the_same_weights(model, monkeypatch):
    monkeypatch.setattr(_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(_training, "KEEPING", 0.0)
    parameters, saved = METHOD.parameters(**SMALL | {"iterations": 4}), {}
    whole = METHOD.call(model, PAIRS, parameters)

    def keep(name, state):
        saved[name] = {key: {n: v.clone() for n, v in value.items()} if key == "weights" else value for key, value in state.items()}
        if state["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        METHOD.call(model, PAIRS, parameters, keep=keep)
    log = []
    again = METHOD.call(model, PAIRS, parameters, kept=saved.get, log=log)
    assert all(torch.equal(again[name], value) for name, value in whole.items()) and [step for step, _ in log] == [1, 2, 3, 4]


def test_its_folder_is_a_text_encoder_that_comes_back(tiny_folder, tmp_path):
    words = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    given = ["erase", "adv_unlearn", "--model", str(tiny_folder), "--concept", "owl in ink style", "--anchor", "owl", *words]
    done = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    assert {"config.json", "model.safetensors", "workbench.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    from transformers import CLIPTextModel

    theirs = dict(CLIPTextModel.from_pretrained(tmp_path / "out").named_parameters())
    base, reader = load.load(str(tiny_folder)), registry.method("erasers", "from_checkpoint")
    found = reader.call(base, [], reader.parameters(path=str(tmp_path / "out")), folder=tmp_path)
    assert found and all(torch.equal(value, theirs[name.removeprefix("text_encoder.")]) for name, value in found.items())


def test_what_it_cannot_train_is_refused(model):
    with pytest.raises(MethodError, match="needs prompts with the concept"):
        METHOD.call(model, [], METHOD.parameters(**SMALL))
    model.text_encoder_2 = model.text_encoder
    with pytest.raises(MethodError, match="this model has two"):
        METHOD.call(model, PAIRS, METHOD.parameters(**SMALL))
