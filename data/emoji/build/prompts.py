"""Write data/prompts/emoji-*.csv: prompt sets of the bundled studies, from concepts.toml.

A unit is one prompt and one seed: no two rows of a file share both, and no two share the seed. What is said comes back in other
words and from other noise once every object or style had its turn, so a unit is a fresh picture, not a fresh subject: 100 units of
ink are 45 objects drawn up to three times. Church is one object in five styles, said in 60 ways; rows 61 to 100 say them again from
other noise. The bundled studies use the first rows.

What an eraser or a mask learns from is never measured: no erasing pair and no retained prompt is in a measured file of its study.
"""

import csv
import random

from artwork import EMOJI, concepts, held_out, with_article

FOLDER = EMOJI.parent / "prompts"
N_UNITS = 100


def phrase(spec, name, style=None, template=0):
    """'an owl in ink style', by first names."""
    entry = spec["objects"][name]
    words = with_article(entry["names"][0], entry.get("plural", False))
    if style is None:
        return spec["templates"]["object_only"][1].format(object=words)
    return spec["templates"]["object_and_style"][template].format(object=words, style=spec["styles"][style]["names"][0])


def wordings(spec, name, style, first):
    """Ways to ask for an object in a style: first names in three templates from number `first` on, then every name and template but one.

    The one that is left of each pair of names is for the erasing pairs.
    """
    entry, called = spec["objects"][name], spec["styles"][style]["names"]
    templates = spec["templates"]["object_and_style"]
    usual, kept = [(template % 3, 0, 0) for template in range(first, first + 3)], list(spec["styles"]).index(style)
    names = [(n, s) for s in range(len(called)) for n in range(len(entry["names"])) if n or s]
    rest = [(t, n, s) for t in range(len(templates)) for n, s in names if t != (kept + n + s) % len(templates)]
    return [
        templates[t].format(object=with_article(entry["names"][n], entry.get("plural", False)), style=called[s]) for t, n, s in usual + rest
    ]


def write(name, columns, rows):
    """One CSV."""
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def style_study(spec, style):
    """Units are (object, style, seed), each round over the objects in another template; reference is the same object in another style."""
    hidden, rng = held_out(), random.Random(11)
    objects = [name for name in spec["objects"] if (name, style) not in hidden]
    rng.shuffle(objects)
    others = [s for s in spec["styles"] if s != style]
    sets = {"target": [], "reference": [], "near": [], "far": []}
    rounds = [(template, name) for template in range(3) for name in objects]
    for number, (template, name) in enumerate(rounds[:N_UNITS]):
        allowed = [s for s in others if (name, s) not in hidden]
        swapped, near = rng.sample(allowed, 2)
        seed, unit = 1000 + number, f"{name}/{style}/{template}" if template else f"{name}/{style}"
        sets["target"].append((unit, phrase(spec, name, style, template), seed, f"style:{style}"))
        sets["reference"].append((unit, phrase(spec, name, swapped, template), seed, f"style:{swapped}"))
        sets["near"].append((unit, phrase(spec, name, near, template), seed, f"style:{near}"))
        sets["far"].append((unit, phrase(spec, name), seed, f"object:{name}"))
    for kind, rows in sets.items():
        write(f"emoji-{style}-{kind}", ["unit", "prompt", "seed", "expect"], rows)


def unmeasured(drawn, others, taken):
    """What was drawn, or the first of the others where that is taken."""
    return next(prompt for prompt in (drawn, *others) if prompt not in taken)


def style_pairs(spec, style, taken):
    """Erasing pairs: every name of the style, with objects and alone, beside the same without it; none of them is in `taken`."""
    rng, rows = random.Random(12), []
    for name in spec["objects"]:
        entry = spec["objects"][name]
        words = with_article(entry["names"][0], entry.get("plural", False))
        style_name, template = rng.choice(spec["styles"][style]["names"]), rng.choice(spec["templates"]["object_and_style"])
        every = [(t, name) for name in spec["styles"][style]["names"] for t in spec["templates"]["object_and_style"]]
        said, *others = (t.format(object=words, style=name) for t, name in [(template, style_name), *every])
        rows.append((unmeasured(said, others, taken), spec["templates"]["object_only"][0].format(object=words)))
    for style_name in spec["styles"][style]["names"]:
        for template in spec["templates"]["style_only"]:
            rows.append((template.format(style=style_name), "an emoji"))
    write(f"emoji-{style}-erase", ["prompt", "anchor"], rows)


def other_style(spec, style, other, pairs):
    """Another style on the units of a style's study, and the same without it; nothing that is in the file `pairs`, or a target twice."""
    hidden, taken = held_out(), {prompt for row in read_rows(pairs) for prompt in (row["prompt"], row["anchor"])}
    sets = {"target": [], "reference": []}
    for number, row in enumerate(read_rows(f"{style}-target")):
        name, template = row["unit"].split("/")[0], int((row["unit"].split("/") + ["0"])[2])
        every = [template, *range(len(spec["templates"]["object_and_style"]))]
        allowed = [s for s in spec["styles"] if s not in (style, other) and (name, s) not in hidden]
        swapped = allowed[number % len(allowed)]
        for kind, said in (("target", other), ("reference", swapped)):
            drawn, *others = (phrase(spec, name, said, one) for one in every)
            sets[kind].append((row["unit"], unmeasured(drawn, others, taken), row["seed"], f"style:{said}"))
            taken.add(sets["target"][-1][1])
    for kind, rows in sets.items():
        write(f"emoji-{style}-{other}-{kind}", ["unit", "prompt", "seed", "expect"], rows)


