"""Detectors: is the concept in the image?

A detector module has `Parameters` and `load(parameters)`, which returns a `Detector`.

Detector     a network with named labels; `present` answers, `sweep` shows what another threshold would answer
opened       what a study says of a detector -> the detector; opening: each only once;  located: its parameters, files and folders found
Cached       the same detector for judging only: an image that was judged before is looked up, not judged again
Preprocess   images in [0, 1] -> what a transformers folder's model expects, differentiable
model_folder, model_digest, pretrained   a local transformers folder: found, named by its config and weights, read
"""

import difflib
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from workbench import registry, resources, storage, textfile
from workbench.errors import MethodError, ModelError, first_line, nearest

PATH_WORDS = re.compile(r"\b(files?|folders?|paths?|director(?:y|ies))\b", re.IGNORECASE)
PATH_NAMES = ("model", "weights", "path", "file", "folder", "checkpoint")
WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")


def opened(given, folder="."):
    """The detector that a study names.

    given    {"method": name, parameter: value}
    folder   that of the study: files and folders that a parameter names are looked for there first
    Raises   MethodError, ModelError; where a file or folder that is named is not there, they say where was looked
    """
    given = dict(given)
    method = registry.method("detectors", given.pop("method"))
    parameters = method.parameters(**given)
    try:
        detector = method.call(located(parameters, folder))
    except (MethodError, ModelError) as error:
        missing = [value for _, value in _paths(parameters) if resources.find(value, folder) is None]
        error.args = (" ".join([str(error), *(resources.looked(value, folder) for value in missing)]),)
        raise
    lacking = [name for name in ("name", "version", "labels", "thresholds", "present") if not hasattr(detector, name)]
    if lacking:
        raise MethodError(
            f"The detector {method.name} returns a {type(detector).__name__} without {', '.join(lacking)}; return a Detector."
        )
    return detector


def opening(folder="."):
    """`opened` of that folder that opens each detector once."""
    known = {}

    def once(given):
        key = json.dumps(given, sort_keys=True, default=str)
        if key not in known:
            known[key] = opened(given, folder)
        return known[key]

    return once


def located(parameters, folder):
    """The parameters, with files and folders that they name found beside the study first, else as given.

    A parameter names one when it is text, and its own name or its meaning says model, weights, file, folder or path.
    """
    found = {name: resources.find(value, folder) for name, value in _paths(parameters)}
    return parameters.model_copy(update={name: str(path) for name, path in found.items() if path is not None})


def _paths(parameters):
    """(name, value) of the parameters that name a file or folder."""
    for name, field in type(parameters).model_fields.items():
        value = getattr(parameters, name)
        if isinstance(value, str) and _is_text(field.annotation) and (name in PATH_NAMES or PATH_WORDS.search(field.description or "")):
            yield name, value


def _is_text(annotation):
    return annotation is str or any(map(_is_text, getattr(annotation, "__args__", ())))


