"""Concept inversion: new vectors learned from the base model's images of the concept, put in its name's place; white box."""

import time
from dataclasses import replace
from math import inf
from typing import Literal

from pydantic import Field

from workbench.errors import MethodError
from workbench.methods.attacks import vectors_before
from workbench.methods.attacks._gradient import GRADIENT_PASSES, Levels, denoising, minimised
from workbench.methods.attacks._search import RandomVectors, generator, search
from workbench.study.part import MOST_ITERATIONS, MOST_RATE, MOST_ROWS
from workbench.study.words import any_of

OPTIMISED = True
SHARED = True  # one search for all prompts
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
    n_vectors: int = Field(1, ge=1, le=16, description="vectors learned, the same for all prompts")
    n_images: int = Field(25, ge=1, le=MOST_ROWS, description="images of the base model it learns from: the first targets")
    iterations: int = Field(600, ge=1, le=MOST_ITERATIONS, description="gradient steps; published: 5,000")
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


def attack(model, targets, parameters, context):
    """Minimise E || eps - eps(x_t, t, [p with v]) ||^2, or its log, over v for all images together; start: random permitted words.

    A prompt's share of the steps counts against its budget; when that is spent the vectors stay as they are.
    Leaves `learned_embeds.safetensors` {"<concept>": (vector, channel)}, which diffusers' `load_textual_inversion` reads.
    Source   Pham et al. 2024 (arXiv 2308.01508); SCIENCE 5
    """
    import torch

    from workbench.models import text

    if parameters.place == "name":
        targets = replace(targets, table=targets.table.assign(prompt=placed(targets.prompts, context.called)))
    table = text.token_vectors(model).detach()
    words = torch.tensor(text.permitted_tokens(model, context.names))
    begin = generator(parameters.seed, "start", 0)
    first = words[torch.randint(len(words), (parameters.n_vectors,), generator=begin)]
    kept = context.kept("attack")
    vectors = (kept["vectors"] if kept else table[first.to(table.device)]).clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([vectors], lr=parameters.step)
    if kept:
        optimiser.load_state_dict(kept["optimiser"])
        context.log += kept["log"]
    n = min(parameters.n_images, len(targets))
    before, began = kept["log"][-1].get("seconds", 0.0) if kept else 0.0, time.perf_counter()
    spent, seconds = kept["log"][-1]["passes"] if kept else 0.0, before
    for iteration in range(kept["iteration"] + 1 if kept else 1, parameters.iterations + 1):
        if spent >= (parameters.max_passes or inf) or seconds >= (parameters.max_seconds or inf):
            break
        draws = generator(parameters.seed, "batch", iteration)
        rows = torch.randint(n, (min(parameters.batch, n),), generator=draws).tolist()
        places = [generator(parameters.seed, place, iteration) for place in range(len(rows))]
        prompts = [targets.prompts[row] for row in rows]
        losses = denoising(model, context.clean[rows], prompts, vectors.expand(len(rows), -1, -1), places, parameters)
        optimiser.zero_grad()
        minimised(losses, parameters).mean().backward()
        optimiser.step()
        spent = GRADIENT_PASSES * iteration * len(rows) / len(targets)
        about = {"of": "attack", "id": None, "iteration": iteration, "passes": spent, "loss": losses.mean().item()}
        seconds = before + (time.perf_counter() - began) / len(targets)
        context.log.append(about | {"seconds": seconds})
        context.progress(iteration, parameters.iterations, f"loss {losses.mean().item():.4f}")
        if iteration % 200 == 0:
            state = {"vectors": vectors.detach(), "optimiser": optimiser.state_dict(), "iteration": iteration, "log": context.log}
            context.keep("attack", state)
    learned = vectors.detach().clone()
    context.files["learned_embeds.safetensors"] = text.as_embeddings(model, f"<{context.called[0]}>", learned)
    return vectors_before(targets, learned.cpu().expand(len(targets), -1, -1).clone(), context)


def control(model, targets, adversarial, parameters, context):
    """Random vectors of the same norms in the same places, others for each prompt."""
    same = replace(targets, table=adversarial.table)
    return search(RandomVectors(same, adversarial.prefix, parameters.seed + 1, context), same, context, parameters, 1, control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate."""
    return min(GRADIENT_PASSES * parameters.iterations * parameters.batch, n_prompts * (parameters.max_passes or inf))
