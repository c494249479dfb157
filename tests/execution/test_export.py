"""A variant leaves the workbench and comes back: diffusers folders, partial files, masks; the verbs of the command line."""

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

import workbench
from tests.reference import same_bits
from workbench.cli import main
from workbench.diffusion.denoise import denoise
from workbench.errors import MethodError, ModelError, RunError, StudyError
from workbench.execution import execute, export
from workbench.execution.open_run import open_run
from workbench.models import load, masks, text
from workbench.models.variants import applied
from workbench.storage import file_digest, read_arrays, read_metadata

NEW = """
[[variants]]
name = "taken"
method = "mask_from_file"
parent = "erased"
role = "pruned"
parameters = { file = "m/mask.safetensors" }
"""


@pytest.fixture(scope="module")
def workspace(study_file, tmp_path_factory):
    """The tiny study with its two variants made, and nothing measured."""
    plan, workspace = execute.prepare(study_file, tmp_path_factory.mktemp("runs") / "tiny")
    wanted = [f"{stage}:base:{name}" for stage in ("generate", "record") for name in ("target", "reference")]
    execute.run_nodes(workspace, [plan.node(name) for name in (*wanted, "score", "erase:erased", "erase:pruned")])
    return workspace


@pytest.fixture(scope="module")
def finished(workspace):
    """The run that has them."""
    return open_run(workspace.store.folder)


def weights(model):
    return {name: p.detach().clone() for name, p in model.parameters().items()}


def sampled(pipe):
    generator = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    return pipe(["owl in ink", "cat in ink"], generator=generator, num_inference_steps=3, guidance_scale=2.0, output_type="np").images


def test_an_exported_folder_loads_with_plain_diffusers_and_draws_the_same_images(finished, workspace, tmp_path):
    from diffusers import StableDiffusionPipeline

    path, about = export.export(finished.folder, "pruned", "diffusers", tmp_path / "out")
    there = StableDiffusionPipeline.from_pretrained(path)
    own = load.pipeline(workspace.study.model.base)
    change = workspace.variant("pruned")
    with applied(workspace.model, change):
        expected = weights(workspace.model)
        with torch.no_grad():
            states, empty = text.encode(workspace.model, ["owl in ink"]), text.unconditional(workspace.model)
        final, _ = denoise(workspace.model, states, empty, [1], n_steps=3, guidance=2.0)
        pictures = workspace.model.decode(final)
    base, parameters = sampled(own), dict(own.unet.named_parameters())
    with torch.no_grad():
        for name in {*change.weights, *change.masks}:
            parameters[name.removeprefix("unet.")].copy_(expected[name])
    images = sampled(there)
    assert (images == sampled(own)).all() and not (images == base).all()
    assert same_bits(weights(load.from_pipeline(there, "there")), expected)
    again = load.load(str(path))
    with torch.no_grad():
        back, _ = denoise(again, text.encode(again, ["owl in ink"]), text.unconditional(again), [1], n_steps=3, guidance=2.0)
    assert torch.equal(again.decode(back), pictures)
    written = json.loads((path / "workbench.json").read_text())
    assert written == json.loads(json.dumps(about)) and written["pruned"] == masks.count(change.masks) > 0
    assert [part["name"] for part in written["made_by"]] == ["erased", "pruned"] and "zeros show" in written["warning"]


def test_noise_fills_the_zeros_and_nothing_else(finished, workspace, tmp_path):
    change = workspace.variant("pruned")
    path, about = export.export(finished.folder, "pruned", "partial", tmp_path / "zeros")
    other, filled = export.export(finished.folder, "pruned", "partial", tmp_path / "noise", "noise", 7)
    again, _ = export.export(finished.folder, "pruned", "partial", tmp_path / "again", "noise", 7)
    zeros, noise = read_arrays(path), read_arrays(other)
    assert same_bits(noise, read_arrays(again)) and filled["warning"] is None and about["warning"]
    assert zeros.keys() == noise.keys() == {name.removeprefix("unet.") for name in {*change.weights, *change.masks}}
    for name, mask in change.masks.items():
        a, b = (found[name.removeprefix("unet.")] for found in (zeros, noise))
        assert (a[mask] == 0).all() and (b[mask] != 0).all() and torch.equal(a[~mask], b[~mask])
    assert json.loads(read_metadata(other)["workbench"])["seed"] == 7


