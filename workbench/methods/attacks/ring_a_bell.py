"""Ring-A-Bell: words whose text state is that of the prompt with the concept turned up, by genetic search; text encoder only."""

from pydantic import Field

from workbench.methods.attacks import reworded
from workbench.methods.attacks._search import Budget, Searcher, generator, most_passes, search
from workbench.methods.attacks._words import RandomPlaces, check_room, filled, writable_tokens
from workbench.study.fields import MOST_ITERATIONS, MOST_RATE, MOST_ROWS

CITATIONS = ("tsai2024ring",)
OPTIMISED = False
PUBLISHED = {"n_tokens": 16, "strength": 3.0, "population": 200, "generations": 3000, "crossover": 0.5, "mutation": 0.25, "looks": 0}


class Parameters(Budget):
    """What can be set. Defaults are scaled for the emoji model; each meaning ends with what was published for SD 1.4.

    Source of PUBLISHED   Tsai et al. 2024 (arXiv 2310.10012), their nudity setting with 16 words
    """

    n_tokens: int = Field(8, ge=1, le=75, description="words in the prompt's place; published: 16, 38 or 77")
    strength: float = Field(
        3.0,
        ge=-MOST_RATE,
        le=MOST_RATE,
        description="how often the concept's direction is added; published: 3 (nudity), 5 to 5.5 (violence)",
    )
    population: int = Field(40, ge=2, le=100_000, description="texts kept of each prompt; published: 200")
    generations: int = Field(100, ge=1, le=MOST_ITERATIONS, description="rounds of breeding and selecting; published: 3,000")
    crossover: float = Field(0.5, ge=0, le=1, description="texts bred from two in each round, as a share of those kept; published: 0.5")
    mutation: float = Field(0.25, gt=0, le=1, description="texts with one word exchanged in each round, as a share; published: 0.25")
    texts: int = Field(32, ge=1, le=MOST_ROWS, description="texts per pass of the text encoder; changes the speed only")
    looks: int = Field(0, ge=0, le=500, description="looks at the base model's images, for the attack knows no other model; published: 0")


def concept_direction(model, pairs, batch):
    """mean over pairs of E(with the concept) - E(without), E the text state; (token, channel)."""
    import torch

    from workbench.models import text

    total = 0
    with torch.no_grad():
        for start in range(0, len(pairs), batch):
            with_concept, without = zip(*pairs[start : start + batch], strict=True)
            total = total + (text.encode(model, with_concept) - text.encode(model, without)).sum(dim=0)
    return total / len(pairs)


