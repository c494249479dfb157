"""Prompts or embeddings in, text states out.

`CLIPTextModel` takes no `inputs_embeds`; a forward hook on its input embeddings puts vectors in the place of tokens, so no
library code is replaced and gradients flow to the vectors.
"""

from contextlib import contextmanager

import torch

from workbench.errors import PromptError


def tokenize(model, prompts, n_prefix=0):
    """Token ids (prompt, token), padded to the model's length, with room for `n_prefix` vectors after the start token.

    The room is filled with the padding token; `encode` puts the vectors there.
    """
    tokenizer = model.tokenizer
    length = tokenizer.model_max_length
    ids = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    if n_prefix:
        room = ids.new_full((len(ids), n_prefix), tokenizer.pad_token_id)
        tail = ids[:, 1 : length - n_prefix]
        ids = torch.cat([ids[:, :1], room, tail], dim=1)
        ids[:, -1] = tokenizer.eos_token_id
    return ids


def n_cut(model, prompts, n_prefix=0):
    """How many tokens each prompt loses to the context length; list of int."""
    room = model.tokenizer.model_max_length - n_prefix
    return [max(0, len(ids) - room) for ids in model.tokenizer(list(prompts)).input_ids]


@contextmanager
def vectors_in_place(embedding, vectors, start=1):
    """While open, the output rows start..start+k of the token embedding are `vectors` (prompt, k, channel)."""

    def replace(module, inputs, output):
        end = start + vectors.shape[1]
        return torch.cat([output[:, :start], vectors.to(output.dtype), output[:, end:]], dim=1)

    handle = embedding.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def encode_tokens(model, vectors):
    """Text states (prompt, token, channel) of vectors (prompt, k, channel) alone: start, the vectors, end, padding.

    Differentiable with respect to the vectors. What `encode` gives for a text whose tokens have these vectors.
    """
    tokenizer, k = model.tokenizer, vectors.shape[1]
    ids = torch.full((len(vectors), tokenizer.model_max_length), tokenizer.pad_token_id, device=model.device)
    ids[:, 0], ids[:, k + 1] = tokenizer.bos_token_id, tokenizer.eos_token_id
    with vectors_in_place(model.text_encoder.get_input_embeddings(), vectors.to(model.device)):
        return model.text_encoder(ids).last_hidden_state


def words(model, prompt):
    """The token ids of a prompt, without start, end and padding, cut to the context length; list of int."""
    return model.tokenizer(prompt, add_special_tokens=False).input_ids[: model.tokenizer.model_max_length - 2]


def encode(model, prompts, prefix=None):
    """Text states (prompt, token, channel) of prompts; `prefix` (prompt, k, channel) vectors stand before the words.

    Raises   PromptError for an empty list
    """
    prompts = list(prompts)
    if not prompts:
        raise PromptError("No prompts to encode: the prompt set is empty.")
    n_prefix = 0 if prefix is None else prefix.shape[1]
    ids = tokenize(model, prompts, n_prefix).to(model.device)
    if prefix is None:
        return model.text_encoder(ids).last_hidden_state
    with vectors_in_place(model.text_encoder.get_input_embeddings(), prefix.to(model.device)):
        return model.text_encoder(ids).last_hidden_state


def token_vectors(model):
    """The embedding table (token, channel) of the text encoder."""
    return model.text_encoder.get_input_embeddings().weight


def names_tokens(model, names):
    """Ids of every token that occurs in a name, alone or after other letters: what attacks may not use.

    A token is forbidden when its letters contain a name's word, or a name's word is written with it alone.
    """
    words = {word for name in names for word in name.lower().split()}
    forbidden = set()
    for name in {*names, *words}:
        forbidden.update(model.tokenizer(name, add_special_tokens=False).input_ids)
    for token, index in model.tokenizer.get_vocab().items():
        letters = token.replace("</w>", "").lower()
        if any(word in letters for word in words if len(word) > 2):
            forbidden.add(index)
    return forbidden


def permitted_tokens(model, names):
    """Ids of whole-word tokens an attack may use: no special token, no token of the concept's names."""
    special = set(model.tokenizer.all_special_ids)
    forbidden = names_tokens(model, names) | special
    return [
        index
        for token, index in sorted(model.tokenizer.get_vocab().items(), key=lambda item: item[1])
        if index not in forbidden and token.endswith("</w>") and token[:-4].isalpha() and len(token) > 6
    ]
