"""Laws of every detector: what it refuses, the threshold sweep, and the memory of what was judged."""

import warnings
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import wilson
from workbench import storage
from workbench.errors import MethodError, StatisticsError
from workbench.methods.detectors import Cached, Detector
from workbench.registry import method


class Looks:
    """A network that says how red and how green an image is, and counts the images it was shown."""

    def __init__(self):
        self.shown = 0

    def __call__(self, images):
        self.shown += len(images)
        return images[:, :2].mean(dim=(2, 3))


@pytest.fixture
def detector():
    return Detector("colours", "colours 1", ["red", "green"], {"red": 0.5, "green": 0.6}, Looks())


def plain(*rows):
    """Plain images of (red, green)."""
    return torch.tensor([(*row, 0.0) for row in rows])[:, :, None, None].expand(-1, 3, 4, 4).contiguous()


IMAGES = plain((0.2, 0.1), (0.5, 0.0), (0.1, 0.9), (0.8, 0.7))


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=1, max_size=12), st.lists(st.floats(0, 1)))
@settings(max_examples=30, deadline=None)
def test_a_sweep_counts_images_at_each_threshold_and_never_rises(rows, thresholds):
    detector, images = Detector("colours", "1", ["red", "green"], {}, Looks()), plain(*rows)
    found = detector.sweep(images, ["red", "green"], sorted(thresholds))
    seen = images[:, :2].mean(dim=(2, 3)).tolist()
    for threshold, row in zip(sorted(thresholds), found, strict=True):
        count = 0
        for red, green in seen:
            if torch.tensor(red) >= torch.tensor(threshold) or torch.tensor(green) >= torch.tensor(threshold):
                count += 1
        assert (row["threshold"], row["n"], row["successes"], row["rate"]) == (threshold, len(rows), count, count / len(rows))
        assert (row["low"], row["high"]) == pytest.approx(wilson(count, len(rows)), abs=1e-6)
    assert all(a["rate"] >= b["rate"] for a, b in pairwise(found))


def test_present_uses_the_threshold_of_each_label(detector):
    found, score = detector.present(IMAGES, ["red", "green"])
    assert found.tolist() == [False, True, True, True] and score.tolist() == pytest.approx([0.2, 0.5, 0.9, 0.8])
    assert detector.present(IMAGES, ["green"])[0].tolist() == [False, False, True, True]


def test_a_rule_decides_instead_of_the_threshold(detector):
    most = replace(
        detector, rule=lambda p, limits: (p == p.amax(dim=1, keepdim=True)) & (p >= limits), thresholds={"red": 0.0, "green": 0.0}
    )
    assert most.present(IMAGES, ["red"])[0].tolist() == [True, True, False, True]
    assert [row["successes"] for row in most.sweep(IMAGES, ["red"], [0.0, 0.4, 0.6])] == [3, 2, 1]


def test_what_cannot_be_asked_is_refused(detector):
    with pytest.raises(MethodError, match='no label "gren".*Did you mean "green"'):
        detector.present(IMAGES, ["gren"])
    with pytest.raises(MethodError, match='no threshold for "green"'):
        replace(detector, thresholds={"red": 0.5}).present(IMAGES, ["red", "green"])
    with pytest.raises(MethodError, match="cannot be asked at 1.5"):
        detector.sweep(IMAGES, ["red"], [1.5])
    with pytest.raises(StatisticsError, match="no trials"):
        detector.sweep(IMAGES[:0], ["red"], [0.5])


def test_an_unknown_label_of_a_thousand_offers_five(detector):
    many = replace(detector, labels=[f"class {i}" for i in range(1000)])
    with pytest.raises(MethodError) as error:
        many.columns(["clas 7"])
    assert len(str(error.value)) < 200 and 'Did you mean "class 7"' in str(error.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((IMAGES * 255).byte(), "Divide images of 8 bits by 255"),
        (IMAGES * 2 - 1, "reach from -1"),
        (IMAGES * 255, "reach from 0 to 230"),
        (IMAGES / 0, "4 of 4 images hold NaN or infinity"),
        (IMAGES[0], "shape"),
        (IMAGES[:, :1], "shape"),
    ],
)
def test_images_that_are_none_are_refused(detector, tmp_path, images, message):
    for one in (detector, Cached(detector, tmp_path)):
        with pytest.raises(MethodError, match=message):
            one.probabilities(images)


def test_a_cached_detector_says_the_same_and_looks_once(detector, tmp_path):
    cached = Cached(detector, tmp_path)
    plainly = detector.present(IMAGES, ["red"])
    detector.network.shown = 0
    for _ in range(3):
        found = cached.present(IMAGES, ["red"])
        assert torch.equal(found[0], plainly[0]) and torch.equal(found[1], plainly[1])
    assert detector.network.shown == cached.misses == 4 and cached.hits == 8
    assert cached.sweep(IMAGES, ["green"], [0.6]) == detector.sweep(IMAGES, ["green"], [0.6])
    assert (cached.version, cached.labels, cached.thresholds) == (detector.version, detector.labels, detector.thresholds)


