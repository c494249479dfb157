"""Quality: how far a variant's images are from the base model's, and what counts as no difference.

Definitions: docs/reference/definitions.md#image-quality.

features           what a detector sees in images before it answers
kid                distance of two sets of images, in features, with an interval
kid_change         how much farther from the base model some variants are than another one, on the same prompts
noise_floor        the same distance of the base model to itself, on the same prompts from other noise
distance_word      farther, no farther or cannot tell, from the paired difference of a distance and the floor
image_difference   difference of image pairs, pixel by pixel: the base model at another number format
clip_scores        how well each image fits its prompt; clip_score, their mean with an interval
mean_score         the mean of any score per image, and its change from the base model's

Distances depend on the network behind the features: compare only numbers with equal `features`. A distance that is no farther
than the base model from other noise shows no damage; a low success rate beside a large distance shows a broken model, not an
erased concept.
"""

import numpy as np

from workbench.errors import MethodError, StatisticsError
from workbench.statistics import bootstrap_means, interval, unit_weights

DEGREE = 3
MEAN_SCORE = ("n", "n_units", "value", "low", "high", "change", "change_low", "change_high")


def features(source, images, batch=64):
    """What a detector, or any network, sees in images: (n, feature) float64 array, without gradient.

    source   a Detector with features (emoji: the flattened output of its body; clip_zero_shot: the projected image vector, not
             normalised; image_classifier: what goes into its last linear layer), or a callable images -> (n, feature)
    images   (n, 3, height, width) in [0, 1]
    Raises   MethodError when the detector has none
    """
    import torch

    from workbench.methods.detectors import check_images

    check_images(images)
    look = getattr(source, "features", None) or (source if callable(source) else None)
    if look is None:
        raise MethodError(
            f"The detector {getattr(source, 'name', source)} has no features. Take emoji, clip_zero_shot or image_classifier, "
            "or give your own detector `features`."
        )
    with torch.no_grad():
        return torch.cat([look(part).flatten(1) for part in images.split(batch)]).double().cpu().numpy()


def kid(a, b, units_a=None, units_b=None, n=None, n_resamples=1000, seed=0, definition="kid", **labels):
    """Kernel inception distance of two sets of features, with a bootstrap interval over units.

    k(x, y) = (x . y / d + 1)^3
    KID     = mean k(a_i, a_j) + mean k(b_i, b_j) - 2 mean k(a_i, b_j),  each mean over the pairs of different units

    Without units every image is its own unit, and this is the unbiased squared MMD: pairs of an image with itself are left
    out. With units (the same seed in both sets, several images of one prompt) pairs within a unit are left out of all three
    means, as they are more alike than images of different prompts. It can come out below 0: then the sets do not differ.

    Interval   bootstrap over units: whole units are resampled, a pair counts by the product of its units' weights, and a unit
               drawn twice is not compared with itself. Near 0 it is too wide: it held the truth in 99 % of 300 simulations
               (two sets of 60), against 95 % at a clear distance.
    Sizes      the larger set is cut to the smaller one, or both to `n`, by a draw with `seed`; `dropped` says how many

    Shapes   a, b (image, feature);  units_a, units_b (image,) names, equal names = the same unit
    returns  dict definition, n (images of each set), n_units, dropped, value, low, high, and the labels
    Raises   StatisticsError for features that do not fit or are not finite, or fewer than 2 units
    Source   Binkowski et al. 2018, arXiv 1801.01401, section 4; Gretton et al. 2012 for the estimator
    """
    a, b = _matrix(a), _matrix(b)
    if a.shape[1] != b.shape[1]:
        raise StatisticsError(f"Features of width {a.shape[1]} and {b.shape[1]} come from different networks; compute both by one.")
    size = min(len(a), len(b)) if n is None else n
    if not 2 <= size <= min(len(a), len(b)):
        raise StatisticsError(
            f"A distance of {size} images per set cannot be had from sets of {len(a)} and {len(b)}; at least 2 are needed."
        )
    units = _units(units_a, len(a), "a"), _units(units_b, len(b), "b")
    rng = np.random.default_rng(seed)
    rows = [np.sort(rng.choice(len(x), size, replace=False)) if len(x) > size else np.arange(size) for x in (a, b)]
    names, unit = np.unique(np.concatenate([u[r] for u, r in zip(units, rows, strict=True)]), return_inverse=True)
    weights = np.vstack([np.full(len(names), 1 / len(names)), unit_weights(len(names), n_resamples, seed)])
    x, y = (a[rows[0]], unit[:size]), (b[rows[1]], unit[size:])
    value, *resampled = _distances(x, y, weights)
    if not np.isfinite(value):
        raise StatisticsError("No pair of images is of different units, so there is no distance. Give more units.")
    found = interval(value, resampled, len(names))
    dropped = len(a) + len(b) - 2 * size
    numbers = {"n": size, "n_units": found.n, "dropped": dropped, "value": found.value, "low": found.low, "high": found.high}
    return labels | {"definition": definition} | numbers


