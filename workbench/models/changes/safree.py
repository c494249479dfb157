"""SAFREE as we read it: words of a prompt that are close to a concept are projected away, for the first steps of the sampling.

Transform   the prompt transform; text states hold those of the prompt, those projected, and for how many steps they hold
span        orthonormal directions of some vectors

Source   Yoon et al. 2024 (arXiv 2410.12761). Its code has no licence and is not followed. The text of the paper could not be opened when
         this was written: abstract and accounts of it were, and the formulas are as we remember them, so that none is verified word by
         word. Least sure: that the similarity of step 3 is averaged over the words, that amplitudes are compared in step 4, and the
         size of the window of low frequencies (as FreeU's: 2 x 2). End token and padding stay as they are unless `ends`.
"""

import copy
from contextlib import contextmanager

import torch

from workbench.errors import ModelError
from workbench.models import text

STEPS = 50  # what `up_t` counts in
ROWS = 256  # masked prompts that the text encoder reads at once
TOLERANCE = 1e-4


def words(change):
    """What it is, for the report."""
    return f'prompt transform away from "{change.settings["concept"]}" (our reading of SAFREE)'


@contextmanager
def installed(model, change):
    """While open, prompts are read by this transform; ModelError when the model has another one already."""
    if model.transform is not None:
        raise ModelError(f"{words(change)}: the model has a prompt transform already, and two of them do not add up. Choose one.")
    settings = {name: value for name, value in change.settings.items() if name != "concept"}
    transform = Transform(model, change.tensors["states"], **settings)
    model.transform = transform
    handles = transform.hooks(model) if settings["reattention"] else []
    try:
        yield model
    finally:
        model.transform = None
        for handle in handles:
            handle.remove()


def span(vectors):
    """(direction, channel) orthonormal directions that vectors (vector, channel) span, in double precision."""
    _, sizes, directions = torch.linalg.svd(vectors.double(), full_matrices=False)
    return directions[sizes > TOLERANCE * sizes[:1]]


def onto(directions, vectors):
    """Vectors (vector, channel) projected on the span of orthonormal directions (direction, channel)."""
    return vectors @ directions.T @ directions


