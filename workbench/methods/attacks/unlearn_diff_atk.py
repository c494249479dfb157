"""UnlearnDiffAtk: k free words before the prompt, searched by gradient so that the erased model denoises the concept; white box."""

from typing import ClassVar, Literal

from pydantic import Field

from workbench.methods.attacks import reworded
from workbench.methods.attacks._gradient import GRADIENT_PASSES, Learned, Levels, along_directions, denoising, direction, encoded, minimised
from workbench.methods.attacks._search import generator, most_passes, search
from workbench.methods.attacks._words import RandomPlaces, before, check_room, filled, writable_tokens
from workbench.study.fields import MOST_ITERATIONS, MOST_RATE

CITATIONS = ("zhang2024generate",)
OPTIMISED = True
GRADIENT = True
PUBLISHED = {
    "n_tokens": 5,
    "timesteps": 50,
    "iterations": 40,
    "step": 0.01,
    "shared": False,
    "weight_decay": 0.1,
    "noise": 0.0,
    "log": False,
    "x0": "encoded",
    "looks": 50,
}


class Parameters(Levels):
    """What can be set. Defaults are scaled for the emoji model, which has some 1,850 permitted words where SD 1.4 has 49,408 tokens.

    A word wins when its probability leads by about 1. The gradient of a word is an inner product with its vector, and here the
    vectors of words the model was trained on are some four times as long as the others'. Adam divides that away word by word,
    and with it what tells the concept's word from noise (`shared`): experiments/attack_power/run.py. Weight decay pulls each
    probability, 1/words at first, towards uniform: with a twenty-seventh of the words the same pull is a twenty-seventh of it.

    Source of PUBLISHED   Zhang et al. 2024 (arXiv 2310.11868), their nudity setting; 3 words for styles and objects
    """

    added_later: ClassVar[tuple[str, ...]] = ("x0",)

    n_tokens: int = Field(3, ge=1, le=60, description="words before the prompt; published: 5, or 3 for styles and objects")
    timesteps: int = Field(
        10, ge=1, le=500, description="timesteps visited one after the other, from the least noise to the most; published: 50"
    )
    iterations: int = Field(20, ge=1, le=MOST_ITERATIONS, description="gradient steps at each timestep; published: 40")
    noise: float = Field(0.0, ge=0, lt=1, description="share of the noise schedule that is left out at its quiet end; published: 0")
    step: float = Field(0.05, gt=0, le=MOST_RATE, description="learning rate on the probabilities of the words; published: 0.01")
    shared: bool = Field(
        True,
        description="a step divides the gradient by its size over all words of a place; false: by Adam, word by word; published: false",
    )
    weight_decay: float = Field(
        4e-3, ge=0, le=MOST_RATE, description="pull of each probability towards 0 before the projection; published: 0.1"
    )
    x0: Literal["sampled", "encoded"] = Field(
        "sampled",
        description="what is noised: the latents the base model's image was decoded from; published: encoded, that image encoded again",
    )
    looks: int = Field(10, ge=0, le=500, description="detector queries, evenly spaced; the first success is kept")


def project_to_simplex(rows):
    """The nearest points (..., word) with entries >= 0 that sum to 1.

    Source   Duchi et al. 2008, by sorting; the published code finds the same point by bisection
    """
    import torch

    ordered = rows.sort(dim=-1, descending=True).values
    count = torch.arange(1, rows.shape[-1] + 1, device=rows.device, dtype=rows.dtype)
    excess = (ordered.cumsum(dim=-1) - 1) / count
    kept = (ordered > excess).sum(dim=-1, keepdim=True)
    return (rows - excess.gather(-1, kept - 1)).clamp(min=0)