def object_study(spec, name, wanted, near, avoid):
    """Units are (object of the concept, style, seed); reference and far are unrelated objects, near the look-alikes.

    wanted   objects of the concept;  near   their neighbours;  avoid   objects never used as reference or far, such as the sham's
    """
    hidden, free = held_out(), [o for o in spec["objects"] if o not in {*wanted, *near, *avoid}]
    random.Random(13).shuffle(free)
    sets = {"target": [], "reference": [], "near": [], "far": []}
    styles = list(spec["styles"])
    pairs = [(thing, style) for thing in wanted for style in styles]
    for number in range(N_UNITS):
        thing, style = pairs[number % len(pairs)]
        seed, unit, template = 1000 + number, f"{thing}/{style}/{number}", number % 3
        allowed = [o for o in free if (o, style) not in hidden]
        swapped, far = allowed[(2 * number) % len(allowed)], allowed[(2 * number + 1) % len(allowed)]
        neighbours = [o for o in near if (o, style) not in hidden]
        beside = neighbours[number % len(neighbours)]
        again, ways = number // len(pairs), wordings(spec, thing, style, number % len(pairs))
        sets["target"].append((unit, ways[again % len(ways)], seed, f"object:{thing}"))
        sets["reference"].append((unit, phrase(spec, swapped, style, template), seed, f"object:{swapped}"))
        sets["near"].append((unit, phrase(spec, beside, style, template), seed, f"object:{beside}"))
        sets["far"].append((unit, phrase(spec, far, style, template), seed, f"object:{far}"))
    for kind, rows in sets.items():
        write(f"emoji-{name}-{kind}", ["unit", "prompt", "seed", "expect"], rows)


def object_pairs(spec, name, things, taken):
    """Erasing pairs: every name of every object, with styles and alone, beside the same without it; none of them is in `taken`."""
    rng, rows = random.Random(14), []
    for thing in things:
        entry = spec["objects"][thing]
        for called in entry["names"]:
            words = with_article(called, entry.get("plural", False))
            for style in spec["styles"].values():
                style_name, template = rng.choice(style["names"]), rng.choice(spec["templates"]["object_and_style"])
                every = (template, *spec["templates"]["object_and_style"])
                said, *others = (t.format(object=words, style=style_name) for t in every)
                rows.append((unmeasured(said, others, taken), f"an emoji in {style_name} style"))
            rows += [(template.format(object=words), "an emoji") for template in spec["templates"]["object_only"]]
    write(f"emoji-{name}-erase", ["prompt", "anchor"], rows)


def read_rows(file):
    """The rows of one of the files."""
    with (FOLDER / f"emoji-{file}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def read_prompts(file):
    """The prompts of one of the files."""
    return [row["prompt"] for row in read_rows(file)]


def measured(name):
    """Every prompt of the measured files of a study."""
    return {prompt for kind in ("target", "reference", "near", "far") for prompt in read_prompts(f"{name}-{kind}")}


def retained(name, start):
    """Prompts a mask may be taught to keep: those of the file `start` that no measured file has, each once."""
    taken = measured(name)
    write(f"emoji-{name}-retain", ["prompt"], [(prompt,) for prompt in dict.fromkeys(read_prompts(start)) if prompt not in taken])


def other_objects(spec, name, things):
    """Prompts a mask may be taught to keep for an object: each other object twice, by any name in any style; none that is measured."""
    rng, prompts, hidden = random.Random(15), [], held_out()
    for other in (o for o in spec["objects"] if o not in things):
        styles = rng.sample([s for s in spec["styles"] if (other, s) not in hidden], 2)
        for style in styles:
            words = with_article(rng.choice(spec["objects"][other]["names"]), spec["objects"][other].get("plural", False))
            template = rng.choice(spec["templates"]["object_and_style"])
            prompts.append(template.format(object=words, style=rng.choice(spec["styles"][style]["names"])))
    taken = measured(name)
    write(f"emoji-{name}-retain", ["prompt"], [(prompt,) for prompt in dict.fromkeys(prompts) if prompt not in taken])


def main():
    """Everything the bundled studies name."""
    spec = concepts()
    style_study(spec, "ink")
    style_pairs(spec, "ink", measured("ink"))
    style_pairs(spec, "twemoji", measured("ink"))
    other_style(spec, "ink", "twemoji", "twemoji-erase")
    retained("ink", "twemoji-erase")
    objects = {name: entry["family"] for name, entry in spec["objects"].items()}

    def family(name):
        return [thing for thing, kind in objects.items() if kind == name]

    object_study(spec, "church", ["church"], ["house", "castle"], [*family("building"), "locomotive"])
    object_pairs(spec, "church", ["church"], measured("church"))
    other_objects(spec, "church", ["church"])
    object_pairs(spec, "locomotive", ["locomotive"], measured("church"))
    vehicles = family("vehicle")[:5]
    object_study(spec, "weapon", family("weapon"), family("tool"), vehicles)
    object_pairs(spec, "weapon", family("weapon"), measured("weapon"))
    other_objects(spec, "weapon", family("weapon"))
    object_pairs(spec, "vehicle", vehicles, measured("weapon"))


if __name__ == "__main__":
    main()
