"""What Receler trains: modules behind cross-attention, adversarial text states, and where in the image the concept is."""

import math

import torch

from workbench.errors import MethodError
from workbench.methods.erasers import _pool
from workbench.models import text
from workbench.models.changes import Change, adapter

TINY = 1e-9


def attentions(unet):
    """{path: module} of the cross-attention of a UNet.

    Raises   MethodError where there is none
    """
    found = {path: module for path, module in unet.named_modules() if path.endswith(".attn2")}
    if not found:
        raise MethodError("This UNet has no cross-attention (attn2), behind which Receler adds its modules.")
    return found


def started(unet, rank, generator):
    """{name: tensor} of modules that add nothing yet: down as torch starts a linear layer, up 0."""
    found = {}
    for path, module in attentions(unet).items():
        channels = module.to_out[0].out_features
        reach = 1 / math.sqrt(channels)
        like = {"dtype": torch.float32}
        found |= {
            f"{path}.down.weight": (2 * torch.rand(rank, channels, generator=generator, **like) - 1) * reach,
            f"{path}.down.bias": (2 * torch.rand(rank, generator=generator, **like) - 1) * reach,
            f"{path}.up.weight": torch.zeros(channels, rank, **like),
            f"{path}.up.bias": torch.zeros(channels, **like),
        }
    return found


def concept_places(model, prompt, anchor):
    """Places of the concept's words among the text states of a prompt: the tokens that its anchor has not, else all; list of int."""
    words, others = text.words(model, prompt), set(text.words(model, anchor))
    mine = [1 + place for place, word in enumerate(words) if word not in others]
    return mine or list(range(1, 1 + len(words)))


class Maps:
    """Context manager: the attention of every cross-attention to some places of the text.

    of     {path: (row, position, token)} attention, mean over heads, after a call of the UNet
    """

    def __init__(self, unet):
        self.unet, self.of, self.handles, self.seen = unet, {}, [], {}

    def __enter__(self):
        for path, module in attentions(self.unet).items():
            for side in ("to_q", "to_k"):
                hook = lambda _, inputs, output, path=path, side=side: self.seen.__setitem__((path, side), output.detach())  # noqa: E731
                self.handles.append(getattr(module, side).register_forward_hook(hook))
            self.handles.append(module.register_forward_hook(lambda module, inputs, output, path=path: self._add(path, module)))
        return self

    def __exit__(self, *exception):
        for handle in self.handles:
            handle.remove()

    def _add(self, path, module):
        query, key = (self.seen.pop((path, side)).float() for side in ("to_q", "to_k"))
        query, key = (one.unflatten(-1, (module.heads, -1)).transpose(1, 2) for one in (query, key))
        self.of[path] = (query @ key.transpose(-1, -2) * module.scale).softmax(-1).mean(dim=1)


def where(maps, words, size, threshold):
    """{path: (row, position) bool}: where the concept is, at the resolution of every layer.

    maps   {path: (row, position, token)};  words   list over rows of places of the concept's words
    """
    sides = {path: math.isqrt(one.shape[1]) for path, one in maps.items()}
    nearest = min(set(sides.values()), key=lambda side: (abs(side - size), side))
    chosen = [one for path, one in maps.items() if sides[path] == nearest]
    mean = torch.stack([torch.stack([one[row][:, places].mean(-1) for row, places in enumerate(words)]) for one in chosen]).mean(0)
    low, high = mean.amin(1, keepdim=True), mean.amax(1, keepdim=True)
    share = (mean - low) / (high - low).clamp(min=TINY)
    inside = (share >= threshold).float().unflatten(1, (nearest, nearest))[:, None]
    scaled = {side: torch.nn.functional.interpolate(inside, (side, side))[:, 0].flatten(1).bool() for side in set(sides.values())}
    return {path: scaled[side] for path, side in sides.items()}


def outside(added, inside):
    """R: mean over layers of the added values squared outside the mask; added {path: (row, position, channel)}, scalar."""
    found = []
    for path, values in added.items():
        away = (~inside[path]).to(values)
        found.append((values.square().mean(-1) * away).sum() / (away.sum() + TINY))
    return torch.stack(found).mean()


