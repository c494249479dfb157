"""`workbench inspect` as a user meets it: what can be told apart in 80 columns, a path that works, an exit code that tells."""

import json
import re
import tomllib

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.models import given
from workbench.cli import main
from workbench.cli import output as output
from workbench.errors import WorkbenchError
from workbench.models import load
from workbench.registry import method


@pytest.fixture
def told(still, monkeypatch):
    """told(path, *more) -> (exit code, output in 80 columns) of the verb on the tiny model."""
    monkeypatch.setattr(load, "load", lambda name, *more: still)
    monkeypatch.setattr(output.console, "width", 80, raising=False)
    monkeypatch.setattr(output.console, "_width", 80)

    def run(path, *more):
        done = CliRunner().invoke(main.app, ["inspect", str(path), "--model", "tiny", *map(str, more)], catch_exceptions=False)
        return done.exit_code, done.output

    return run


def suggested(output):
    """The parameters that the verb suggests, read as a study file reads them."""
    return tomllib.loads(
        re.search(r"^As a variant of a study: (method = .*), parameters = (\{.*\})$", output, re.MULTILINE).expand(r"\1\np = \2")
    )


def test_parameters_can_be_told_apart_in_80_columns(told, own, tmp_path):
    save_file({name: value for name, value in given.moved(own, lambda n: True).items() if ".attn" in name}, tmp_path / "esd.safetensors")
    code, output = told(tmp_path / "esd.safetensors")
    assert code == 0 and max(map(len, (line for line in output.splitlines() if line.startswith(("│", "┃"))))) <= 80
    cells = [line.split("│")[1].strip() for line in output.splitlines() if line.startswith("│")]
    names = [cell for cell in cells if "…" in cell or ".attn" in cell]
    assert len(names) == 12 == len(set(names)) and all(".attn" in name for name in names)


def test_names_are_shortened_in_the_middle_and_stay_distinct():
    blocks = [
        f"{stage}.{b}.attentions.{a}.transformer_blocks.0" for stage in ("down_blocks", "up_blocks") for b in range(4) for a in range(3)
    ]
    names = [f"unet.{block}.{leaf}" for block in blocks for leaf in ("attn2.to_k.weight", "attn2.to_v.weight", "ff.net.0.proj.weight")]
    for width in (20, 30, 45, 60):
        short = output.shortened(names, width)
        assert len(set(short)) == len(names)
        if width >= 45:
            assert max(map(len, short)) <= width
    assert output.shortened(names, 45)[0] == "unet.down_blocks.0…0…0.attn2.to_k.weight"
    assert output.shortened(names, 200) == names
    assert output.shortened(["a" * 50 + "1" + "b" * 50, "a" * 50 + "2" + "b" * 50], 20) == [
        "a" * 50 + "1" + "b" * 50,
        "a" * 50 + "2" + "b" * 50,
    ]
    assert output.shortened([], 10) == [] and output.shortened(["same" * 20] * 2, 20)[0].startswith("samesame")


def test_the_suggested_path_works_from_where_the_study_will_lie(told, own, tmp_path, monkeypatch):
    folder = tmp_path / 'it\'s "mine" \\ here'
    folder.mkdir()
    save_file(given.moved(own), folder / "esd.safetensors")
    monkeypatch.chdir(folder)
    code, output = told("esd.safetensors")
    given_back = suggested(output)
    assert code == 0 and given_back["method"] == "from_checkpoint" and "The path is absolute" in output
    one = method("erasers", "from_checkpoint")
    one.module.check(one.parameters(**given_back["p"]), load.load("tiny"), folder=tmp_path / "studies")


def test_a_multiplier_is_used_and_suggested(told, own, tmp_path):
    save_file(given.peft(given.halves(own), "unet."), tmp_path / "lora.safetensors")
    code, output = told(tmp_path / "lora.safetensors", "--multiplier", "-1")
    assert code == 0 and suggested(output)["p"]["multiplier"] == -1 and "Each counts -1 times" in output
    assert json.loads(told(tmp_path / "lora.safetensors", "--json")[1])["factors"] == [1.0]


