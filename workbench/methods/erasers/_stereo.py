"""What STEREO trains: weights of the UNet and vectors by turns, then the weights once more from their beginning."""

import torch

from workbench.methods.erasers import _pool
from workbench.models import text

ERASE, SEARCH, FINAL = "erase", "search", "final"


def with_place(prompt, anchor):
    """A prompt with `text.HERE` instead of the words that its anchor has not; "<*>" alone where the anchor has none of them."""
    kept = {_bare(word) for word in anchor.split()}
    found = []
    for word in prompt.split():
        if _bare(word) in kept:
            found.append(word)
        elif text.HERE not in found:
            found.append(text.HERE)
    return " ".join(found if text.HERE in found else [*found, text.HERE])


def _bare(word):
    return word.lower().strip(".,;:!?")


class Training:
    """One training; `improve` takes one step of the stage that is due and returns its loss.

    sides    text states (pair, token, channel): of the concept's prompts, then of the same with the vectors of each round so far
    alone    text states (1, token, channel) of the vectors of each round without other words
    """

    def __init__(self, model, pairs, names, parameters):
        self.model, self.parameters, self.step = model, parameters, 0
        self.generator = torch.Generator().manual_seed(parameters.seed)
        self.pool = _pool.of_images(model, pairs, parameters, max(parameters.images, len(pairs)), "concept")
        self.templates = [with_place(*pair) for pair in pairs]
        self.words = text.token_vectors(model).detach()
        own = dict(model.unet.named_parameters())
        self.first = {name: own[name].detach() for name in names}
        self.frozen = self.first
        self.weights = {name: weight.clone().requires_grad_(True) for name, weight in self.first.items()}
        self.found, self.alone, self.sides = [], [], [self.pool.concept]
        self.vectors = self.optimiser = None

    def stage(self):
        """(which stage the next step belongs to, how many of its steps are done)."""
        parameters = self.parameters
        one = parameters.erase_iterations + parameters.search_iterations
        number, place = divmod(self.step, one)
        if number >= parameters.rounds:
            return FINAL, self.step - parameters.rounds * one
        return (ERASE, place) if place < parameters.erase_iterations else (SEARCH, place - parameters.erase_iterations)

    def begin(self, stage):
        """What a stage begins with."""
        if stage == ERASE:
            self.frozen = {name: weight.detach().clone() for name, weight in self.weights.items()}
        elif stage == SEARCH:
            chosen = self._numbers(len(self.words), self.parameters.vectors)
            self.vectors = self.words[chosen.to(self.words.device)].clone().requires_grad_(True)
        else:
            self.frozen = self.first
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(self.first[name])
        self.optimiser = self._new_optimiser(stage)

    def _new_optimiser(self, stage):
        if stage == SEARCH:
            return torch.optim.Adam([self.vectors], lr=self.parameters.search_rate)
        return torch.optim.Adam(self.weights.values(), lr=self.parameters.learning_rate)

    def _numbers(self, high, n):
        return torch.randint(high, (n,), generator=self.generator)

    def states_with(self, vectors, pair):
        """Text states (row, token, channel) of the prompts of these pairs with vectors instead of the concept."""
        return text.encode(self.model, [self.templates[one] for one in pair.tolist()], vectors.expand(len(pair), -1, -1))

    def asked(self, drawn):
        """Text states (row, token, channel), each row's by chance: its prompt, or the same with one of the vectors found."""
        which = self._numbers(len(self.sides), len(drawn.pair))
        return torch.stack([self.sides[side][pair] for side, pair in zip(which.tolist(), drawn.pair.tolist(), strict=True)])

    @torch.no_grad()
    def frozen_noise(self, drawn, states):
        """The noise of each of these states by the weights that a stage begins with, in one pass; list of (row, ...)."""
        n = len(states)
        together = drawn.noised.repeat(n, 1, 1, 1), drawn.at.repeat(n), torch.cat(states)
        return self.model.predict(*together, self.frozen).chunk(n)

    def target(self, drawn, states, stage):
        """What `states` shall be answered with, by the weights that the stage began with."""
        eta, empty = self.parameters.eta, self.pool.empty.expand(len(drawn.pair), -1, -1)
        if stage == ERASE:
            without, concept = self.frozen_noise(drawn, [empty, states])
            return without - eta * (concept - without)
        anchor = self.pool.anchor[drawn.pair]
        without, towards, *away = self.frozen_noise(drawn, [empty, anchor, *(one.expand_as(empty) for one in self.alone)])
        return without + eta * (towards - without) - eta * (torch.stack(away).mean(dim=0) - without)

    def loss(self, stage):
        """The loss of the next draw, a scalar."""
        drawn = self.pool.draw(self.model, self.generator, self.parameters.batch)
        if stage == SEARCH:
            weights = {name: weight.detach() for name, weight in self.weights.items()}
            predicted = self.model.predict(drawn.noised, drawn.at, self.states_with(self.vectors, drawn.pair), weights)
            return (predicted - drawn.noise).square().mean()
        states = self.asked(drawn)
        target = self.target(drawn, states, stage)
        return (self.model.predict(drawn.noised, drawn.at, states, self.weights) - target).square().mean()

    def improve(self):
        """One step; returns its loss, a float."""
        stage, place = self.stage()
        if place == 0:
            self.begin(stage)
        loss = self.loss(stage)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        if stage == SEARCH and place == self.parameters.search_iterations - 1:
            self.keep_found(self.vectors.detach().clone())
        return loss.item()

    @torch.no_grad()
    def keep_found(self, vectors):
        """Add vectors (vector, channel) to those found."""
        self.found.append(vectors)
        self.alone.append(text.encode(self.model, [text.HERE], vectors[None]))
        self.sides.append(self.states_with(vectors, torch.arange(len(self.templates))))

    def state(self):
        """All that a killed training needs to continue to the same weights."""
        return {
            "step": self.step,
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "frozen": dict(self.frozen),
            "found": list(self.found),
            "vectors": None if self.vectors is None else self.vectors.detach(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state):
        """Put back what `state` gave."""
        self.step = state["step"]
        for name, weight in self.weights.items():
            weight.data.copy_(state["weights"][name])
        self.frozen = {name: weight.to(self.weights[name]) for name, weight in state["frozen"].items()}
        for vectors in state["found"]:
            self.keep_found(vectors.to(self.words))
        if state["vectors"] is not None:
            self.vectors = state["vectors"].to(self.words).clone().requires_grad_(True)
        stage, place = self.stage()
        if place:
            self.optimiser = self._new_optimiser(stage)
            self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
