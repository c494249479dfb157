"""P4D: words in the prompt's place (N) or among its words (K), searched by gradient so that erased predicts as base; white box."""

from typing import Literal

from pydantic import Field

from workbench.methods.attacks import reworded
from workbench.methods.attacks._gradient import GRADIENT_PASSES, Learned, Levels, along_directions, direction, minimised
from workbench.methods.attacks._search import generator, most_passes, search
from workbench.methods.attacks._words import RandomPlaces, check_room, filled, writable_tokens
from workbench.study.fields import MOST_ITERATIONS, MOST_RATE

CITATIONS = ("chin2024prompting4debugging",)
OPTIMISED = True
GRADIENT = True
STEP_PASSES = GRADIENT_PASSES + 1
PUBLISHED = {
    "form": "N",
    "n_tokens": 16,
    "every": 3,
    "iterations": 3000,
    "step": 0.1,
    "relative": False,
    "shared": False,
    "weight_decay": 0.1,
    "noise": 0.0,
    "log": False,
    "draws": 0,
    "looks": 60,
}


class Parameters(Levels):
    """What can be set. Defaults are scaled for the emoji model; each meaning ends with what was published for SD 1.4.

    Source of PUBLISHED   Chin et al. 2024 (arXiv 2309.06135), form N; form K is the same with form = "K"
    """

    form: Literal["N", "K"] = Field(
        "N", description="N: free words alone; K: free words after every few words of the prompt; published: both"
    )
    n_tokens: int = Field(4, ge=1, le=75, description="free words of form N; published: 16")
    every: int = Field(2, ge=1, le=100, description="form K: a free word after this many words of the prompt; published: 3")
    iterations: int = Field(400, ge=1, le=MOST_ITERATIONS, description="gradient steps; published: 3,000")
    noise: float = Field(0.0, ge=0, lt=1, description="share of the noise schedule that is left out at its quiet end; published: 0")
    step: float = Field(0.2, gt=0, le=MOST_RATE, description="learning rate; published: 0.1, not relative")
    relative: bool = Field(True, description="step counts in sizes of an element of the words' vectors; published: false")
    shared: bool = Field(
        True, description="a step takes the gradient at a word by its direction; published: false, by AdamW, channel by channel"
    )
    weight_decay: float = Field(0.5, ge=0, le=MOST_RATE, description="share of a vector that a step forgets, over the step; published: 0.1")
    draws: int = Field(4, ge=0, le=64, description="draws of noise on which a prompt's texts are compared; 0 = none are; published: 0")
    compared_every: int = Field(5, ge=1, le=MOST_ITERATIONS, description="gradient steps from one comparison to the next")
    looks: int = Field(8, ge=0, le=500, description="detector queries, evenly spaced; published: 60, one every 50 steps")


def layout(model, prompt, parameters):
    """The layout of an attacked prompt: form N has free places alone.

    Form K puts a place after every `every` words, as far as the context reaches; a prompt of fewer words gets one at its end.
    """
    from workbench.models import text

    if parameters.form == "N":
        return [None] * parameters.n_tokens
    words, room = prompt.split(), model.tokenizer.model_max_length - 2
    pieces, used = [], 0
    for number, word in enumerate(words, start=1):
        pieces.append(word)
        used += len(text.words(model, word))
        if used < room and (number % parameters.every == 0 or len(words) < parameters.every and number == len(words)):
            pieces.append(None)
            used += 1
    return pieces or [None]


def nearest(vectors, directions):
    """For each of vectors (place, channel) the row of unit directions (word, channel) with the largest cosine; (place,)."""
    return (vectors @ directions.T).argmax(dim=-1)


