"""Measure the bundled model and write the figures into data/emoji/README.md.

All (object, style) pairs, 2 seeds, 25 steps, guidance 5; an image counts as right when the most likely label is the wanted one.
"""

import json
import sys
import time

import torch
from artwork import CACHE, EMOJI, Artwork, concepts, held_out
from PIL import Image
from prompts import phrase

STEPS, GUIDANCE, SEEDS, BATCH = 25, 5.0, 2, 25


def generate(folder, log=print):
    """Images (pair, seed, 3, 64, 64) uint8 of all pairs, kept in the cache by pair; seconds per image."""
    from workbench.diffusion.denoise import denoise
    from workbench.models import text
    from workbench.models.load import load

    model, spec, art = load(str(folder)), concepts(), Artwork.load()
    pairs = [(o, s, seed) for seed in range(SEEDS) for o in art.objects for s in art.styles]
    with torch.no_grad():
        empty = text.encode(model, [""])
    images, began = [], time.time()
    for start in range(0, len(pairs), BATCH):
        chunk = pairs[start : start + BATCH]
        with torch.no_grad():
            states = text.encode(model, [phrase(spec, o, s) for o, s, _ in chunk])
        seeds = [50_000 + start + i for i in range(len(chunk))]
        latents, _ = denoise(model, states, empty, seeds, n_steps=STEPS, guidance=GUIDANCE)
        images.append(model.decode(latents))
        if start % 100 == 0:
            log(f"quality: {start + len(chunk)}/{len(pairs)} images, {(time.time() - began) / (start + len(chunk)):.2f} s each")
    return pairs, torch.cat(images), (time.time() - began) / len(pairs)


def measure(folder=EMOJI / "model", log=print):
    """{measure: number}: rates of right object and style by detector, trained and held-out pairs apart."""
    from workbench.registry import method

    pairs, images, seconds = generate(folder, log)
    hidden = held_out()
    trained = torch.tensor([(o, s) not in hidden for o, s, _ in pairs])
    result = {"seconds_per_image_in_batches": round(seconds, 3), "n_trained": int(trained.sum()), "n_held_out": int((~trained).sum())}
    detectors = method("detectors", "emoji")
    for which in ("steer", "judge"):
        detector = detectors.call(detectors.parameters(which=which))
        probabilities = detector.probabilities(images)
        for head, place in (("object", 0), ("style", 1)):
            columns = [i for i, label in enumerate(detector.labels) if label.startswith(head)]
            best = probabilities[:, columns].argmax(1)
            wanted = torch.tensor([detector.labels.index(f"{head}:{pair[place]}") - columns[0] for pair in pairs])
            right = best == wanted
            result[f"{which}_{head}_trained"] = round(right[trained].float().mean().item(), 4)
            result[f"{which}_{head}_held_out"] = round(right[~trained].float().mean().item(), 4)
            wrong = [
                f"{pairs[i][0]}/{pairs[i][1]}->{detector.labels[columns[0] + best[i]]}"
                for i in (~right & trained).nonzero().flatten().tolist()
            ]
            log(f"{which} {head} wrong: {' '.join(wrong[:40])}")
    sheet(images, pairs)
    return result


def sheet(images, pairs):
    """A contact sheet of the first seed: objects down, styles across, two columns of objects side by side."""
    n_styles = len({s for _, s, _ in pairs})
    first = (images[: len(pairs) // SEEDS] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    n_objects, per_column = len(first) // n_styles, -(-(len(first) // n_styles) // 4)
    page = Image.new("RGB", (4 * n_styles * 66, per_column * 66), "white")
    for i, picture in enumerate(first):
        o, s = divmod(i, n_styles)
        column, row = divmod(o, per_column)
        page.paste(Image.fromarray(picture), ((column * n_styles + s) * 66, row * 66))
    page.save(CACHE / "sheet.png")
    return n_objects


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else EMOJI / "model"
    found = measure(where)
    (EMOJI / "quality.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
