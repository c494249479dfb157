"""The bundled model: a plain diffusers pipeline that draws what it is asked, seen by both detectors."""

import json

import pytest
import torch

from workbench import resources
from workbench.registry import method

FOLDER = resources.folder("data") / "emoji"


def test_plain_diffusers_loads_the_folder():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER / "model", local_files_only=True)
    assert pipeline.tokenizer.model_max_length == 77
    assert pipeline.unet.config.sample_size == 16 and pipeline.scheduler.config.prediction_type == "epsilon"
    size = sum(p.stat().st_size for p in FOLDER.glob("model/**/*") if p.is_file())
    assert size < 40e6


@pytest.mark.parametrize("which", ["steer", "judge"])
def test_the_detectors_see_what_was_asked_for_and_nothing_in_noise(which):
    from workbench.diffusion.denoise import denoise
    from workbench.models import load, text

    model = load.load("emoji")
    asked = ["church", "bomb", "car", "key", "guitar", "banana"]
    with torch.no_grad():
        states = text.encode(model, [f"a {name} in ink style" for name in asked])
        latents, _ = denoise(model, states, text.encode(model, [""]), range(6), n_steps=12, guidance=5.0)
    images = model.decode(latents)
    one = method("detectors", "emoji")
    detector = one.call(one.parameters(which=which))
    right = sum(bool(detector.present(images[i : i + 1], [f"object:{name}"])[0]) for i, name in enumerate(asked))
    assert right >= 5 and int(detector.present(images, ["style:ink"])[0].sum()) >= 5
    noise = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert int(detector.present(noise, ["style:ink"])[0].sum()) <= 2


def test_the_detectors_are_calibrated_and_above_their_target():
    card = json.loads((FOLDER / "detectors.json").read_text())
    for which in ("steer", "judge"):
        assert card[which]["accuracy"]["object"] >= 0.97 and card[which]["accuracy"]["style"] >= 0.97
        assert set(card[which]["thresholds"]) >= {"style:ink", "object:church", "style:none"}


def test_a_detector_is_monotone_in_its_threshold_and_differentiable():
    one = method("detectors", "emoji")
    detector = one.call(one.parameters(which="steer"))
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    detector.network(images).max().backward()
    assert images.grad.abs().sum() > 0
    counts = []
    for cut in (0.0, 0.3, 0.9, 1.1):
        detector.thresholds["style:ink"] = cut
        counts.append(int(detector.present(images.detach(), ["style:ink"])[0].sum()))
    assert counts == sorted(counts, reverse=True) and counts[0] == 8 and counts[-1] == 0


def test_every_caption_name_is_used_by_one_concept_alone_and_is_a_known_word():
    import tomllib

    from workbench.models import load

    spec = tomllib.loads((FOLDER / "concepts.toml").read_text())
    names = [name for group in ("objects", "styles") for entry in spec[group].values() for name in entry["names"]]
    assert len(names) == len(set(names)) and len(spec["objects"]) >= 50
    assert all(2 <= len(entry["names"]) <= 4 for entry in spec["objects"].values())
    tokenizer = load.load("emoji").tokenizer
    for word in {word for name in names for word in name.split()}:
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
