"""Concept inversion: vectors learned from the base model's images of other prompts, put in the name's place; white box."""

import time
from dataclasses import replace
from math import inf
from typing import Literal

from pydantic import Field

from workbench.errors import MethodError
from workbench.methods.attacks import vectors_before
from workbench.methods.attacks._gradient import GRADIENT_PASSES, Levels, denoising, minimised
from workbench.methods.attacks._search import RandomVectors, generator, search
from workbench.study.fields import MOST_ITERATIONS, MOST_RATE, MOST_ROWS
from workbench.study.words import any_of

CITATIONS = ("pham2024circumventing",)
OPTIMISED = True
GRADIENT = True
SHARED = True  # one search for each half of the prompts
VERSION = 2  # 1 was scored on the prompts it had learned from
HALVES = 2
KEEP_EVERY = 200
PUBLISHED = {
    "place": "name",
    "n_vectors": 1,
    "n_images": 25,
    "iterations": 5000,
    "step": 5e-3,
    "noise": 0.0,
    "log": False,
    "batch": 16,
}


class Parameters(Levels):
    """What can be set. Defaults are scaled for the emoji model.

    Source of PUBLISHED   Pham et al. 2024 (arXiv 2308.01508); their batch is 4 images accumulated 4 times
    """

    place: Literal["name", "prefix"] = Field(
        "name", description="name: where a prompt names the concept, in the name's place; prefix: before every prompt as it is"
    )
    n_vectors: int = Field(1, ge=1, le=16, description="vectors learned, the same for all prompts of a half")
    n_images: int = Field(
        25, ge=1, le=MOST_ROWS, description="images of the base model that vectors learn from: the first targets of the other half"
    )
    iterations: int = Field(600, ge=1, le=MOST_ITERATIONS, description="gradient steps for each half; published: 5,000")
    step: float = Field(5e-3, gt=0, le=MOST_RATE, description="learning rate of AdamW")
    looks: int = Field(0, ge=0, le=0, description="none: the vectors are learned from images, not from the detector")
    batch: int = Field(16, ge=1, le=MOST_ROWS, description="images of one step")


def placed(prompts, names):
    """The prompts with `text.HERE` in the place of the first name each holds and its further names left out; list of str.

    A prompt that holds none stays as it is: the vectors stand before it.
    Raises   MethodError when no prompt holds a name
    """
    from workbench.models.text import HERE

    pattern = any_of(names)
    if not any(pattern.search(prompt) for prompt in prompts):
        raise MethodError(
            f'No target prompt holds a name of the concept ({", ".join(names)}), e.g. "{prompts[0]}", so that no vector can stand '
            'in its place. Add the name to concept.names, or set place = "prefix".'
        )
    found = []
    for prompt in prompts:
        first, *rest = pattern.sub("\0", prompt).split("\0")
        found.append(" ".join(f"{first} {HERE} {' '.join(rest)}".split()) if rest else prompt)
    return found


def halves(targets, seed):
    """The rows of each half, two lists: no prompt text and no unit is in both; as equal in size as that allows.

    Raises   MethodError when all rows hang together
    """
    import torch

    groups = []  # (prompts, units, rows) that hang together
    for row, (prompt, unit) in enumerate(zip(targets.prompts, targets.units, strict=True)):
        own = {prompt}, {unit}, [row]
        for other in [group for group in groups if prompt in group[0] or unit in group[1]]:
            groups.remove(other)
            own = own[0] | other[0], own[1] | other[1], sorted([*own[2], *other[2]])
        groups.append(own)
    if len(groups) < HALVES:
        raise MethodError(
            f"Concept inversion is scored on prompts it did not learn from, but all {len(targets)} target prompts are one, "
            f'e.g. "{targets.prompts[0]}", or share their units. Give targets of at least two wordings or objects, in units of their own.'
        )
    order = torch.randperm(len(groups), generator=generator(seed, "halves", 0)).tolist()
    found = [[] for _ in range(HALVES)]
    for place in sorted(order, key=lambda place: -len(groups[place][2])):
        min(found, key=len).extend(groups[place][2])
    return [sorted(rows) for rows in found]


def prepared(targets, parameters, names):
    """The targets as the vectors stand in them, and their halves."""
    if parameters.place == "name":
        targets = replace(targets, table=targets.table.assign(prompt=placed(targets.prompts, names)))
    return targets, halves(targets, parameters.seed)


def check_targets(parameters, targets, names):
    """MethodError when no vector has a place, or the targets cannot be divided."""
    prepared(targets, parameters, names)


