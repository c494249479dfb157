"""Words in places: what attacks that search for text share.

A layout is a list of pieces of an attacked prompt in order: its words as str, None for each free place.
"""

from workbench.errors import MethodError
from workbench.methods.attacks import reworded
from workbench.methods.attacks._search import Drawn, generator


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


def before(prompts, n_tokens):
    """Layouts with so many free places before each prompt."""
    return [[None] * n_tokens + [prompt] for prompt in prompts]


def filled(model, layout, tokens):
    """The text of a layout whose free places hold these tokens (place,)."""
    rest = iter(tokens)
    return " ".join(model.tokenizer.decode([next(rest)]).strip() if piece is None else piece for piece in layout)


class RandomPlaces(Drawn):
    """Random permitted words in the free places of given layouts, one a prompt; what a control of words is."""

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
            prompts.append(filled(self.model, self.layouts[row], [self.permitted[i] for i in drawn]))
        return reworded(self.targets.picked(rows), prompts, self.context, True)
