"""A variant whose numbers are not finite stops the run where they arise, before an attack or a detector works on them."""

import dataclasses

import pytest
import torch

from tests import tiny
from workbench.errors import MethodError, ModelError
from workbench.execution import execute
from workbench.execution.run_folder import Store
from workbench.execution.workspace import Workspace
from workbench.methods.detectors import Detector, check_images
from workbench.methods.erasers import esd
from workbench.models.load import from_pipeline
from workbench.storage import read_json
from workbench.study.study import load_study

THEIRS = """
[[variants]]
name = "theirs"
method = "from_checkpoint"
parameters = { path = "theirs.pt" }
[[attacks]]
method = "embedding_pgd"
against = ["theirs"]
parameters = { iterations = 2, looks = 2 }
"""
LAST, FIRST = "unet.conv_out.weight", "unet.conv_in.weight"
VALUE = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"


@pytest.fixture
def theirs(study_file):
    """A study with one variant of somebody else's, which changes very little, and an attack on it."""
    unet = tiny.pipeline().unet.state_dict()
    name = VALUE.removeprefix("unet.")
    torch.save({"unet": unet | {name: unet[name] * 0.5}}, study_file.parent / "theirs.pt")
    text = study_file.read_text()
    path = study_file.parent / "theirs.toml"
    path.write_text(text[: text.index("[[variants]]")] + THEIRS + text[text.index("[record]") :])
    return load_study(path)


@pytest.fixture
def broken(monkeypatch, theirs, tmp_path):
    """broken(name, factor) -> (the error a run ends with when a weight of the variant is multiplied by a factor, {node: state})."""

    def call(name, factor):
        own = Workspace.variant

        def changed(workspace, asked):
            given = own(workspace, asked)
            if asked != "theirs":
                return given
            weight = given.weights.get(name, workspace.model.parameters()[name].detach())
            return dataclasses.replace(given, weights=given.weights | {name: weight * factor})

        monkeypatch.setattr(Workspace, "variant", changed)
        with pytest.raises(ModelError) as error:
            execute.run(theirs, tmp_path / "run")
        nodes = {node["id"]: node["state"] for node in Store(tmp_path / "run").manifest()["nodes"]}
        return str(error.value), nodes

    return call


@pytest.mark.parametrize(("name", "factor"), [(VALUE, torch.nan), (LAST, 1e38), (FIRST, torch.inf)])
def test_images_that_are_not_finite_stop_the_run_before_attacks_and_detectors(broken, tmp_path, name, factor):
    said, nodes = broken(name, factor)
    assert 'The variant "theirs" makes images that hold NaN or infinity: 3 of 3 images of the prompt set "target".' in said
    assert "No detector can judge such an image, so the run stops here. Check its checkpoint: workbench inspect theirs.pt" in said
    assert nodes["generate:theirs:target"] == "failed" and nodes["detect:theirs:target"] == "waiting"
    assert nodes["attack:embedding_pgd@theirs"] == "waiting" and nodes["erase:theirs"] == "done"
    status = read_json(tmp_path / "run" / "status.json")
    assert status["state"] == "stopped" and status["node"] == "generate:theirs:target" and status["error"] == said


def test_the_base_model_is_named_as_such(monkeypatch, theirs, tmp_path):
    whole = from_pipeline(tiny.pipeline(), "tiny")
    whole.vae.decoder.conv_out.weight.data[:] = torch.nan
    with pytest.raises(ModelError, match=r"The base model makes images that hold NaN .* Check the files of the base model, "):
        execute.run(theirs, tmp_path / "run", model=whole)


def test_a_narrow_number_format_is_the_first_thing_to_change(theirs, tmp_path):
    whole = from_pipeline(tiny.pipeline(), "tiny", dtype=torch.bfloat16)
    whole.unet.conv_out.weight.data *= 1e38
    with pytest.raises(ModelError, match=r"Numbers overflow easily in bfloat16: set model.dtype to float32. If that does not help, check"):
        execute.run(theirs, tmp_path / "run", model=whole)


def test_activations_that_are_not_finite_are_named_with_their_layer(theirs, tmp_path):
    """Recorded on the base model's own latents, so that images may be sound where activations are not."""
    plan, workspace = execute.prepare(theirs, tmp_path / "run")
    wanted = ["generate:base:target", "generate:base:reference", "erase:theirs"]
    execute.run_nodes(workspace, [plan.node(name) for name in wanted])
    own = workspace.variant("theirs")
    norm = "unet.mid_block.attentions.0.transformer_blocks.0.norm3.weight"
    for factor in (torch.nan, 1e12):
        weights = own.weights | {norm: workspace.model.parameters()[norm].detach() * factor}
        workspace._variants["theirs"] = dataclasses.replace(own, weights=weights)
        with pytest.raises(ModelError) as error:
            execute.run_nodes(workspace, [plan.node("record:theirs:target")])
        said = str(error.value)
        assert 'The variant "theirs" has activations that are not finite, on the prompt set "target": in ' in said
        assert 'layers, first in "' in said and "workbench inspect theirs.pt" in said
    assert not Store(tmp_path / "run").has("record", plan.node("record:theirs:target").shards[0].key)


def test_an_eraser_whose_training_diverged_is_refused(study_file, tmp_path, monkeypatch):
    plan, workspace = execute.prepare(load_study(study_file), tmp_path / "run")
    execute.run_nodes(workspace, [plan.node("generate:base:target")])
    real = esd.erase

    def diverged(*args, **context):
        return {name: value * torch.inf for name, value in real(*args, **context).items()}

    monkeypatch.setattr(esd, "erase", diverged)
    with pytest.raises(
        MethodError, match=r'The eraser esd of the variant "erased" made weights that hold NaN or infinity: \d+ of \d+ tensors'
    ):
        execute.run_nodes(workspace, [plan.node("erase:erased")])


def judge(network):
    return Detector("judge", "1", ["ink"], {"ink": 0.5}, network)


def test_a_detector_never_judges_an_image_that_is_not_finite():
    images = torch.rand(4, 3, 8, 8)
    images[1, 0, 0, 0], images[3] = torch.nan, torch.inf
    asked = []
    detector = judge(lambda part: asked.append(part) or part.flatten(1)[:, :1])
    for call in (
        detector.probabilities,
        lambda i: detector.present(i, ["ink"]),
        lambda i: detector.present_at(i, ["ink"], [0.5]),
        check_images,
    ):
        with pytest.raises(MethodError, match="2 of 4 images hold NaN or infinity, so no detector can judge them"):
            call(images)
    assert not asked


def test_a_detector_that_answers_with_nan_is_broken_itself():
    with pytest.raises(MethodError, match=r"The detector judge gave no finite probability for 1 of 2 images.*\[detectors\]"):
        judge(lambda part: torch.tensor([[0.5], [torch.nan]])).present(torch.rand(2, 3, 8, 8), ["ink"])


def test_infinity_does_not_pass_for_white(model):
    latents = torch.randn(2, *model.latent_shape)
    latents[1, 0, 0, 0] = torch.inf
    sound, not_sound = model.decode(latents)
    assert sound.isfinite().all() and not_sound.isnan().any()
    model.vae.decoder.conv_out.bias.data[:] = torch.inf
    assert model.decode(latents[:1]).isnan().all()