def kid_change(base, before, after, units, n_resamples=1000, seed=0):
    """Mean KID of the sets `after` to the base model's minus that of `before`: how much farther they are. Above 0: farther.

    All sets hold the same prompts and seeds in the same order, so one draw of units serves them all (paired bootstrap). The sets
    `after`, e.g. masks of several seeds, are taken as given.

    Shapes   base, before (image, feature);  after [(image, feature), ...];  units (image,) names
    returns  dict n (images of each set), n_units, value, low, high
    Raises   StatisticsError for sets that do not pair, or fewer than 2 units
    """
    base, before, *after = (_matrix(values) for values in (base, before, *after))
    if not after or len({values.shape for values in (base, before, *after)}) > 1:
        raise StatisticsError("The change of a distance needs sets of the same images and features: base, before, and one or more after.")
    names, unit = np.unique(_units(units, len(base), "of all sets"), return_inverse=True)
    weights = np.vstack([np.full(len(names), 1 / len(names)), unit_weights(len(names), n_resamples, seed)])
    distances = [_distances((base, unit), (one, unit), weights) for one in (before, *after)]
    value, *resampled = np.mean(distances[1:], axis=0) - distances[0]
    if not np.isfinite(value):
        raise StatisticsError("No pair of images is of different units, so there is no distance. Give more units.")
    found = interval(value, resampled, len(names))
    return {"n": len(base), "n_units": found.n, "value": found.value, "low": found.low, "high": found.high}


def noise_floor(base, again, units_base=None, units_again=None, **settings):
    """The distance of the base model to itself: kid() of its features at two sets of seeds, under the definition kid_floor.

    It is what a variant without any damage would show with as many images. Both sets hold the same prompts, as the sets of a
    variant and the base model do; a floor from other prompts, or from half as many, is so wide that every variant lies within it.
    Give the units of both, named by prompt, or images of one prompt count as unrelated.
    """
    return kid(base, again, units_base, units_again, definition="kid_floor", **settings)


def distance_word(distance, floor, beyond):
    """farther | no farther | cannot tell: a variant's distance to the base model beside the base model's own from other noise.

    farther      the paired difference is surely above 0: beyond.low > 0
    no farther   even the upper end of the distance is no more than the floor's: distance.high <= floor.high

    distance, floor   dicts with low and high, of kid and noise_floor;  beyond   of kid_change from the floor's images to the variant's
    """
    if beyond["low"] > 0:
        return "farther"
    return "no farther" if distance["high"] <= floor["high"] else "cannot tell"


def image_difference(images, others, units=None, n_resamples=1000, seed=0, **labels):
    """How much pairs of images differ: the mean over pairs of mean |image - other|, and the largest |image - other|.

    Of the base model at two number formats it says what rounding alone does, e.g. float32 against bfloat16.

    Shapes   images, others (n, 3, height, width) in [0, 1], the same prompts and seeds in the same order
             units (n,) names; None = every pair is its own unit
    returns  dict definition, n, value, low, high (bootstrap over units; 0 = equal, 1 = black against white), largest
    Raises   StatisticsError when the sets do not pair
    """
    images, others = (np.asarray(x, float) for x in (images, others))
    if images.shape != others.shape or not len(images):
        raise StatisticsError(f"Images of shape {images.shape} and {others.shape} do not pair; make both from the same prompts and seeds.")
    if not (np.isfinite(images).all() and np.isfinite(others).all()):
        raise StatisticsError("Some images are not finite, so their difference is none. Look for NaN in the number format that made them.")
    gap = np.abs(images - others).reshape(len(images), -1)
    found = _mean_of(gap.mean(axis=1), units, n_resamples, seed)
    numbers = {"n": len(images), "value": found.value, "low": found.low, "high": found.high, "largest": float(gap.max())}
    return labels | {"definition": "image_difference"} | numbers


