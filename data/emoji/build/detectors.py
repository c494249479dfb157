"""Train the two detectors apart, calibrate them, and set thresholds at 1 % false positives."""

import json
import time

import torch
import torch.nn.functional as functional
from artwork import CACHE, EMOJI, Artwork, augment
from safetensors.torch import save_file

from workbench.methods.detectors.emoji import network

STEPS = {"steer": 900, "judge": 520}
BATCH, RATE, FALSE_POSITIVES = 64, 2e-3, 0.01


def decoded_pool(vae, log=print, rounds=6, n_broken=600):
    """Decoded latents of the cache (object, style, round, 3, 64, 64) and broken decodes (n, 3, 64, 64), both in [-1, 1]."""
    path = CACHE / "decoded.pt"
    if not path.exists():
        latents = torch.load(CACHE / "latents.pt", weights_only=True)[:, :, :rounds]
        generator = torch.Generator().manual_seed(5)
        size = 0.3 + 1.2 * torch.rand(n_broken, 1, 1, 1, generator=generator)
        wild = torch.randn(n_broken, 4, 16, 16, generator=generator) * size
        with torch.no_grad():
            parts = torch.cat([latents.flatten(0, 2), wild]).split(50)
            images = torch.cat([vae.decode(x / vae.config.scaling_factor).sample.clamp(-1, 1) for x in parts])
        n = len(images) - n_broken
        torch.save({"icons": images[:n].unflatten(0, latents.shape[:3]).clone(), "broken": images[n:].clone()}, path)
        log("decoded pool done")
    return torch.load(path, weights_only=True)


def nones(generator, images, pool):
    """Images that show nothing of the list: blends of two icons, noise, broken decodes, patchworks; (n, 3, 64, 64)."""
    n = len(images) // 4
    other = images[torch.randperm(len(images), generator=generator)]
    blend = (images + other)[:n] / 2
    noise = torch.randn(n, 3, 64, 64, generator=generator)
    noise = functional.avg_pool2d(noise, 5, 1, 2) * (2 * torch.rand(n, 1, 1, 1, generator=generator))
    broken = pool["broken"][torch.randint(len(pool["broken"]), (n,), generator=generator)]
    patches = images[:n].unfold(2, 16, 16).unfold(3, 16, 16).reshape(n, 3, 16, 16, 16)
    patches = patches[:, :, torch.randperm(16, generator=generator)]
    patchwork = patches.reshape(n, 3, 4, 4, 16, 16).permute(0, 1, 2, 4, 3, 5).reshape(n, 3, 64, 64)
    return torch.cat([blend, noise, broken, patchwork]).clamp(-1, 1)


