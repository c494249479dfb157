"""Embedding PGD: a few free vectors before the prompt, optimised to draw the concept again; white box, not writable as text."""

from typing import Literal

from pydantic import Field

from workbench.methods.attacks import vectors_before
from workbench.methods.attacks._gradient import GRADIENT_PASSES, Learned, Levels, denoising, minimised
from workbench.methods.attacks._search import RandomVectors, generator, most_passes, search
from workbench.study.fields import MOST_ITERATIONS, MOST_RATE

CITATIONS = ("zhang2024defensive",)
OPTIMISED = True
GRADIENT = True
PUBLISHED = {"n_vectors": 1, "iterations": 30, "rule": "sign", "step": 1e-3, "noise": 0.0, "log": False, "looks": 0}


class Parameters(Levels):
    """What can be set. Defaults are scaled for the emoji model.

    Source of PUBLISHED   the inner loop of AdvUnlearn, Zhang et al. 2024 (arXiv 2405.15234)
    """

    n_vectors: int = Field(3, ge=1, le=16, description="vectors before the prompt")
    iterations: int = Field(60, ge=1, le=MOST_ITERATIONS, description="gradient steps")
    rule: Literal["adam", "sign"] = Field("adam", description="adam, or v <- v - step * sign(gradient)")
    step: float = Field(
        0.02, gt=0, le=MOST_RATE, description="learning rate of adam, or step of sign; an element of a word's vector is about 0.02"
    )
    looks: int = Field(0, ge=0, le=500, description="detector queries, evenly spaced; 0 = none, the last vectors are kept")


class Vectors(Learned):
    """Minimise || noise - eps(x_t, t, [v, prompt]) ||^2, or its log, over v, with x_0 = the base model's image of the prompt.

    Every prompt has its own vectors, started at random words.
    """

    passes_per_step = GRADIENT_PASSES

    def __init__(self, model, targets, parameters, context):
        import torch

        from workbench.models import text

        self.model, self.targets, self.parameters, self.context = model, targets, parameters, context
        self.ids, self.prompts = targets.table["id"].tolist(), targets.prompts
        table = text.token_vectors(model).detach()
        words = torch.tensor(text.permitted_tokens(model, context.names))
        self.vectors = []
        for prompt_id in self.ids:
            drawn = torch.randint(len(words), (parameters.n_vectors,), generator=generator(parameters.seed, prompt_id, 0))
            self.vectors.append(table[words[drawn].to(table.device)].clone().requires_grad_(True))
        self.learned = self.vectors
        self.optimiser = torch.optim.Adam(self.learned, lr=parameters.step)

    def step(self, rows, iteration):
        """One gradient step of these rows, each at a timestep of its own."""
        import torch

        draws = [generator(self.parameters.seed, self.ids[row], iteration) for row in rows]
        vectors = torch.stack([self.vectors[row] for row in rows])
        prompts = [self.prompts[row] for row in rows]
        losses = denoising(self.model, self.context.clean[rows], prompts, vectors, draws, self.parameters)
        self.optimiser.zero_grad()
        minimised(losses, self.parameters).sum().backward()
        if self.parameters.rule == "adam":
            self.optimiser.step()
        else:
            with torch.no_grad():
                for row in rows:
                    self.vectors[row] -= self.parameters.step * self.vectors[row].grad.sign()
        return losses.tolist()

    def candidate(self, rows):
        """Their vectors before each prompt."""
        import torch

        part = self.targets.picked(rows)
        return vectors_before(part, torch.stack([self.vectors[row].detach().clone().cpu() for row in rows]), self.context)


def attack(model, targets, parameters, context):
    """All prompts side by side, each with vectors of its own."""
    return search(Vectors(model, targets, parameters, context), targets, context, parameters, parameters.iterations)


def control(model, targets, adversarial, parameters, context):
    """Random vectors of the attack's own norms, with as many looks at the detector."""
    drawing = RandomVectors(targets, adversarial.prefix, parameters.seed + 1, context)
    return search(drawing, targets, context, parameters, max(1, parameters.looks), control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate, when nothing succeeds early."""
    return most_passes(parameters, n_prompts, passes_per_image, GRADIENT_PASSES * parameters.iterations)