def test_an_exported_mask_is_a_variant_of_another_study(finished, workspace, study_file, tmp_path):
    shutil.rmtree(study_file.parent / "m", ignore_errors=True)
    export.export(finished.folder, "pruned", "mask", study_file.parent / "m")
    path = study_file.parent / "taken.toml"
    content = study_file.read_text()
    path.write_text(content[: content.index("[[attacks]]")] + NEW + content[content.index("[record]") :])
    plan, other = execute.prepare(path, tmp_path / "run")
    nodes = [plan.node("erase:erased"), plan.node("erase:taken")]
    assert plan.node("erase:taken").parameters["files"] == {"m/mask.safetensors": file_digest(study_file.parent / "m/mask.safetensors")}
    execute.run_nodes(other, nodes)
    with applied(workspace.model, workspace.variant("pruned")), applied(other.model, other.variant("taken")):
        assert same_bits(weights(workspace.model), weights(other.model))
    found, about = masks.load(study_file.parent / "m/mask.safetensors")
    masks.save(study_file.parent / "m/mask.safetensors", found, about | {"base_digest": "0" * 64})
    plan, other = execute.prepare(path, tmp_path / "run")
    with pytest.raises(MethodError, match="set any_base = true"):
        execute.run_nodes(other, [plan.node("erase:erased"), plan.node("erase:taken")])
    loose = workbench.load_study(path).with_values(["variants.2.parameters.any_base=true"])
    plan, other = execute.prepare(loose, tmp_path / "run")
    execute.run_nodes(other, [plan.node("erase:taken")])
    masks.save(study_file.parent / "m/mask.safetensors", {"unet.conv_in.bias": torch.ones(3, dtype=torch.bool)}, {})
    with pytest.raises(ModelError, match="variant taken: .*of its 1 layers 0 fit"):
        execute.prepare(path, tmp_path / "run")
    (study_file.parent / "m/mask.safetensors").unlink()
    with pytest.raises(StudyError, match="was not found"):
        execute.prepare(path, tmp_path / "run")


def test_what_cannot_be_exported_is_told(finished, tmp_path):
    with pytest.raises(RunError, match='Did you mean "pruned"'):
        export.export(finished.folder, "prune", "mask", tmp_path / "a")
    with pytest.raises(ModelError, match="prunes nothing"):
        export.export(finished.folder, "erased", "mask", tmp_path / "b")
    with pytest.raises(RunError, match="--fill is for"):
        export.export(finished.folder, "pruned", "mask", tmp_path / "b", "noise")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="nothing is replaced"):
        export.export(finished.folder, "pruned", "partial", tmp_path / "c")


def command(*words):
    done = CliRunner().invoke(main.app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_masks_on_the_command_line(finished, tiny_folder, tmp_path):
    command("export", finished.folder, "--variant", "pruned", "--as", "mask", "--out", tmp_path / "m")
    one = tmp_path / "m" / "mask.safetensors"
    n = masks.count(masks.load(one)[0])
    assert f"{n} weights" in command("mask", "show", one)
    command("mask", "invert", one, "--out", tmp_path / "inverse.safetensors")
    command("mask", "combine", one, tmp_path / "inverse.safetensors", "--how", "union", "--out", tmp_path / "all.safetensors")
    rows = json.loads(command("mask", "compare", one, tmp_path / "all.safetensors", "--json"))
    assert rows[-1]["layer"] == "all layers" and rows[-1]["both"] == n == rows[-1]["first"] and rows[0]["chance_low"] is not None
    command("mask", "apply", tiny_folder, one, "--out", tmp_path / "cut", "--fill", "noise", "--undo", tmp_path / "undo.safetensors")
    command("mask", "undo", tmp_path / "cut", tmp_path / "undo.safetensors", "--out", tmp_path / "back")
    base, cut, back = (load.load(str(folder)).digest() for folder in (tiny_folder, tmp_path / "cut", tmp_path / "back"))
    assert base == back != cut
    assert "Warning" in command("mask", "apply", tiny_folder, one, "--out", tmp_path / "cut2")


def test_mistakes_on_the_command_line_are_told(finished, tmp_path):
    from workbench.errors import WorkbenchError

    with pytest.raises(WorkbenchError, match='Did you mean "diffusers"'):
        command("export", finished.folder, "--variant", "pruned", "--as", "difusers", "--out", tmp_path / "m")
    with pytest.raises(ModelError, match="There is no mask file"):
        command("mask", "show", tmp_path / "none.safetensors")
    masks.save(tmp_path / "a.safetensors", {"unet.conv_in.bias": torch.ones(16, dtype=torch.bool)}, {})
    with pytest.raises(WorkbenchError, match="would prune nothing"):
        command("mask", "combine", tmp_path / "a.safetensors", tmp_path / "a.safetensors", "--how", "difference", "--out", tmp_path / "b")
    with pytest.raises(WorkbenchError, match="nothing is replaced"):
        command("mask", "invert", tmp_path / "a.safetensors", "--out", tmp_path / "a.safetensors")
