"""What AdvUnlearn trains: a copy of the text encoder, against vectors before the words."""

import copy
from contextlib import contextmanager

import torch

from workbench.methods.erasers import _pool
from workbench.models import text


class Training:
    """One training; `improve` takes one step and returns its loss."""

    def __init__(self, model, pairs, retained, parameters):
        self.model, self.parameters, self.step = model, parameters, 0
        self.generator = torch.Generator().manual_seed(parameters.seed)
        self.prompts = [prompt for prompt, _ in pairs]
        n = max(parameters.trajectories, len(pairs)) if parameters.trajectories else 0
        self.pool = _pool.along_trajectories(model, pairs, parameters, n) if n else _pool.anew(model, pairs, parameters)
        self.others = list(dict.fromkeys([*retained, *(anchor for _, anchor in pairs), ""]))
        with torch.no_grad():
            self.other_states = text.encode(model, self.others)
        self.words = text.token_vectors(model).detach()
        self.encoder = copy.deepcopy(model.text_encoder).requires_grad_(True)
        self.optimiser = torch.optim.Adam(self.encoder.parameters(), lr=parameters.learning_rate)

    @contextmanager
    def reading(self):
        """While open, the model reads prompts with the text encoder in training."""
        own = self.model.text_encoder
        self.model.text_encoder = self.encoder
        try:
            yield
        finally:
            self.model.text_encoder = own

    def _numbers(self, high, n):
        return torch.randint(high, (n,), generator=self.generator)

    def predicted(self, drawn, vectors=None):
        """The noise for drawn latents as the text encoder in training reads their prompts, with vectors before the words."""
        with self.reading():
            states = text.encode(self.model, [self.prompts[pair] for pair in drawn.pair.tolist()], vectors)
        return self.model.predict(drawn.noised, drawn.at, states)

    def attacked(self, drawn, before):
        """(row, k, channel) vectors that bring the concept back, against the text encoder as it is."""
        parameters = self.parameters
        chosen = self._numbers(len(self.words), len(drawn.pair) * parameters.adversarial_tokens)
        vectors = self.words[chosen.to(self.words.device)].clone().unflatten(0, (len(drawn.pair), -1)).requires_grad_(True)
        optimiser = torch.optim.Adam([vectors], lr=parameters.adversarial_rate)
        for _ in range(parameters.adversarial_steps):
            loss = (self.predicted(drawn, vectors) - before).square().mean(dim=(1, 2, 3)).sum()
            (vectors.grad,) = torch.autograd.grad(loss, [vectors])
            if parameters.rule == "sign":
                with torch.no_grad():
                    vectors -= parameters.adversarial_rate * vectors.grad.sign()
            else:
                optimiser.step()
        return vectors.detach()

    def targets(self, drawn):
        """(what the concept's prompt shall predict, what it predicts now) by the text encoder that it began with."""
        beside = drawn.noised, drawn.at, self.pool.concept[drawn.pair]
        return _pool.wanted(self.model, self.pool, drawn, self.parameters.form, self.parameters.eta, beside)

    def retention(self, drawn):
        """Mean squared change of the noise for drawn retained prompts, at latents of this step."""
        n = self.parameters.retained_batch
        which, rows = self._numbers(len(self.others), n), self._numbers(len(drawn.pair), n)
        noised, at = drawn.noised[rows], drawn.at[rows]
        with torch.no_grad():
            wanted = self.model.predict(noised, at, self.other_states[which])
        with self.reading():
            states = text.encode(self.model, [self.others[one] for one in which.tolist()])
        return (self.model.predict(noised, at, states) - wanted).square().mean()

    def improve(self):
        """An attack, then one step of the text encoder; returns its loss, a float."""
        parameters = self.parameters
        drawn = self.pool.draw(self.model, self.generator, parameters.batch)
        target, before = self.targets(drawn)
        if self.step < parameters.warmup:
            loss = (self.predicted(drawn) - target).square().mean()
        else:
            loss = (self.predicted(drawn, self.attacked(drawn, before)) - target).square().mean()
            if parameters.plain:
                loss = loss + parameters.plain * (self.predicted(drawn) - target).square().mean()
        if parameters.retention:
            loss = loss + parameters.retention * self.retention(drawn)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return loss.item()

    def state(self):
        """All that a killed training needs to continue to the same text encoder."""
        weights = {name: value.detach() for name, value in self.encoder.named_parameters()}
        return {"step": self.step, "weights": weights, "optimiser": self.optimiser.state_dict(), "generator": self.generator.get_state()}

    def restore(self, state):
        """Put back what `state` gave."""
        self.step = state["step"]
        for name, value in self.encoder.named_parameters():
            value.data.copy_(state["weights"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
