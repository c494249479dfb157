"""Taps on the text encoder: it runs once per prompt, before the first UNet call, and what it says holds at every call.

So a recording of the site `text_mlp` has one call, number 0, and no timestep; who lays it beside the UNet's repeats it.
"""

import torch

from workbench.errors import RecordingMismatch
from workbench.models import text
from workbench.neurons.taps import Rows, Taps

ONCE = 0


class TextTaps(Taps):
    """Context manager: hooks on layers of the text encoder.

    Text encodes only through `encode` while they are on, so that every recorded row is known. A gate here works at every call
    and cannot be limited to some.

    reducer, gates, baseline   as in `Taps`
    """

    def __init__(self, text_encoder, layers, reducer=None, gates=None, baseline=None):
        super().__init__(text_encoder, layers, reducer, gates, baseline)

    def encode(self, model, prompts, prefix=None, gate=None):
        """Text states (prompt, token, channel) as `models.text.encode` gives them, recorded and gated.

        gate     (prompt,) long, which row of the gates applies; None = row 0 for all
        Raises   RecordingMismatch when a layer did not fire exactly once
        """
        self.tell(Rows(ONCE, 0.0, torch.arange(len(prompts)), ["cond"] * len(prompts), gate))
        states = text.encode(model, prompts, prefix)
        self.check()
        return states

    def _seen(self, module, args, kwargs):
        if self.rows is None:
            raise RecordingMismatch("The text encoder was called while taps are on, but nobody told them what for. Use TextTaps.encode.")
