"""A study whose variant is somebody else's checkpoint; the verb that says what a file is."""

import json

import torch
from typer.testing import CliRunner

from tests import tiny
from workbench.cli import main
from workbench.execution import execute
from workbench.models.variants import applied

VARIANT = """
[[variants]]
name = "theirs"
method = "from_checkpoint"
parameters = { path = "esd.pt" }
"""
NAME = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"


def test_a_checkpoint_is_a_variant_and_belongs_to_its_key(study_file, tmp_path):
    text = study_file.read_text()
    path = study_file.parent / "theirs.toml"
    path.write_text(text[: text.index("[[variants]]")] + VARIANT + text[text.index("[record]") :])
    keys = []
    for factor in (0.5, 0.25):
        unet = tiny.pipeline().unet.state_dict()
        unet[NAME] = unet[NAME] * factor
        torch.save({"unet": unet}, study_file.parent / "esd.pt")
        plan, workspace = execute.prepare(path, tmp_path / "run")
        execute.run_nodes(workspace, [plan.node("erase:theirs")])
        keys.append(plan.node("erase:theirs").key)
        assert set(workspace.variant("theirs").weights) == {f"unet.{NAME}"}
        before = workspace.model.parameters()[f"unet.{NAME}"].detach().clone()
        with applied(workspace.model, workspace.variant("theirs")):
            assert torch.equal(workspace.model.parameters()[f"unet.{NAME}"], before * factor)
    assert keys[0] != keys[1]


def test_the_command_line_says_what_a_checkpoint_is(tiny_folder, tmp_path):
    unet = tiny.pipeline().unet.state_dict()
    torch.save({"unet": {NAME: unet[NAME] * 0.5}}, tmp_path / "esd.pt")
    done = CliRunner().invoke(main.app, ["inspect", str(tmp_path / "esd.pt"), "--model", str(tiny_folder)])
    assert done.exit_code == 0 and 'method = "from_checkpoint"' in done.output and "1 tensors fit" in done.output
    torch.save({"unet": unet}, tmp_path / "same.pt")
    done = CliRunner().invoke(main.app, ["inspect", str(tmp_path / "same.pt"), "--model", str(tiny_folder), "--json"])
    told = json.loads(done.output)
    assert not told["usable"] and "nothing was erased" in told["reason"] and told["complete"] == ["unet"]
