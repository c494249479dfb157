"""What AC's form `embedding` trains: the vectors of some words in the text encoder."""

import torch

from workbench.errors import MethodError
from workbench.models import text


def chosen_tokens(model, pairs, names):
    """Ids of the tokens whose vectors are trained, sorted: those of the names, or of the prompts, that no anchor has; list of int.

    Raises   MethodError when there are none, or no prompt has one
    """
    prompts = {token for prompt, _ in pairs for token in text.words(model, prompt)}
    anchors = {token for _, anchor in pairs for token in text.words(model, anchor)}
    named = {token for name in names for token in text.words(model, name)} or prompts
    found = sorted((named & prompts) - anchors - set(model.tokenizer.all_special_ids))
    if not found:
        which = f"of the words {', '.join(names)}" if names else "of the prompts"
        raise MethodError(
            f"No token {which} is in a prompt and in no anchor, so no vector can be trained. Name words of the concept that its anchors "
            "do not have."
        )
    return found


class Training:
    """One training; `improve` takes one step and returns its loss.

    vectors   (token, channel) of the tokens in training
    """

    def __init__(self, model, pairs, pool, generator, parameters):
        self.model, self.pool, self.generator, self.parameters, self.step = model, pool, generator, parameters, 0
        tokens = torch.tensor(chosen_tokens(model, pairs, parameters.words))
        self.ids = text.tokenize(model.tokenizer, [prompt for prompt, _ in pairs])
        self.places = torch.isin(self.ids, tokens)
        self.row = torch.searchsorted(tokens, self.ids).clamp(max=len(tokens) - 1)
        self.tokens, table = tokens, text.token_vectors(model).detach()
        self.vectors = table[tokens.to(table.device)].clone().requires_grad_(True)
        self.optimiser = torch.optim.Adam([self.vectors], lr=parameters.learning_rate)

    def states(self, pair):
        """Text states (row, token, channel) of the concept's prompts as the vectors in training read them."""
        places = self.places[pair]
        rows = self.row[pair][places].to(self.vectors.device)
        return text.encode_ids(self.model, self.ids[pair], self.vectors[rows], places)

    def improve(self):
        """One step of the vectors; returns its loss, a float."""
        drawn = self.pool.draw(self.model, self.generator, self.parameters.batch)
        with torch.no_grad():
            target = self.model.predict(drawn.noised, drawn.at, self.pool.anchor[drawn.pair])
        loss = (self.model.predict(drawn.noised, drawn.at, self.states(drawn.pair)) - target).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return loss.item()

    def table(self):
        """{"text_encoder.<name>": the whole table of token vectors, with those in training}."""
        own = self.model.text_encoder.get_input_embeddings().weight
        (name,) = (name for name, parameter in self.model.text_encoder.named_parameters() if parameter is own)
        changed = own.detach().clone()
        changed[self.tokens.to(own.device)] = self.vectors.detach().to(own.dtype)
        return {f"text_encoder.{name}": changed}

    def state(self):
        """All that a killed training needs to continue to the same vectors."""
        more = {"optimiser": self.optimiser.state_dict(), "generator": self.generator.get_state()}
        return {"step": self.step, "vectors": self.vectors.detach(), **more}

    def restore(self, state):
        """Put back what `state` gave."""
        self.step = state["step"]
        self.vectors.data.copy_(state["vectors"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
