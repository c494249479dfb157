"""`workbench erase`: one eraser on one model, written as published checkpoints are and read back the same."""

import pytest
import torch
from typer.testing import CliRunner

from workbench.cli.main import app
from workbench.methods.erasers import uce
from workbench.models import load, masks
from workbench.registry import method


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


@pytest.fixture(scope="module")
def base(tiny_folder):
    return load.load(str(tiny_folder))


def test_a_closed_form_edit_is_written_and_read_back_the_same(tiny_folder, base, tmp_path):
    done = run("erase", "uce", "--model", tiny_folder, "--concept", "owl in ink style", "--anchor", "owl", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    path = tmp_path / "out" / "partial.safetensors"
    reader = method("erasers", "from_checkpoint")
    found = reader.call(base, [], reader.parameters(path=str(path)), folder=tmp_path)
    expected = uce.erase(base, [("owl in ink style", "owl")], uce.Parameters())
    assert set(found) == set(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_trained_eraser_takes_settings_pairs_and_a_preset(tiny_folder, tmp_path):
    (tmp_path / "pairs.csv").write_text("prompt,anchor\nowl in ink style,owl\ncat in ink,cat\n")
    words = (
        "--model",
        tiny_folder,
        "--pairs",
        tmp_path / "pairs.csv",
        "--set",
        "iterations=2",
        "--set",
        "steps=3",
        "--set",
        "trajectories=2",
    )
    done = run("erase", "esd", *words, "--preset", "published", "--kind", "style", "--out", tmp_path / "esd")
    assert done.exit_code == 0, done.output
    from safetensors import safe_open

    with safe_open(tmp_path / "esd" / "partial.safetensors", "pt") as file:
        assert all(".attn2." in name and not name.startswith("unet.") for name in file.keys())  # noqa: SIM118 - no dict
        assert '"iterations": 2' in file.metadata()["workbench"] and '"form": "concept"' in file.metadata()["workbench"]


def test_a_mask_is_written_as_a_mask(tiny_folder, tmp_path):
    words = ("--concept", "owl in ink style", "--anchor", "owl", "--set", "steps=3", "--set", "calls=2", "--set", "skill_ratio=0.1")
    done = run("erase", "conceptprune", "--model", tiny_folder, *words, "--out", tmp_path / "mask")
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    found, about = masks.load(tmp_path / "mask" / "mask.safetensors")
    assert masks.count(found) and about["variant"] == "conceptprune"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("uce",), "Say what to erase"),
        (("uce", "--concept", "ink", "--pairs", "p.csv"), "Say what to erase"),
        (("uces", "--concept", "ink"), "uce"),
        (("uce", "--concept", "ink", "--set", "ridge=-1"), "ridge"),
        (("uce", "--concept", "ink", "--set", "ridge"), "no assignment"),
        (("prune_neurons", "--concept", "ink"), "needs what a study finds"),
        (("magnitude", "--concept", "ink"), "needs what a study finds"),
        (("uce", "--concept", "ink", "--preset", "publish"), "preset"),
    ],
)
def test_what_cannot_be_is_said(tiny_folder, tmp_path, words, said):
    done = run("erase", *words, "--model", tiny_folder, "--out", tmp_path / "out")
    assert done.exit_code and said in f"{done.output}{done.exception}" and not (tmp_path / "out").exists()


def test_nothing_is_replaced(tiny_folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("x")
    done = run("erase", "uce", "--model", tiny_folder, "--concept", "ink", "--out", tmp_path / "out")
    assert done.exit_code and "nothing is replaced" in str(done.exception) and (tmp_path / "out" / "kept").read_text() == "x"


def test_added_modules_are_written_as_recelers_files_and_looked_at(tiny_folder, tmp_path):
    small = [word for one in ("iterations=1", "steps=3", "trajectories=2", "rank=2") for word in ("--set", one)]
    words = ("--concept", "owl in ink style", "--anchor", "owl", *small, "--out", tmp_path / "out")
    done = run("erase", "receler", "--model", tiny_folder, *words)
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"eraser_weights.pt", "eraser_config.json"}
    seen = run("inspect", tmp_path / "out", "--model", tiny_folder)
    assert seen.exit_code == 0 and "modules added behind cross-attention, rank 2" in seen.output
    assert '"usable": true' in run("inspect", tmp_path / "out", "--model", tiny_folder, "--json").output


def test_membranes_are_written_as_spms_file(tiny_folder, tmp_path):
    small = [word for one in ("iterations=1", "steps=3", "trajectories=2") for word in ("--set", one)]
    words = ("--concept", "owl in ink style", "--anchor", "owl", *small, "--out", tmp_path / "owl")
    done = run("erase", "spm", "--model", tiny_folder, *words)
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    assert [path.name for path in (tmp_path / "owl").iterdir()] == ["owl_last.safetensors"]
    seen = run("inspect", tmp_path / "owl" / "owl_last.safetensors", "--model", tiny_folder)
    assert "SPM as plain LoRA" in " ".join(seen.output.split())


def test_a_rule_of_guidance_has_no_file(tiny_folder, tmp_path):
    done = run("erase", "sld", "--model", tiny_folder, "--concept", "ink", "--set", 'concept="ink"', "--out", tmp_path / "out")
    assert "is a rule of guidance" in str(done.exception) and not (tmp_path / "out").exists()
    done = run("erase", "safree", "--model", tiny_folder, "--concept", "ink", "--set", 'concept="ink"', "--out", tmp_path / "out")
    assert "is a prompt transform" in str(done.exception) and not (tmp_path / "out").exists()