def clip_scores(clip, images, prompts, batch=64):
    """How well each image fits its prompt: 100 max(cos(image vector, text vector), 0), (n,) array.

    clip     a workbench.methods.detectors.clip_zero_shot.Clip, or the path of its folder
    Raises   StatisticsError when images and prompts do not pair
    Source   Hessel et al. 2021, arXiv 2104.08718, with the factor 100 that image generation uses instead of 2.5
    """
    import torch
    from torch.nn.functional import cosine_similarity

    from workbench.methods.detectors import check_images

    clip, prompts = _clip(clip), list(prompts)
    if len(images) != len(prompts) or not prompts:
        raise StatisticsError(f"{len(images)} images and {len(prompts)} prompts do not pair; give every image its prompt.")
    check_images(images)
    found = []
    with torch.no_grad():
        for start in range(0, len(prompts), batch):
            part = slice(start, start + batch)
            found.append(cosine_similarity(clip.image_features(images[part]), clip.text_features(prompts[part]), dim=1))
    return 100 * torch.cat(found).clamp(min=0).double().numpy()


def clip_score(clip, images, prompts, units=None, n_resamples=1000, seed=0, **labels):
    """The mean CLIP score with a bootstrap interval over units.

    returns  dict definition, model (digest of the CLIP folder: scores of two models are not comparable), n, value, low, high,
             n_cut (prompts that lost words to the model's context)
    """
    clip, prompts = _clip(clip), list(prompts)
    found = _mean_of(clip_scores(clip, images, prompts), units, n_resamples, seed)
    n_cut = sum(cut > 0 for cut in clip.n_cut(prompts))
    numbers = {"n": len(prompts), "value": found.value, "low": found.low, "high": found.high, "n_cut": n_cut}
    return labels | {"definition": "clip_score", "model": f"clip {clip.version}"} | numbers


def mean_score(scores, units=None, base=None, n_resamples=1000, seed=0):
    """The mean score with a bootstrap interval over units, and the mean change from the base model's images of the same prompts.

    Shapes   scores (prompt,);  units (prompt,) names;  base (prompt,) in the same order, or None: then the change is None
    returns  dict with the keys MEAN_SCORE
    Raises   StatisticsError when there are fewer than 2 units, or the two do not pair
    """
    scores = np.asarray(scores, float)
    units = np.arange(len(scores)) if units is None else np.asarray(units)
    if base is not None and len(base) != len(scores):
        raise StatisticsError(f"{len(scores)} scores and {len(base)} of the base model do not pair; score the same prompts.")
    found = _mean_of(scores, units, n_resamples, seed)
    change = None if base is None else _mean_of(scores - np.asarray(base, float), units, n_resamples, seed)
    numbers = [len(scores), found.n, found.value, found.low, found.high]
    numbers += [None] * 3 if change is None else [change.value, change.low, change.high]
    return dict(zip(MEAN_SCORE, numbers, strict=True))


def _clip(clip):
    from workbench.methods.detectors.clip_zero_shot import Clip

    return clip if isinstance(clip, Clip) else Clip(clip)


def _mean_of(values, units, n_resamples, seed):
    units = np.arange(len(values)) if units is None else units
    return bootstrap_means(lambda mean: mean, units, values, n_resamples=n_resamples, seed=seed)


def _matrix(values):
    values = np.asarray(values, float)
    if values.ndim != 2:
        raise StatisticsError(f"Features have the shape (image, feature), not {values.shape}.")
    if not np.isfinite(values).all():
        raise StatisticsError("Some features are not finite, so there is no distance. Look for broken images.")
    return values


def _units(units, n, side):
    """Names (image,); without any, one of its own for every image, which no image of the other set shares."""
    if units is None:
        return np.array([f"{side} {row}" for row in range(n)])
    if len(units) != n:
        raise StatisticsError(f"{len(units)} units do not pair with {n} images; give one unit per image.")
    return np.asarray([f"unit {unit}" for unit in units])


def _distances(x, y, weights):
    """(resample,) KID of two sets, each (features, unit numbers)."""
    return _mean_kernel(x, x, weights) + _mean_kernel(y, y, weights) - 2 * _mean_kernel(x, y, weights)


def _mean_kernel(x, y, weights):
    """(resample,) mean kernel over the pairs of different units, each pair counted by the product of its units' weights.

    x, y   (features (image, feature), unit (image,) numbers);  weights (resample, unit)
    """
    (x, unit_x), (y, unit_y) = x, y
    apart = (unit_x[:, None] != unit_y).astype(float)
    kernel = (x @ y.T / x.shape[1] + 1) ** DEGREE * apart
    left, right = weights[:, unit_x], weights[:, unit_y]
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((left @ kernel) * right).sum(axis=1) / ((left @ apart) * right).sum(axis=1)
