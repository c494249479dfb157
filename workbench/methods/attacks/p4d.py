"""P4D: words in the prompt's place (N) or among its words (K), searched by gradient so that erased predicts as base; white box."""

from typing import Literal

from pydantic import Field

from workbench.errors import MethodError
from workbench.methods.attacks import reworded
from workbench.methods.attacks._search import GRADIENT_PASSES, Budget, Drawn, Learned, generator, most_passes, search

OPTIMISED = True
STEP_PASSES = GRADIENT_PASSES + 1


class Parameters(Budget):
    """What can be set. Defaults are scaled for the emoji model; each meaning ends with what was published for SD 1.4."""

    form: Literal["N", "K"] = Field(
        "N", description="N: free words alone; K: free words after every few words of the prompt; published: both"
    )
    n_tokens: int = Field(8, ge=1, le=75, description="free words of form N; published: 16")
    every: int = Field(2, ge=1, description="form K: a free word after this many words of the prompt; published: 3")
    iterations: int = Field(400, ge=1, description="gradient steps; published: 3,000")
    step: float = Field(0.1, gt=0, description="learning rate of AdamW; published: 0.1")
    weight_decay: float = Field(0.1, ge=0, description="of AdamW; published: 0.1")
    looks: int = Field(8, ge=0, le=500, description="looks at the detector, evenly spaced; published: 60, one every 50 steps")


def check_room(model, n_tokens):
    """MethodError unless so many tokens fit between start and end of a text."""
    room = model.tokenizer.model_max_length - 2
    if n_tokens > room:
        raise MethodError(
            f'n_tokens = {n_tokens}, but a text of "{model.name}" holds {room} tokens between start and end. Set at most {room}.'
        )


def writable_tokens(model, names):
    """Ids of permitted words that, written as text and tokenised anew, are the same token again; list of int.

    A word that falls apart when it is read would stand for other tokens than those the search chose, perhaps forbidden ones.
    Raises   MethodError when none is left
    """
    from workbench.models import text

    permitted = text.permitted_tokens(model, names)
    written = [model.tokenizer.decode([token]).strip() for token in permitted]
    read = model.tokenizer(written, add_special_tokens=False).input_ids if written else []
    kept = [token for token, ids in zip(permitted, read, strict=True) if ids == [token]]
    if not kept:
        raise MethodError(f'The vocabulary of "{model.name}" has no whole word left beside the names {", ".join(names)}.')
    return kept


def layout(model, prompt, parameters):
    """The pieces of an attacked prompt in order: its words as str, None for each free place.

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


def filled(pieces, words):
    """The text of a layout whose free places hold these words."""
    rest = iter(words)
    return " ".join(next(rest) if piece is None else piece for piece in pieces)


def nearest(vectors, directions):
    """For each of vectors (place, channel) the row of unit directions (word, channel) with the largest cosine; (place,)."""
    return (vectors @ directions.T).argmax(dim=-1)


class NearestWords(Learned):
    """Minimise || eps_erased(z_t, t, [w]) - eps_base(z_t, t, p) ||^2 over words w; mean over latent elements.

    Each free place holds a vector v (channel,), started at a random permitted word; w is the permitted word nearest to it by
    cosine. The gradient at w is applied to v, by AdamW. z_t is the base model's image of p noised to a t of the whole schedule.
    The candidate is the text of w, tokenised anew.

    Source   Chin et al. 2024 (arXiv 2309.06135); SCIENCE 5, FORMATS 2.3. Ours: only whole permitted words are searched; z_t is
             a noised image where the published one lies on the base model's sampling path.
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
        self.optimiser = torch.optim.AdamW(self.learned, lr=parameters.step, weight_decay=parameters.weight_decay)
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
        vectors = self.table[tokens].masked_scatter(free[..., None], words)
        with text.vectors_in_place(self.model.text_encoder.get_input_embeddings(), vectors[:, 1:]):
            return self.model.text_encoder(tokens).last_hidden_state

    def step(self, rows, iteration):
        """One gradient step of these rows, each at a timestep of its own."""
        import torch

        from workbench.diffusion.objectives import add_noise, draw_noise

        model = self.model
        timesteps, noise = draw_noise(model, [generator(self.parameters.seed, self.ids[row], iteration) for row in rows])
        noised = add_noise(model, self.context.clean[rows].to(model.device, model.dtype), noise, timesteps)
        with torch.no_grad(), self.context.base():
            wanted = model.unet(noised, timesteps, encoder_hidden_states=self.base_states[rows]).sample
        vectors = [self.vectors[row] for row in rows]
        words = self.words[nearest(torch.cat(vectors).detach(), self.directions)].requires_grad_(True)
        predicted = model.unet(noised, timesteps, encoder_hidden_states=self.states(rows, words)).sample
        loss = (predicted - wanted).square().mean(dim=(1, 2, 3))
        loss.sum().backward()
        self.optimiser.zero_grad()
        for own, gradient in zip(vectors, words.grad.split([len(own) for own in vectors]), strict=True):
            own.grad = gradient.to(own.dtype)
        self.optimiser.step()
        return loss.tolist()

    def candidate(self, rows):
        """The nearest words in their places, as text."""
        prompts = []
        for row in rows:
            found = self.permitted[nearest(self.vectors[row].detach(), self.directions).cpu()]
            prompts.append(filled(self.layouts[row], [self.model.tokenizer.decode([token]).strip() for token in found.tolist()]))
        return reworded(self.targets.picked(rows), prompts, self.context)


class RandomPlaces(Drawn):
    """Random permitted words in the free places of given layouts, one a prompt."""

    def __init__(self, model, targets, layouts, seed, context):
        super().__init__(targets, context)
        self.model, self.layouts, self.seed, self.ids = model, layouts, seed, targets.table["id"].tolist()
        self.permitted = writable_tokens(model, context.names)

    def candidate(self, rows):
        """Other words for each of these rows."""
        import torch

        prompts = []
        for row in rows:
            draws = generator(self.seed, self.ids[row], self.iteration)
            drawn = torch.randint(len(self.permitted), (self.layouts[row].count(None),), generator=draws).tolist()
            prompts.append(filled(self.layouts[row], [self.model.tokenizer.decode([self.permitted[i]]).strip() for i in drawn]))
        return reworded(self.targets.picked(rows), prompts, self.context, True)


def attack(model, targets, parameters, context):
    """All prompts side by side, each with words of its own."""
    return search(NearestWords(model, targets, parameters, context), targets, context, parameters, parameters.iterations)


def control(model, targets, adversarial, parameters, context):
    """Random permitted words in the same places, new ones at every look, with as many looks at the detector."""
    layouts = [layout(model, prompt, parameters) for prompt in targets.prompts]
    drawing = RandomPlaces(model, targets, layouts, parameters.seed + 1, context)
    return search(drawing, targets, context, parameters, max(1, parameters.looks), control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate, when nothing succeeds early."""
    return most_passes(parameters, n_prompts, passes_per_image, STEP_PASSES * parameters.iterations)
