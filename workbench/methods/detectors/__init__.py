"""Detectors: is the concept in the image?

A detector module has `Parameters` and `load(parameters)`, which returns a `Detector`.
"""

from dataclasses import dataclass


@dataclass
class Detector:
    """A network with named labels, each with a calibrated threshold.

    network      images (n, 3, height, width) in [0, 1] -> probabilities (n, label), differentiable
    thresholds   {label: probability from which the label counts as present}
    """

    name: str
    version: str
    labels: list
    thresholds: dict
    network: object

    def probabilities(self, images, batch=64):
        """Probabilities (n, label) of images, without gradient, in batches."""
        import torch

        with torch.no_grad():
            return torch.cat([self.network(part) for part in images.split(batch)])

    def present(self, images, labels):
        """Whether any of the labels is found in each image: (bool, highest probability among them), each (n,)."""
        import torch

        columns = [self.labels.index(label) for label in labels]
        found = self.probabilities(images)[:, columns]
        limits = torch.tensor([self.thresholds[label] for label in labels])
        return (found >= limits).any(dim=1), found.amax(dim=1)