def spm_file(path, **said):
    """SPM's file of one membrane, with its header."""
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{layer}.lora_down.weight": torch.ones(1, 32), f"{layer}.lora_up.weight": torch.ones(32, 1)}
    tensors[f"{layer}.alpha"] = torch.tensor(1.0)
    save_file(tensors, path, {"prompts": "ink style,lineart", "rank": "1", "alpha": "1.0"} | said)
    return path


def test_the_file_of_spm_is_called_so_and_suggested_with_its_own_strength(told, still, tmp_path):
    path = spm_file(tmp_path / "ink_last.safetensors")
    code, output = told(path)
    words = " ".join(output.split())
    assert code == 0 and 'SPM: prompts "ink style", "lineart", rank 1, alpha 1, 1 layers, strength computed from the prompt' in words
    assert "SPM as plain LoRA" in words and "As a variant of a study, as a plain LoRA: method" in words
    own = re.search(r"^As a variant of a study, SPM: (method = .*), parameters = (\{.*\})$", output, re.MULTILINE)
    given_back = tomllib.loads(own.expand(r"\1\np = \2"))
    one = method("erasers", given_back["method"])
    change = one.call(still, [], one.parameters(**given_back["p"]), folder=tmp_path)
    assert change.kind == "membrane" and change.settings["prompts"] == ["ink style", "lineart"]
    about = json.loads(told(path, "--json")[1])["spm"]
    assert about == {"prompts": ["ink style", "lineart"], "rank": 1, "alpha": 1.0, "layers": 1, "usable": True, "reason": None} | {
        "strength": "computed from the prompt"
    }


