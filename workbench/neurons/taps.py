"""Taps: record activations and gate them, by hooks on the UNet that always go away.

The sampling loop tells the taps which call, timestep and rows come next (`tell`), runs the UNet, and asks them to
confirm that every layer fired (`check`). What is recorded is after the gate.
"""

from dataclasses import dataclass

import torch

from workbench.errors import RecordingMismatch


@dataclass
class Rows:
    """What the batch rows of the next UNet call are.

    prompt   (row,) long, index of the prompt within the recording
    branch   list of "cond" or "uncond", one per row
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


class Taps:
    """Context manager: hooks on the layers of a UNet.

    reducer   gets `add(layer, activation (row, token, neuron), rows)` when it `wants` the call; None = record nothing
    gates     {layer path: (gate row, neuron)} factors on the activation, 1 = untouched; with `baseline` the activation
              becomes a + (1 - g)(baseline - a), baseline {layer path: (neuron,)}
    Raises    RecordingMismatch for a compiled UNet, a layer that fired never or twice, a timestep other than told
    """

    def __init__(self, unet, layers, reducer=None, gates=None, baseline=None):
        if hasattr(unet, "_orig_mod"):
            raise RecordingMismatch("This UNet is compiled; hooks would be ignored. Pass the module before torch.compile.")
        self.unet, self.layers = unet, list(layers)
        self.reducer, self.gates, self.baseline = reducer, gates or {}, baseline or {}
        self.rows, self.fired, self.handles = None, {}, []

    def __enter__(self):
        modules = dict(self.unet.named_modules())
        try:
            self.handles.append(self.unet.register_forward_pre_hook(self._seen, with_kwargs=True))
            for layer in self.layers:
                module = modules[layer.path]
                if layer.site.reads == "input":
                    hook = module.register_forward_pre_hook(self._input_hook(layer))
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
        self.rows = rows
        self.fired = {layer.path: 0 for layer in self.layers}

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
        gated = None
        if layer.path in self.gates:
            gate = self.gates[layer.path].to(activation.device, activation.dtype)
            which = self.rows.gate
            gate = gate[which.to(gate.device)] if which is not None else gate[:1]
            gate = gate[:, None, :]
            if layer.path in self.baseline:
                base = self.baseline[layer.path].to(activation.device, activation.dtype)
                gated = activation + (1 - gate) * (base - activation)
            else:
                gated = activation * gate
        seen = activation if gated is None else gated
        if self.reducer is not None and self.reducer.wants(self.rows.call):
            self.reducer.add(layer, seen.detach(), self.rows)
        return gated