class Training:
    """One training; `improve` takes one step and returns its loss."""

    def __init__(self, model, pairs, parameters):
        self.model, self.parameters, self.step = model, parameters, 0
        self.generator = torch.Generator().manual_seed(parameters.seed)
        self.tensors = {name: value.to(model.device) for name, value in started(model.unet, parameters.rank, self.generator).items()}
        for value in self.tensors.values():
            value.requires_grad_(True)
        self.change = Change("adapter", {"rank": parameters.rank}, self.tensors)
        n = max(parameters.trajectories, len(pairs)) if parameters.trajectories else 0
        self.pool = _pool.along_trajectories(model, pairs, parameters, n) if n else _pool.anew(model, pairs, parameters)
        self.words = [concept_places(model, *pair) for pair in pairs]
        length = self.pool.concept.shape[1]
        first = [1 + len(text.words(model, prompt)) for prompt, _ in pairs]
        cramped = [pair[0] for pair, place in zip(pairs, first, strict=True) if place >= length - 1]
        if cramped:
            raise MethodError(f'The prompt "{cramped[0]}" fills the context, so no adversarial text fits behind its words. Shorten it.')
        self.places = torch.stack([self._behind(place, length) for place in first])
        shape = (len(pairs), parameters.adversarial_tokens, self.pool.concept.shape[-1])
        self.vectors = torch.rand(shape, generator=self.generator).to(model.device).requires_grad_(True)
        self.optimiser = torch.optim.Adam(self.tensors.values(), lr=parameters.learning_rate)
        self.attack = torch.optim.Adam([self.vectors], lr=parameters.adversarial_rate, weight_decay=0.1)

    def _behind(self, place, length):
        """(token,) the number of the adversarial state at each place of the text, -1 where there is none."""
        found = torch.full((length,), -1)
        n = min(self.parameters.adversarial_tokens, length - place)
        found[place : place + n] = torch.arange(n)
        return found

    def adversarial(self, pair):
        """Text states (row, token, channel) of the concept with the vectors behind the words; differentiable in them."""
        places, states = self.places[pair].to(self.model.device), self.pool.concept[pair]
        chosen = self.vectors[pair].to(states).gather(1, places.clamp(min=0)[..., None].expand(-1, -1, states.shape[-1]))
        return torch.where((places >= 0)[..., None], chosen, states)

    def drawn(self):
        """Latents for one step, by the base model's trajectories or, without a pool, by the model in training."""
        if isinstance(self.pool, _pool.Anew):
            with adapter.installed(self.model, self.change):
                return self.pool.draw(self.model, self.generator, self.parameters.batch)
        return self.pool.draw(self.model, self.generator, self.parameters.batch)

    def improve(self):
        """Steps of the adversarial text, then one of the modules; returns its loss, a float."""
        model, parameters, drawn = self.model, self.parameters, self.drawn()
        states = self.pool.concept[drawn.pair]
        with torch.no_grad():
            with Maps(model.unet) as maps:
                before = model.predict(drawn.noised, drawn.at, states)
            inside = where(maps.of, [self.words[pair] for pair in drawn.pair.tolist()], parameters.mask_size, parameters.mask_threshold)
            target = _pool.wanted(model, self.pool, drawn, parameters.form, parameters.eta)
        for last in [False] * (parameters.adversarial_steps - 1) + [True]:
            added = {}
            with adapter.installed(model, self.change, added):
                predicted = model.predict(drawn.noised, drawn.at, self.adversarial(drawn.pair))
            like = (predicted - before).square().mean()
            (gradient,) = torch.autograd.grad(like, [self.vectors], retain_graph=last)
            if last:  # of the text before its last step, as in the authors' code
                loss = (predicted - target).square().mean() + parameters.locality * outside(added, inside)
                if parameters.plain:
                    with adapter.installed(model, self.change):
                        loss = loss + parameters.plain * (model.predict(drawn.noised, drawn.at, states) - target).square().mean()
                self.optimiser.zero_grad()
                loss.backward(inputs=list(self.tensors.values()))
                self.optimiser.step()
            self.vectors.grad = gradient
            self.attack.step()
        self.step += 1
        return loss.item()

    def state(self):
        """All that a killed training needs to continue to the same modules."""
        return {
            "step": self.step,
            "tensors": {name: value.detach() for name, value in self.tensors.items()},
            "vectors": self.vectors.detach(),
            "optimiser": self.optimiser.state_dict(),
            "attack": self.attack.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state):
        """Put back what `state` gave."""
        self.step = state["step"]
        for name, value in self.tensors.items():
            value.data.copy_(state["tensors"][name])
        self.vectors.data.copy_(state["vectors"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.attack.load_state_dict(state["attack"])
        self.generator.set_state(state["generator"])
