"""Training: fine-tuning some weights of the UNet beside the model, and continuing after a kill.

fine_tuned         what ESD, AC and relearning share
InBackward         Adam that never holds more than one gradient
with_checkpoints   steps of any training that can give and take its state
"""

import time
from functools import partial

KEEP_EVERY = 60.0
KEEPING = 20


def fine_tuned(model, names, parameters, loss_of, progress=None, *, start=None, still=None, generator=None, kept=None, keep=None, log=None):
    """{"unet.<name>": tensor} after `parameters.iterations` steps of Adam; the model itself is left as it was.

    Memory: the weights that are trained three times, beside the model: themselves and two moments of Adam. Their gradients never
    exist all at once.

    names        of the weights that are trained, without the `unet.` prefix
    loss_of      {name: weight} -> scalar loss of the next draw
    progress     called with (step, of, loss)
    start        {name: tensor} where other weights than the model's own are the first
    still        {name: bool tensor}: where it is True, a weight never moves, not by a bit
    generator    of the draws; with it a killed training goes on to the same weights: kept(name) -> state or None, keep(name, state),
                 at most once a minute, and rarer where writing the state takes long
    log          list that gets (step, loss), and first, after a kill, the steps before it
    """
    own = dict(model.unet.named_parameters()) | (start or {})
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in names}
    step, log = 0, [] if log is None else log
    with InBackward(weights, parameters.learning_rate, still or {}) as optimiser:
        state = kept("weights") if kept else None
        if state:
            step = _restored(state, weights, optimiser, generator, log)
        kept_at, seconds = time.monotonic(), 0.0
        while step < parameters.iterations:
            loss = loss_of(weights)
            loss.backward()  # and moves the weights
            step += 1
            log.append((step, loss.item()))
            if keep and time.monotonic() - kept_at >= max(KEEP_EVERY, KEEPING * seconds):
                began = time.monotonic()
                keep("weights", _state(step, weights, optimiser, generator, log))
                kept_at = time.monotonic()
                seconds = kept_at - began
            if progress:
                progress(step, parameters.iterations, log[-1][1])
    return {f"unet.{name}": weight.detach() for name, weight in weights.items()}


class InBackward:
    """Adam that moves each weight as soon as its gradient is there, and drops the gradient.

    A weight's gradient is complete when nothing that is still to be differentiated needs the weight, so the result is that of Adam
    after the backward pass, bit for bit.

    A context manager, which may be entered again and again: it moves weights only in between, so that two of them can share the weights
    and each has its own moments. Weights point to their optimisers and these to the weights, so without the end of the block neither
    would be freed.

    weights   {name: leaf tensor};  still   {name: bool tensor}: where it is True, the gradient counts as 0
    """

    def __init__(self, weights, learning_rate, still):
        import torch

        self._weights, self._still, self._hooks = weights, still, []
        self._of = {name: torch.optim.Adam([weight], lr=learning_rate) for name, weight in weights.items()}

    def __enter__(self):
        self._hooks = [
            weight.register_post_accumulate_grad_hook(partial(self._step, self._of[name], self._still.get(name)))
            for name, weight in self._weights.items()
        ]
        return self

    def __exit__(self, *error):
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @staticmethod
    def _step(optimiser, places, weight):
        if places is not None:
            weight.grad.masked_fill_(places, 0)
        optimiser.step()
        optimiser.zero_grad()

    def state_dict(self):
        """As one Adam over all weights gives it."""
        parts = [one.state_dict() for one in self._of.values()]
        groups = parts[0]["param_groups"][0] | {"params": list(range(len(parts)))}
        return {"state": {i: part["state"][0] for i, part in enumerate(parts) if part["state"]}, "param_groups": [groups]}

    def load_state_dict(self, state):
        """Go on from what `state_dict`, of this class or of Adam, gave."""
        for i, one in enumerate(self._of.values()):
            own = {0: state["state"][i]} if i in state["state"] else {}
            one.load_state_dict({"state": own, "param_groups": [state["param_groups"][0] | {"params": [0]}]})


def with_checkpoints(training, name, iterations, progress=None, kept=lambda name: None, keep=lambda name, state: None, log=None):
    """Run `training.improve()` until its `step` is at `iterations`; a killed training continues where it was.

    training     has step, improve() -> loss, state() and restore(state); its `retention_loss`, where it has one, goes into the log
    kept, keep   kept(name) -> state or None, keep(name, state), at most once a minute, rarer where writing takes long
    progress     called with (step, of, loss);  log  list that gets (step, loss) or (step, loss, retention), and first, after a kill, the
                 steps before it
    """
    log = [] if log is None else log
    if state := kept(name):
        training.restore(state)
        log.extend(tuple(row) for row in state["log"])
    kept_at, seconds = time.monotonic(), 0.0
    while training.step < iterations:
        loss = training.improve()
        log.append((training.step, loss, training.retention_loss) if hasattr(training, "retention_loss") else (training.step, loss))
        if time.monotonic() - kept_at >= max(KEEP_EVERY, KEEPING * seconds):
            began = time.monotonic()
            keep(name, training.state() | {"log": list(log)})
            kept_at = time.monotonic()
            seconds = kept_at - began
        if progress:
            progress(training.step, iterations, loss)


def _state(step, weights, optimiser, generator, log):
    values = {name: weight.detach() for name, weight in weights.items()}
    return {"step": step, "weights": values, "optimiser": optimiser.state_dict(), "generator": generator.get_state(), "log": list(log)}


def _restored(state, weights, optimiser, generator, log):
    """Puts back what was kept; the step it had reached."""
    for name, weight in weights.items():
        weight.data.copy_(state["weights"][name])
    optimiser.load_state_dict(state["optimiser"])
    generator.set_state(state["generator"])
    log.extend(tuple(row) for row in state["log"])
    return state["step"]
