"""Alternative texts of the figures about single neurons, attribution, clusters and ablation."""

from workbench.report import wording


def waking_alt(neurons, variant, webgl=None, unit=None):
    """How many of the points lie on either side of zero."""
    carry = [neuron for neuron in neurons if neuron["score_b"] > 0]
    woken = [neuron for neuron in carry if neuron[f"delta_{variant}"] > 0]
    return (
        f"{wording.integer(len(neurons))} neurons, score in the base model against δ of {variant} under attack: "
        f"{wording.integer(len(carry))} have a score above 0, {wording.integer(len(woken))} of these a δ above 0."
    )
