"""Training: fine-tuning some weights of the UNet beside the model, and continuing after a kill.

fine_tuned         what ESD, AC and relearning share
with_checkpoints   steps of any training that can give and take its state
"""

import time

KEEP_EVERY = 60.0
KEEPING = 20


def fine_tuned(model, names, parameters, loss_of, progress=None, *, still=None, generator=None, kept=None, keep=None, log=None):
    """{"unet.<name>": tensor} after `parameters.iterations` steps of Adam; the model itself is left as it was.

    names        of the weights that are trained, without the `unet.` prefix
    loss_of      {name: weight} -> scalar loss of the next draw
    progress     called with (step, of, loss)
    still        {name: bool tensor}: where it is True, a weight never moves, not by a bit
    generator    of the draws; with it a killed training goes on to the same weights: kept(name) -> state or None, keep(name, state),
                 at most once a minute, and rarer where writing the state takes long
    log          list that gets (step, loss), and first, after a kill, the steps before it
    """
    import torch

    own = dict(model.unet.named_parameters())
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in names}
    optimiser = torch.optim.Adam(weights.values(), lr=parameters.learning_rate)
    step, log = 0, [] if log is None else log
    state = kept("weights") if kept else None
    if state:
        step = _restored(state, weights, optimiser, generator, log)
    kept_at, seconds = time.monotonic(), 0.0
    while step < parameters.iterations:
        loss = loss_of(weights)
        optimiser.zero_grad()
        loss.backward()
        for name, places in (still or {}).items():
            weights[name].grad.masked_fill_(places, 0)
        optimiser.step()
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


def with_checkpoints(training, name, iterations, progress=None, kept=lambda name: None, keep=lambda name, state: None, log=None):
    """Run `training.improve()` until its `step` is at `iterations`; a killed training continues where it was.

    training     has step, improve() -> loss, state() and restore(state)
    kept, keep   kept(name) -> state or None, keep(name, state), at most once a minute, rarer where writing takes long
    progress     called with (step, of, loss);  log  list that gets (step, loss), and first, after a kill, the steps before it
    """
    log = [] if log is None else log
    if state := kept(name):
        training.restore(state)
        log.extend(tuple(row) for row in state["log"])
    kept_at, seconds = time.monotonic(), 0.0
    while training.step < iterations:
        loss = training.improve()
        log.append((training.step, loss))
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