class NearestWords(Learned):
    """Minimise || eps_erased(z_t, t, [w]) - eps_base(z_t, t, p) ||^2, or its log, over words w; mean over latent elements.

    Each free place holds a vector v (channel,), started at a random permitted word; w is the permitted word nearest to it by
    cosine. The gradient at w is applied to v, by its direction with momentum, or by AdamW as published. z_t is the base model's
    image of p noised to a drawn t.

    The loss of a step is that of one draw of noise, so that texts of different steps cannot be compared by it. Every few steps
    the text of a prompt is therefore measured on the prompt's own draws, the same for all its texts, one in each of as many
    equal parts of the levels. A look sees the best text that was not seen before; the final text is the best of all. Without
    draws the candidate is the text of w as it is.

    Source   Chin et al. 2024 (arXiv 2309.06135). Ours: only whole permitted words are searched; z_t is
             a noised image where the published one lies on the base model's sampling path; the comparison, which the published
             attack makes by looks at the image.
    """

    passes_per_step = STEP_PASSES

    def __init__(self, model, targets, parameters, context):
        import torch

        from workbench.models import text

        if parameters.form == "N":
            check_room(model, parameters.n_tokens)
        self.model, self.targets, self.parameters, self.context = model, targets, parameters, context
        self.ids = targets.table["id"].tolist()
        self.permitted = torch.tensor(writable_tokens(model, context.names))
        self.table = text.token_vectors(model).detach()
        self.words = self.table[self.permitted.to(self.table.device)]
        exact = self.words.to(torch.promote_types(self.words.dtype, torch.float32))
        self.directions = exact / exact.norm(dim=-1, keepdim=True)
        self.layouts = [layout(model, prompt, parameters) for prompt in targets.prompts]
        self.tokens = torch.stack([self.tokens_of(pieces) for pieces in self.layouts]).to(model.device)
        self.vectors = []
        for prompt_id, pieces in zip(self.ids, self.layouts, strict=True):
            first = torch.randint(len(exact), (pieces.count(None),), generator=generator(parameters.seed, prompt_id, 0))
            self.vectors.append(exact[first.to(exact.device)].clone().requires_grad_(True))
        self.learned = self.vectors
        size = exact.square().mean().sqrt().item() if parameters.relative else 1.0
        rate = parameters.step * size
        if parameters.shared:
            self.optimiser = along_directions(self.learned, rate, parameters.weight_decay / size)
        else:
            self.optimiser = torch.optim.AdamW(self.learned, lr=rate, weight_decay=parameters.weight_decay)
        self.compared = [{} for _ in self.ids]  # {words: paired loss} of each prompt
        self.seen = [[] for _ in self.ids]  # words that were candidates
        self.wanted, self.extra = {}, {}
        with torch.no_grad(), context.base():
            parts = [targets.prompts[start : start + parameters.batch] for start in range(0, len(targets), parameters.batch)]
            self.base_states = torch.cat([text.encode(model, part) for part in parts])

    def tokens_of(self, pieces):
        """Token ids (token,) of a layout, -1 at its free places."""
        import torch

        from workbench.models import text

        tokenizer = self.model.tokenizer
        length = tokenizer.model_max_length
        inner = [token for piece in pieces for token in ([-1] if piece is None else text.words(self.model, piece))][: length - 2]
        ids = torch.full((length,), tokenizer.pad_token_id)
        ids[: len(inner) + 2] = torch.tensor([tokenizer.bos_token_id, *inner, tokenizer.eos_token_id])
        return ids

    def states(self, rows, words):
        """Text states (row, token, channel) with words (place, channel) in the free places of these rows, row after row."""
        from workbench.models import text

        tokens = self.tokens[rows]
        free, tokens = tokens < 0, tokens.clamp(min=0)
        return text.encode_ids(self.model, tokens, words, free)

    def found(self, rows):
        """Numbers among the permitted words of the words nearest to the vectors of these rows; list of tuples of int."""
        return [tuple(nearest(self.vectors[row].detach(), self.directions).tolist()) for row in rows]

    def predicted(self, noised, timesteps, states):
        """The model's noise (row, channel, height, width), behind its rule of guidance where it has one."""
        from workbench.diffusion import objectives

        return objectives.seen(self.model, noised, timesteps, states)

    def noised(self, rows, draws, low, high=1.0):
        """z_t (row, channel, height, width) and t (row,) by these generators, t between two shares of the schedule."""
        from workbench.diffusion.objectives import add_noise, draw_noise

        timesteps, noise = draw_noise(self.model, draws, low, high)
        return add_noise(self.model, self.context.clean[rows].to(self.model.device, self.model.dtype), noise, timesteps), timesteps

    def of_base(self, rows, noised, timesteps):
        """What the base model predicts for the prompts of these rows."""
        import torch

        with torch.no_grad(), self.context.base():
            return self.predicted(noised, timesteps, self.base_states[rows])

    def step(self, rows, iteration):
        """One gradient step of these rows, each at a timestep of its own; every few steps the new texts are compared."""
        import torch

        settings = self.parameters
        noised, timesteps = self.noised(rows, [generator(settings.seed, self.ids[row], iteration) for row in rows], settings.noise)
        wanted = self.of_base(rows, noised, timesteps)
        vectors = [self.vectors[row] for row in rows]
        words = self.words[nearest(torch.cat(vectors).detach(), self.directions)].requires_grad_(True)
        losses = distance(self.predicted(noised, timesteps, self.states(rows, words)), wanted)
        minimised(losses, settings).sum().backward()
        self.optimiser.zero_grad()
        for own, gradient in zip(vectors, words.grad.split([len(own) for own in vectors]), strict=True):
            own.grad = direction(gradient.to(own.dtype)) if settings.shared else gradient.to(own.dtype)
        self.optimiser.step()
        self.extra = {}
        if settings.draws and (iteration in (1, settings.iterations) or iteration % settings.compared_every == 0):
            self.compare(rows)
        return losses.tolist()

    def compare(self, rows):
        """Measure the texts of these rows that were not measured before, each on its prompt's own draws."""
        import torch

        texts = dict(zip(rows, self.found(rows), strict=True))
        new = [row for row in rows if texts[row] not in self.compared[row]]
        if not new:
            return
        with torch.no_grad():
            words = self.words[torch.tensor([word for row in new for word in texts[row]], device=self.words.device)]
            states = self.states(new, words)
            each = [self.paired_losses(new, states, draw) for draw in range(self.parameters.draws)]
        for row, loss in zip(new, torch.stack(each).mean(dim=0).tolist(), strict=True):
            self.extra[row] = self.parameters.draws * (1 if self.compared[row] else 2)
            self.compared[row][texts[row]] = loss

    def paired_losses(self, rows, states, draw):
        """What is minimised (row,) on one of the prompts' own draws; the base model's answers are kept."""
        import torch

        low, n = self.parameters.noise, self.parameters.draws
        part = [low + (1 - low) * edge / n for edge in (draw, draw + 1)]
        noised, timesteps = self.noised(rows, [generator(self.parameters.seed, self.ids[row], f"draw {draw}") for row in rows], *part)
        missing = [place for place, row in enumerate(rows) if (row, draw) not in self.wanted]
        if missing:
            asked = [rows[place] for place in missing]
            for row, answer in zip(asked, self.of_base(asked, noised[missing], timesteps[missing]), strict=True):
                self.wanted[row, draw] = answer
        wanted = torch.stack([self.wanted[row, draw] for row in rows])
        return minimised(distance(self.predicted(noised, timesteps, states), wanted), self.parameters)

    def costs(self, rows):
        """A step's passes and those of its comparison; the first also asks the base model."""
        return [STEP_PASSES + self.extra.get(row, 0) for row in rows]

    def written(self, rows, texts):
        """PromptSet of these rows with these words in their places, as text."""
        prompts = [
            filled(self.model, self.layouts[row], self.permitted[list(words)].tolist()) for row, words in zip(rows, texts, strict=True)
        ]
        return reworded(self.targets.picked(rows), prompts, self.context)

    def candidate(self, rows):
        """The best text of each prompt that was not here before, or, when all were, the best."""
        if not self.parameters.draws:
            return self.written(rows, self.found(rows))
        texts = []
        for row in rows:
            unseen = {words: loss for words, loss in self.compared[row].items() if words not in self.seen[row]}
            texts.append(lowest(unseen or self.compared[row]))
            self.seen[row].append(texts[-1])
        return self.written(rows, texts)

    def final(self, rows):
        """The best text of each prompt."""
        return self.written(rows, [lowest(self.compared[row]) for row in rows] if self.parameters.draws else self.found(rows))

    def state(self):
        """Vectors, optimiser, and the texts that were compared and seen."""
        return super().state() | {"compared": self.compared, "seen": self.seen}

    def restore(self, state):
        """Go on from them."""
        super().restore(state)
        self.compared, self.seen = state["compared"], state["seen"]


def lowest(losses):
    """The key of the smallest value."""
    return min(losses, key=losses.get)


def distance(predicted, wanted):
    """Mean squared difference over latent elements; (row,)."""
    return (predicted - wanted).square().mean(dim=(1, 2, 3))


def attack(model, targets, parameters, context):
    """All prompts side by side, each with words of its own."""
    return search(NearestWords(model, targets, parameters, context), targets, context, parameters, parameters.iterations)


def control(model, targets, adversarial, parameters, context):
    """Random permitted words in the same places, new ones at every look, with as many looks at the detector."""
    layouts = [layout(model, prompt, parameters) for prompt in targets.prompts]
    drawing = RandomPlaces(model, targets, layouts, parameters.seed + 1, context)
    return search(drawing, targets, context, parameters, max(1, parameters.looks), control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate, when nothing succeeds early and every comparison meets a new text."""
    n = parameters.iterations
    compared = len({1, n, *range(parameters.compared_every, n + 1, parameters.compared_every)})
    return most_passes(parameters, n_prompts, passes_per_image, STEP_PASSES * n + parameters.draws * (compared + 1))
