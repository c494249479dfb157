"""Everything a study names is opened before work begins: detectors, checkpoints, masks, lists; and what weakens it is said."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

import workbench
from tests import tiny
from tests.methods.test_detectors_clip_zero_shot import clip_folder
from tests.methods.test_detectors_image_classifier import classifier_folder
from workbench import registry
from workbench.errors import MethodError, ModelError, PromptError, RunError, StudyError
from workbench.execution import execute, preflight

NAME = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"


def changed(study_file, *values):
    return workbench.load_study(study_file).with_values(values)


def refused(study, kind, message, out=None):
    with pytest.raises(kind, match=message):
        execute.prepare(study, out)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clip_folder(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return classifier_folder(tmp_path_factory.mktemp("resnet") / "resnet", "resnet")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('detectors.labels=["style:inc"]', 'detectors.steer: The detector emoji-steer has no label "style:inc". Did you mean "style:ink"'),
        ('detectors.labels=["style:ink", "church"]', 'detectors.steer: .* no label "church"'),
    ],
)
def test_a_label_that_the_detector_does_not_know_is_told(study_file, value, message):
    refused(changed(study_file, value), MethodError, message)


def test_an_expected_label_that_a_detector_does_not_know_is_told(study_file, tmp_path):
    near = tmp_path / "near.csv"
    near.write_text((study_file.parent / "near.csv").read_text().replace("style:fluent", "style:fluid", 1))
    message = 'detectors.steer: the column expect of prompts.near: .* no label "style:fluid". Did you mean "style:fluent"'
    refused(changed(study_file, f'prompts.near="{near}"'), MethodError, message)


def test_more_steps_than_the_model_was_trained_on_are_told_of_studies_and_variants(study_file, monkeypatch):
    from workbench.models import load

    real = load.load

    def short(*args, **kwargs):
        model = real(*args, **kwargs)
        model.scheduler.register_to_config(num_train_timesteps=50)
        return model

    monkeypatch.setattr(load, "load", short)
    refused(
        changed(study_file, "sampling.steps=51"),
        StudyError,
        "sampling.steps = 51, but the model was trained on 50 timesteps. Take at most 50",
    )
    refused(
        changed(study_file, "variants.0.parameters.steps=60"), StudyError, "variant erased: steps = 60, but the model was trained on 50"
    )


def variant(study_file, tmp_path, method, parameters):
    text = study_file.read_text()
    middle = f'[[variants]]\nname = "theirs"\nmethod = "{method}"\nparameters = {parameters}\n'
    path = tmp_path / "theirs.toml"
    path.write_text(text[: text.index("[[variants]]")] + middle + text[text.index("[record]") :])
    for name in ("target", "reference", "near"):
        shutil.copy(study_file.parent / f"{name}.csv", tmp_path)
    return workbench.load_study(path)


def test_a_module_that_checks_itself_is_asked_with_the_file_found_and_the_model(study_file, tmp_path, monkeypatch):
    unet = tiny.pipeline().unet.state_dict()
    torch.save({"unet": {NAME: unet[NAME] * 0.5}}, tmp_path / "esd.pt")
    study, asked = variant(study_file, tmp_path, "from_checkpoint", '{ path = "esd.pt" }'), []
    module = registry.method("erasers", "from_checkpoint").module

    def check(parameters, model):
        asked.append((parameters.path, model.name))
        raise ModelError("it does not fit")

    monkeypatch.setattr(module, "check", check, raising=False)
    monkeypatch.chdir(tmp_path.parent)
    refused(study, ModelError, "variant theirs: it does not fit")
    assert asked == [(str(tmp_path / "esd.pt"), study.model.base)]


def test_a_checkpoint_that_is_not_there_says_where_was_looked(study_file, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = variant(study_file, tmp_path, "from_checkpoint", '{ path = "esd.pt" }')
    places = f"{tmp_path}/esd.pt, .*/data/esd.pt, {tmp_path}/elsewhere/esd.pt"
    refused(study, StudyError, f'The file "esd.pt" was not found. Looked for {places}')


def test_attacks_from_files_are_opened(study_file, tmp_path):
    def attacked(name):
        attack = f'[{{method = "from_file", parameters = {{file = "{tmp_path / name}"}}}}]'
        return changed(study_file, f"attacks={attack}")

    save_file({"vectors": torch.zeros(1, 1, 8)}, tmp_path / "e.safetensors", {"tokens": '["<x>"]'})
    refused(attacked("e.safetensors"), PromptError, "attack from_file: .* has vectors of 8 channels, the text encoder of .* takes 32")
    (tmp_path / "list.csv").write_text("unit,prompt,guidance\nu0,owl,7.5\n")
    refused(attacked("list.csv"), PromptError, "attack from_file: .* asks for 7.5; a study .* here 2. Set sampling.guidance = 7.5")
    (tmp_path / "list.csv").write_text("unit,prompt\nu0, \n")
    refused(attacked("list.csv"), PromptError, "attack from_file: .* blank prompt")
    (tmp_path / "e.safetensors").write_bytes(b"x" * 20)
    refused(attacked("e.safetensors"), workbench.errors.WorkbenchError, "attack from_file: .* is damaged")


def test_a_column_of_guidance_is_refused_unless_all_rows_are_sampled_with_it(study_file, tmp_path):
    rows = (study_file.parent / "target.csv").read_text().splitlines()

    def target(values):
        lines = [f"{rows[0]},guidance", *(f"{row},{value}" for row, value in zip(rows[1:], values, strict=True))]
        (tmp_path / "target.csv").write_text("\n".join(lines) + "\n")
        return changed(study_file, f'prompts.target="{tmp_path / "target.csv"}"')

    refused(
        target([7.5] * 6), PromptError, "asks for 7.5; a study samples all rows with sampling.guidance, here 2. Set sampling.guidance = 7.5"
    )
    refused(target([2, 3, 2, 2, 2, 2]), PromptError, "asks for 2 values, e.g. 2 and 3.* Remove the column")
    refused(target(["-1"] * 6), PromptError, "asks for -1")
    refused(target(["high"] * 6), PromptError, "asks for high")
    assert execute.prepare(target(["2.0"] * 6))[0].n_units == 6


# detectors


def classifier(folder, **more):
    settings = "".join(f", {name} = {json.dumps(value)}" for name, value in more.items())
    labels = '{ "style:ink" = 0, "style:fluent" = 1 }'
    return f'detectors.judge={{ method = "image_classifier", model = "{folder}", labels = {labels}{settings} }}'


def test_a_detector_is_looked_for_beside_the_study_first_and_errors_say_where(study_file, resnet, tmp_path, monkeypatch):
    (tmp_path / "study").mkdir()
    for file in study_file.parent.iterdir():
        shutil.copy(file, tmp_path / "study")
    shutil.copytree(resnet, tmp_path / "study" / "judge")
    monkeypatch.chdir(tmp_path)
    study = changed(tmp_path / "study" / study_file.name, classifier("judge"))
    plan, workspace = execute.prepare(study)
    assert workspace.detector("judge").labels[0] == "style:ink"
    known = plan.node("detect:base:target").parameters["judge"]
    assert known["parameters"]["model"] == "judge"  # where it lies is in no key
    refused(
        changed(tmp_path / "study" / study_file.name, classifier("none")),
        ModelError,
        f'"none" is no folder with a config.json.* Looked for {tmp_path}/study/none, {tmp_path}/none',
    )


def test_a_folder_with_code_of_its_own_is_refused_and_nothing_of_it_runs(study_file, resnet, tmp_path, monkeypatch):
    folder = shutil.copytree(resnet, tmp_path / "remote")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageClassification": "modeling.Mine"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text("open('ran', 'w')\n")
    monkeypatch.chdir(tmp_path)
    message = "brings code of its own .auto_map in config.json, modeling.py.*never executed"
    refused(changed(study_file, classifier(folder)), ModelError, message)
    assert not (tmp_path / "ran").exists()


def test_weights_as_pickles_alone_are_refused_with_the_way_to_convert_them(study_file, resnet, tmp_path):
    folder = shutil.copytree(resnet, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    refused(
        changed(study_file, classifier(folder)), ModelError, "has a config.json, but no weights .model.safetensors.. Get the whole folder"
    )
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    refused(
        changed(study_file, classifier(folder)), ModelError, "weights as pytorch_model.bin alone, a file that can carry code.*save_file"
    )


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "config.json is damaged .not JSON"),
        ("config.json", "[]", "config.json is damaged: it holds a list"),
        ("config.json", '{"model_type": 3}', "could not be read as AutoModelForImageClassification"),
        ("model.safetensors", "x", "could not be read as AutoModelForImageClassification"),
        ("preprocessor_config.json", "{", "preprocessor_config.json is damaged"),
        ("preprocessor_config.json", '{"image_mean": [1], "do_normalize": true}', "preprocessor_config.json that cannot be used"),
        ("preprocessor_config.json", '{"image_mean": "x", "image_std": 3, "size": "x"}', "preprocessor_config.json that cannot be used"),
        ("preprocessor_config.json", "é", "is damaged|not UTF-8 text"),
    ],
)
def test_a_damaged_detector_folder_is_told_file_by_file(study_file, resnet, tmp_path, file, content, message):
    folder = shutil.copytree(resnet, tmp_path / "damaged")
    (folder / file).write_bytes(content.encode("latin-1"))
    refused(changed(study_file, classifier(folder)), ModelError, message)


def test_a_damaged_tokenizer_of_a_clip_folder_is_told(study_file, clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "clip")
    for name in ("tokenizer.json", "vocab.json"):
        if (folder / name).exists():
            (folder / name).write_text("{")
    prompts = 'positive = { "style:ink" = ["ink"], "style:fluent" = ["x"] }, negative = ["y"]'
    judge = f'{{ method = "clip_zero_shot", model = "{folder}", {prompts} }}'
    refused(changed(study_file, f"detectors.judge={judge}"), ModelError, "tokenizer that cannot be read")


def test_the_clip_model_for_scores_is_opened_too(study_file, tmp_path, clip):
    refused(
        changed(study_file, 'quality.clip="none"'),
        ModelError,
        f'"none" is no folder with a config.json. Looked for {study_file.parent}/none',
    )
    folder = shutil.copytree(clip, tmp_path / "clip")
    (folder / "preprocessor_config.json").write_text("[]")
    refused(changed(study_file, f'quality.clip="{folder}"'), ModelError, "quality.clip: .*preprocessor_config.json is damaged")


# the run folder


def test_a_run_folder_that_cannot_be_made_is_told_before_the_model_is_read(study_file, tmp_path, monkeypatch):
    from workbench.models import load

    monkeypatch.setattr(load, "load", lambda *_: pytest.fail("the model was read"))
    (tmp_path / "file").write_text("x")
    study = workbench.load_study(study_file)
    refused(study, RunError, "too long for the name of a folder. Choose a shorter --out", tmp_path / ("a" * 256))
    refused(study, RunError, 'file" is no folder. Choose another --out', tmp_path / "file")
    refused(study, RunError, 'file" is no folder. Choose another --out', tmp_path / "file" / "deeper")


# what weakens a study


def told(study):
    return preflight.warnings(execute.prepare(study)[1])


def pairs(study_file, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,anchor\ndog in ink style,dog\n")
    return f'prompts.erase="{path}"'


def test_one_detector_in_both_roles_is_a_caveat_whatever_its_thresholds(study_file, resnet, tmp_path):
    plain = pairs(study_file, tmp_path)
    assert told(changed(study_file, plain)) == []
    same = 'detectors.judge={ method = "emoji", which = "steer" }'
    (sentence,) = told(changed(study_file, plain, same))
    assert (
        sentence.startswith("One detector, emoji, is both attack-visible detector and judge") and "network as detectors.judge" in sentence
    )
    judge = classifier(resnet, threshold=0.7)
    (sentence,) = told(changed(study_file, plain, judge, classifier(resnet, k=2).replace("judge", "steer", 1)))
    assert "One detector, image_classifier" in sentence
    other = classifier_folder(tmp_path / "other", "resnet", seed=1)
    assert told(changed(study_file, plain, judge, classifier(other).replace("judge", "steer", 1))) == []


def test_prompts_that_lose_their_end_are_counted_by_the_models_own_tokenizer(study_file, tmp_path):
    rows = (study_file.parent / "target.csv").read_text().splitlines()
    rows[2] = rows[2].replace("cat in ink style", "cat " + "of water " * 12 + "in ink style")
    (tmp_path / "target.csv").write_text("\n".join(rows) + "\n")
    (sentence,) = told(changed(study_file, pairs(study_file, tmp_path), f'prompts.target="{tmp_path / "target.csv"}"'))
    assert (
        sentence.startswith("prompts.target: 1 of 6 prompts are longer than the 14 tokens") and "truncated, by up to 14 tokens" in sentence
    )


def test_a_study_without_pairs_says_that_it_trains_on_bare_names(study_file):
    (sentence,) = told(workbench.load_study(study_file))
    assert sentence.startswith('prompts.erase is not given, so erased trained on bare names ("ink", each against the empty prompt)')
