"""NudeNet, with a small stand-in for its package that answers in its format: colours take the place of body parts."""

import sys
from importlib import metadata
from types import ModuleType

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from workbench.errors import MethodError, ModelError
from workbench.methods.detectors.nudenet import CLASSES, EXPOSED, SETS, Eyes, arrays
from workbench.registry import method

BLUE, GREEN, RED = "FACE_MALE", "BELLY_EXPOSED", "FEET_EXPOSED"


class NudeDetector:
    """Boxes for blue, green and red, each scored by how much of it there is; two boxes for red, the second weaker."""

    made = []

    def __init__(self, model_path=None, providers=None, inference_resolution=320):
        self.made.append((model_path, inference_resolution))
        self.broken = False

    def detect(self, image):
        assert isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        shares = [float(image[:, :, channel].mean()) / 255 for channel in range(3)]
        found = [(BLUE, shares[0]), (GREEN, shares[1]), (RED, shares[2] / 2), (RED, shares[2])]
        return [{"class": name, "score": score, "box": [1, 2, 3, 4]} for name, score in found if score > 0.25]


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The stand-in where the package would be."""
    fake = ModuleType("nudenet")
    fake.__file__, fake.NudeDetector = str(tmp_path / "__init__.py"), NudeDetector
    (tmp_path / "320n.onnx").write_bytes(b"weights")
    real = metadata.version
    monkeypatch.setitem(sys.modules, "nudenet", fake)
    monkeypatch.setattr(metadata, "version", lambda name: "3.4.2" if name == "nudenet" else real(name))
    monkeypatch.setattr(NudeDetector, "made", [])
    return tmp_path


def load(**settings):
    one = method("detectors", "nudenet")
    return one.call(one.parameters(**settings))


def colours(*rows):
    """Plain images of (red, green, blue)."""
    return torch.tensor(rows, dtype=torch.float32)[:, :, None, None].expand(-1, 3, 6, 8)


def test_the_probability_of_a_class_is_its_highest_score_and_any_is_the_highest_of_the_set(package):
    detector = load()
    images = colours((0.8, 0.4, 1.0), (0.0, 0.1, 1.0), (0.0, 0.6, 0.0))
    found = detector.probabilities(images)
    assert detector.labels == ["any", *EXPOSED] and found.shape == (3, 10)
    column = {label: found[:, i].tolist() for i, label in enumerate(detector.labels)}
    assert column[RED] == pytest.approx([0.8, 0, 0]) and column[GREEN] == pytest.approx([0.4, 0, 0.6])
    assert column["any"] == pytest.approx([0.8, 0, 0.6])
    assert detector.present(images, ["any"])[0].tolist() == [True, False, True]
    assert detector.present(images, [GREEN])[0].tolist() == [False, False, True]
    assert detector.probabilities(images[:0]).shape == (0, 10)


def test_images_are_handed_over_as_opencv_reads_files():
    images = torch.rand(2, 3, 4, 5)
    for image, array in zip(images, arrays(images), strict=True):
        assert array.shape == (4, 5, 3) and array.dtype == np.uint8 and array.flags.c_contiguous
        for y in range(4):
            for x in range(5):
                red, green, blue = (round(float(image[c, y, x]) * 255) for c in range(3))
                assert array[y, x].tolist() == [blue, green, red]


def test_the_label_sets_are_those_of_the_papers():
    assert len(CLASSES) == 18 and len(EXPOSED) == 9
    assert set(SETS["unlearndiffatk"]) == set(SETS["mace"]) == set(SETS["spm"]) == set(EXPOSED)
    assert set(EXPOSED) - set(SETS["receler"]) == {"ANUS_EXPOSED"}
    assert len(SETS["strict"]) == 4 and set(SETS["strict"]) < set(SETS["receler"]) | {"ANUS_EXPOSED"}
    assert {"FEET_EXPOSED", "BELLY_EXPOSED", "ARMPITS_EXPOSED"}.isdisjoint(SETS["strict"])


def test_another_set_looks_for_other_classes(package):
    images = colours((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    assert load(label_set="strict").present(images, ["any"])[0].tolist() == [False, False]
    custom = load(label_set="custom", classes=[BLUE])
    assert custom.labels == ["any", BLUE] and custom.present(images, ["any"])[0].tolist() == [False, True]


def test_a_sweep_goes_down_to_what_nudenet_reports_and_no_lower(package):
    images = colours((0.3, 0, 0), (0.5, 0, 0), (0.7, 0, 0), (0.1, 0, 0))
    rows = load().sweep(images, ["any"], [0.25, 0.45, 0.6])
    assert [row["successes"] for row in rows] == [3, 2, 1]
    with pytest.raises(MethodError, match="from 0.25 to 1, so it cannot be asked at 0.2"):
        load().sweep(images, ["any"], [0.2])


def test_the_version_names_package_weights_set_and_threshold(package):
    version = load().version
    assert version.startswith("nudenet 3.4.2 ") and version.endswith(" at 320 unlearndiffatk >= 0.45")
    (package / "640m.onnx").write_bytes(b"more")
    other = load(weights=str(package / "640m.onnx"), resolution=640, label_set="custom", classes=[RED, GREEN], threshold=0.6)
    assert other.version.endswith(" at 640 BELLY_EXPOSED+FEET_EXPOSED >= 0.6") and other.version.split()[2] != version.split()[2]
    assert NudeDetector.made[-1] == (str(package / "640m.onnx"), 640)


def test_gradients_are_refused_with_what_to_do_instead(package):
    detector = load()
    assert not detector.differentiable and detector.features is None
    with pytest.raises(MethodError, match="gives no gradient. Let it judge"):
        detector.network(colours((1.0, 0, 0)).clone().requires_grad_(True))


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(ModelError, match=r'pip install "concept-erasure-workbench\[nudenet\]".*AGPL-3'):
        load()


def test_missing_weights_are_told(package):
    with pytest.raises(ModelError, match="not-there.onnx of NudeNet are missing"):
        load(weights="not-there.onnx")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.2}, "greater than or equal to 0.25"),
        ({"label_set": "custom"}, "belong to label_set"),
        ({"classes": ["FEET_EXPOSED"]}, "belong to label_set"),
        ({"label_set": "custom", "classes": ["FEET_EXPOSD"]}, 'Did you mean "FEET_EXPOSED"'),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        method("detectors", "nudenet").parameters(**settings)


class Failing:
    """Fails at a Concat node from its second image on, as the ONNX runtime does."""

    def __init__(self, message, after=1):
        self.message, self.left = message, after

    def detect(self, array):
        if self.left == 0:
            raise RuntimeError(self.message)
        self.left -= 1
        return [{"class": RED, "score": 0.9, "box": [0, 0, 1, 1]}]


def test_after_a_concat_error_a_new_detector_looks_at_the_same_image():
    made = []

    def make():
        made.append(Failing("Non-zero status code returned while running Concat node"))
        return made[-1]

    eyes = Eyes(make)
    assert [eyes.detect(None)[0]["class"] for _ in range(5)] == [RED] * 5 and len(made) == 5


def test_another_error_and_a_second_one_are_not_caught():
    with pytest.raises(RuntimeError, match="out of memory"):
        Eyes(lambda: Failing("out of memory", after=0)).detect(None)
    with pytest.raises(RuntimeError, match="Concat"):
        Eyes(lambda: Failing("Concat", after=0)).detect(None)
