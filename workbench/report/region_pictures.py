"""Where in the image a cluster is active, as a picture: its map laid over an image. Needs no torch.

overlay     the image in grey, heat where the cluster is more active than on average, a line round the brightest tenth of the map
scale       how active a place must be to get the full colour: one number for all maps of a run, so that they can be compared
place       where the brightest tenth lies, in words
webp        a picture as a small file

A hidden picture is blurred as every other one, and its map is brought down to as few places: neither shows shapes.
"""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from workbench.report.images import COARSE, blurred

SIDE = 160
BRIGHT = 0.1
LEAST_TOP = 2.0
# Okabe and Ito's orange, then darker: told from grey by hue, and from less heat by lightness
HEAT = np.array([(230, 159, 0), (213, 94, 0), (122, 34, 0)], float)
STRONGEST = 0.85
GREYS = (70, 250)


def scale(maps: Iterable[Any]) -> float:
    """The activity that gets the full colour, in multiples of a map's mean: the highest 99 % point of any map, at least 2."""
    return max([LEAST_TOP, *(float(np.quantile(one, 0.99)) for one in maps)])


def small(picture: Image.Image, side: int = SIDE) -> Image.Image:
    """The picture with its longer side of `side` pixels, RGB."""
    factor = side / max(picture.size)
    width, height = (max(1, round(length * factor)) for length in picture.size)
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def overlay(picture: Image.Image, level: Any, top: float, hide: bool = False, side: int = SIDE) -> Image.Image:
    """A picture with a map over it.

    level   (height, width) array, 1 = as active as on average over the picture; any size
    top     what has the full colour, from `scale`
    hide    blur the picture, and take of the map only the means over as coarse a grid
    """
    shown = small(blurred(picture.convert("RGB")) if hide else picture, side)
    level = Image.fromarray(np.asarray(level, np.float32))
    if hide:
        level = level.resize((COARSE, COARSE), Image.Resampling.BOX)
    heat = np.asarray(level.resize(shown.size, Image.Resampling.BICUBIC), float)
    share = np.clip((heat - 1) / (top - 1), 0, 1)
    low, high = GREYS
    grey = low + np.asarray(shown.convert("L"), float)[..., None] * (high - low) / 255
    colour = np.stack([np.interp(share, np.linspace(0, 1, len(HEAT)), HEAT[:, channel]) for channel in range(3)], axis=-1)
    alpha = (STRONGEST * np.sqrt(share))[..., None]
    made = Image.fromarray((grey * (1 - alpha) + colour * alpha).round().astype(np.uint8))
    inside = Image.fromarray(np.where(heat >= np.quantile(heat, 1 - BRIGHT), 255, 0).astype(np.uint8))
    for tone, line in (("white", _edge(inside, 5)), ("black", _edge(inside, 3))):
        made.paste(tone, mask=line)
    return made


def _edge(inside: Image.Image, width: int) -> Image.Image:
    """The line along the border of a black and white picture."""
    return ImageChops.subtract(inside.filter(ImageFilter.MaxFilter(width)), inside.filter(ImageFilter.MinFilter(width)))


def place(level: Any) -> str:
    """'upper left', 'centre', ... or 'several places': where the brightest tenth of a map (height, width) lies."""
    level = np.asarray(level, float)
    most = np.argsort(level, axis=None)[-max(1, round(BRIGHT * level.size)) :]
    y, x = np.unravel_index(most, level.shape)
    y, x = (y + 0.5) / level.shape[0], (x + 0.5) / level.shape[1]
    if np.sqrt(y.var() + x.var()) > 0.25:  # of a disc of that size 0.13, of points anywhere 0.41
        return "several places"
    words = [names[int(np.digitize(at.mean(), (0.4, 0.6)))] for at, names in ((y, ("upper", "", "lower")), (x, ("left", "", "right")))]
    return " ".join(filter(None, words)) if words[1] else {"upper": "top", "": "centre", "lower": "bottom"}[words[0]]


def webp(picture: Image.Image) -> bytes:
    """The bytes of a picture as a WebP file."""
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=80, method=4)
    return out.getvalue()
