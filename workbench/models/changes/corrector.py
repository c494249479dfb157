"""Concept Corrector as we read it: a detector looks at the image while it is sampled, and what shows the concept is corrected.

of          the corrector that a model has now
Never       the one that does nothing
Corrector   looks at chosen calls; from then on cross-attention to the concept reads a replacement text

Source   Meng et al. 2025 (arXiv 2502.16368). Built from the paper's abstract and accounts of it; its code has no licence and was not read.
         Not verified: how the paper makes the masks of its Concept Removal Attention, at which calls it looks, and that only the branch of
         the prompt is corrected. The paper's checker is a vision-language model; here it is a detector of the study.
"""

from contextlib import contextmanager, nullcontext

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from workbench.errors import ModelError
from workbench.models import text

NOT = -1  # in place of a call: a row that was never corrected


class Never:
    """No corrector: nothing is looked at."""

    corrected = None

    def start(self, model, branches, n_calls):
        """What looks at one batch."""
        return self

    def correcting(self):
        """Context of one call of the UNet."""
        return nullcontext()

    def look(self, call, latents, timestep, output):
        """Nothing."""


NEVER = Never()


def of(model):
    """The corrector a model has now."""
    return NEVER if model.corrector is None or model.as_base else model.corrector


def words(change):
    """What it is, for the report."""
    said = change.settings
    corrected = f'images corrected from "{said["concept"]}" to "{said["replacement"]}" where a detector sees the concept'
    return f"{corrected} (our reading of Concept Corrector)"


@contextmanager
def installed(model, change):
    """While open, images of the model are looked at and corrected; ModelError when it has a corrector, or nobody opens detectors for it."""
    if model.corrector is not None:
        raise ModelError(f"{words(change)}: the model has a corrector already. Choose one.")
    if model.detectors is None:
        raise ModelError(f"{words(change)}: this needs a detector of a study. Use it in a run or its lab.")
    corrector = Corrector(model, change)
    handles = [module.register_forward_hook(corrector.hook, with_kwargs=True) for module in cross_attention(model.unet)]
    model.corrector = corrector
    try:
        yield model
    finally:
        model.corrector = None
        for handle in handles:
            handle.remove()


def cross_attention(unet):
    """The modules of cross-attention."""
    return [module for name, module in unet.named_modules() if name.endswith(".attn2")]


class Corrector:
    """At call c, a share of the sampling, x0hat = (x_t - sqrt(1 - abar) eps) / sqrt(abar) is decoded and shown to the detector.

    Rows in which it sees the concept are corrected from call c + 1 on. In every cross-attention, at image position k,

        out_k = (1 - m_k) Attention(x_k, prompt) + m_k Attention(x_k, replacement)
        m_k   = 1 where a_k, brought to 0..1 over the image, is at least `mask`, else 0
        a_k   = share of the attention of k that the words of the concept's text have, mean over heads

    With `away` the uncond branch of such a row reads the concept's text instead of the empty one, so that guidance leads away from what
    the latents hold already [ours].
    """

    def __init__(self, model, change):
        said = change.settings
        self.concept, self.replacement = (change.tensors[name].to(model.device, model.dtype) for name in ("concept", "replacement"))
        self.last = int(text.ends(model, text.tokenize(model.tokenizer, [said["concept"]]))[0])
        self.mask, self.shares, self.labels = said["mask"], said["looks"], said["labels"]
        self.detector = model.detectors(said["detector"])
        self.away = said["away"]
        self.rows, self.led_away = None, None

    def start(self, model, branches, n_calls):
        """What looks at one batch; branches: names of the parts of the UNet's batch, in their order."""
        return Looking(self, model, branches, {min(int(share * n_calls), n_calls - 1) for share in self.shares})

    def hook(self, module, args, kwargs, output):
        """The corrected output of a cross-attention."""
        if self.rows is None:
            return None
        hidden = (args[0] if args else kwargs["hidden_states"])[self.rows]
        toward = attended(module, hidden, self.replacement.expand(len(hidden), -1, -1))
        part = attention_to(module, hidden, self.concept.expand(len(hidden), -1, -1))[..., 1 : self.last].sum(dim=-1)
        low, high = part.amin(dim=1, keepdim=True), part.amax(dim=1, keepdim=True)
        here = (part - low) / (high - low).clamp(min=1e-12) >= self.mask
        corrected = output.clone()
        corrected[self.rows] = torch.where(here[..., None], toward, output[self.rows])
        if self.away and self.led_away.any():
            others = (args[0] if args else kwargs["hidden_states"])[self.led_away]
            corrected[self.led_away] = attended(module, others, self.concept.expand(len(others), -1, -1))
        return corrected


class Looking:
    """The looks at one batch.

    corrected   (row,) long, the call from which a row was corrected, NOT for others
    """

    def __init__(self, corrector, model, branches, calls):
        self.corrector, self.model, self.branches, self.calls = corrector, model, branches, calls
        self.corrected = None

    @contextmanager
    def correcting(self):
        """While open, the UNet may be called on the batch: rows that were found are corrected in the branch of the prompt."""
        found = None if self.corrected is None else self.corrected != NOT
        if found is not None and found.any():
            none = torch.zeros_like(found)
            rows = [torch.cat([found if name == branch else none for name in self.branches]) for branch in ("cond", "uncond")]
            self.corrector.rows, self.corrector.led_away = (one.to(self.model.device) for one in rows)
        try:
            yield
        finally:
            self.corrector.rows, self.corrector.led_away = None, None

    def look(self, call, latents, timestep, output):
        """After a call: latents as the UNet saw them (row, ...), and the noise (or v) that the step is made with."""
        if self.corrected is None:
            self.corrected = torch.full((len(latents),), NOT)
        if call not in self.calls:
            return
        images = self.model.decode(self.model.clean(latents, timestep, output))
        present, _ = self.corrector.detector.present(images, self.corrector.labels)
        new = present.cpu() & (self.corrected == NOT)
        self.corrected = torch.where(new, call + 1, self.corrected)


def _heads(module, values):
    return values.unflatten(-1, (module.heads, -1)).transpose(1, 2)


def _projected(module, hidden, states):
    """Queries, keys and values (row, head, token, channel); read from the weights, so that no tap on the layers sees them."""
    query = linear(hidden, module.to_q.weight, module.to_q.bias)
    key, value = (linear(states, part.weight, part.bias) for part in (module.to_k, module.to_v))
    return [_heads(module, one) for one in (query, key, value)]


def attended(module, hidden, states):
    """The output of a cross-attention for other text states (row, token, channel)."""
    query, key, value = _projected(module, hidden, states)
    found = scaled_dot_product_attention(query, key, value, scale=module.scale).transpose(1, 2).flatten(2)
    return linear(found, module.to_out[0].weight, module.to_out[0].bias) / module.rescale_output_factor


def attention_to(module, hidden, states):
    """(row, position, token) how much of its attention each position gives to each token, mean over heads."""
    query, key, _ = _projected(module, hidden, states)
    return (query @ key.transpose(-1, -2) * module.scale).softmax(dim=-1).mean(dim=1)
