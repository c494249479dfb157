"""From the text to the neurons: which words drive a neuron, and which neurons the path from the empty prompt runs through.

word_vectors   token vectors of a prompt's words, behind an attack's own vectors
drivers        Neuron Integrated Gradients: which words drive one neuron, for each prompt and call
conductance    neurons by what passes through them on the line from the empty prompt to the prompt: a rank view

Text baseline: the padding vector in the place of every word, which is the empty prompt where padding and end token are one.
The line to it leaves the manifold of texts; sums are checked, single points on it mean little.
"""

import numpy as np
import pandas
import torch
from captum.attr import LayerConductance, NeuronIntegratedGradients

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
    module = _module(model, layer)
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


def conductance(model, layers, items, target, empty, n_steps=16, batch=8):
    """Conductance of every neuron on the line from the empty prompt's text state to the prompt's.

    empty     (1, token, channel) text state
    returns   data frame: layer, index, value (mean over prompts and calls), rank within the layer (1 = most, by size)
    Layers feed each other: values of different layers are no shares of one whole and are never added up.
    """
    tables = []
    for layer in layers:
        module, total = _module(model, layer), 0.0
        for prompts in np.array_split(np.arange(len(items)), -(-len(items) // batch)):
            for part in items.batches(prompts):
                bound = target.at(model, part)
                forward = _forward(model, part, lambda found: found, bound)
                found = LayerConductance(forward, module).attribute(
                    part.states.to(model.device),
                    empty.to(part.states).expand_as(part.states).to(model.device),
                    additional_forward_args=(torch.arange(len(part)),),
                    n_steps=n_steps,
                    internal_batch_size=max(batch, 2 * len(part)),
                    attribute_to_layer_input=layer.site.reads == "input",
                )
                total = total + _by_neuron(layer, found.detach()).sum(dim=1).double().sum(dim=0).cpu().numpy()
        value = total / len(items) / len(items.trajectory.calls)
        rank = np.argsort(np.argsort(-np.abs(value), kind="stable")) + 1
        tables.append(pandas.DataFrame({"layer": layer.path, "index": np.arange(len(value)), "value": value, "rank": rank}))
    return pandas.concat(tables, ignore_index=True)


class _Seen:
    """Mean activation over image tokens of one neuron, as Captum's selector and as a plain measurement."""

    def __init__(self, forward, module, layer, neuron):
        self.forward, self.module, self.layer, self.neuron = forward, module, layer, neuron

    def select(self, activation):
        """(row,) of what Captum hands over."""
        return _by_neuron(self.layer, activation)[..., self.neuron].mean(dim=1)

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


def _by_neuron(layer, activation):
    """(row, token, neuron) of what the layer's module reads or gives."""
    return activation if layer.site.neuron_axis == -1 else activation.flatten(2).transpose(1, 2)


def _forward(model, part, encode, bound=None):
    """What is fed in -> predicted noise of rows `item`, or the target of it."""

    def forward(fed, item):
        eps = predict(model, part, encode(fed), item)
        return eps.flatten(1).sum(1) if bound is None else bound.value(eps, item.to(eps.device))

    return forward


def _module(model, layer):
    if layer.site.reads not in ("input", "output"):
        raise MethodError(
            f'Captum reads what a module takes or gives; "{layer.path}" (site {layer.site.name}) is neither. Use a layer of the site ff.'
        )
    return dict(model.unet.named_modules())[layer.path]
