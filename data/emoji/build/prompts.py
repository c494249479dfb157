"""Write data/prompts/emoji-*.csv: prompt sets of the bundled studies, from concepts.toml."""

import csv
import random

from artwork import EMOJI, concepts, held_out, with_article

FOLDER = EMOJI.parent / "prompts"
N_UNITS = 40


def phrase(spec, name, style=None, template=0):
    """'an owl in ink style', by first names."""
    entry = spec["objects"][name]
    words = with_article(entry["names"][0], entry.get("plural", False))
    if style is None:
        return spec["templates"]["object_only"][1].format(object=words)
    return spec["templates"]["object_and_style"][template].format(object=words, style=spec["styles"][style]["names"][0])


def write(name, columns, rows):
    """One CSV."""
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def style_study(spec, style):
    """Units are objects drawn in the style; reference is the same object in another style."""
    hidden, rng = held_out(), random.Random(11)
    objects = [name for name in spec["objects"] if (name, style) not in hidden]
    rng.shuffle(objects)
    others = [s for s in spec["styles"] if s != style]
    sets = {"target": [], "reference": [], "near": [], "far": []}
    for number, name in enumerate(objects[:N_UNITS]):
        allowed = [s for s in others if (name, s) not in hidden]
        swapped, near = rng.sample(allowed, 2)
        seed, unit = 1000 + number, f"{name}/{style}"
        sets["target"].append((unit, phrase(spec, name, style), seed, f"style:{style}"))
        sets["reference"].append((unit, phrase(spec, name, swapped), seed, f"style:{swapped}"))
        sets["near"].append((unit, phrase(spec, name, near), seed, f"style:{near}"))
        sets["far"].append((unit, phrase(spec, name), seed, f"object:{name}"))
    for kind, rows in sets.items():
        write(f"emoji-{style}-{kind}", ["unit", "prompt", "seed", "expect"], rows)


def style_pairs(spec, style):
    """Erasing pairs: every name of the style, with objects and alone, beside the same without it."""
    rng, rows = random.Random(12), []
    for name in spec["objects"]:
        entry = spec["objects"][name]
        words = with_article(entry["names"][0], entry.get("plural", False))
        style_name = rng.choice(spec["styles"][style]["names"])
        template = rng.choice(spec["templates"]["object_and_style"])
        rows.append((template.format(object=words, style=style_name), f"an emoji of {words}"))
    for style_name in spec["styles"][style]["names"]:
        for template in spec["templates"]["style_only"]:
            rows.append((template.format(style=style_name), "an emoji"))
    write(f"emoji-{style}-erase", ["prompt", "anchor"], rows)


def main():
    """Everything the bundled studies name."""
    spec = concepts()
    style_study(spec, "ink")
    style_pairs(spec, "ink")
    style_pairs(spec, "twemoji")


if __name__ == "__main__":
    main()