@dataclass
class Detector:
    """A network with named labels, each with a calibrated threshold.

    network          images (n, 3, height, width) in [0, 1] -> probabilities (n, label)
    thresholds       {label: probability from which the label counts as present}
    features         images -> (n, feature), the layer before the answer, for image distances; None = it has none
    rule             (probabilities (n, label), thresholds (label,)) -> bool (n, label); None = probability >= threshold
    floor            the lowest probability it reports; what is below comes out as 0
    differentiable   whether attacks may follow its gradient
    """

    name: str
    version: str
    labels: list
    thresholds: dict
    network: Callable
    features: Callable | None = None
    rule: Callable | None = None
    floor: float = 0.0
    differentiable: bool = True

    def probabilities(self, images, batch=64):
        """Probabilities (n, label) of images, without gradient, in batches.

        Raises   MethodError when the images are no floats in [0, 1], of shape (n, 3, height, width), or hold NaN or infinity, or
                 when the network answers so
        """
        import torch

        check_images(images)
        with torch.no_grad():
            found = torch.cat([self.network(part) for part in images.split(batch)])
        if not found.isfinite().all():
            broken = int((~found.isfinite()).flatten(1).any(dim=1).sum())
            raise MethodError(
                f"The detector {self.name} gave no finite probability for {broken} of {len(found)} images, which are finite. "
                "Its own weights are broken: check the files that the study's [detectors] name."
            )
        return found

    def present(self, images, labels):
        """Whether any of the labels is found in each image: (bool, highest probability among them), each (n,)."""
        self.check_labels(labels)
        columns = self.columns(labels)
        probabilities = self.probabilities(images)
        found = self.decide(probabilities, [self.thresholds.get(label, 1.0) for label in self.labels])
        return found[:, columns].any(dim=1), probabilities[:, columns].amax(dim=1)

    def sweep(self, images, labels, thresholds):
        """How often any of the labels is found at each threshold; the rate never rises with the threshold.

        returns  list of {threshold, n, successes, rate, low, high}, in the order of `thresholds`; Wilson intervals,
                 for images of different units
        Raises   MethodError for a threshold below the detector's floor; StatisticsError for no images
        """
        from workbench.statistics import wilson

        rows = []
        for threshold, found in zip(thresholds, self.present_at(images, labels, thresholds), strict=True):
            rate = wilson(int(found.sum()), len(found))
            rows.append({"threshold": float(threshold), "n": rate.n, "successes": int(found.sum()), "rate": rate.value})
            rows[-1] |= {"low": rate.low, "high": rate.high}
        return rows

    def present_at(self, images, labels, thresholds):
        """Whether any of the labels is found in each image at each threshold: one (n,) bool per threshold.

        Raises   MethodError for a threshold below the detector's floor
        """
        for threshold in thresholds:
            if not self.floor <= threshold <= 1:
                raise MethodError(
                    f"The detector {self.name} reports probabilities from {self.floor:g} to 1, so it cannot be asked at {threshold:g}. "
                    "Leave that threshold out of the sweep."
                )
        columns, probabilities = self.columns(labels), self.probabilities(images)
        return [self.decide(probabilities, [t] * len(self.labels))[:, columns].any(dim=1) for t in thresholds]

    def decide(self, probabilities, thresholds):
        """Which labels count as present, bool (n, label), at one threshold per label."""
        limits = probabilities.new_tensor(thresholds)
        return self.rule(probabilities, limits) if self.rule else probabilities >= limits

    def check_labels(self, labels):
        """Refuse labels that `present` cannot answer for.

        Raises   MethodError with the nearest label; for a label without a threshold
        """
        self.columns(labels)
        for label in labels:
            if label not in self.thresholds:
                raise MethodError(f'The detector {self.name} has no threshold for "{label}". Give its `thresholds` one for each label.')

    def columns(self, labels):
        """The columns of labels.

        Raises   MethodError with the nearest label
        """
        for label in labels:
            if label not in self.labels:
                near = self.labels if len(self.labels) <= 40 else difflib.get_close_matches(label, self.labels, n=5, cutoff=0.0)
                raise MethodError(f'The detector {self.name} has no label "{label}".{nearest(label, near)}')
        return [self.labels.index(label) for label in labels]


class Cached(Detector):
    """A detector that remembers: what it said of an image is kept in `folder` and looked up the next time.

    An answer belongs to the detector's version, its code where that is given (of one that does not come with the workbench), its
    labels, and the image's bytes, shape and dtype. It is for judging: it has
    no gradient. Each call that meets new images adds one small Parquet file, written beside and renamed, so that several
    processes may share a folder.

    A damaged file is set aside with a warning (its pages carry checksums), and its images are looked at again.

    hits, misses   images answered from the folder, and images looked at
    """

    def __init__(self, detector, folder, code=None):
        super().__init__(**{field.name: getattr(detector, field.name) for field in fields(Detector)})
        self.network, self.differentiable = self._no_gradient, False
        self.detector, self.hits, self.misses = detector, 0, 0
        belongs_to = [detector.version, list(detector.labels), *([code] if code else [])]
        self.folder = Path(folder) / storage.digest(belongs_to)[:16]
        self._known, self._read = {}, set()
        self._read_new()

    def probabilities(self, images, batch=64):
        """As the detector says, from the folder where it can: (n, label)."""
        import torch

        check_images(images)
        keys = [storage.tensors_digest({"image": image}) for image in images]
        if not set(keys) <= self._known.keys():
            self._read_new()
        place = {key: row for row, key in enumerate(keys) if key not in self._known}
        if place:
            found = self.detector.probabilities(images[list(place.values())], batch).float().cpu()
            self._keep(dict(zip(place, found.numpy(), strict=True)))
        self.misses, self.hits = self.misses + len(place), self.hits + len(keys) - len(place)
        answers = [torch.as_tensor(self._known[key]) for key in keys]
        return torch.stack(answers) if answers else torch.zeros(0, len(self.labels))

    def _keep(self, answers):
        import pandas

        path = self.folder / f"{storage.digest(sorted(answers))[:16]}.parquet"
        storage.write_table(path, pandas.DataFrame({"image": list(answers), "probabilities": list(answers.values())}))
        self._known |= answers
        self._read.add(path)

    def _read_new(self):
        for path in sorted(set(self.folder.glob("*.parquet")) - self._read):
            try:
                table = storage.read_table(path)
                self._known |= dict(zip(table["image"], (row.astype("float32") for row in table["probabilities"]), strict=True))
            except (storage.DamagedFile, KeyError, AttributeError, ValueError):
                path.replace(path.with_name(f"{path.name}.damaged"))
                warnings.warn(f"What {self.name} said of some images was damaged in {path}. They are judged again.", stacklevel=3)
            self._read.add(path)

    def _no_gradient(self, images):
        raise MethodError(f"The cached detector {self.name} judges only and has no gradient. Give attacks the detector itself.")