class Population(Searcher):
    """Minimise || E(P) - (E(p) + strength * c) ||^2, mean over tokens and channels, over texts P of n permitted words.

    E is the base model's text encoder, c the concept's direction: from the erasing pairs, or, as in a study without any, from
    the names against the empty prompt. The first round draws texts; each later one breeds children (head of one kept text and
    tail of another; one word of a kept text exchanged) and keeps the best of old and new, no text twice. So the best never
    gets worse. Costs no UNet pass.

    Shapes   texts[row] (text, word) numbers of permitted words, losses[row] (text,), both with the best first
    Source   Tsai et al. 2024 (arXiv 2310.10012). Ours: whole permitted words; the selection.
    """

    def __init__(self, model, targets, parameters, context):
        import torch

        from workbench.models import text

        check_room(model, parameters.n_tokens)
        self.model, self.targets, self.parameters, self.context = model, targets, parameters, context
        self.ids = targets.table["id"].tolist()
        self.permitted = torch.tensor(writable_tokens(model, context.names))
        self.vectors = text.token_vectors(model).detach()[self.permitted.to(model.device)]
        pairs = context.pairs or [(name, "") for name in context.called]
        direction = concept_direction(model, pairs, parameters.texts)
        with torch.no_grad():
            parts = [targets.prompts[start : start + parameters.texts] for start in range(0, len(targets), parameters.texts)]
            self.wanted = torch.cat([text.encode(model, part) for part in parts]) + parameters.strength * direction
        self.texts = [torch.empty(0, parameters.n_tokens, dtype=torch.long) for _ in self.ids]
        self.losses = [torch.empty(0) for _ in self.ids]

    def losses_of(self, texts, rows):
        """Losses (text,) of texts (text, word), each against the wanted state of its prompt, rows (text,)."""
        import torch

        from workbench.models import text

        found = []
        with torch.no_grad():
            for some, of in zip(texts.split(self.parameters.texts), rows.split(self.parameters.texts), strict=True):
                states = text.encode_tokens(self.model, self.vectors[some.to(self.vectors.device)])
                difference = states - self.wanted[of.to(self.wanted.device)]
                found.append(difference.to(torch.promote_types(difference.dtype, torch.float32)).square().mean(dim=(1, 2)).cpu())
        return torch.cat(found)

    def fresh(self, row, iteration):
        """Texts (text, word) to try in this round."""
        import torch

        settings, kept = self.parameters, self.texts[row]
        draws = generator(settings.seed, self.ids[row], iteration)
        n, k = settings.population, settings.n_tokens
        if iteration == 1:
            return torch.randint(len(self.permitted), (n, k), generator=draws)
        n_crossed, n_mutated = round(settings.crossover * n), max(1, round(settings.mutation * n))
        first, second = torch.randint(n, (2, n_crossed), generator=draws)
        cut = torch.randint(1, max(k, 2), (n_crossed, 1), generator=draws)
        crossed = torch.where(torch.arange(k) < cut, kept[first], kept[second])
        mutated = kept[torch.randint(n, (n_mutated,), generator=draws)]
        place = torch.randint(k, (n_mutated, 1), generator=draws)
        mutated.scatter_(1, place, torch.randint(len(self.permitted), (n_mutated, 1), generator=draws))
        return torch.cat([crossed, mutated])

    def select(self, row, texts, losses):
        """Keep the best of the kept and these; a text that is there already counts as the worst."""
        import torch

        texts, losses = torch.cat([self.texts[row], texts]), torch.cat([self.losses[row].to(losses.dtype), losses])
        same = (texts[:, None] == texts[None]).all(dim=-1)
        losses = losses.masked_fill(same.tril(diagonal=-1).any(dim=-1), float("inf"))
        best = losses.argsort(stable=True)[: self.parameters.population]
        self.texts[row], self.losses[row] = texts[best], losses[best]

    def step(self, rows, iteration):
        """One round of these rows; their texts share the passes of the text encoder."""
        import torch

        fresh = [self.fresh(row, iteration) for row in rows]
        each = len(fresh[0])
        losses = self.losses_of(torch.cat(fresh), torch.tensor(rows).repeat_interleave(each))
        for row, texts, found in zip(rows, fresh, losses.split(each), strict=True):
            self.select(row, texts, found)
        return [self.losses[row][0].item() for row in rows]

    def candidate(self, rows):
        """The best text of each prompt."""
        best = [self.permitted[self.texts[row][0]].tolist() for row in rows]
        return reworded(self.targets.picked(rows), [filled(self.model, [None] * len(ids), ids) for ids in best], self.context)

    def state(self):
        """Kept texts and their losses."""
        return {"texts": self.texts, "losses": self.losses}

    def restore(self, state):
        """Go on from them."""
        self.texts, self.losses = list(state["texts"]), list(state["losses"])


def attack(model, targets, parameters, context):
    """All prompts side by side, each with a population of its own; static, for no erased model is asked."""
    return search(Population(model, targets, parameters, context), targets, context, parameters, parameters.generations)


def control(model, targets, adversarial, parameters, context):
    """As many random permitted words in each prompt's place, with as many looks at the detector: one text each without looks.

    Fair, because the detector chooses neither: what the search adds is the choice by the text encoder, and everything else
    (number of words, vocabulary, place, texts that reach the detector) is equal.
    """
    places = [[None] * parameters.n_tokens for _ in range(len(targets))]
    drawing = RandomPlaces(model, targets, places, parameters.seed + 1, context)
    return search(drawing, targets, context, parameters, max(1, parameters.looks), control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate: the looks alone."""
    return most_passes(parameters, n_prompts, passes_per_image, 0.0)
