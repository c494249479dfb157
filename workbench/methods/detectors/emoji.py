"""Emoji: two small CNNs, trained apart, that name the object and the style of an image, or neither."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench import resources
from workbench.errors import ModelError

REMEMBERED = False  # judging an image again costs less than reading what was judged


class Parameters(BaseModel):
    """Which of the two looks."""

    model_config = ConfigDict(extra="forbid")

    which: Literal["steer", "judge"] = Field("judge", description="one may be looked at by attacks, the other judges")


def network(which, n_objects, n_styles):
    """The architecture: image in [0, 1] -> (object logits, style logits); the last of each is "none".

    steer   four blocks of batch-normalised 3 x 3 convolutions and max pooling
    judge   5 x 5 strided convolutions, group normalisation, GELU: another architecture on purpose
    """
    from torch import nn

    if which == "steer":
        blocks, width = [], 3
        for out in (32, 64, 96, 128):
            blocks += [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
            width = out
    else:
        blocks, width = [], 3
        for out in (24, 48, 96, 144):
            blocks += [nn.Conv2d(width, out, 5, 2, 2), nn.GroupNorm(8, out), nn.GELU()]
            width = out

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2))
            self.object = nn.Linear(width * 4, n_objects + 1)
            self.style = nn.Linear(width * 4, n_styles + 1)

        def forward(self, images):
            features = self.body(images * 2 - 1)
            return self.object(features), self.style(features)

    return TwoHeads()


def load(parameters):
    """Read the detector from the bundled data.

    Raises   ModelError when it was not built
    """
    import torch

    from workbench.methods.detectors import Detector
    from workbench.storage import digest, file_digest, read_arrays

    folder = resources.folder("data") / "emoji"
    weights, card = folder / f"detector-{parameters.which}.safetensors", folder / "detectors.json"
    if not weights.is_file() or not card.is_file():
        raise ModelError(f"The emoji detector {weights} is missing. Build it with: make emoji")
    about = json.loads(card.read_text())
    cnn = network(parameters.which, len(about["objects"]), len(about["styles"]))
    cnn.load_state_dict({name: value.float() for name, value in read_arrays(weights).items()})
    cnn.eval().requires_grad_(False)
    temperature = about[parameters.which]["temperature"]

    def probabilities(images):
        objects, styles = cnn(images)
        return torch.cat([(objects / temperature["object"]).softmax(1), (styles / temperature["style"]).softmax(1)], dim=1)

    labels = [f"object:{name}" for name in [*about["objects"], "none"]]
    labels += [f"style:{name}" for name in [*about["styles"], "none"]]
    version = f"emoji-{parameters.which} {digest([file_digest(weights), about[parameters.which]])[:12]}"
    thresholds = about[parameters.which]["thresholds"]
    return Detector(f"emoji-{parameters.which}", version, labels, thresholds, probabilities, lambda images: cnn.body(images * 2 - 1))
