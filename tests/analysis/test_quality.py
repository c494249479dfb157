"""Laws and slow references of workbench.analysis.quality."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.methods.test_detectors_clip_zero_shot import clip_folder, pictures
from tests.reference import bootstrap
from workbench.analysis import quality
from workbench.errors import MethodError, ModelError, StatisticsError
from workbench.methods.detectors import Detector
from workbench.methods.detectors.clip_zero_shot import Clip

NUMBERS = {"definition", "n", "n_units", "dropped", "value", "low", "high"}


def kernel(x, y):
    return (sum(float(p) * float(q) for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3


def kid(a, b, units_a=None, units_b=None):
    """The three means over pairs of different units, pair by pair."""
    units_a = [("a", i) for i in range(len(a))] if units_a is None else list(units_a)
    units_b = [("b", i) for i in range(len(b))] if units_b is None else list(units_b)

    def mean(x, units_x, y, units_y):
        pairs = [kernel(p, q) for p, u in zip(x, units_x, strict=True) for q, v in zip(y, units_y, strict=True) if u != v]
        return sum(pairs) / len(pairs)

    return mean(a, units_a, a, units_a) + mean(b, units_b, b, units_b) - 2 * mean(a, units_a, b, units_b)


def draw(n, shift=0.0, seed=0, width=5):
    return np.random.default_rng(seed).normal(size=(n, width)) + shift


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_distance_is_the_unbiased_mmd_of_the_cubic_kernel(n, width, seed):
    a, b = draw(n, seed=seed, width=width), draw(n, 0.5, seed + 1, width)
    within = [sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1)) for x in (a, b)]
    across = sum(kernel(p, q) for p in a for q in b) / n**2
    found = quality.kid(a, b, n_resamples=20)
    assert found["value"] == pytest.approx(sum(within) - 2 * across) == pytest.approx(kid(a, b))
    assert set(found) == NUMBERS and (found["n"], found["n_units"], found["dropped"]) == (n, 2 * n, 0)
    assert found["low"] <= found["value"] <= found["high"]


def test_with_units_pairs_within_a_unit_are_left_out_everywhere():
    a, b = draw(8), draw(8, 0.3, 1)
    units = ["owl", "owl", "cat", "cat", "house", "house", "church", "church"]
    others = ["owl", "cat", "house", "church"] * 2
    found = quality.kid(a, b, units, others, n_resamples=20)
    assert found["value"] == pytest.approx(kid(a, b, units, others)) != pytest.approx(kid(a, b))
    assert found["n_units"] == 4


def test_the_interval_is_that_of_resampled_units_pair_by_pair():
    a, b = draw(6), draw(6, 0.4, 1)
    rng, values = np.random.default_rng(5), []
    for _ in range(30):
        drawn = rng.multinomial(6, np.full(6, 1 / 6))
        rows = [unit for unit, times in enumerate(drawn) for _ in range(times)]
        if len(set(rows)) > 1:
            values.append(kid(a[rows], b[rows], rows, rows))
    found = quality.kid(a, b, range(6), range(6), n_resamples=30, seed=5)
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_equal_sets_of_units_have_no_distance_and_the_order_does_not_matter():
    a, b = draw(12), draw(12, 0.5, 1)
    assert quality.kid(a, a, range(12), range(12), n_resamples=20)["value"] == pytest.approx(0, abs=1e-12)
    order = np.random.default_rng(0).permutation(12)
    assert quality.kid(a[order], b, n_resamples=20)["value"] == pytest.approx(quality.kid(a, b, n_resamples=20)["value"])
    assert quality.kid(b, a, n_resamples=20)["value"] == pytest.approx(quality.kid(a, b, n_resamples=20)["value"])


def test_the_distance_grows_with_the_shift_and_is_without_bias_where_there_is_none():
    values = [quality.kid(draw(200), draw(200, shift, 1), n_resamples=20)["value"] for shift in (0, 0.2, 0.5, 1)]
    assert values == sorted(values)
    none = [quality.kid(draw(20, seed=2 * s), draw(20, seed=2 * s + 1), n_resamples=2)["value"] for s in range(200)]
    assert abs(np.mean(none)) < 3 * np.std(none) / np.sqrt(200) and min(none) < 0


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    truth = np.mean([quality.kid(draw(600, seed=s), draw(600, 0.4, 50 + s), n_resamples=1)["value"] for s in range(12)])
    hits = 0
    for s in range(100):
        found = quality.kid(draw(50, seed=1000 + s), draw(50, 0.4, 2000 + s), n_resamples=200, seed=s)
        hits += found["low"] <= truth <= found["high"]
    assert 88 <= hits <= 100
    apart = quality.kid(draw(50), draw(50, 1.0, 1))
    assert apart["low"] > quality.noise_floor(draw(50, seed=2), draw(50, seed=3))["high"]


def test_the_larger_set_is_cut_to_the_smaller_by_a_seeded_draw():
    a, b = draw(30), draw(12, 0.3, 1)
    found = [quality.kid(a, b, n_resamples=20, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert (found[0]["n"], found[0]["dropped"]) == (12, 18)
    rows = np.sort(np.random.default_rng(0).choice(30, 12, replace=False))
    assert found[0]["value"] == pytest.approx(kid(a[rows], b))
    assert quality.kid(a, b, n=5, n_resamples=20)["n"] == 5


def test_the_noise_floor_is_the_distance_of_the_base_to_itself_by_its_own_name():
    base, again = draw(30), draw(30, seed=1)
    floor = quality.noise_floor(base, again, range(30), range(30), n_resamples=50, features="emoji-judge")
    plain = quality.kid(base, again, range(30), range(30), n_resamples=50)
    assert floor == plain | {"definition": "kid_floor", "features": "emoji-judge"} and floor["high"] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quality.kid(draw(5), draw(5, width=6)), "different networks"),
        (lambda: quality.kid(draw(1), draw(5)), "at least 2"),
        (lambda: quality.kid(draw(5), draw(5), n=6), "at least 2"),
        (lambda: quality.kid(draw(5), draw(5), units_a=["x"]), "one unit per image"),
        (lambda: quality.kid(draw(5), draw(5), ["x"] * 5, ["x"] * 5), "1 unit cannot be resampled"),
        (lambda: quality.kid(draw(5) * np.nan, draw(5)), "not finite"),
        (lambda: quality.kid(draw(5)[:, 0], draw(5)), "shape"),
        (lambda: quality.image_difference(np.zeros((2, 3, 4, 4)), np.zeros((3, 3, 4, 4))), "do not pair"),
        (lambda: quality.image_difference(np.full((2, 3, 4, 4), np.nan), np.zeros((2, 3, 4, 4))), "not finite"),
    ],
)
def test_data_that_do_not_fit_are_refused(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()


def test_the_difference_of_images_is_looped_over_pixels():
    images, units = pictures(6, 4, 5), ["a", "a", "b", "b", "c", "c"]
    others = images.bfloat16().float()
    per_image, largest = [], 0.0
    for image, other in zip(images, others, strict=True):
        gaps = [abs(float(p) - float(q)) for p, q in zip(image.flatten(), other.flatten(), strict=True)]
        per_image.append(sum(gaps) / len(gaps))
        largest = max(largest, *gaps)
    found = quality.image_difference(images, others, units, variant="base")
    expected = bootstrap(np.mean, units, np.array(per_image))
    assert (found["value"], found["low"], found["high"]) == pytest.approx((expected.value, expected.low, expected.high))
    assert found["largest"] == pytest.approx(largest) and 0 < largest < 0.005
    assert (found["n"], found["definition"], found["variant"]) == (6, "image_difference", "base")
    assert quality.image_difference(images, images)["largest"] == 0


def test_features_come_in_batches_from_a_detector_or_a_network():
    images = pictures(7)
    detector = Detector("thirds", "1", ["x"], {"x": 0.5}, lambda x: x.mean((1, 2, 3))[:, None], lambda x: x[:, :, ::20, ::20])
    found = quality.features(detector, images, batch=3)
    assert found.dtype == np.float64 and np.allclose(found, images[:, :, ::20, ::20].flatten(1))
    assert np.allclose(quality.features(detector.network, images), images.mean((1, 2, 3))[:, None])


def test_a_detector_without_features_and_images_that_are_none_are_refused():
    blind = Detector("nudenet", "1", ["x"], {"x": 0.5}, lambda x: x)
    with pytest.raises(MethodError, match="nudenet has no features. Take emoji"):
        quality.features(blind, pictures(2))
    with pytest.raises(MethodError, match="Divide images"):
        quality.features(blind, pictures(2).byte())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return clip_folder(tmp_path_factory.mktemp("clip"), seed=1)


def test_the_clip_score_is_a_hundred_cosines_cut_at_zero(folder):
    from transformers import CLIPModel

    model, clip, images = CLIPModel.from_pretrained(folder).eval(), Clip(folder), pictures(6)
    prompts = ["a church", "a house in a garden", "a picture", "owl in ink style", "a bridge", "water colour"]
    expected = []
    for image, prompt in zip(images, prompts, strict=True):
        with torch.no_grad():
            out = model(pixel_values=clip.preprocess(image[None]), **clip.tokenizer(prompt, return_tensors="pt"))
        x, y = out.image_embeds[0].tolist(), out.text_embeds[0].tolist()
        size = sum(p * p for p in x) ** 0.5 * sum(q * q for q in y) ** 0.5
        expected.append(100 * max(sum(p * q for p, q in zip(x, y, strict=True)) / size, 0))
    found = quality.clip_scores(clip, images, prompts, batch=4)
    assert found == pytest.approx(expected, abs=1e-3) and min(expected) == 0 < max(expected)
    row = quality.clip_score(folder, images, prompts, variant="base")
    assert row["value"] == pytest.approx(np.mean(expected), abs=1e-3) and row["low"] < row["value"] < row["high"]
    assert (row["model"], row["n"], row["n_cut"], row["variant"]) == (f"clip {clip.version}", 6, 0, "base")


def test_prompts_that_lose_words_are_counted_and_pairs_that_do_not_fit_refused(folder):
    long = " ".join(["church"] * 30)
    assert quality.clip_score(folder, pictures(3), [long, "a church", long])["n_cut"] == 2
    for images, prompts in ((pictures(2), ["a church"]), (pictures(1)[:0], [])):
        with pytest.raises(StatisticsError, match="do not pair"):
            quality.clip_scores(folder, images, prompts)
    with pytest.raises(ModelError, match="nothing is downloaded"):
        quality.clip_score("openai/clip-vit-base-patch32", pictures(2), ["a church"] * 2)


def test_a_mean_score_is_resampled_by_units_and_its_change_prompt_by_prompt():
    draws = np.random.default_rng(5)
    base, shift = draws.normal(20, 4, 60), draws.normal(-2, 0.5, 60)
    units = [f"u{row % 20}" for row in range(60)]
    found = quality.mean_score(base + shift, units, base, n_resamples=300, seed=1)
    assert set(found) == set(quality.MEAN_SCORE) and (found["n"], found["n_units"]) == (60, 20)
    for name, values in (("value", base + shift), ("change", shift)):
        prefix = "" if name == "value" else "change_"
        slow = bootstrap(np.mean, units, values, n_resamples=300, seed=1)
        assert (found[name], found[f"{prefix}low"], found[f"{prefix}high"]) == pytest.approx((slow.value, slow.low, slow.high))
    assert found["change_high"] - found["change_low"] < 0.3 * (found["high"] - found["low"])
    assert quality.mean_score(base)["change"] is None and quality.mean_score(base)["n_units"] == 60
    with pytest.raises(StatisticsError, match="do not pair"):
        quality.mean_score(base, base=base[:4])
    with pytest.raises(StatisticsError, match="at least 2"):
        quality.mean_score(base, ["u"] * 60)


def test_the_change_of_a_distance_is_paired_by_unit():
    base, before, units = draw(30), draw(30, 0.2, 1), [f"u{i // 2}" for i in range(30)]
    after = [before + 0.05, before + 0.15]
    found = quality.kid_change(base, before, after, units, n_resamples=200)
    by_hand = np.mean([kid(base, one, units, units) for one in after]) - kid(base, before, units, units)
    assert found["value"] == pytest.approx(by_hand) and (found["n"], found["n_units"]) == (30, 15)
    # the draw that moves one distance moves the other: the difference is surer than either
    alone = quality.kid(base, before, units, units, n_resamples=200)
    assert found["high"] - found["low"] < alone["high"] - alone["low"]
    assert quality.kid_change(base, before, [before], units) | {"n": 0, "n_units": 0} == dict(n=0, n_units=0, value=0, low=0, high=0)
    for wrong in ([], [after[0][:-1]], [after[0][:, :-1]]):
        with pytest.raises(StatisticsError, match="sets of the same images"):
            quality.kid_change(base, before, wrong, units)
    with pytest.raises(StatisticsError, match="at least 2|no distance"):
        quality.kid_change(base, before, after, ["one"] * 30)


@pytest.mark.parametrize(
    "distance, floor, beyond, word",
    [
        ((0.006, 0.010), (-0.001, 0.002), (0.004, 0.009), "farther"),
        ((0.000, 0.001), (-0.001, 0.002), (-0.002, 0.001), "no farther"),
        ((0.000, 0.004), (-0.001, 0.002), (-0.001, 0.004), "cannot tell"),
    ],
)
def test_a_distance_is_farther_only_where_its_paired_difference_from_the_floor_is_surely_above_0(distance, floor, beyond, word):
    rows = [dict(zip(("low", "high"), ends, strict=True)) for ends in (distance, floor, beyond)]
    assert quality.distance_word(*rows) == word


def test_images_of_the_base_model_from_other_noise_are_rarely_farther_and_shifted_ones_are_found():
    """The word, on variants that are second draws of the base model, and on variants a clear step away; paired by prompt."""
    said = {"null": [], "shifted": []}
    for trial in range(120):
        rng = np.random.default_rng(trial)
        prompt = rng.normal(size=(30, 6))
        base, again, null = (prompt + rng.normal(size=(30, 6)) for _ in range(3))
        floor = quality.noise_floor(base, again, range(30), range(30), n_resamples=200, seed=trial)
        for name, images in (("null", null), ("shifted", base + 0.9)):
            found = quality.kid(base, images, range(30), range(30), n_resamples=200, seed=trial)
            beyond = quality.kid_change(base, again, [images], range(30), n_resamples=200, seed=trial)
            said[name].append(quality.distance_word(found, floor, beyond))
    assert said["null"].count("farther") <= 0.05 * 120 and said["shifted"].count("farther") >= 0.8 * 120, said
