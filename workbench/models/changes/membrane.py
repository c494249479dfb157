"""SPM's membranes: adaptors of low rank on every layer of the attention blocks, as strong as the prompt is close to the concept.

added       hooks that add them, at a given strength
Transport   the prompt transform that finds the strength of each prompt (Facilitated Transport)

The tensors of a change are called <path of the layer>.<down or up>, and `concept` (prompt, token, channel) the text states of the
concept's prompts.

Source   Lyu et al. 2024 (arXiv 2312.16145) and Con6924/SPM at 7dcfd21. There both branches of guidance have the strength of the image's
         prompt; here each has that of its own text, so that the empty prompt is hardly changed.
"""

from contextlib import contextmanager

import torch
from torch.nn.functional import conv2d, cosine_similarity, linear

from workbench.errors import ModelError
from workbench.models import text

BLOCKS = "Transformer2DModel"


def words(change):
    """What it is, for the report."""
    said = change.settings
    prompts = ", ".join(f'"{one}"' for one in said["prompts"])
    return f"membranes of rank {said['rank']} in {len(places(change.tensors))} layers, as strong as a prompt is close to {prompts} (SPM)"


def places(tensors):
    """Paths of the layers that have a membrane."""
    return [name.removesuffix(".down") for name in tensors if name.endswith(".down")]


def layers(unet):
    """{path: Linear or Conv2d} inside the attention blocks of a UNet."""
    found = {}
    for name, block in unet.named_modules():
        if type(block).__name__ == BLOCKS:
            for inner, module in block.named_modules():
                if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                    found[f"{name}.{inner}"] = module
    return found


@contextmanager
def installed(model, change):
    """While open, the UNet has the membranes; ModelError where one does not fit, or the model has a prompt transform already."""
    if model.transform is not None:
        raise ModelError(f"{words(change)}: the model has a prompt transform already, and two of them do not add up. Choose one.")
    transport = Transport(model, change)
    with added(model, change, lambda: transport.strength):
        model.transform = transport
        try:
            yield model
        finally:
            model.transform = None


@contextmanager
def added(model, change, strength):
    """Hooks that add strength() alpha / rank up(down(x)) to layers, which always go away. Gradients reach the tensors of the change.

    strength   () -> (row,), a number, or None: nothing is added
    Raises     ModelError for a path or a shape that the UNet does not have
    """
    own, handles, scale = layers(model.unet), [], change.settings["alpha"] / change.settings["rank"]
    try:
        for path in places(change.tensors):
            down, up = (change.tensors[f"{path}.{part}"] for part in ("down", "up"))
            if path not in own:
                raise ModelError(f'A membrane belongs to "{path}", which is no layer of an attention block of "{model.name}".')
            weight = own[path].weight
            if (up.shape[0], *down.shape[1:]) != tuple(weight.shape) or up.shape[1] != down.shape[0]:
                raise ModelError(
                    f'The membrane of "{path}" is {tuple(up.shape)} x {tuple(down.shape)}; the layer is {tuple(weight.shape)}.'
                )
            parts = [part.to(model.device, model.dtype) for part in (down, up)]
            handles.append(own[path].register_forward_hook(_hook(strength, scale, *parts)))
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _hook(strength, scale, down, up):
    def add(module, inputs, output):
        share = strength()
        if share is None:
            return None
        if isinstance(module, torch.nn.Conv2d):
            more = conv2d(conv2d(inputs[0], down, stride=module.stride, padding=module.padding), up)
        else:
            more = linear(linear(inputs[0], down), up)
        if torch.is_tensor(share):
            share = share.to(more).reshape(-1, *[1] * (more.ndim - 1))
        return output + scale * share * more

    return add


class Transport:
    """Facilitated Transport: the strength of a prompt, the largest over the concept's prompts q of

    max(cos(states of the prompt, states of q), share of q's tokens that are in the prompt)

    Text states hold it in a last token row. It is differentiable in the states.
    """

    def __init__(self, model, change):
        self.concept = change.tensors["concept"].to(model.device, model.dtype)
        self.tokens = [set(text.words(model, prompt)) for prompt in change.settings["prompts"]]
        self.strength = None

    def encoded(self, model, ids, vectors, places, states):
        """Text states (prompt, token, channel) -> (prompt, token + 1, channel)."""
        n = model.tokenizer.model_max_length
        similar = cosine_similarity(states[:, None, :n].flatten(2), self.concept[None, :, :n].flatten(2), dim=-1)
        special, shared = set(model.tokenizer.all_special_ids), []
        for row, tokens in enumerate(ids[0].tolist()):
            free = places[row].tolist() if places is not None else [False] * len(tokens)
            said = {token for token, one in zip(tokens, free, strict=True) if not one} - special
            shared.append([len(said & concept) / max(len(concept), 1) for concept in self.tokens])
        strength = torch.maximum(similar, similar.new_tensor(shared)).amax(dim=1)
        return torch.cat([states, torch.nn.functional.pad(strength[:, None, None], (0, states.shape[-1] - 1))], dim=1)

    def on_a_line(self, n_tokens):
        """How many of the token rows move where text states move on a line: all but the strength."""
        return n_tokens - 1

    @contextmanager
    def asked(self, model, latents, timestep, states):
        """The states themselves, while the membranes have the strength of each row."""
        self.strength = states[:, -1, 0]
        try:
            yield states[:, :-1]
        finally:
            self.strength = None