def check_images(images):
    """Refuse images that are no floats (n, 3, height, width) in [0, 1]; NaN and infinity are none.

    Raises   MethodError that says what they are and how to bring them there
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise MethodError(f"Detectors look at images of shape (n, 3, height, width), not {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise MethodError(f"Detectors look at floats in [0, 1], not {images.dtype}. Divide images of 8 bits by 255.")
    if not (finite := images.isfinite()).all():
        broken = int((~finite).flatten(1).any(dim=1).sum())
        raise MethodError(
            f"{broken} of {len(images)} images hold NaN or infinity, so no detector can judge them. The model that drew them is broken or "
            "its numbers overflow: check its weights, or calculate in float32."
        )
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):
        raise MethodError(
            f"Detectors look at images in [0, 1]; these reach from {float(images.min()):.3g} to {float(images.max()):.3g}. "
            "Clamp them, or find out why they are broken."
        )


class Preprocess:
    """Resize, crop and normalise images as a transformers folder says, differentiably and without its image library.

    images (n, 3, height, width) in [0, 1] -> (n, 3, crop height, crop width), normalised

    Bicubic or bilinear interpolation with antialiasing, clamped to [0, 1] as an image of 8 bits would be. Where the folder
    resizes the shortest edge, the middle is cropped; `crop_pct` enlarges the resized image before a square crop (ConvNeXt,
    also used by ResNet).

    Raises   ModelError when the folder has no preprocessor_config.json, or asks for another interpolation
    """

    def __init__(self, folder):
        try:
            self._read(folder)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ModelError(
                f"{folder} has a preprocessor_config.json that cannot be used ({type(error).__name__}: {first_line(error)}). "
                "Save the model's "
                "processor there again."
            ) from error

    def _read(self, folder):
        import torch

        self.folder, about = folder, _preprocessor(folder)
        if about.get("do_resize", True) and about.get("resample", 3) not in (2, 3):
            raise ModelError(f"{folder} resizes by method {about['resample']}; only 2 (bilinear) and 3 (bicubic) are possible here.")
        self.mode = "bilinear" if about.get("resample", 3) == 2 else "bicubic"
        self.size, self.crop = _sizes(about, folder)
        normalise = about.get("do_normalize", True)
        self.mean, self.std = (
            torch.tensor(about[key] if normalise else plain).reshape(3, 1, 1)
            for key, plain in (("image_mean", [0.0] * 3), ("image_std", [1.0] * 3))
        )
        self.scale = 255 * (about.get("rescale_factor", 1 / 255) if about.get("do_rescale", True) else 1)

    def __call__(self, images):
        images = images.float().cpu()
        if self.size:
            size = self.size if isinstance(self.size, tuple) else _shortest(images.shape[-2:], self.size)
            images = _resized(images, size, self.mode)
        if self.crop:
            images = _middle(images, self.crop, self.folder)
        return (images * self.scale - self.mean) / self.std


def _preprocessor(folder):
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        path = Path(folder) / name
        if path.is_file():
            about = _json(path)
            about = about.get(key, {}) if key else about
            if "image_mean" in about or not about.get("do_normalize", True):
                return about
    raise ModelError(f"{folder} has no preprocessor_config.json with image_mean and image_std; save it there with the model's processor.")


def _sizes(about, folder):
    """What to resize to, (height, width) or the shortest edge or None, and what to crop, (height, width) or None."""
    size = about.get("size") if about.get("do_resize", True) else None
    crop = _pair(about.get("crop_size")) if about.get("do_center_crop", False) else None
    kind = str(about.get("image_processor_type") or about.get("feature_extractor_type") or "")
    share = about.get("crop_pct") or (224 / 256 if kind.startswith("ConvNext") else None)
    if size is None:
        return None, crop
    if isinstance(size, int):  # files before 2022: one number, the shortest edge where something is cropped afterwards
        size = {"shortest_edge": size} if share or crop else {"height": size, "width": size}
    edge = size.get("shortest_edge")
    if edge and share:
        return (int(edge / share), (edge, edge)) if edge < 384 else ((edge, edge), crop)
    if edge or {"height", "width"} <= size.keys():
        return edge or _pair(size), crop
    raise ModelError(f"{folder} resizes to {size}; only height and width, or shortest_edge, are possible here.")


def _pair(size):
    return (size, size) if isinstance(size, int) else size and (size["height"], size["width"])


def _shortest(shape, edge):
    """(height, width) that make the shortest edge of an image of this shape `edge` long."""
    height, width = shape
    return (int(edge * height / width), edge) if width <= height else (edge, int(edge * width / height))


def _resized(images, size, mode):
    from torch.nn.functional import interpolate

    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return interpolate(images, size=tuple(size), mode=mode, antialias=True, align_corners=False).clamp(0, 1)


def _middle(images, crop, folder):
    (height, width), (crop_height, crop_width) = images.shape[-2:], crop
    if crop_height > height or crop_width > width:
        raise ModelError(
            f"{folder} crops {crop_height} x {crop_width} pixels out of {height} x {width}; correct its preprocessor_config.json."
        )
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return images[..., top : top + crop_height, left : left + crop_width]


def model_folder(path, architecture=None):
    """A local transformers folder; nothing is ever downloaded, and no code of it is executed.

    Raises   ModelError when it is no folder with a config.json, is of another model type than `architecture`, brings code of its own, or
             has no weights as safetensors
    """
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(
            f'"{path}" is no folder with a config.json. Give the path of a transformers folder on this machine; nothing is downloaded.'
        )
    config = _json(folder / "config.json")
    if "auto_map" in config:
        raise ModelError(
            f'"{path}" brings code of its own (auto_map in config.json, '
            f"{', '.join(sorted(p.name for p in folder.glob('*.py'))[:3]) or '*.py'}), "
            "which is never executed here. Take a model that transformers knows by itself, or write a detector of your own around it "
            "(docs/guides/own-detector.md)."
        )
    kind = config.get("model_type")
    if architecture and kind != architecture:
        raise ModelError(f'"{path}" holds a model of type "{kind}", not "{architecture}". Give the folder of such a model.')
    if not any(folder.glob("*.safetensors")):
        others = sorted(p.name for pattern in WEIGHTS for p in folder.glob(pattern))
        if not others:
            raise ModelError(f'"{path}" has a config.json, but no weights (model.safetensors). Get the whole folder.')
        raise ModelError(
            f'"{path}" holds its weights as {others[0]} alone, a file that can carry code; only safetensors are opened. Convert '
            "it where you "
            'trust it: python -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous() for k, v in '
            f"torch.load('{others[0]}', weights_only=True).items()}}, 'model.safetensors', {{'format': 'pt'}})\""
        )
    return folder


def placed_folder(name, beside, architecture=None):
    """The transformers folder of that name: beside the study first, else as given; ModelError as of `model_folder`, with where "
    "was looked."""
    found = resources.find(name, beside)
    if found is None:
        raise ModelError(f'"{name}" is no folder with a config.json. {resources.looked(name, beside)} Nothing is downloaded.')
    return model_folder(found, architecture)