def test_a_file_of_spm_that_has_no_strength_of_its_own_says_why(told, tmp_path):
    code, output = told(spm_file(tmp_path / "ink_last.safetensors", prompts=","))
    assert (
        code == 0
        and "not usable at SPM's own strength" in output
        and "there are none" in " ".join(output.split())
        and "transport = true" not in output
    )
    other = given.peft({"mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (torch.ones(1, 32), torch.ones(32, 1))})
    save_file(other, tmp_path / "x.safetensors")
    assert json.loads(told(tmp_path / "x.safetensors", "--json")[1])["spm"] is None


def test_what_a_header_declares_is_shown_as_declared(told, own, tmp_path):
    part = {name: value for name, value in given.moved(own).items() if given.key_value(name)}
    declared = {
        "family": "sd",
        "component": "unet",
        "base_model_id": "CompVis/stable-diffusion-v1-4",
        "train_method": "esd-x",
        "erase_concept": "Van Gogh",
        "erase_from": "Van Gogh",
        "guidance": "3",
        "format": "pt",
        "ss_tag_frequency": "{" + "x" * 5000,
        "long": "y" * 5000,
    }
    save_file(part, tmp_path / "esd.safetensors", declared)
    code, output = told(tmp_path / "esd.safetensors")
    assert code == 0 and "Declared by the file, not checked:" in output
    assert "base_model_id = CompVis/stable-diffusion-v1-4" in output and "erase_concept = Van Gogh" in output
    assert (
        "ss_tag" not in output
        and "y" * 200 not in output
        and "format" not in json.loads(told(tmp_path / "esd.safetensors", "--json")[1])["declared"]
    )
    save_file({"transformer.x.weight": torch.ones(2)}, tmp_path / "flux.safetensors", {"base_model_id": "black-forest-labs/FLUX.1-dev"})
    code, output = told(tmp_path / "flux.safetensors")
    assert code == 2 and 'It declares that it was made from "black-forest-labs/FLUX.1-dev"' in output


BAD = {
    "nan.safetensors": lambda own: own | {"conv_in.bias": own["conv_in.bias"] * float("nan")},
    "int8.safetensors": lambda own: {name: value.to(torch.int8) for name, value in own.items()},
    "same.safetensors": lambda own: own,
    "shape.safetensors": lambda own: {"conv_in.bias": torch.ones(3)},
    "other.safetensors": lambda own: {"layer": torch.ones(3)},
    "more.safetensors": lambda own: given.moved(own) | {"layer": torch.ones(3)},
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_a_variant_ends_with_exit_code_two(told, own, tmp_path, name):
    save_file({key: value.clone() for key, value in BAD[name](own).items()}, tmp_path / name)
    code, output = told(tmp_path / name)
    assert code == 2 and "Not usable as a variant:" in output and "As a variant of a study" not in output
    code, output = told(tmp_path / name, "--json")
    about = json.loads(output, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert code == 2 and not about["usable"] and about["reason"]


def test_numbers_that_are_not_finite_are_listed_per_tensor(told, own, tmp_path):
    bad = given.moved(own)
    bad["conv_in.bias"][:3] = float("nan")
    bad["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"][0, 0] = float("inf")
    save_file(bad, tmp_path / "x.safetensors")
    code, output = told(tmp_path / "x.safetensors")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    assert code == 2 and ["conv_in.bias", "3", "0", "0"] in rows and ["mid_block…0…0.attn2.to_k.weight", "0", "1", "0"] in rows
    about = json.loads(told(tmp_path / "x.safetensors", "--json")[1])
    assert {"parameter": "unet.conv_in.bias", "nan": 3, "inf": 0, "overflow": 0} in about["not_finite"]


def test_added_token_rows_are_written_for_the_import(told, tmp_path):
    state, rows = given.text_encoder(added=1)
    torch.save(state, tmp_path / "te.pt")
    code, output = told(tmp_path / "te.pt")
    assert code == 2 and "--embeddings tokens.safetensors, then: workbench import-prompts tokens.safetensors" in output.replace("\n", " ")
    out = tmp_path / "tokens.safetensors"
    code, output = told(tmp_path / "te.pt", "--embeddings", out)
    from workbench.study.imports.embeddings import read_embeddings

    assert code == 2 and f"workbench import-prompts {out}" in output.replace("\n", "") and list(read_embeddings(out).vectors) == ["added-1"]
    for bad in (out, tmp_path / "tokens.pt"):
        with pytest.raises(WorkbenchError, match="give a new file whose name ends in .safetensors; nothing is replaced"):
            told(tmp_path / "te.pt", "--embeddings", bad)


def test_an_empty_path_and_the_folder_of_the_study_are_no_checkpoint(still, tmp_path):
    one = method("erasers", "from_checkpoint")
    for name in ("from_checkpoint", "mask_from_file"):
        key = "path" if name == "from_checkpoint" else "file"
        with pytest.raises(ValueError, match="it is empty"):
            method("erasers", name).parameters(**{key: ""})
    with pytest.raises(WorkbenchError, match="is no checkpoint folder"):
        one.module.check(one.parameters(path="."), still, folder=tmp_path)


def test_the_check_of_the_dry_run_tells_what_applying_would(still, own, tmp_path, monkeypatch):
    one = method("erasers", "from_checkpoint")
    for name, make in BAD.items():
        save_file({key: value.clone() for key, value in make(own).items()}, tmp_path / name)
        reasons = []
        for call in (lambda p: one.module.check(p, still, tmp_path), lambda p: one.call(still, [], p, folder=tmp_path)):
            with pytest.raises(WorkbenchError) as error:
                call(one.parameters(path=name))
            reasons.append(str(error.value))
        assert reasons[0] == reasons[1]
    before = {name: value.clone() for name, value in still.parameters().items()}
    save_file(given.moved(own), tmp_path / "good.safetensors")
    one.module.check(one.parameters(path=str(tmp_path / "good.safetensors")), still)
    one.module.check(one.parameters(path="more.safetensors", allow_unexpected=True), still, tmp_path)
    assert all(torch.equal(before[name], value) for name, value in still.parameters().items())
    from workbench.models.formats import container

    monkeypatch.setattr(container, "contents", lambda path: pytest.fail("weights were read"))
    for name in ("int8.safetensors", "shape.safetensors", "other.safetensors", "more.safetensors"):
        with pytest.raises(WorkbenchError):
            one.module.check(one.parameters(path=name), still, tmp_path)
