"""Searching side by side: an attack improves its candidates of all prompts together; finished prompts leave the batch.

An attack gives a `Searcher`; `search` drives it, looks at the detector, spends the budget, logs every evaluation, and keeps
its state so that a killed search goes on. A control is a searcher that only draws: it gets as many looks through the same code.
A prompt is finished when a look succeeds or its budget is spent. Every draw belongs to (seed, prompt id, iteration), so a
prompt's search does not depend on which prompts stand beside it.
"""

import time

from pydantic import Field

from workbench.methods.attacks import vectors_before
from workbench.study.fields import MOST_ROWS, Seed, StudyTable

KEEP_EVERY = 60.0


class Budget(StudyTable):
    """How far a search goes; part of every optimising attack's parameters."""

    looks: int = Field(1, ge=0, le=500, description="detector queries, evenly spaced; 0 = none, the final candidate is kept")
    max_passes: float | None = Field(
        None, gt=0, le=1e12, description="UNet evaluations a prompt may spend, detector queries included; with gradient 2.5"
    )
    max_seconds: float | None = Field(None, gt=0, le=1e9, description="seconds a prompt may spend: its share of the batches it was in")
    batch: int = Field(20, ge=1, le=MOST_ROWS, description="prompts per UNet call")
    seed: Seed = Field(0, description="of the start and of every draw")


class Searcher:
    """What an attack must say.

    step(rows, iteration)   improve the candidates of these rows; losses (row,) as floats
    candidate(rows)         PromptSet of these rows to look at now
    final(rows)             PromptSet of these rows to keep where no look decided
    costs(rows)             UNet row passes of the last step of each of these rows
    state(), restore(state) tensors, numbers, lists and dicts that `torch.save` keeps
    passes_per_step         what `costs` says unless a step may cost more
    """

    passes_per_step = 0.0

    def step(self, rows, iteration):
        """Nothing to improve: what a control does."""
        return [None] * len(rows)

    def final(self, rows):
        """The candidates as they are."""
        return self.candidate(rows)

    def costs(self, rows):
        """The same for every step."""
        return [self.passes_per_step] * len(rows)

    def state(self):
        """Nothing to keep."""
        return {}

    def restore(self, state):
        """Nothing to restore."""