def test_answers_come_back_in_any_order_and_equal_images_are_looked_at_once(detector, tmp_path):
    Cached(detector, tmp_path).probabilities(IMAGES[:2])
    cached, order = Cached(detector, tmp_path), [3, 1, 0, 3, 2, 1]
    detector.network.shown = 0
    found = cached.probabilities(IMAGES[order])
    assert (detector.network.shown, cached.misses, cached.hits) == (2, 2, 4)
    assert torch.equal(found, detector.probabilities(IMAGES[order]))
    assert cached.probabilities(IMAGES[:0]).shape == (0, 2)


def test_two_processes_share_what_they_found(detector, tmp_path):
    first, second = Cached(detector, tmp_path), Cached(detector, tmp_path)
    first.probabilities(IMAGES[:3])
    second.probabilities(IMAGES)
    first.probabilities(IMAGES)
    assert (first.hits, first.misses, second.hits, second.misses) == (4, 3, 3, 1)


def test_another_version_other_labels_another_pixel_or_dtype_are_looked_at_anew(detector, tmp_path):
    Cached(detector, tmp_path).probabilities(IMAGES)
    changed = IMAGES.clone()
    changed[:, 2, 3, 3] += 0.004
    for other, images in [
        (replace(detector, version="colours 2"), IMAGES),
        (replace(detector, labels=["green", "red"]), IMAGES),
        (detector, changed),
        (detector, IMAGES.double()),
        (detector, IMAGES.reshape(4, 3, 2, 8)),
    ]:
        cached = Cached(other, tmp_path)
        cached.probabilities(images)
        assert (cached.hits, cached.misses) == (0, 4)


def test_a_cached_detector_has_no_gradient(detector, tmp_path):
    cached = Cached(detector, tmp_path)
    assert detector.differentiable and not cached.differentiable
    with pytest.raises(MethodError, match="Give attacks the detector itself"):
        cached.network(IMAGES.clone().requires_grad_(True))


def test_a_write_that_fails_leaves_nothing_and_the_images_are_looked_at_again(detector, tmp_path, monkeypatch):
    cached = Cached(detector, tmp_path)

    def full(self, path, **settings):
        path.write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("pandas.DataFrame.to_parquet", full)
        with pytest.raises(OSError, match="no space"):
            cached.probabilities(IMAGES)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert torch.equal(cached.probabilities(IMAGES), detector.probabilities(IMAGES)) and cached.misses == 4


@pytest.mark.parametrize("damage", [lambda content: content[:40], lambda content: b""])
def test_a_damaged_file_is_set_aside_with_a_word_and_its_images_are_judged_again(detector, tmp_path, damage):
    Cached(detector, tmp_path).probabilities(IMAGES)
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="damaged.*judged again"):
        cached = Cached(detector, tmp_path)
    assert torch.equal(cached.probabilities(IMAGES), detector.probabilities(IMAGES)) and cached.misses == 4
    assert path.exists() and path.with_name(f"{path.name}.damaged").exists()
    assert Cached(detector, tmp_path).probabilities(IMAGES).shape == detector.probabilities(IMAGES).shape


def test_a_flipped_bit_changes_no_answer(detector, tmp_path):
    Cached(detector, tmp_path).probabilities(IMAGES)
    (path,) = tmp_path.rglob("*.parquet")
    content, found = path.read_bytes(), 0
    for at in range(4, len(content) - 8, 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert torch.equal(Cached(detector, tmp_path).probabilities(IMAGES), detector.probabilities(IMAGES))
        found += any("judged again" in str(one.message) for one in said)
    assert found > 10


def test_the_cache_is_a_table_one_can_read(detector, tmp_path):
    Cached(detector, tmp_path).probabilities(IMAGES)
    (path,) = tmp_path.rglob("*.parquet")
    table = storage.read_table(path)
    assert table["image"].tolist() == [storage.tensors_digest({"image": image}) for image in IMAGES]
    assert [row.tolist() for row in table["probabilities"]] == detector.probabilities(IMAGES).tolist()


@pytest.mark.parametrize("which", ["steer", "judge"])
def test_the_features_of_the_emoji_detectors_are_what_their_heads_see(which):
    one = method("detectors", "emoji")
    detector = one.call(one.parameters(which=which))
    images = torch.rand(3, 3, 64, 64)
    cells = dict(zip(detector.network.__code__.co_freevars, (c.cell_contents for c in detector.network.__closure__), strict=True))
    cnn, temperature = cells["cnn"], cells["temperature"]["object"]
    with torch.no_grad():
        seen = detector.features(images)
        objects = (cnn.object(seen) / temperature).softmax(dim=1)
    assert torch.allclose(objects, detector.probabilities(images)[:, : objects.shape[1]], atol=1e-6)
