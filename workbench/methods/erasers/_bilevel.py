"""What the bilevel eraser trains: a student without some feed-forward neurons, by turns towards its teacher and away from the concept."""

from contextlib import contextmanager

import torch

from workbench.errors import MethodError
from workbench.methods.erasers import _pool
from workbench.methods.erasers._inputs import Sampled, norm, sizes
from workbench.methods.erasers._layers import lowest
from workbench.methods.erasers._training import InBackward
from workbench.methods.erasers.bilevel import MEASURED_CALLS
from workbench.models import channels, text

SITE = "ff.net.2"


def removed_by(model, prompts, parameters):
    """{layer: bool tensor (neuron,)}: the int(share n) neurons of each layer with the smallest score, True = removed.

    wanda       |column of ff.net.2| times the norm of the neuron's activation over tokens, calls and prompts
    magnitude   norm of all its weights: value row, gate row and column; the activations are not asked
    """
    groups = {layer: group for layer, group in channels.of(model.unet).items() if layer.endswith(SITE)}
    own = model.parameters()
    if parameters.criterion == "wanda":
        names = [group.columns.removeprefix("unet.") for group in groups.values()]
        sampled = Sampled(steps=parameters.steps, calls=MEASURED_CALLS, guidance=parameters.guidance, seeds=1, seed=parameters.seed)
        seen = sizes(model, prompts, sampled, names, norm)
        activity = {f"unet.{name}": one.square().sum(dim=(0, 1)).sqrt() for name, one in seen.items()}
    found = {}
    for layer, group in groups.items():
        if parameters.criterion == "wanda":
            score = own[group.columns].detach().float().cpu().norm(dim=0) * activity[group.columns]
        else:
            parts = [group.split(name, own[name].detach()).flatten(1) for name in group.parameters if own[name].dim() > 1]
            score = torch.cat(parts, dim=1).float().cpu().norm(dim=1)
        found[layer] = lowest(score, int(parameters.share * group.n))
    if not any(mask.any() for mask in found.values()):
        raise MethodError("No neuron would be removed: the share is less than one neuron of each layer. Raise `share`.")
    return found


def without(model, gone):
    """{parameter: tensor} of the layers that lose neurons, with 0 for what is removed."""
    groups, own, result = channels.of(model.unet), model.parameters(), {}
    for layer, mask in gone.items():
        for name in groups[layer].parameters:
            parts = groups[layer].split(name, own[name].detach()).clone()
            parts[mask.to(parts.device)] = 0
            result[name] = groups[layer].joined(name, parts)
    return result


@contextmanager
def blocks_seen(unet):
    """Yields a list that gets what each block of the UNet puts out, call after call: down, middle and up."""
    seen, handles = [], []

    def keep(module, inputs, output):
        seen.append(output[0] if isinstance(output, tuple) else output)

    try:
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            if block is not None:
                handles.append(block.register_forward_hook(keep))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class Training:
    """One training; `improve` takes one round, K steps of the lower level and one of the upper, and returns the upper level's loss.

    retention_loss   mean loss of the lower level over the last round
    """

    def __init__(self, model, pairs, retained, parameters, base):
        self.model, self.parameters, self.base, self.step, self.retention_loss = model, parameters, base, 0, None
        self.generator = torch.Generator().manual_seed(parameters.seed)
        with base():
            self.concept = _pool.of_images(model, pairs, parameters, max(parameters.images, len(pairs)), "concept")
            others = [(prompt, prompt) for prompt in retained]
            self.others = _pool.of_images(model, others, parameters, max(parameters.images, len(retained)))
            teacher = {name: value.data for name, value in model.unet.named_parameters()}
        with torch.no_grad():
            self.asked = text.encode(model, [pair[0] for pair in pairs])
            self.kept = text.encode(model, retained)
        start = without(model, removed_by(model, retained, parameters)) if parameters.share else {}
        own = {name: start.get(f"unet.{name}", value.detach()) for name, value in model.unet.named_parameters()}
        self.weights = {name: value.clone().requires_grad_(True) for name, value in own.items()}
        still = {name: (value == 0) & (teacher[name] != 0) for name, value in own.items()}
        still = {name: places for name, places in still.items() if places.any()}
        if not still:
            raise MethodError("The parent has as many weights as the base model: there is no student. Give a `share` above 0.")
        self.lower = InBackward(self.weights, parameters.learning_rate, still)
        self.upper = InBackward(self.weights, parameters.upper_rate, still)

    def improve(self):
        """One round."""
        losses = []
        for _ in range(self.parameters.lower_steps):
            with self.lower:
                loss = self.fine_tuning()
                loss.backward()
            losses.append(loss.item())
        with self.upper:
            loss = self.suppression()
            whole = loss + self.parameters.penalty * self.fine_tuning() if self.parameters.penalty else loss
            whole.backward()
        self.step += self.parameters.lower_steps + 1
        self.retention_loss = sum(losses) / len(losses)
        return loss.item()

    def fine_tuning(self):
        """The lower level's loss on the next draw: denoising, the teacher's noise, the teacher's features."""
        given, model = self.parameters, self.model
        drawn = self.others.draw(model, self.generator, given.batch)
        with torch.no_grad(), self.base():
            wanted, features = self._predicted(drawn, self.others.anchor[drawn.pair])
        noise, own = self._predicted(drawn, self.kept[drawn.pair], self.weights)
        signal = model.signal(drawn.at, noise)
        snr = (signal / (1 - signal)).flatten()
        weighed = (snr.clamp(max=given.snr_gamma) / snr) if given.snr_gamma else torch.ones_like(snr)
        loss = given.denoising * (weighed * (noise - drawn.noise).square().mean(dim=(1, 2, 3))).mean()
        loss = loss + given.output * (noise - wanted).square().mean()
        if given.features:
            apart = [(one - other).square().mean() for one, other in zip(own, features, strict=True)]
            loss = loss + given.features * torch.stack(apart).mean()
        return loss

    def suppression(self):
        """The upper level's loss on the next draw."""
        given = self.parameters
        drawn = self.concept.draw(self.model, self.generator, given.batch)
        with self.base():
            target = _pool.wanted(self.model, self.concept, drawn, given.form, given.eta)
        return (self.model.predict(drawn.noised, drawn.at, self.asked[drawn.pair], self.weights) - target).square().mean()

    def _predicted(self, drawn, states, weights=None):
        """(noise, what each block puts out); the latter is empty where features do not count."""
        if not self.parameters.features:
            return self.model.predict(drawn.noised, drawn.at, states, weights), []
        with blocks_seen(self.model.unet) as seen:
            return self.model.predict(drawn.noised, drawn.at, states, weights), seen

    def state(self):
        """All that a killed training needs to continue to the same weights."""
        weights = {name: value.detach() for name, value in self.weights.items()}
        levels = {"lower": self.lower.state_dict(), "upper": self.upper.state_dict()}
        return {"step": self.step, "weights": weights, **levels, "generator": self.generator.get_state()}

    def restore(self, state):
        """Put back what `state` gave."""
        self.step = state["step"]
        for name, value in self.weights.items():
            value.data.copy_(state["weights"][name])
        self.lower.load_state_dict(state["lower"])
        self.upper.load_state_dict(state["upper"])
        self.generator.set_state(state["generator"])
