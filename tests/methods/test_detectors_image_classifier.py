"""Image classifiers answer as their model does, by top-k or probability, and a flat answer shows nothing."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.methods.test_detectors_clip_zero_shot import by_pil, pictures
from workbench.errors import MethodError, ModelError
from workbench.methods.detectors import Preprocess
from workbench.methods.detectors.image_classifier import among_top, named
from workbench.registry import method

CLASSES = ["tench, Tinca tinca", "church, church building", "garbage truck, dustcart", "crane", "crane", "Vincent_van_Gogh"]
PLAIN = {"image_mean": [0.5, 0.4, 0.6], "image_std": [0.2, 0.3, 0.25], "do_normalize": True, "do_resize": True}
# as microsoft/resnet-50, google/vit-base-patch16-224 and facebook/convnext-tiny-224 write them, with other numbers
PREPROCESSORS = {
    "resnet": PLAIN | {"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.8, "resample": 3, "size": 32},
    "vit": PLAIN | {"image_processor_type": "ViTImageProcessor", "resample": 2, "size": {"height": 32, "width": 32}},
    "convnext": PLAIN | {"image_processor_type": "ConvNextImageProcessor", "resample": 3, "size": {"shortest_edge": 28}},
}
# images of 40 x 56: the size resized to, the size cropped to
SIZES = {"resnet": ((40, 56), (32, 32)), "vit": ((32, 32), (32, 32)), "convnext": ((32, 44), (28, 28))}


def architecture(kind):
    from transformers import (
        ConvNextConfig,
        ConvNextForImageClassification,
        ResNetConfig,
        ResNetForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    if kind == "resnet":
        return ResNetForImageClassification, ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    if kind == "convnext":
        return ConvNextForImageClassification, ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1])
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return ViTForImageClassification, ViTConfig(image_size=32, patch_size=8, **shape)


def classifier_folder(folder, kind, seed=0, flat=False):
    """A tiny random classifier in the files a published one has; flat: every class is as likely as any other."""
    cls, config = architecture(kind)
    torch.manual_seed(seed)
    config.id2label = dict(enumerate(CLASSES))
    config.label2id = {name: index for index, name in enumerate(CLASSES)}
    model = cls(config)
    head = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    assert head.out_features == len(CLASSES)
    torch.nn.init.normal_(head.weight, std=0.0 if flat else 2.0)
    torch.nn.init.zeros_(head.bias)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSORS[kind]))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("classifiers")
    return {kind: classifier_folder(root / kind, kind) for kind in PREPROCESSORS}


def load(folder, **settings):
    one = method("detectors", "image_classifier")
    return one.call(one.parameters(model=str(folder), **settings))


@pytest.mark.parametrize("kind", PREPROCESSORS)
def test_probabilities_and_features_are_those_of_the_model_on_what_pillow_makes(folders, kind):
    cls, _ = architecture(kind)
    model = cls.from_pretrained(folders[kind]).eval()
    images, detector = pictures(), load(folders[kind])
    mode = Image.Resampling.BILINEAR if kind == "vit" else Image.Resampling.BICUBIC
    head = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    found = detector.probabilities(images)
    with torch.no_grad():
        seen = detector.features(images)
        for row, image in enumerate(images):
            ready = by_pil(image, *SIZES[kind], PLAIN["image_mean"], PLAIN["image_std"], mode).float()
            logits = model(pixel_values=ready[None]).logits[0]
            total = sum(torch.exp(x) for x in logits)
            for column, logit in enumerate(logits):
                assert float(found[row, column]) == pytest.approx(float(torch.exp(logit) / total), abs=2e-3)
            assert torch.allclose(head(seen[row]), logits, atol=2e-2)
    assert found.std(dim=0).max() > 1e-3 and seen.shape == (5, 16)
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("kind", PREPROCESSORS)
def test_images_have_a_gradient(folders, kind):
    images = pictures(2).requires_grad_(True)
    load(folders[kind]).network(images)[:, 1].sum().backward()
    assert torch.isfinite(images.grad).all() and images.grad.abs().amax(dim=(1, 2, 3)).min() > 0


def test_from_384_pixels_on_convnext_warps_instead_of_cropping(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSORS["convnext"] | {"size": {"shortest_edge": 384}}))
    assert Preprocess(tmp_path)(pictures(1, 8, 12)).shape == (1, 3, 384, 384)


def test_top_k_finds_exactly_the_k_most_likely_classes_even_when_all_are_equal():
    torch.manual_seed(0)
    rows = torch.cat([torch.rand(20, 6).softmax(1), torch.full((1, 6), 1 / 6)])
    for k in (1, 3, 5):
        found = among_top(rows, k)
        assert found.sum(dim=1).tolist() == [k] * 21
        for row, mine in zip(rows[:20].tolist(), found[:20].tolist(), strict=True):
            assert mine == [sum(other > p for other in row) < k for p in row]


@pytest.mark.parametrize("k", [1, 3])
def test_a_label_is_present_when_it_is_among_the_top_k(folders, k):
    detector, images = load(folders["resnet"], k=k, labels={"church": 1}, min_probability=0), pictures(20)
    found, score = detector.present(images, ["church"])
    expected = [1 in row.argsort(descending=True)[:k] for row in detector.probabilities(images)]
    assert found.tolist() == expected and torch.equal(score, detector.probabilities(images)[:, 1])


def test_more_classes_count_never_find_less(folders):
    images = pictures(20)
    rates = [float(load(folders["vit"], k=k, min_probability=0).present(images, ["crane [3]"])[0].float().mean()) for k in (1, 2, 3, 4, 5)]
    assert rates == sorted(rates) and rates[-1] > rates[0]


def test_a_flat_answer_names_a_class_without_a_guard_and_none_with_it(tmp_path):
    flat = classifier_folder(tmp_path / "flat", "vit", flat=True)
    every = load(flat).labels
    assert load(flat, min_probability=0).present(pictures(4), every)[0].all()
    assert not load(flat, min_probability=0.2).present(pictures(4), every)[0].any()
    assert not load(flat, min_probability=0.2, rule="probability", threshold=0.1).present(pictures(4), every)[0].any()


def test_probability_asks_for_the_threshold_only(folders):
    images = pictures(20)
    detector = load(folders["resnet"], rule="probability", threshold=0.1, min_probability=0)
    likely = detector.labels[int(detector.probabilities(images).mean(0).argmax())]
    found, score = detector.present(images, [likely])
    assert found.tolist() == [float(p) >= 0.1 for p in score] and found.sum() > 0


def test_a_sweep_of_top_k_asks_for_both(folders):
    detector, images = load(folders["resnet"], k=3, min_probability=0), pictures(20)
    likely = detector.labels[int(detector.probabilities(images).mean(0).argmax())]
    among = detector.present(images, [likely])
    rows = detector.sweep(images, [likely], [0.0, 0.2, 1.0])
    assert [row["successes"] for row in rows] == [sum(bool(f) and float(s) >= t for f, s in zip(*among, strict=True)) for t in (0, 0.2, 1)]
    assert rows[0]["successes"] > 0


@pytest.mark.parametrize(
    ("value", "index"),
    [(1, 1), ("church", 1), ("Church Building", 1), ("garbage_truck", 2), ("garbage truck, dustcart", 2), ("vincent van gogh", 5)],
)
def test_a_class_is_found_by_number_name_or_synonym(value, index):
    labels = named(dict(enumerate(CLASSES)), {"mine": value})
    assert labels.index("mine") == index and labels[0] == CLASSES[0] and len(set(labels)) == len(CLASSES)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"x": 6}, "classes 0 to 5"),
        ({"x": -1}, "classes 0 to 5"),
        ({"x": "crane"}, "classes 3, 4"),
        ({"x": "chrch"}, 'Did you mean "church"'),
        ({"x": 1, "y": "church"}, '"x" and "y" are the same class'),
        ({CLASSES[0]: 1}, "choose another word"),
    ],
)
def test_a_class_that_is_not_there_or_not_clear_is_refused(wanted, message):
    with pytest.raises(MethodError, match=message):
        named(dict(enumerate(CLASSES)), wanted)


def test_the_version_names_weights_labels_rule_and_guard(folders, tmp_path):
    version = load(folders["vit"], labels={"church": 1}).version
    assert "church = 1 top 1 guard 0.05" in version
    others = [
        load(folders["vit"]).version,
        load(folders["vit"], labels={"church": 1}, k=3).version,
        load(folders["vit"], labels={"church": 1}, rule="probability").version,
        load(folders["vit"], labels={"church": 1}, min_probability=0).version,
        load(classifier_folder(tmp_path / "other", "vit", seed=1), labels={"church": 1}).version,
    ]
    assert len({version, *others}) == 6


def test_a_folder_without_a_head_is_refused(tmp_path):
    from transformers import ViTModel

    _, config = architecture("vit")
    config.num_labels = 6
    ViTModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSORS["vit"]))
    with pytest.raises(ModelError, match="lacks 2 weights.*classifier.bias"):
        load(tmp_path)


def test_top_k_of_every_class_and_a_text_model_are_refused(folders, tmp_path):
    with pytest.raises(MethodError, match="smaller k"):
        load(folders["vit"], k=6)
    (tmp_path / "config.json").write_text('{"model_type": "clip_text_model"}')
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="could not be read as AutoModelForImageClassification"):
        load(tmp_path)


def test_a_classifier_of_many_labels_at_once_is_refused(tmp_path):
    folder = classifier_folder(tmp_path / "many", "vit")
    config = json.loads((folder / "config.json").read_text()) | {"problem_type": "multi_label_classification"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="one class among several"):
        load(folder)


def test_a_setting_of_another_type_is_told_in_one_sentence(tmp_path):
    folder = classifier_folder(tmp_path / "vit", "vit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_probs_dropout_prob": ""}))
    with pytest.raises(ModelError, match="could not be read as AutoModelForImageClassification"):
        load(folder)
