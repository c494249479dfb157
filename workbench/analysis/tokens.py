"""From the text to the neurons: which words drive a neuron. Which neurons the text drives the prediction through: conductance.py.

Definitions: docs/reference/definitions.md#driving-words.

word_vectors   token vectors of a prompt's words, behind an attack's own vectors
drivers        Neuron Integrated Gradients: which words drive one neuron, for each prompt and call

Text baseline: the padding vector in the place of every word, which is the empty prompt where padding and end token are one.
The line to it leaves the manifold of texts; sums are checked, single points on it mean little.
"""

import numpy as np
import pandas
import torch

from workbench.analysis.conductance import by_neuron, module_of
from workbench.diffusion.targets import predict
from workbench.errors import MethodError
from workbench.models import text


def word_vectors(model, prompt, prefix=None):
    """Vectors (token, channel) of a prompt's words; prefix (k, channel) vectors stand before them."""
    ids = torch.tensor(text.words(model, prompt), dtype=torch.long, device=model.device)
    own = text.token_vectors(model)[ids].detach()
    return own if prefix is None else torch.cat([prefix.to(own), own])[: model.tokenizer.model_max_length - 2]


def drivers(model, layer, neuron, items, vectors, n_steps=16, batch=8):
    """Which words drive a neuron (its mean activation over image tokens, signed), clean or adversarial alike.

    credit of token k = sum over channels of (v_k - v_pad) times the mean gradient on the line between them

    vectors   per prompt (token, channel), from `word_vectors`; each prompt may have its own number of tokens
    returns   (tokens, sums) data frames. tokens: prompt, unit, call, token (position), value. sums: prompt, unit, call,
              value (with the words), empty (without), explained, delta = explained - (value - empty)
    Raises    MethodError for a neuron or layer that cannot be attributed to words
    """
    from captum.attr import NeuronIntegratedGradients

    module = module_of(model, layer)
    if not 0 <= neuron < layer.n_neurons:
        raise MethodError(f'Neuron {neuron} of "{layer.path}" was asked for; possible: 0 to {layer.n_neurons - 1}.')
    if len(vectors) != len(items):
        raise MethodError(f"{len(vectors)} prompts' word vectors do not pair with {len(items)} prompts.")
    pad = text.token_vectors(model)[model.tokenizer.pad_token_id].detach()
    tokens, sums = [], []
    for prompt, words in enumerate(vectors):
        line = torch.stack([pad.expand_as(words), words.to(pad)])
        for part in items.batches([prompt]):
            forward = _forward(model, part, lambda found: text.encode_tokens(model, found))
            seen = _Seen(forward, module, layer, neuron)
            found = NeuronIntegratedGradients(forward, module).attribute(
                line[1:],
                seen.select,
                line[:1],
                (torch.zeros(1, dtype=torch.long),),
                n_steps,
                internal_batch_size=batch,
                attribute_to_neuron_input=layer.site.reads == "input",
            )
            credit = found.detach().sum(dim=2)[0].double().cpu().numpy()
            empty, value = seen(line)
            named = {"prompt": prompt, "unit": items.units[prompt], "call": part.call}
            tokens.append(pandas.DataFrame(named | {"token": np.arange(len(credit)), "value": credit}))
            delta = float(credit.sum()) - (value - empty)
            sums.append(named | {"value": value, "empty": empty, "explained": float(credit.sum()), "delta": delta})
    return pandas.concat(tokens, ignore_index=True), pandas.DataFrame(sums)


class _Seen:
    """Mean activation over image tokens of one neuron, as Captum's selector and as a plain measurement."""

    def __init__(self, forward, module, layer, neuron):
        self.forward, self.module, self.layer, self.neuron = forward, module, layer, neuron

    def select(self, activation):
        """(row,) of what Captum hands over."""
        return by_neuron(self.layer, activation)[..., self.neuron].mean(dim=1)

    @torch.no_grad()
    def __call__(self, vectors):
        kept = []
        if self.layer.site.reads == "input":
            handle = self.module.register_forward_pre_hook(lambda module, args: kept.append(self.select(args[0])))
        else:
            handle = self.module.register_forward_hook(lambda module, args, output: kept.append(self.select(output)))
        try:
            self.forward(vectors, torch.zeros(len(vectors), dtype=torch.long))
        finally:
            handle.remove()
        return kept[0].double().tolist()


def _forward(model, part, encode):
    """What is fed in -> predicted noise of rows `item`, summed."""

    def forward(fed, item):
        return predict(model, part, encode(fed), item).flatten(1).sum(1)

    return forward
