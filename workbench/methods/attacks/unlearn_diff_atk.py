"""UnlearnDiffAtk: k free words before the prompt, searched by gradient so that the erased model denoises the concept; white box."""

from pydantic import Field

from workbench.methods.attacks import reworded
from workbench.methods.attacks._search import GRADIENT_PASSES, Budget, Learned, RandomWords, generator, most_passes, search

OPTIMISED = True


class Parameters(Budget):
    """What can be set. Published for SD 1.4: 5 words (nudity) or 3 (style, object), 50 timesteps of 40 iterations, a look after each."""

    n_tokens: int = Field(3, ge=1, le=60, description="words before the prompt")
    timesteps: int = Field(50, ge=1, le=500, description="timesteps visited one after the other, from the least noise to the most")
    iterations: int = Field(40, ge=1, description="gradient steps at each timestep")
    step: float = Field(0.01, gt=0, description="learning rate of Adam on the probabilities of the words")
    weight_decay: float = Field(0.1, ge=0, description="of Adam")
    looks: int = Field(50, ge=0, le=500, description="looks at the detector, evenly spaced; the first success is kept")


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
    """Minimise || noise - eps(x_t, t, [words, prompt]) ||^2 with x_0 = the base model's image of the prompt.

    Each of k places holds probabilities over the permitted words, uniform at first. A step draws one word a place, takes the
    gradient with respect to the drawn one-hot vectors straight through to the probabilities, clipped to [-1, 1], steps by
    Adam and projects back. The candidate is the likeliest words as text, tokenised anew.

    Source   Zhang et al. 2024 (arXiv 2310.11868); SCIENCE 5, FORMATS 2.2. Ours: only whole permitted words are searched.
    """

    passes_per_step = GRADIENT_PASSES

    def __init__(self, model, targets, parameters, context):
        import torch

        from workbench.models import text

        self.model, self.targets, self.parameters, self.context = model, targets, parameters, context
        self.ids, self.prompts = targets.table["id"].tolist(), targets.prompts
        self.permitted = torch.tensor(text.permitted_tokens(model, context.names))
        self.vectors = text.token_vectors(model).detach()[self.permitted.to(model.device)]
        shape = parameters.n_tokens, len(self.permitted)
        self.chances = [torch.full(shape, 1 / shape[1], device=model.device, requires_grad=True) for _ in self.ids]
        self.learned = self.chances
        self.optimiser = torch.optim.Adam(self.learned, lr=parameters.step, weight_decay=parameters.weight_decay)

    def timestep(self, iteration):
        """10, 30, ... 990 of 1,000 for 50 timesteps: the middle of as many equal parts of the schedule."""
        n_train = self.model.scheduler.config.num_train_timesteps
        place = min((iteration - 1) // self.parameters.iterations, self.parameters.timesteps - 1)
        return int((place + 0.5) * n_train / self.parameters.timesteps)

    def step(self, rows, iteration):
        """One gradient step of these rows, all at the same timestep."""
        import torch

        from workbench.diffusion.objectives import denoising_loss
        from workbench.models import text

        model = self.model
        generators = [generator(self.parameters.seed, self.ids[row], iteration) for row in rows]
        drawn = [torch.multinomial(self.chances[row].detach().cpu(), 1, generator=g)[:, 0] for row, g in zip(rows, generators, strict=True)]
        noise = torch.stack([torch.randn(model.latent_shape, generator=g) for g in generators]).to(model.device, model.dtype)
        vectors = self.vectors[torch.stack(drawn).to(model.device)].clone().requires_grad_(True)
        clean = self.context.clean[rows].to(model.device, model.dtype)
        timesteps = torch.full((len(rows),), self.timestep(iteration), device=model.device)
        states = text.encode(model, [self.prompts[row] for row in rows], vectors)
        loss = denoising_loss(model, clean, noise, timesteps, states)
        loss.sum().backward()
        self.optimiser.zero_grad()
        # the gradient of a linear look-up with respect to its one-hot rows
        for row, gradient in zip(rows, vectors.grad @ self.vectors.T, strict=True):
            self.chances[row].grad = gradient.to(self.chances[row].dtype).clamp(-1, 1)
        self.optimiser.step()
        with torch.no_grad():
            for row in rows:
                self.chances[row].copy_(project_to_simplex(self.chances[row]))
        return loss.tolist()

    def candidate(self, rows):
        """The likeliest words before each prompt, as text."""
        part, prompts = self.targets.picked(rows), []
        for row, prompt in zip(rows, part.prompts, strict=True):
            ids = self.permitted[self.chances[row].detach().argmax(dim=-1).cpu()]
            prompts.append(f"{self.model.tokenizer.decode(ids.tolist()).strip()} {prompt}")
        return reworded(part, prompts, self.context)


def attack(model, targets, parameters, context):
    """All prompts side by side, each with words of its own."""
    searcher = SoftWords(model, targets, parameters, context)
    return search(searcher, targets, context, parameters, parameters.timesteps * parameters.iterations)


def control(model, targets, adversarial, parameters, context):
    """As many random permitted words, new ones at every look, with as many looks at the detector."""
    drawing = RandomWords(model, targets, context, parameters.n_tokens, parameters.seed + 1)
    return search(drawing, targets, context, parameters, max(1, parameters.looks), control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate, when nothing succeeds early."""
    return most_passes(parameters, n_prompts, passes_per_image, GRADIENT_PASSES * parameters.timesteps * parameters.iterations)
