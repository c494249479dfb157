"""CLIP zero-shot agrees with the model asked prompt by prompt, has a gradient, and refuses folders that cannot be used."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from tests import tiny
from workbench.errors import MethodError, ModelError
from workbench.methods.detectors import Preprocess
from workbench.registry import method

MEAN, STD = [0.48, 0.45, 0.4], [0.27, 0.26, 0.28]
CROPPED = {
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": MEAN,
    "image_processor_type": "CLIPImageProcessor",
    "image_std": STD,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 32},
}
PROMPTS = {
    "positive": {"church": ["a church", "an emoji of a church"], "house": ["a house in a garden"]},
    "negative": ["a picture", "water", "a bridge"],
}


def clip_folder(folder, seed=0):
    """A tiny random CLIP model in the files a published one has."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    words = tiny.tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    config = CLIPConfig(
        text_config=shape | ids | {"vocab_size": len(words), "max_position_embeddings": 16},
        vision_config=shape | {"image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CROPPED))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the folder that a test may damage."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def load(folder, **settings):
    one = method("detectors", "clip_zero_shot")
    return one.call(one.parameters(model=str(folder), **(PROMPTS | settings)))


def pictures(n=5, height=40, width=56):
    torch.manual_seed(3)
    return torch.rand(n, 3, height, width)


def by_pil(image, size, crop, mean, std, mode=Image.Resampling.BICUBIC):
    """One image resized channel by channel by Pillow, clamped, cropped in the middle and normalised."""
    channels = []
    for channel in range(3):
        resized = Image.fromarray(image[channel].numpy()).resize((size[1], size[0]), mode)
        values = np.clip(np.asarray(resized), 0, 1)
        top, left = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
        channels.append((values[top : top + crop[0], left : left + crop[1]] - mean[channel]) / std[channel])
    return torch.tensor(np.array(channels))


def ask(model, words, image, prompt):
    """exp(logit scale) * cos of one image and one prompt, by the model's own forward."""
    tokens = words(prompt, return_tensors="pt")
    with torch.no_grad():
        return float(model(pixel_values=image[None], **tokens).logits_per_image[0, 0])


def test_preprocessing_is_what_pillow_does(folder):
    images = pictures()
    found = Preprocess(folder)(images)
    for image, mine in zip(images, found, strict=True):
        assert torch.allclose(mine, by_pil(image, (32, 44), (32, 32), MEAN, STD).float(), atol=2e-4)


def test_probabilities_are_the_model_asked_prompt_by_prompt(folder):
    from transformers import CLIPModel

    model, words = CLIPModel.from_pretrained(folder).eval(), tiny.tokenizer()
    images = pictures()
    detector = load(folder)
    found = detector.probabilities(images)
    assert detector.labels == ["church", "house", "none"]
    for row, image in enumerate(images):
        ready = by_pil(image, (32, 44), (32, 32), MEAN, STD).float()
        share = {}
        for label, prompts in {**PROMPTS["positive"], "none": PROMPTS["negative"]}.items():
            share[label] = sum(math.exp(ask(model, words, ready, prompt)) for prompt in prompts)
        for column, label in enumerate(detector.labels):
            assert float(found[row, column]) == pytest.approx(share[label] / sum(share.values()), abs=1e-4)
    assert found.std(dim=0).min() > 1e-4


def test_the_gradient_is_the_slope_of_the_probability(folder):
    detector, images = load(folder), pictures(2) * 0.6 + 0.2
    images.requires_grad_(True)
    (slope,) = torch.autograd.grad(detector.network(images)[:, 0].sum(), images)
    step = 0.02 * slope / slope.abs().max()
    with torch.no_grad():
        rise = detector.network(images + step)[:, 0].sum() - detector.network(images - step)[:, 0].sum()
    assert slope.abs().amax(dim=(1, 2, 3)).min() > 0
    assert float(rise) == pytest.approx(2 * float((slope * step).sum()), rel=0.1)


def test_features_are_the_image_vectors_of_the_model(folder):
    from transformers import CLIPModel

    images = pictures(3)
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(pixel_values=Preprocess(folder)(images)).pooler_output)
        found = load(folder).features(images)
    assert found.shape == (3, 24) and torch.allclose(found, expected, atol=1e-6)


