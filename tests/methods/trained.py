"""What holds for every eraser that trains weights: a killed training continues, and what it wrote is read back."""

import pytest
import torch
from typer.testing import CliRunner

from workbench import registry
from workbench.cli.main import app
from workbench.methods.erasers import _training
from workbench.models import load


def continues(monkeypatch, method, model, pairs, parameters, **options):
    """Kill a training of four steps after the second: it goes to the same weights, and its log is whole."""
    monkeypatch.setattr(_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(_training, "KEEPING", 0.0)
    saved, whole = {}, method.call(model, pairs, parameters, **options)

    def keep(name, state):
        saved[name] = {key: {n: v.clone() for n, v in value.items()} if key == "weights" else value for key, value in state.items()}
        if state["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.call(model, pairs, parameters, keep=keep, **options)
    log = []
    again = method.call(model, pairs, parameters, kept=saved.get, log=log, **options)
    assert all(torch.equal(again[name], value) for name, value in whole.items()) and [step for step, _ in log] == [1, 2, 3, 4]


def comes_back(method, small, tiny_folder, tmp_path, least):
    """`workbench erase` writes at least so many tensors, and `from_checkpoint` reads what the method gave."""
    words = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    given = ["erase", method.name, "--model", str(tiny_folder), "--concept", "owl in ink style", "--anchor", "owl", *words]
    done = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    base, reader = load.load(str(tiny_folder)), registry.method("erasers", "from_checkpoint")
    found = reader.call(base, [], reader.parameters(path=str(tmp_path / "out" / "partial.safetensors")), folder=tmp_path)
    made = method.call(base, [("owl in ink style", "owl")], method.parameters(**small))
    assert found.keys() <= made.keys() and all(torch.equal(value, made[name]) for name, value in found.items()) and len(found) > least