class Transform:
    """The prompt transform. P_C, P_I project on the span of the concept's texts, and of the prompt's texts with one word masked each.

    1  e_i     = end state of the prompt, word i masked;  d_i = |(1 - P_C) e_i|
       word i is masked out where d_i > (1 + alpha) mean of the other d:  without it the prompt is farther from the concept
    2  p'_i    = P_I (1 - P_C) p_i where word i is masked out, else p_i                            p: text states
    3  steps   = up_t sigmoid(1 - mean cos(p_i, P_I (1 - P_C) p_i)) of 50, rounded;  p' holds for these first ones, then p
    4  in skip features of the first two up blocks, where p' holds: low frequencies whose amplitude is larger than under p
       are scaled by `skip_1` and `skip_2`; the backbone's features stay as they are (the published 1.0 and 1.0)

    A prompt of one word has no other words to compare with: the word counts as masked out when the end state of the prompt is closer to
    the concept than that of the empty text [ours]. Masks, P_I and steps hold as constants where gradients are taken.

    states   (text, channel) end states of the concept's texts
    """

    def __init__(self, model, states, alpha, up_t, reattention, skip_1, skip_2, ends):
        self.concept = span(states)
        self.alpha, self.up_t, self.ends = alpha, up_t, ends
        self.scales = (skip_1, skip_2)
        self.readers = [_twin(encoder) for encoder in model.text_encoders]
        self.unet = _twin(model.unet) if reattention else None
        self.rows, self.others, self.seen = None, {}, {}

    def encoded(self, model, ids, vectors, places, states):
        """Text states (prompt, token, channel) of the model -> (prompt, 2 token + 1, channel): those, p', and in the last row the
        share of the steps for which p' holds."""
        safe, shares = self.projected(model, ids, vectors, places, states)
        last = torch.nn.functional.pad(shares[:, None, None], (0, states.shape[-1] - 1))
        return torch.cat([states, safe, last.to(states)], dim=1)

    def projected(self, model, ids, vectors, places, states):
        """p' (prompt, token, channel), differentiable in the states, and the share of the steps (prompt,)."""
        ends, safe, shares = text.ends(model, ids[0]), [], []
        with torch.no_grad():
            masked = self._masked(model, ids, vectors, places, ends)
        for own, end, without in zip(states, ends.tolist(), masked, strict=True):
            away, inside = self.concept.to(own), span(without).to(own)
            distances = _distances(self.concept, without)
            out = self._masked_out(distances, own[end].detach())
            if not out.any():
                safe.append(own)
                shares.append(0.0)
                continue
            moved = own - onto(away, own)
            moved = onto(inside, moved)
            chosen = torch.zeros(len(own), dtype=torch.bool, device=own.device)
            chosen[1:end] = out.to(own.device)
            if self.ends:
                chosen[end : model.tokenizer.model_max_length] = True
            similar = torch.nn.functional.cosine_similarity(own[1:end].detach(), moved[1:end].detach(), dim=-1).mean()
            shares.append(self.up_t / STEPS * torch.sigmoid(1 - similar).item())
            safe.append(torch.where(chosen[:, None], moved, own))
        return torch.stack(safe), states.new_tensor(shares).clamp(max=1)

    def _masked_out(self, distances, end):
        """(word,) bool: which words are masked out."""
        n = len(distances)
        if n < 2:
            return distances < _distances(self.concept, end[None])
        others = (distances.sum() - distances) / (n - 1)
        return distances > (1 + self.alpha) * others

    def _masked(self, model, ids, vectors, places, ends):
        """[(word, channel)] of each prompt: its end states with one word masked each."""
        rows = [row for row, end in enumerate(ends.tolist()) for _ in range(1, end)]
        words = [place for end in ends.tolist() for place in range(1, end)]
        channels = sum(encoder.config.hidden_size for encoder in model.text_encoders)
        found = [torch.zeros(0, channels, device=model.device)]
        n_vectors = None if places is None else places.sum(dim=1).tolist()
        own = None if places is None else list(vectors.detach().split(n_vectors))
        for start in range(0, len(rows), ROWS):
            mine, word = torch.tensor(rows[start : start + ROWS]), torch.tensor(words[start : start + ROWS])
            seen = torch.ones(len(mine), ids[0].shape[1], dtype=torch.bool)
            seen[torch.arange(len(mine)), word] = False
            given = [one[mine.to(one.device)] for one in ids]
            more = (None, None) if own is None else (torch.cat([own[row] for row in mine.tolist()]), places[mine.to(places.device)])
            states = text.encoded_by(self.readers, given, *more, seen=seen, device=model.device)
            found.append(states[torch.arange(len(mine)), ends[mine.to(ends.device)].to(states.device)])
        return torch.cat(found).float().split([max(end - 1, 0) for end in ends.tolist()])

    def on_a_line(self, n_tokens):
        """How many of the token rows move where text states move on a line: all but the last, the share of the steps."""
        return n_tokens - 1

    @contextmanager
    def asked(self, model, latents, timestep, states):
        """p' where it holds at this timestep, else p; in the former rows the skip features are weighed."""
        n = (states.shape[1] - 1) // 2
        own, safe, share = states[:, :n], states[:, n : 2 * n], states[:, -1, 0].detach().float()
        at = torch.as_tensor(timestep, device=states.device, dtype=torch.float32).expand(len(states))
        schedule = model.new_scheduler(model.expected_steps).timesteps.unique().to(at)
        before = (schedule > at[:, None]).sum(dim=1)  # steps of the sampling before this one
        holds = before < (share * len(schedule)).round()
        if self.unet is not None and holds.any():
            self.others = self._others(model, latents[holds], at[holds], own[holds])
            self.rows = holds
        try:
            yield torch.where(holds[:, None, None], safe, own)
        finally:
            self.rows, self.others = None, {}

    @torch.no_grad()
    def _others(self, model, latents, timesteps, states):
        """{path: skip features} under p, by a twin of the UNet that no tap sees."""
        self.seen = {}
        handles = [self.unet.get_submodule(path).register_forward_pre_hook(self._keep(path, n)) for path, n, _ in _places(self.unet)]
        try:
            model.run_on(self.unet, latents.detach(), timesteps, states.detach())
        finally:
            for handle in handles:
                handle.remove()
        return self.seen

    def _keep(self, path, n):
        def hook(module, args):
            self.seen[path] = args[0][:, -n:]

        return hook

    def hooks(self, model):
        """Handles of the hooks that weigh the skip features."""
        scales = dict(enumerate(self.scales))
        return [
            model.unet.get_submodule(path).register_forward_pre_hook(self._weigh(path, n, scales[block]))
            for path, n, block in _places(model.unet)
        ]

    def _weigh(self, path, n, scale):
        def hook(module, args):
            if self.rows is None:
                return None
            joined, *rest = args
            skips = joined[:, -n:].clone()
            skips[self.rows] = weighed(skips[self.rows], self.others[path], scale)
            return torch.cat([joined[:, :-n], skips], dim=1), *rest

        return hook


def weighed(features, others, scale):
    """Features (row, channel, height, width) whose low frequencies are scaled where their amplitude exceeds that of `others`."""
    spectrum = torch.fft.fftn(features.float(), dim=(-2, -1))
    beside = torch.fft.fftn(others.float(), dim=(-2, -1))
    low = torch.zeros(features.shape[-2:], dtype=torch.bool, device=features.device)
    low[[-1, -1, 0, 0], [-1, 0, -1, 0]] = True
    larger = low & (spectrum.abs() > beside.abs())
    return torch.fft.ifftn(torch.where(larger, scale * spectrum, spectrum), dim=(-2, -1)).real.to(features.dtype)


def _distances(concept, vectors):
    """(vector,) how far vectors (vector, channel) are from the span of the concept."""
    vectors = vectors.double()
    return (vectors - onto(concept.to(vectors), vectors)).norm(dim=-1)


def _places(unet):
    """[(path of a resnet, channels of its skip features, up block)] of the first two up blocks."""
    found, channels = [], unet.mid_block.resnets[-1].out_channels
    for block, part in enumerate(unet.up_blocks[:2]):
        for i, resnet in enumerate(part.resnets):
            found.append((f"up_blocks.{block}.resnets.{i}", resnet.in_channels - channels, block))
            channels = resnet.out_channels
    return found


def _twin(module):
    """The same module with the same tensors and none of the hooks that are put on later."""
    return copy.deepcopy(module, {id(one): one for one in (*module.parameters(), *module.buffers())})