def generator(seed, prompt_id, iteration):
    """A CPU generator for one prompt's draws of one iteration."""
    import hashlib

    import torch

    word = hashlib.sha256(f"{seed}|{prompt_id}|{iteration}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(word[:8], "little") >> 1)


class Drawn(Searcher):
    """What controls are: a new draw at every look, `draw(row, iteration)` for one prompt, nothing learned."""

    def __init__(self, targets, context):
        self.targets, self.context, self.iteration = targets, context, 1

    def step(self, rows, iteration):
        """Move on to the next draw."""
        self.iteration = iteration
        return [None] * len(rows)

    def state(self):
        """The number of the draw."""
        return {"iteration": self.iteration}

    def restore(self, state):
        """Go on at that draw."""
        self.iteration = state["iteration"]


class RandomVectors(Drawn):
    """Random vectors with the norms of given ones (prompt, k, channel)."""

    def __init__(self, targets, vectors, seed, context):
        super().__init__(targets, context)
        self.vectors, self.seed, self.ids = vectors, seed, targets.table["id"].tolist()

    def candidate(self, rows):
        """Vectors of another direction for each of these rows."""
        import torch

        drawn = torch.stack(
            [torch.randn(self.vectors[row].shape, generator=generator(self.seed, self.ids[row], self.iteration)) for row in rows]
        )
        norms = self.vectors[rows].norm(dim=-1, keepdim=True)
        return vectors_before(self.targets.picked(rows), drawn / drawn.norm(dim=-1, keepdim=True) * norms, self.context, True)


def most_passes(budget, n_prompts, passes_per_image, passes_of_steps):
    """UNet row passes of an attack and its control when no look succeeds."""
    looks = budget.looks * passes_per_image
    attack = passes_of_steps + looks
    if budget.max_passes is not None:
        attack, looks = min(attack, budget.max_passes), min(looks, budget.max_passes)
    return n_prompts * (attack + looks)


def search(searcher, targets, context, budget, iterations, control=False):
    """Drive a searcher over all prompts.

    returns   PromptSet: per prompt the first candidate a look succeeds on, else the one with the highest score, else the final one
    """
    run = _Run(searcher, targets, context, budget, iterations, control)
    run.go()
    return run.result()


class _Run:
    def __init__(self, searcher, targets, context, budget, iterations, control):
        self.searcher, self.targets, self.context, self.budget = searcher, targets, context, budget
        self.iterations, self.name = iterations, "control" if control else "attack"
        self.ids = targets.table["id"].tolist()
        looks = min(budget.looks, iterations) if context.succeeds else 0
        self.looks_at = {round(iterations * (look + 1) / looks) for look in range(looks)}
        self.open = list(range(len(targets)))
        self.iteration = 0
        self.spent, self.seconds = [0.0] * len(targets), [0.0] * len(targets)
        self.best = {}  # row -> (found, score, one-row PromptSet)
        self.log = []
        self.restore()

    def restore(self):
        kept = self.context.kept(self.name)
        if kept:
            self.iteration, self.open, self.log = kept["iteration"], kept["open"], kept["log"]
            self.spent, self.seconds = kept["spent"], kept["seconds"]
            self.best = {row: (found, score, self.targets.from_plain(plain)) for row, (found, score, plain) in kept["best"].items()}
            self.searcher.restore(kept["searcher"])

    def keep(self):
        best = {row: (found, score, one.to_plain()) for row, (found, score, one) in self.best.items()}
        self.context.keep(
            self.name,
            {
                "iteration": self.iteration,
                "open": self.open,
                "log": self.log,
                "spent": self.spent,
                "seconds": self.seconds,
                "best": best,
                "searcher": self.searcher.state(),
            },
        )

    def go(self):
        kept_at = time.monotonic()
        while self.open and self.iteration < self.iterations:
            self.iteration += 1
            losses = []
            for start in range(0, len(self.open), self.budget.batch):
                losses += self.step(self.open[start : start + self.budget.batch])
            known = [loss for loss in losses if loss is not None]
            note = f"{len(self.open)} prompts open" + (f", loss {sum(known) / len(known):.4f}" if known else "")
            if self.iteration in self.looks_at:
                self.look()
            self.context.progress(self.iteration, self.iterations, note)
            self.open = [row for row in self.open if not self.is_spent(row)]
            if time.monotonic() - kept_at > KEEP_EVERY or self.iteration in self.looks_at:
                self.keep()
                kept_at = time.monotonic()
        self.context.log += self.log

    def step(self, rows):
        began = time.perf_counter()
        losses = self.searcher.step(rows, self.iteration)
        each = (time.perf_counter() - began) / len(rows)
        for row, loss, cost in zip(rows, losses, self.searcher.costs(rows), strict=True):
            self.spent[row] += cost
            self.seconds[row] += each
            self.note(row, loss=loss)
        return losses

    def look(self):
        """Show the open prompts' candidates to the detector; whoever succeeds leaves."""
        began = time.perf_counter()
        made = self.searcher.candidate(self.open)
        looks = self.context.succeeds(made)
        each = (time.perf_counter() - began) / len(self.open)
        left = []
        for place, (row, look) in enumerate(zip(self.open, looks, strict=True)):
            self.spent[row] += self.context.passes_per_look
            self.seconds[row] += each
            one = made.rows(place, place + 1)
            if row not in self.best or look.found or look.score > self.best[row][1]:
                self.best[row] = (look.found, look.score, one)
            self.note(row, found=look.found, score=look.score, prompt=one.prompts[0])
            if not look.found:
                left.append(row)
        self.open = left

    def note(self, row, **values):
        empty = {"loss": None, "found": None, "score": None, "prompt": None}
        about = {"of": self.name, "id": self.ids[row], "iteration": self.iteration}
        self.log.append(about | {"passes": self.spent[row], "seconds": self.seconds[row]} | empty | values)

    def is_spent(self, row):
        over = self.budget.max_passes is not None and self.spent[row] >= self.budget.max_passes
        return over or (self.budget.max_seconds is not None and self.seconds[row] >= self.budget.max_seconds)

    def result(self):
        rows = list(range(len(self.targets)))
        last = self.searcher.final(rows)
        return last.joined([self.best[row][2] if row in self.best else last.rows(row, row + 1) for row in rows])
