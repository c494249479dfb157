"""What SPM trains: membranes, by ESD's loss, with what must not change beside it."""

import math

import torch

from workbench.methods.erasers import _pool
from workbench.models import text
from workbench.models.changes import Change, membrane


def started(unet, rank, generator):
    """{name: tensor} of membranes that add nothing yet: down as torch starts a layer, up 0."""
    found = {}
    for path, module in membrane.layers(unet).items():
        weight = module.weight
        reach = 1 / math.sqrt(weight[0].numel())
        found[f"{path}.down"] = (2 * torch.rand(rank, *weight.shape[1:], generator=generator) - 1) * reach
        found[f"{path}.up"] = torch.zeros(weight.shape[0], rank, *[1] * (weight.ndim - 2))
    return found


class Training:
    """One training; `improve` takes one step and returns its loss."""

    def __init__(self, model, pairs, parameters, others):
        self.model, self.parameters, self.step = model, parameters, 0
        self.generator = torch.Generator().manual_seed(parameters.seed)
        self.tensors = {name: value.to(model.device) for name, value in started(model.unet, parameters.rank, self.generator).items()}
        for value in self.tensors.values():
            value.requires_grad_(True)
        self.change = Change("membrane", {"prompts": [], "rank": parameters.rank, "alpha": parameters.alpha}, self.tensors)
        n = max(parameters.trajectories, len(pairs)) if parameters.trajectories else 0
        self.pool = _pool.along_trajectories(model, pairs, parameters, n) if n else _pool.anew(model, pairs, parameters)
        with torch.no_grad():
            self.others = text.encode(model, others)
        self.optimiser = torch.optim.AdamW(self.tensors.values(), lr=parameters.learning_rate)

    def improve(self):
        """One step at full strength; returns its loss, a float."""
        model, parameters = self.model, self.parameters
        drawn = self.pool.draw(model, self.generator, parameters.batch)
        other = self.others[torch.randint(len(self.others), (len(drawn.pair),), generator=self.generator)]
        with torch.no_grad():
            target = _pool.wanted(model, self.pool, drawn, parameters.form, parameters.eta)
            kept = model.predict(drawn.noised, drawn.at, other)
        with membrane.added(model, self.change, lambda: 1.0):
            loss = (model.predict(drawn.noised, drawn.at, self.pool.concept[drawn.pair]) - target).square().mean()
            if parameters.anchoring:
                loss = loss + parameters.anchoring * (model.predict(drawn.noised, drawn.at, other) - kept).square().mean()
        self.optimiser.zero_grad()
        loss.backward(inputs=list(self.tensors.values()))
        self.optimiser.step()
        self.step += 1
        return loss.item()

    def state(self):
        """All that a killed training needs to continue to the same membranes."""
        tensors = {name: value.detach() for name, value in self.tensors.items()}
        return {"step": self.step, "tensors": tensors, "optimiser": self.optimiser.state_dict(), "generator": self.generator.get_state()}

    def restore(self, state):
        """Put back what `state` gave."""
        self.step = state["step"]
        for name, value in self.tensors.items():
            value.data.copy_(state["tensors"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
