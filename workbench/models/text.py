"""Prompts or embeddings in, text states out.

`CLIPTextModel` takes no `inputs_embeds`; a forward hook on its input embeddings puts vectors in the place of tokens, so no
library code is replaced and gradients flow to the vectors.

A model with two text encoders (SDXL) reads every text with both. Their states, of the last layer but one, stand side by side in
the channels, and so do the vectors put in the place of tokens. The pooled state of the second encoder, which its UNet also needs,
is one more token row at the end, filled up with zeros: text states are one tensor, whatever the model.

Under a prompt transform (`models/changes`) they hold more token rows: what the transform needs to say at a call of the UNet which
states it sees. `asked` says it, `plain` leaves them out. Who encodes, keeps and passes on text states need not know.
"""

from contextlib import contextmanager, nullcontext
from functools import lru_cache

import torch

from workbench.errors import PromptError

HERE = "<*>"  # in a prompt: vectors stand here, not before the words


def starts(tokenizer, prompts, n_prefix):
    """The place of the first of `n_prefix` vectors in each prompt, the start token counted, inside the context; list of int."""
    most = tokenizer.model_max_length - n_prefix - 1
    heads = [prompt.partition(HERE)[0] if HERE in prompt else "" for prompt in prompts]
    return [min(1 + len(ids), most) for ids in tokenizer(heads, add_special_tokens=False).input_ids]


def tokenize(tokenizer, prompts, n_prefix=0):
    """Token ids (prompt, token), padded to the model's length, with room for `n_prefix` vectors at `HERE` or after the start token.

    `encode` puts the vectors there. The room is filled with the start token: the pooled state is that of the first end token, which
    often is the padding too.
    """
    return _tokenized(tokenizer, tuple(prompts), n_prefix)[0].clone()