def batch(art, generator, pool, which, size=BATCH):
    """(images in [0, 1], object labels, style labels): three quarters icons, one quarter none."""
    n_objects, n_styles = len(art.objects), len(art.styles)
    o = torch.randint(n_objects, (size,), generator=generator)
    s = torch.randint(n_styles, (size,), generator=generator)
    wide = which == "judge"
    images = augment(art.images[o, s], generator, degrees=9 if wide else 7, shift=0.06 if wide else 0.05, scale=0.1)
    through_vae = torch.rand(size, 1, 1, 1, generator=generator) < 0.4
    decoded = pool["icons"][o, s, torch.randint(pool["icons"].shape[2], (size,), generator=generator)]
    images = torch.where(through_vae, decoded, images)
    images = images + 0.03 * torch.randn(images.shape, generator=generator) * (not wide)
    if wide:
        gain = 1 + 0.1 * (2 * torch.rand(size, 1, 1, 1, generator=generator) - 1)
        images = functional.avg_pool2d(images, 3, 1, 1) * 0.4 + images * 0.6
        images = (images + 1) * gain - 1
    empty = nones(generator, images, pool)[torch.randperm(size // 4 * 4, generator=generator)[: size // 4]]
    images = torch.cat([images[: size - len(empty)], empty]).clamp(-1, 1) / 2 + 0.5
    keep = size - len(empty)
    o = torch.cat([o[:keep], torch.full((len(empty),), n_objects)])
    s = torch.cat([s[:keep], torch.full((len(empty),), n_styles)])
    return images, o, s


def temperature(logits, labels):
    """The divisor of the logits that minimises the cross-entropy on fresh images (Guo et al. 2017)."""
    log_t = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([log_t], max_iter=50)

    def closure():
        optimiser.zero_grad()
        loss = functional.cross_entropy(logits / log_t.exp(), labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    return log_t.exp().item()


def train(vae, log=print):
    """Train what is missing; write detector-*.safetensors and detectors.json; returns the card."""
    art = Artwork.load()
    pool = decoded_pool(vae.float().eval(), log)
    card = {"objects": art.objects, "styles": art.styles}
    for number, which in enumerate(("steer", "judge")):
        path = CACHE / f"detector-{which}.pt"
        torch.manual_seed(10 + number)
        cnn = network(which, len(art.objects), len(art.styles))
        if not path.exists():
            optimiser = torch.optim.AdamW(cnn.parameters(), lr=RATE, weight_decay=1e-3)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS[which])
            began = time.time()
            for step in range(STEPS[which]):
                generator = torch.Generator().manual_seed(1_000_000 * (number + 1) + step)
                images, o, s = batch(art, generator, pool, which)
                objects, styles = cnn(images)
                loss = functional.cross_entropy(objects, o) + functional.cross_entropy(styles, s)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                if (step + 1) % 100 == 0:
                    log(f"detector {which} step {step + 1}/{STEPS[which]} loss {loss:.4f} {time.time() - began:.0f} s")
            torch.save(cnn.state_dict(), path)
        cnn.load_state_dict(torch.load(path, weights_only=True))
        half = {k: v.half() if v.is_floating_point() else v for k, v in cnn.state_dict().items()}
        save_file(half, EMOJI / f"detector-{which}.safetensors")
        cnn.load_state_dict({k: v.float() for k, v in half.items()})
        card[which] = calibrate(cnn.eval(), art, pool, which)
        log(f"detector {which}: {card[which]['accuracy']}")
    (EMOJI / "detectors.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    return card


@torch.no_grad()
def fresh(art, pool, cnn, which, seed, rounds=40):
    """Logits and labels on augmentations never trained on; the same kinds of images as in training."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for _ in range(rounds):
        images, o, s = batch(art, generator, pool, which)
        parts.append((*cnn(images), o, s))
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def calibrate(cnn, art, pool, which):
    """Temperatures, per-label thresholds at 1 % false positives, and accuracy on another fresh sample."""
    objects, styles, o, s = fresh(art, pool, cnn, which, 77_000_000)
    temperatures = {"object": temperature(objects, o), "style": temperature(styles, s)}
    thresholds = {}
    for head, logits, labels, names in (
        ("object", objects, o, art.objects),
        ("style", styles, s, art.styles),
    ):
        chance = (logits / temperatures[head]).softmax(1)
        for i, name in enumerate([*names, "none"]):
            others = chance[labels != i, i]
            cut = torch.quantile(others, 1 - FALSE_POSITIVES).item()
            thresholds[f"{head}:{name}"] = max(0.5, cut)
    objects, styles, o, s = fresh(art, pool, cnn, which, 78_000_000)
    real = o < len(art.objects)
    accuracy = {
        "object": (objects.argmax(1) == o)[real].float().mean().item(),
        "style": (styles.argmax(1) == s)[real].float().mean().item(),
        "none": (objects.argmax(1) == o)[~real].float().mean().item(),
        "n": int(real.sum()),
        "n_none": int((~real).sum()),
    }
    return {"temperature": temperatures, "thresholds": thresholds, "accuracy": accuracy}