def _json(path):
    """The mapping in a JSON file; ModelError when it is no such file."""
    try:
        found = json.loads(textfile.read(path, ModelError))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged (not JSON: {first_line(error)}). Get it again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is damaged: it holds a {type(found).__name__}, no settings by name. Get it again.")
    return found


def model_digest(folder):
    """The first 12 letters of a sha256 over the config, the preprocessing and the weights of a transformers folder."""
    names = ["config.json", "preprocessor_config.json", "processor_config.json"]
    paths = [folder / name for name in names if (folder / name).is_file()]
    paths += sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return storage.digest({path.name: storage.file_digest(path) for path in paths})[:12]


def pretrained(kind, folder):
    """The model of a transformers folder in float32, frozen, in evaluation mode.

    kind     a class of transformers, by name
    Raises   ModelError when the folder's weights are missing, damaged or do not fill the model
    """
    import torch
    import transformers
    from transformers.utils import logging

    from workbench.models.load import READING_ERRORS

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        model, about = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except READING_ERRORS as error:
        raise ModelError(f"{folder} could not be read as {kind}: {first_line(error).rstrip('.')}.") from error
    missing = sorted([*about["missing_keys"], *(key for key, *_ in about.get("mismatched_keys", ()))])
    if missing:
        raise ModelError(f'{folder} lacks {len(missing)} weights of {kind}, e.g. "{missing[0]}"; with random ones it would detect nothing.')
    return model.eval().requires_grad_(False)