def test_presence_follows_the_threshold(folder):
    images = pictures(8)
    score = load(folder).present(images, ["church"])[1]
    middle = float(score.sort().values[4])
    assert load(folder, threshold=middle).present(images, ["church"])[0].tolist() == (score >= middle).tolist()
    assert 0 < load(folder, threshold=middle).sweep(images, ["church"], [middle])[0]["successes"] < 8


def test_the_version_names_weights_prompts_labels_and_threshold(folder, tmp_path):
    version = load(folder).version
    assert version == load(folder).version and "church, house, none >= 0.5" in version
    others = [
        load(clip_folder(tmp_path / "other", seed=1)).version,
        load(folder, threshold=0.6).version,
        load(folder, negative=["a picture", "a bridge"]).version,
    ]
    assert len({version, *others}) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positive": {"church": []}}, '"church" has no prompt'),
        ({"positive": {"none": ["a church"]}}, "name the label otherwise"),
        ({"negative": ["a church"]}, "stands twice"),
        ({"negative": [" "]}, "empty"),
        ({"positive": {}}, "at least 1"),
        ({"threshold": 0.0}, "greater than 0"),
    ],
)
def test_prompts_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        method("detectors", "clip_zero_shot").parameters(model="x", **(PROMPTS | settings))


def test_a_prompt_longer_than_the_context_is_refused(folder):
    with pytest.raises(MethodError, match="6 tokens longer than the 16"):
        load(folder, negative=[" ".join(["church"] * 20)])


def test_a_hub_id_is_not_downloaded():
    with pytest.raises(ModelError, match="nothing is downloaded"):
        load("openai/clip-vit-base-patch32")


def test_a_folder_of_another_model_is_refused(copy):
    config = json.loads((copy / "config.json").read_text()) | {"model_type": "siglip"}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match='"siglip", not "clip"'):
        load(copy)


def test_a_folder_that_lacks_weights_is_refused(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="visual_projection.weight"):
        load(copy)


def test_damaged_weights_are_refused(copy):
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:400])
    with pytest.raises(ModelError, match="could not be read as CLIPModel"):
        load(copy)


def test_a_folder_without_preprocessing_or_tokenizer_is_refused(copy):
    for path in copy.glob("*token*"):
        path.unlink()
    for name in ("vocab.json", "merges.txt"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match="has no tokenizer"):
        load(copy)
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="no preprocessor_config.json"):
        load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 1}, "resizes by method 1"),
        ({"size": {"longest_edge": 32}}, "shortest_edge, are possible"),
        ({"crop_size": {"height": 64, "width": 32}}, "crops 64 x 32 pixels out of 32 x 44"),
    ],
)
def test_preprocessing_that_is_not_known_is_refused(copy, change, message):
    (copy / "preprocessor_config.json").write_text(json.dumps(CROPPED | change))
    with pytest.raises(ModelError, match=message):
        Preprocess(copy)(pictures(1))


def test_preprocessing_is_found_where_newer_processors_save_it(copy):
    before = Preprocess(copy)(pictures())
    (copy / "preprocessor_config.json").unlink()
    (copy / "processor_config.json").write_text(json.dumps({"image_processor": CROPPED, "processor_class": "CLIPProcessor"}))
    assert torch.equal(Preprocess(copy)(pictures()), before)


def test_old_files_with_one_number_for_the_size_mean_the_same(copy):
    before = Preprocess(copy)(pictures())
    (copy / "preprocessor_config.json").write_text(json.dumps(CROPPED | {"size": 32, "crop_size": 32}))
    assert torch.equal(Preprocess(copy)(pictures()), before)


def test_a_study_can_name_the_detector(folder):
    from workbench.study.study import load_study

    data = load_study("emoji-church").model_dump(mode="json", exclude_none=True)
    data["detectors"] = {"labels": ["church"], "judge": {"method": "clip_zero_shot", "model": str(folder), **PROMPTS}}
    data["detectors"]["steer"] = data["detectors"]["judge"]
    study = load_study(type(load_study("emoji-church"))(**data))
    from workbench.execution.workspace import Workspace

    judge = Workspace(study, SimpleNamespace(), None).detector("judge")
    assert judge.present(pictures(2), study.detectors.labels)[0].dtype == torch.bool
