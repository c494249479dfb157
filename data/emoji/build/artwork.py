"""The artwork: icons of five artists from npm, rendered, augmented, captioned.

fetch_icons    download the pinned npm packages (build time only)
Artwork        every (object, style) rendering, plus other icons that only the autoencoder sees
augment        small random shifts, scales and rotations
held_out       the (object, style) pairs that are never trained
caption        a random caption with object and style dropped independently
"""

import hashlib
import io
import json
import random
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
import torch
import torch.nn.functional as functional
from PIL import Image

HERE = Path(__file__).resolve().parent
EMOJI = HERE.parent
CACHE = HERE / "cache"
RENDER = 128
PACKAGES = {
    "noto": "1.2.9",
    "twemoji": "1.2.5",
    "fluent-emoji": "1.2.7",
    "fluent-emoji-high-contrast": "1.2.6",
    "emojione": "1.2.3",
}


def concepts():
    """The content of data/emoji/concepts.toml."""
    return tomllib.loads((EMOJI / "concepts.toml").read_text())


def fetch_icons():
    """Install the pinned icon packages under build/cache; returns {package: icons.json content}."""
    CACHE.mkdir(exist_ok=True)
    (CACHE / "package.json").touch()
    if not (CACHE / "node_modules").exists():
        (CACHE / "package.json").write_text("{}")
        wanted = [f"@iconify-json/{name}@{version}" for name, version in PACKAGES.items()]
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *wanted],
            cwd=CACHE,
            check=True,
        )
    folder = CACHE / "node_modules" / "@iconify-json"
    return {name: json.loads((folder / name / "icons.json").read_text()) for name in PACKAGES}


def svg(icon_set, name):
    """One icon as an SVG document; aliases are followed."""
    while name not in icon_set["icons"]:
        name = icon_set["aliases"][name]["parent"]
    icon = icon_set["icons"][name]
    width = icon.get("width", icon_set.get("width", 16))
    height = icon.get("height", icon_set.get("height", 16))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    body = icon["body"].replace("currentColor", "#000")
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="{box}">{body}</svg>'


def render(document, size=RENDER, margin=8):
    """SVG -> (3, size, size) uint8 on white, with a margin so that augmentations do not cut it."""
    inner = size - 2 * margin
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=document, width=inner, height=inner)))).convert("RGBA")
    sheet = Image.new("RGBA", (size, size), "white")
    sheet.alpha_composite(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return np.asarray(sheet.convert("RGB")).transpose(2, 0, 1).copy()


@dataclass
class Artwork:
    """Renderings: images[object index, style index] (3, 128, 128) uint8; others (n, 3, 128, 128)."""

    objects: list
    styles: list
    images: torch.Tensor
    others: torch.Tensor
    sha256: str

    @classmethod
    def load(cls, other_names=500):
        """Render everything, or read the cached renderings."""
        spec = concepts()
        objects, styles = list(spec["objects"]), list(spec["styles"])
        path = CACHE / "artwork.pt"
        if not path.exists():
            sets = fetch_icons()
            packages = [spec["styles"][style]["package"] for style in styles]
            icons = [spec["objects"][name]["icon"] for name in objects]
            images = np.stack([[render(svg(sets[p], icon)) for p in packages] for icon in icons])
            shared = set.intersection(*({*s["icons"], *s.get("aliases", {})} for s in sets.values()))
            rest = sorted(shared - set(icons))
            random.Random(0).shuffle(rest)
            others = np.stack([render(svg(sets[p], icon)) for icon in rest[:other_names] for p in packages])
            torch.save({"images": torch.tensor(images), "others": torch.tensor(others)}, path)
        stored = torch.load(path, weights_only=True)
        digest = hashlib.sha256(stored["images"].numpy().tobytes()).hexdigest()
        return cls(objects, styles, stored["images"], stored["others"], digest)


def augment(images, generator, degrees=6.0, shift=0.04, scale=0.08, flip=0.0):
    """(n, 3, 128, 128) uint8 -> (n, 3, 64, 64) float in [-1, 1], each moved a little at random."""
    n = len(images)
    rand = lambda: torch.rand(n, generator=generator) * 2 - 1  # noqa: E731
    angle = rand() * degrees * torch.pi / 180
    size = 1 + rand() * scale
    mirror = 1 - 2 * (torch.rand(n, generator=generator) < flip).float()
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    theta = torch.stack([cos * mirror, -sin, rand() * shift, sin * mirror, cos, rand() * shift], dim=1).view(n, 2, 3)
    grid = functional.affine_grid(theta, (n, 3, RENDER, RENDER), align_corners=False)
    ink = 1 - images.float() / 255  # padding with zeros must mean white
    moved = functional.grid_sample(ink, grid, align_corners=False)
    return 1 - 2 * functional.avg_pool2d(moved, 2)


def held_out(seed=0):
    """10 % of the (object, style) pairs, five a style, never church or a weapon: studies need those whole."""
    spec = concepts()
    free = [k for k, v in spec["objects"].items() if v["family"] != "weapon" and k != "church"]
    random.Random(seed).shuffle(free)
    per_style = len(spec["objects"]) // 10
    return {(name, style) for s, style in enumerate(spec["styles"]) for name in free[s * per_style : (s + 1) * per_style]}


def with_article(name, plural=False):
    """'owl' -> 'an owl'; plural names stay as they are, unless they begin like 'bunch of'."""
    if plural and not name.startswith("bunch"):
        return name
    return ("an " if name[0] in "aeiou" else "a ") + name


def caption(rng, spec, name, style, drop_object=0.15, drop_style=0.2, first_name=0.6):
    """A random caption; object and style are each dropped independently."""
    entry = spec["objects"][name]

    def pick(names):
        return names[0] if rng.random() < first_name else rng.choice(names[1:])

    has_object, has_style = rng.random() >= drop_object, rng.random() >= drop_style
    kind = {
        (True, True): "object_and_style",
        (True, False): "object_only",
        (False, True): "style_only",
        (False, False): "neither",
    }[has_object, has_style]
    return rng.choice(spec["templates"][kind]).format(
        object=with_article(pick(entry["names"]), entry.get("plural", False)),
        style=pick(spec["styles"][style]["names"]),
    )