class SoftWords(Learned):
    """Minimise || noise - eps(x_t, t, [words, prompt]) ||^2, or its log, with x_0 = the base model's image of the prompt.

    x_0 is the latents that image was decoded from, or, with x0 = "encoded", the mean the autoencoder gives for the image in 8 bits.

    Each of k places holds probabilities over the permitted words, uniform at first. A step draws one word a place, takes the
    gradient with respect to the drawn one-hot vectors straight through to the probabilities, takes a step and projects back:
    along the gradient's direction with momentum, or by Adam along the gradient clipped to [-1, 1], as published. The candidate
    is the likeliest words as text, tokenised anew.

    Source   Zhang et al. 2024 (arXiv 2310.11868) and their public code. Ours: only whole permitted words are searched.
    """

    passes_per_step = GRADIENT_PASSES

    def __init__(self, model, targets, parameters, context):
        import torch

        from workbench.models import text

        check_room(model, parameters.n_tokens)
        self.model, self.targets, self.parameters, self.context = model, targets, parameters, context
        self.ids, self.prompts = targets.table["id"].tolist(), targets.prompts
        self.clean = encoded(model, context.clean) if parameters.x0 == "encoded" else context.clean
        self.layouts = before(self.prompts, parameters.n_tokens)
        self.permitted = torch.tensor(writable_tokens(model, context.names))
        self.vectors = text.token_vectors(model).detach()[self.permitted.to(model.device)]
        shape = parameters.n_tokens, len(self.permitted)
        self.chances = [torch.full(shape, 1 / shape[1], device=model.device, requires_grad=True) for _ in self.ids]
        self.learned = self.chances
        if parameters.shared:
            self.optimiser = along_directions(self.learned, parameters.step, parameters.weight_decay)
        else:
            self.optimiser = torch.optim.Adam(self.learned, lr=parameters.step, weight_decay=parameters.weight_decay)

    def timestep(self, iteration):
        """The middle of as many equal parts of the levels: 10, 30, ... 990 of 1,000 for 50 timesteps of the whole schedule."""
        n_train, low = self.model.scheduler.config.num_train_timesteps, self.parameters.noise
        place = min((iteration - 1) // self.parameters.iterations, self.parameters.timesteps - 1)
        return int(low * n_train + (1 - low) * n_train * (place + 0.5) / self.parameters.timesteps)

    def step(self, rows, iteration):
        """One gradient step of these rows, all at the same timestep."""
        import torch

        draws = [generator(self.parameters.seed, self.ids[row], iteration) for row in rows]
        words = [torch.multinomial(self.chances[row].detach().cpu(), 1, generator=g)[:, 0] for row, g in zip(rows, draws, strict=True)]
        vectors = self.vectors[torch.stack(words).to(self.vectors.device)].requires_grad_(True)
        at = torch.full((len(rows),), self.timestep(iteration), device=self.model.device)
        prompts = [self.prompts[row] for row in rows]
        losses = denoising(self.model, self.clean[rows], prompts, vectors, draws, self.parameters, at)
        minimised(losses, self.parameters).sum().backward()
        self.optimiser.zero_grad()
        # the gradient of a linear look-up with respect to its one-hot rows
        for row, gradient in zip(rows, vectors.grad @ self.vectors.T, strict=True):
            gradient = gradient.to(self.chances[row].dtype)
            self.chances[row].grad = direction(gradient) if self.parameters.shared else gradient.clamp(-1, 1)
        self.optimiser.step()
        with torch.no_grad():
            nearest = project_to_simplex(torch.stack([self.chances[row] for row in rows]))
            for row, chances in zip(rows, nearest, strict=True):
                self.chances[row].copy_(chances)
        return losses.tolist()

    def candidate(self, rows):
        """The likeliest words before each prompt, as text."""
        prompts = []
        for row in rows:
            found = self.permitted[self.chances[row].detach().argmax(dim=-1).cpu()]
            prompts.append(filled(self.model, self.layouts[row], found.tolist()))
        return reworded(self.targets.picked(rows), prompts, self.context)


def attack(model, targets, parameters, context):
    """All prompts side by side, each with words of its own."""
    searcher = SoftWords(model, targets, parameters, context)
    return search(searcher, targets, context, parameters, parameters.timesteps * parameters.iterations)


def control(model, targets, adversarial, parameters, context):
    """As many random permitted words, new ones at every look, with as many looks at the detector."""
    drawing = RandomPlaces(model, targets, before(targets.prompts, parameters.n_tokens), parameters.seed + 1, context)
    return search(drawing, targets, context, parameters, max(1, parameters.looks), control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate, when nothing succeeds early."""
    return most_passes(parameters, n_prompts, passes_per_image, GRADIENT_PASSES * parameters.timesteps * parameters.iterations)