@lru_cache(maxsize=64)  # an attack encodes the same words at every step
def _tokenized(tokenizer, prompts, n_prefix):
    """Token ids (prompt, token) as `tokenize` gives them, and the place of the first vector in each prompt."""
    length, read = tokenizer.model_max_length, list(prompts)
    if n_prefix:
        read = [prompt.replace(HERE, " ") for prompt in read]
    ids = tokenizer(read, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    at = starts(tokenizer, prompts, n_prefix)
    if n_prefix:
        room = ids.new_full((n_prefix,), tokenizer.bos_token_id)
        ids = torch.stack([torch.cat([row[:i], room, row[i : length - n_prefix]]) for row, i in zip(ids, at, strict=True)])
        cut = (ids != tokenizer.eos_token_id).all(dim=1)
        ids[cut, -1] = tokenizer.eos_token_id
    return ids, at


def n_cut(model, prompts, n_prefix=0):
    """How many tokens each prompt loses to the context length; list of int."""
    room = model.tokenizer.model_max_length - n_prefix
    read = [prompt.replace(HERE, " ") if n_prefix else prompt for prompt in prompts]
    return [max(0, len(ids) - room) for ids in model.tokenizer(read).input_ids]


@contextmanager
def vectors_in_place(embedding, vectors, places):
    """While open, the token embedding gives `vectors` (place, channel) in the True places (prompt, token), row after row."""

    def replace(module, inputs, output):
        return output.masked_scatter(places[..., None].to(output.device), vectors.to(output.device, output.dtype))

    handle = embedding.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def encode_ids(model, ids, vectors=None, places=None):
    """Text states (prompt, token, channel) of token ids (prompt, token) of the first tokenizer: start, words, end, padding.

    Where `places` (prompt, token) is True, `vectors` (place, channel) stand in the place of the tokens, row after row;
    differentiable with respect to them.
    """
    both = [ids, _padded_as_second(model, ids)] if model.text_encoder_2 is not None else [ids]
    return _states(model, both, vectors, places)


def _states(model, ids, vectors, places):
    """Text states of token ids (prompt, token), one tensor for each text encoder, with what a prompt transform adds."""
    with model.at_work(*model.text_encoders):
        states = encoded_by(model.text_encoders, ids, vectors, places, device=model.device)
        if model.transform is None or model.as_base:
            return states
        return model.transform.encoded(model, ids, vectors, places, states)


def encoded_by(encoders, ids, vectors=None, places=None, seen=None, device="cpu"):
    """Text states of token ids (prompt, token), one tensor for each of the text encoders; see `encode_ids`.

    seen   (prompt, token) bool, the tokens that the encoders attend to; None = all
    """
    found = []
    tables = [encoder.get_input_embeddings() for encoder in encoders]
    own = [None] * len(tables)
    if vectors is not None:
        assert len(vectors) == int(places.sum()), f"{len(vectors)} vectors for {int(places.sum())} places"
        own = vectors.split([table.embedding_dim for table in tables], dim=-1)
    two = len(encoders) == 2
    for encoder, table, part, tokens in zip(encoders, tables, own, ids, strict=True):
        with nullcontext() if part is None else vectors_in_place(table, part, places):
            attention = None if seen is None else seen.to(device).long()
            found.append(encoder(tokens.to(device), attention_mask=attention, output_hidden_states=two))
    if not two:
        return found[0].last_hidden_state
    return packed(torch.cat([one.hidden_states[-2] for one in found], dim=-1), found[1].text_embeds)


def _padded_as_second(model, ids):
    """The same tokens (prompt, token) with the second tokenizer's padding after the end: SDXL's two pad differently."""
    pad = model.tokenizer.pad_token_id
    padding = (ids == pad).flip(1).cumprod(dim=1).flip(1).bool()
    if pad == model.tokenizer.eos_token_id:  # the first of them is the end itself
        padding = padding & torch.nn.functional.pad(padding, (1, 0))[:, :-1]
    return ids.masked_fill(padding, model.tokenizer_2.pad_token_id)


def packed(states, pooled):
    """States (row, token, channel) and pooled states (row, pooled channel) as one tensor (row, token + 1, channel)."""
    last = torch.nn.functional.pad(pooled, (0, states.shape[-1] - pooled.shape[-1]))
    return torch.cat([states, last[:, None]], dim=1)


def unpacked(states, n_pooled):
    """What `packed` put together: states (row, token, channel), pooled states (row, n_pooled)."""
    return states[:, :-1], states[:, -1, :n_pooled]


def ends(model, ids):
    """(prompt,) place of the first end token of token ids (prompt, token)."""
    return (ids == model.tokenizer.eos_token_id).int().argmax(dim=1)


def length(model):
    """How many token rows the text states of a model have that its UNet sees at a call."""
    return model.tokenizer.model_max_length + (model.text_encoder_2 is not None)


def plain(model, states):
    """Text states (row, token, channel) without what a prompt transform added."""
    return states[:, : length(model)]


def along(model, start, end):
    """`start` (row, token, channel) where a line from it to `end` begins: what a prompt transform needs to say is that of the end."""
    if model.transform is None:
        return start
    kept = model.transform.on_a_line(end.shape[1])
    return torch.cat([start[:, :kept], end[:, kept:]], dim=1)


@contextmanager
def asked(model, latents, timestep, states):
    """While open, one call of the UNet may run: the text states (row, token, channel) that it sees there.

    latents, timestep, states   as for `Model.run_unet`
    """
    if model.transform is None or model.as_base or states.shape[1] <= length(model):
        yield plain(model, states)
    else:
        with model.transform.asked(model, latents, timestep, states) as seen:
            yield seen


def encode_tokens(model, vectors):
    """Text states (prompt, token, channel) of vectors (prompt, k, channel) alone: start, the vectors, end, padding.

    Differentiable with respect to the vectors. What `encode` gives for a text whose tokens have these vectors.
    """
    tokenizer, k = model.tokenizer, vectors.shape[1]
    ids = torch.full((len(vectors), tokenizer.model_max_length), tokenizer.pad_token_id)
    ids[:, : k + 1], ids[:, k + 1] = tokenizer.bos_token_id, tokenizer.eos_token_id
    return encode_ids(model, ids, vectors.flatten(0, 1), _places(ids, k, [1] * len(ids)))


def _places(ids, k, at):
    """Places (prompt, token) of k vectors, the first of each prompt at `at`; bool."""
    place, first = torch.arange(ids.shape[1]), torch.tensor(at)[:, None]
    return (place >= first) & (place < first + k)


def words(model, prompt):
    """The token ids of a prompt, without start, end and padding, cut to the context length; list of int."""
    return model.tokenizer(prompt, add_special_tokens=False).input_ids[: model.tokenizer.model_max_length - 2]


def encode(model, prompts, prefix=None):
    """Text states (prompt, token, channel) of prompts; `prefix` (prompt, k, channel) vectors stand before the words.

    In a prompt that says `HERE`, they stand there. Without vectors `HERE` is read as any other text.
    Raises   PromptError for an empty list
    """
    prompts = tuple(prompts)
    if not prompts:
        raise PromptError("No prompts to encode: the prompt set is empty.")
    n_prefix = 0 if prefix is None else prefix.shape[1]
    # each tokenizer reads for itself: SDXL's second one takes "!" for padding
    read = [_tokenized(tokenizer, prompts, n_prefix) for tokenizer in (model.tokenizer, model.tokenizer_2) if tokenizer is not None]
    ids, at = [ids for ids, _ in read], read[0][1]
    if prefix is None:
        return _states(model, ids, None, None)
    return _states(model, ids, prefix.flatten(0, 1), _places(ids[0], n_prefix, at))


def unconditional(model):
    """Text states (1, token, channel) of the uncond branch: those of the empty prompt, or zeros where the pipeline says so."""
    states = encode(model, [""])
    return torch.zeros_like(states) if model.zero_uncond else states


def token_vectors(model):
    """The embedding table (token, channel), that of two text encoders side by side."""
    tables = [encoder.get_input_embeddings().weight.to(model.device) for encoder in model.text_encoders]
    return tables[0] if len(tables) == 1 else torch.cat(tables, dim=1)


def as_embeddings(model, token, vectors):
    """Vectors (k, channel) as files of learned embeddings hold them: {token: vectors}, or {clip_l, clip_g} as for SDXL."""
    if model.text_encoder_2 is None:
        return {token: vectors}
    widths = [encoder.get_input_embeddings().embedding_dim for encoder in model.text_encoders]
    return {name: part.contiguous() for name, part in zip(("clip_l", "clip_g"), vectors.split(widths, dim=-1), strict=True)}


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
