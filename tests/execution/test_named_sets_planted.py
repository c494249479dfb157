"""Sets from files on a model whose truth is known: causal neurons have an effect beyond random sets, bystanders have none."""

import pytest
import torch

import workbench
from tests.plantings import CONCEPT, PLAIN, planting
from workbench.models import text
from workbench.neurons.sets import NeuronSet

SETS = """
[[sets]]
name = "causal"
file = "causal.safetensors"
[[sets]]
name = "bystanders"
file = "bystanders.safetensors"
[ablate]
effects = ["sets"]
groups = ["target"]
"""


@pytest.mark.parametrize("seed", [0, 7])
def test_causal_neurons_from_a_file_have_an_effect_and_bystanders_have_none(study_file, tmp_path, monkeypatch, seed):
    made = planting("bystanders", seed)

    def encode(model, prompts, prefix=None):
        """The planted concept for prompts that ask for ink, plain states for others."""
        return torch.cat([CONCEPT if "ink" in prompt else PLAIN for prompt in prompts])

    monkeypatch.setattr(text, "encode", encode)
    monkeypatch.setattr(text, "unconditional", lambda model: PLAIN)
    for name, members in (("causal", made.causal), ("bystanders", made.bystander)):
        found = NeuronSet.from_boolean(made.index, members, name, made.model.digest(), {"made": "planted"})
        found.save(study_file.with_name(f"{name}.safetensors"))
    before, _ = study_file.read_text().split("[[variants]]", 1)
    path = study_file.with_name("planted.toml")
    variant = '[[variants]]\nname = "erased"\nmethod = "esd"\nparameters = { iterations = 1, steps = 2, trajectories = 1, batch = 1 }\n'
    path.write_text(before + variant + '[record]\nsites = ["ff"]\ncalls = [0, 2]\n[choose]\nn_random = 19\nn_resamples = 100\n' + SETS)
    run = workbench.run(path, tmp_path / "r", model=made.model)
    rows = {row["neuron_set"]: row for row in run.document["set_ablation"]}
    causal, bystanders = rows["causal"], rows["bystanders"]
    assert causal["value"] < causal["random_low"] and causal["high"] < -0.5 and causal["p_random"] == pytest.approx(1 / 51)
    assert bystanders["random_low"] <= bystanders["value"] <= bystanders["random_high"] and abs(bystanders["value"]) < 0.02
    assert {row["n_neurons"] for row in rows.values()} == {int(made.causal.sum())} and {row["n_random"] for row in rows.values()} == {50}
