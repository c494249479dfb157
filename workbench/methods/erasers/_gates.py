"""Hard concrete gates over weights or neurons: random in training, exact at the end (Louizos et al. 2018, arXiv 1712.01312).

s = sigmoid((log u - log(1 - u) + phi) / beta),  u ~ U(0, 1);   m = clip(s (zeta - gamma) + gamma, 0, 1)
m = 1 keeps a weight, m = 0 prunes it. Values of beta, zeta and gamma: docs/reference/definitions.md#learned-mask.
"""

import math

import torch

BETA, ZETA, GAMMA = 0.83, 1.1, -0.1
EDGE = 1e-6


def sample(phi, generator):
    """Gates m in [0, 1], of the shape of phi; differentiable with respect to phi where 0 < m < 1."""
    u = torch.rand(phi.shape, generator=generator).to(phi.device).clamp(EDGE, 1 - EDGE)
    stretched = torch.sigmoid((u.logit() + phi) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


def middle(phi):
    """The gates at u = 1/2, without chance."""
    return (torch.sigmoid(phi / BETA) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def prunes(phi):
    """P(m = 0) = sigmoid(beta log(-gamma / zeta) - phi)."""
    return torch.sigmoid(BETA * math.log(-GAMMA / ZETA) - phi)


class Gated:
    """The weights of chosen layers with a gate for each weight or each neuron.

    A neuron's gate is one for its value and gate rows and biases where they feed it, for its column where it is read, and for a row
    of attn2.to_k or to_v. `phi` {parameter name of the weight: logits (gate shape)}. `spared` {the same name: bool (gate shape)},
    True = a gate that stays 1 and is not counted; given with the shape of the weight.
    """

    def __init__(self, unet, weights, unit, start, spared=None):
        self.weights, self.unit, parameters = weights, unit, dict(unet.named_parameters())
        self.phi, self.biases, self.spared = {}, {}, {}
        for name, weight in weights.items():
            shape = weight.shape if unit == "weight" else self._gate_shape(name, weight)
            self.phi[name] = torch.full(shape, float(start), device=weight.device, requires_grad=True)
            bias = name.removesuffix("weight") + "bias"
            if unit == "neuron" and ".net.0.proj." in name and bias in parameters:
                self.biases[name] = bias, parameters[bias].detach()
            if name in (spared or {}):
                self.spared[name] = spared[name][: shape[0], : shape[1]].to(weight.device)

    @staticmethod
    def _gate_shape(name, weight):
        if ".net.2." in name:
            return (1, weight.shape[1])
        return (weight.shape[0] // (2 if ".net.0.proj." in name else 1), 1)

    def drawn(self, generator):
        """{weight name: gates} by chance, 1 where spared."""
        gates = {name: sample(phi, generator) for name, phi in self.phi.items()}
        return gates | {name: gates[name].masked_fill(where, 1) for name, where in self.spared.items()}

    def spread(self, gates):
        """{parameter name: gates broadcast to its shape} from {weight name: gates}; biases of fed neurons included."""
        result = {}
        for name, gate in gates.items():
            twice = self.unit == "neuron" and ".net.0.proj." in name
            full = torch.cat([gate, gate]) if twice else gate
            result[name] = full.expand(self.weights[name].shape)
            if name in self.biases:
                result[self.biases[name][0]] = full[:, 0]
        return result

    def applied(self, gates):
        """{parameter name: parameter * gate} for `model.predict`."""
        own = self.weights | dict(self.biases.values())
        return {name: own[name] * gate.to(own[name].dtype) for name, gate in self.spread(gates).items()}

    def pruned_share(self):
        """Expected share of the gates that are 0, a scalar with gradient."""
        counted = [phi[~self.spared[name]] if name in self.spared else phi for name, phi in self.phi.items()]
        return sum(prunes(phi).sum() for phi in counted) / sum(phi.numel() for phi in counted)