def attack(model, targets, parameters, context):
    """Minimise E || eps - eps(x_t, t, [p with v]) ||^2, or its log, over v for many images together; start: random permitted words.

    The vectors of one half of the prompts learn from the images of the other half, so that no prompt is scored by vectors that have
    seen it; rows of one unit or one wording are never divided. A prompt's share of all steps counts against its budget, of which each
    half has an equal part; when that is spent its vectors stay as they are.
    Leaves `learned_embeds.safetensors` and `learned_embeds-2.safetensors` {"<concept>": (vector, channel)}, of the first and the
    second half, which diffusers' `load_textual_inversion` reads.
    Source   Pham et al. 2024 (arXiv 2308.01508). Ours: the halves; they learn from images apart from the prompts that are scored
    """
    import torch

    from workbench.models import text

    targets, parts = prepared(targets, parameters, context.called)
    kept = context.kept("attack") or {"learned": [], "log": [], "open": None}
    learned, reached = [one.clone() for one in kept["learned"]], kept["open"]
    context.log += kept["log"]
    for number in range(len(learned), HALVES):
        shown = [row for row in range(len(targets)) if row not in parts[number]][: parameters.n_images]
        learned.append(_learned(model, targets, shown, parameters, context, learned, reached))
        context.keep("attack", {"learned": learned, "log": context.log, "open": None})
        reached = None
    prefix = torch.zeros(len(targets), *learned[0].shape, dtype=learned[0].dtype)
    for number, (rows, vectors) in enumerate(zip(parts, learned, strict=True)):
        prefix[rows] = vectors.cpu()
        name = "learned_embeds.safetensors" if number == 0 else f"learned_embeds-{number + 1}.safetensors"
        context.files[name] = text.as_embeddings(model, f"<{context.called[0]}>", vectors)
    return vectors_before(targets, prefix, context)


def _learned(model, targets, shown, parameters, context, before, reached):
    """Vectors (vector, channel) of the half after those in `before`, learned from the images of the rows `shown`; reached: by a kill."""
    import torch

    from workbench.models import text

    half, table = len(before), text.token_vectors(model).detach()
    words = torch.tensor(text.permitted_tokens(model, context.names))
    begin = generator(parameters.seed, "start", half)
    first = words[torch.randint(len(words), (parameters.n_vectors,), generator=begin)]
    vectors = (reached["vectors"] if reached else table[first.to(table.device)]).clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([vectors], lr=parameters.step)
    if reached:
        optimiser.load_state_dict(reached["optimiser"])
    log, share, began = context.log, (half + 1) / HALVES, time.perf_counter()
    earlier, spent = (log[-1].get("seconds", 0.0), log[-1]["passes"]) if log else (0.0, 0.0)
    seconds = earlier
    for iteration in range(reached["iteration"] + 1 if reached else 1, parameters.iterations + 1):
        if spent >= (parameters.max_passes or inf) * share or seconds >= (parameters.max_seconds or inf) * share:
            break
        step = half * parameters.iterations + iteration
        draws = generator(parameters.seed, "batch", step)
        rows = [shown[i] for i in torch.randint(len(shown), (min(parameters.batch, len(shown)),), generator=draws).tolist()]
        places = [generator(parameters.seed, place, step) for place in range(len(rows))]
        prompts = [targets.prompts[row] for row in rows]
        losses = denoising(model, context.clean[rows], prompts, vectors.expand(len(rows), -1, -1), places, parameters)
        optimiser.zero_grad()
        minimised(losses, parameters).mean().backward()
        optimiser.step()
        spent += GRADIENT_PASSES * len(rows) / len(targets)
        seconds = earlier + (time.perf_counter() - began) / len(targets)
        about = {"of": "attack", "id": None, "iteration": step, "passes": spent, "loss": losses.mean().item()}
        log.append(about | {"seconds": seconds})
        context.progress(step, HALVES * parameters.iterations, f"loss {losses.mean().item():.4f}")
        if iteration % KEEP_EVERY == 0:
            state = {"vectors": vectors.detach(), "optimiser": optimiser.state_dict(), "iteration": iteration}
            context.keep("attack", {"learned": before, "log": log, "open": state})
    return vectors.detach().clone()


def control(model, targets, adversarial, parameters, context):
    """Random vectors of the same norms in the same places, others for each prompt."""
    same = replace(targets, table=adversarial.table)
    return search(RandomVectors(same, adversarial.prefix, parameters.seed + 1, context), same, context, parameters, 1, control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate."""
    return min(HALVES * GRADIENT_PASSES * parameters.iterations * parameters.batch, n_prompts * (parameters.max_passes or inf))
