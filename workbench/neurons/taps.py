"""Taps: record activations and gate them, by hooks on the UNet that always go away.

The sampling loop tells the taps which call, timestep and rows come next (`tell`), runs the UNet, and asks them to
confirm that every layer fired (`check`). What is recorded is after the gate.

Rows    what the batch rows of a call are
Limit   the calls and the branch in which a gate row works
Taps    the hooks
"""

from dataclasses import dataclass

import torch

from workbench.errors import RecordingMismatch


@dataclass
class Rows:
    """What the batch rows of the next UNet call are.

    prompt   (row,) long, index of the prompt within the recording
    branch   list of "cond" or "uncond", one per row; "further" for the third branch that some rules of guidance have
    gate     (row,) long, which row of the gates applies; None = row 0 for all
    """

    call: int
    timestep: int
    prompt: torch.Tensor
    branch: list
    gate: torch.Tensor | None = None

    def of_branch(self, name):
        """Positions of the rows of a branch; long tensor."""
        return torch.tensor([i for i, branch in enumerate(self.branch) if branch == name], dtype=torch.long)


@dataclass(frozen=True)
class Limit:
    """Where a gate row works: calls (None = all) and branch (None = both). Elsewhere its rows keep every bit."""

    calls: frozenset | None = None
    branch: str | None = None

    def allows(self, call, branch):
        """Whether the gate row works on a row of this branch at this call."""
        return (self.calls is None or call in self.calls) and self.branch in (None, branch)


class Taps:
    """Context manager: hooks on the layers of a UNet.

    reducer   gets `add(layer, activation (row, token, neuron), rows)` when it `wants` the call; None = record nothing
    gates     {layer path: (gate row, neuron)} factors on the activation, 1 = untouched; with `baseline` the activation
              becomes a + (1 - g)(baseline - a), baseline {layer path: (neuron,)}
    limits    one Limit per gate row; None = all work everywhere
    held      {layer path: {gate row: columns.Held}} values that take the place of chosen neurons: a g + (1 - g) value
    Raises    RecordingMismatch for a compiled UNet, a layer that fired never or twice, a timestep other than told
    """

    def __init__(self, unet, layers, reducer=None, gates=None, baseline=None, limits=None, held=None):
        if hasattr(unet, "_orig_mod"):
            raise RecordingMismatch("This UNet is compiled; hooks would be ignored. Pass the module before torch.compile.")
        self.unet, self.layers = unet, list(layers)
        self.reducer, self.gates, self.baseline = reducer, gates or {}, baseline or {}
        self.limits, self.held = limits, held or {}
        self.rows, self.which, self.works, self.fired, self.handles = None, None, None, {}, []

    def __enter__(self):
        modules = dict(self.unet.named_modules())
        try:
            self.handles.append(self.unet.register_forward_pre_hook(self._seen, with_kwargs=True))
            for layer in self.layers:
                module = modules[layer.path]
                if layer.site.reads == "input":
                    hook = module.register_forward_pre_hook(self._input_hook(layer))
                elif layer.site.reads == "output":
                    hook = module.register_forward_hook(self._output_hook(layer))
                else:
                    hook = module.register_forward_hook(self._update_hook(layer), with_kwargs=True)
                self.handles.append(hook)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exception):
        self._remove()

    def _remove(self):
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def tell(self, rows):
        """Announce the next UNet call."""
        self.fired = {layer.path: 0 for layer in self.layers}
        self.regroup(rows)

    def regroup(self, rows):
        """Say that from the next layer on the batch has other rows, within the same UNet call."""
        self.rows = rows
        self.which = torch.zeros(len(rows.branch), dtype=torch.long) if rows.gate is None else rows.gate.cpu()
        allowed = [
            self.limits is None or self.limits[gate].allows(rows.call, branch)
            for gate, branch in zip(self.which.tolist(), rows.branch, strict=True)
        ]
        self.works = torch.tensor(allowed, dtype=torch.bool)

    def check(self):
        """Confirm that every layer fired exactly once since `tell`."""
        wrong = {path: n for path, n in self.fired.items() if n != 1}
        if wrong:
            path, n = next(iter(wrong.items()))
            raise RecordingMismatch(
                f'{len(wrong)} of {len(self.fired)} layers did not fire exactly once in call {self.rows.call}; "{path}" fired {n} times.'
            )
        self.rows = None

    def _seen(self, module, args, kwargs):
        if self.rows is None:
            raise RecordingMismatch("The UNet was called while taps are on, but nobody told them what for.")
        timestep = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        given = float(torch.as_tensor(timestep).flatten()[0])
        if abs(given - float(self.rows.timestep)) > 1e-3:
            raise RecordingMismatch(f"The UNet got timestep {given}, the taps were told {self.rows.timestep}.")

    def _input_hook(self, layer):
        def hook(module, args):
            changed = self._pass(layer, args[0])
            return None if changed is None else (changed, *args[1:])

        return hook

    def _output_hook(self, layer):
        def hook(module, args, output):
            if layer.site.neuron_axis == -1:
                return self._pass(layer, output)
            changed = self._pass(layer, output.flatten(2).transpose(1, 2))
            return None if changed is None else changed.transpose(1, 2).reshape(output.shape)

        return hook

    def _update_hook(self, layer):
        def hook(module, args, kwargs, output):
            stream = args[0] if args else kwargs["hidden_states"]
            result = output if torch.is_tensor(output) else output[0]
            update = (result - stream).flatten(2).transpose(1, 2)
            changed = self._pass(layer, update)
            if changed is None:
                return None
            # a difference of zero leaves every bit of the result as it is, which stream + update would not
            new = result + (changed - update).transpose(1, 2).reshape(result.shape)
            if torch.is_tensor(output):
                return new
            return (new, *output[1:]) if isinstance(output, tuple) else type(output)(sample=new)

        return hook

    def _pass(self, layer, activation):
        """Gate, then record; returns the gated activation, or None when nothing was gated."""
        self.fired[layer.path] += 1
        gated = self._gated(layer.path, activation) if layer.path in self.gates and self.works.any() else None
        seen = activation if gated is None else gated
        if self.reducer is not None and self.reducer.wants(self.rows.call):
            self.reducer.add(layer, seen.detach(), self.rows)
        return gated

    def _gated(self, path, activation):
        """The activation (row, token, neuron) behind its gates and held values."""
        works = self.works.to(activation.device)
        gate = self.gates[path].to(activation.device, activation.dtype)[self.which.to(activation.device)]
        if not works.all():
            gate = torch.where(works[:, None], gate, torch.ones_like(gate))
        if path in self.baseline:
            base = self.baseline[path].to(activation.device, activation.dtype)
            return activation + (1 - gate)[:, None] * (base - activation)
        gated = activation * gate[:, None]
        for number, held in self.held.get(path, {}).items():
            mine = torch.nonzero(self.works & (self.which == number)).flatten()
            if len(mine):
                values = held.values(self.rows, mine).to(gated).transpose(1, 2)
                rows, columns = mine.to(gated.device)[:, None], held.neurons.to(gated.device)[None]
                gated[rows, :, columns] += (1 - gate[rows, columns])[..., None] * values
        return gated
