"""Attribution: how much each neuron or cluster adds to a stated target, with Captum on gates.

Formulas: docs/reference/definitions.md#attribution.

attribute     the scores of one model and prompt set, averaged over calls and units, with intervals, value and completeness
METHODS       gradient    dJ/dg at g = 1: CAD per neuron, all neurons of all layers in one forward and backward
              integrated  Integrated Gradients from gates of 1 - share: all off together by default, a part of the way for a
                          random set of that share
              curvature   gradient and a second-order term from random gates, shrunk by its own noise
              ablation    exact: gates off one by one
              shapley     Shapley values, for clusters

Scores say what is lost: positive = without it the target is lower. Scores of one item are averaged over calls, items over
units, and intervals are over units; nothing of the size items x neurons is kept.
"""

from dataclasses import dataclass

import numpy as np
import pandas
import torch
from scipy import stats

from workbench.analysis.gated import Gated
from workbench.errors import MethodError, StatisticsError, nearest


@dataclass
class Attribution:
    """Scores, with the target named and its value beside them.

    scores     data frame, a row per column of gates: value, low, high (95 %, t over units; NaN for one unit)
    items      data frame, a row per (prompt, call): prompt, unit, call, value (at g = 1), off (at the baseline gates),
               explained (the sum of its scores, before any shrinking), delta = explained - (value - off)
    watched    {column: (unit,) scores} of the columns asked for
    complete   whether the method promises delta = 0
    passes     UNet passes per item: forward, backward, and setup (what the target compares with); the check of completeness
               takes two more forward
    """

    method: str
    target: str
    settings: dict
    scores: pandas.DataFrame
    items: pandas.DataFrame
    watched: dict
    complete: bool
    calls: list
    n_prompts: int
    n_units: int
    passes: dict


def attribute(
    model, layers, items, target, method="gradient", *, columns=None, baseline=None, both=False, watch=(), batch=8, seed=0, **settings
):
    """Attribute a target to gates.

    items       `Items`: prompts at calls, on the latents of the shared regime
    target      one of targets.TARGETS, made with what it needs
    columns     (neuron,) which gate each neuron follows, -1 = untouched; None = one per neuron. Clusters are columns
    baseline    {layer: (neuron,)} means that a gate of 0 puts in place; None = zeros
    both        gate the prompt that the target compares with too
    watch       columns whose scores per unit are kept
    batch       UNet rows at once
    settings    of the method: share, n_steps (integrated); size, paired (curvature); n_samples (shapley)
    returns     Attribution
    Raises      MethodError for an unknown method or setting; StatisticsError when curvature gets a single unit
    Source      CAD arXiv 2412.02542 (gradient); Sundararajan et al. 2017 (integrated); Castro et al. 2009 (shapley); the diagonal
                by random signs after Hutchinson 1989 and Bekas et al. 2007 (curvature)
    """
    if method not in METHODS:
        raise MethodError(f'No attribution method is called "{method}".{nearest(method, METHODS)}')
    how = METHODS[method]
    unknown = sorted(set(settings) - set(how.settings))
    if unknown:
        raise MethodError(f'The method {method} has no setting "{unknown[0]}".{nearest(unknown[0], how.settings)}')
    settings = {**how.settings, **settings}
    generator = torch.Generator().manual_seed(seed)
    kept, rows, passes = None, [], {}
    order = np.argsort(np.asarray(items.units), kind="stable")
    for prompts in np.array_split(order, -(-len(order) // batch)):
        total = 0.0
        for part in items.batches(prompts):
            gated = Gated(model, layers, part, target.at(model, part), columns, baseline, both)
            found = how.call(gated, batch, generator, **settings).detach().double().cpu()
            total = total + found / len(items.trajectory.calls)
            passes = dict(gated.counted)
            rows.append(_checked(gated, part, items, found, how.share(settings)))
        kept = kept or ByUnit(total.shape[0], total.shape[2], watch)
        for position, prompt in enumerate(prompts):
            kept.add(items.units[prompt], total[:, position].numpy())
    scores, watched = kept.result()
    return Attribution(
        method,
        target.name,
        settings | {"both": both, "baseline": "zero" if baseline is None else "mean"},
        scores,
        pandas.concat(rows, ignore_index=True),
        watched,
        how.complete,
        list(items.trajectory.calls),
        len(items),
        kept.n,
        passes | {"setup": target.setup},
    )


def _checked(gated, part, items, found, share):
    """Value, value at the baseline gates and completeness of each row."""
    with torch.no_grad():
        value, off = (gated(gated.ones() * gate, gated.item()).double().cpu() for gate in (1.0, 1.0 - share))
    explained = share * found.sum(dim=(0, 2))
    return pandas.DataFrame(
        {
            "prompt": part.prompt.numpy(),
            "unit": [items.units[int(prompt)] for prompt in part.prompt],
            "call": part.call,
            "value": value,
            "off": off,
            "explained": explained,
            "delta": explained - (value - off),
        }
    )


class ByUnit:
    """Streams scores (part, column) of prompts sorted by unit; the scores' parts are added up at the end.

    A second part is a correction that carries noise of its own: it is multiplied by max(0, 1 - se^2 / mean^2), so that a
    correction that cannot be told from 0 leaves the first part as it is [our definition].
    """

    def __init__(self, n_parts, n_columns, watch):
        self.n, self.unit, self.sum, self.count = 0, None, 0.0, 0
        self.mean = np.zeros((n_parts, n_columns))
        self.product = np.zeros((n_parts, n_parts, n_columns))
        self.watch, self.seen = list(watch), []

    def add(self, unit, scores):
        if unit != self.unit:
            self._close()
            self.unit, self.sum, self.count = unit, 0.0, 0
        self.sum, self.count = self.sum + scores, self.count + 1

    def _close(self):
        if not self.count:
            return
        value = self.sum / self.count
        self.n, self.count = self.n + 1, 0
        before = value - self.mean
        self.mean = self.mean + before / self.n
        self.product += before[:, None] * (value - self.mean)[None, :]
        self.seen.append(value[:, self.watch])

    def result(self):
        """(data frame value, low, high; {column: (unit,) scores})."""
        self._close()
        n_parts, weight = len(self.mean), np.ones(self.mean.shape)
        if n_parts > 1 and self.n < 2:
            raise StatisticsError("Curvature is judged by its spread over units; one unit was given. Give at least 2, or use gradient.")
        noise = self.product / max(1, self.n - 1) / self.n if self.n > 1 else np.full(self.product.shape, np.nan)
        for part in range(1, n_parts):
            square = np.maximum(self.mean[part] ** 2, np.finfo(float).tiny)
            weight[part] = np.clip(1 - noise[part, part] / square, 0, 1)
        value = (weight * self.mean).sum(axis=0)
        spread = np.sqrt(np.maximum(np.einsum("pk,qk,pqk->k", weight, weight, noise), 0)) * stats.t.ppf(0.975, max(1, self.n - 1))
        per_unit = np.einsum("pk,upk->uk", weight[:, self.watch], np.array(self.seen))
        watched = {column: per_unit[:, place] for place, column in enumerate(self.watch)}
        return pandas.DataFrame({"value": value, "low": value - spread, "high": value + spread}), watched


# Captum is imported by what needs it: with it come Matplotlib and most of a second, and most runs attribute nothing
def _gradient(gated, batch, generator):
    from captum.attr import InputXGradient

    return InputXGradient(gated).attribute(gated.ones().requires_grad_(), additional_forward_args=(gated.item(),))[None]


def _integrated(gated, batch, generator, share, n_steps):
    if not 0 < share <= 1:
        raise MethodError(f"Integrated Gradients over a share of {share:g} of the way was asked for; possible: above 0, up to 1.")
    from captum.attr import IntegratedGradients

    ones, n = gated.ones(), max(batch, len(gated.batch))
    found = IntegratedGradients(gated).attribute(ones, ones * (1 - share), None, (gated.item(),), n_steps, internal_batch_size=n)
    return found[None] / share


def _curvature(gated, batch, generator, size, paired):
    """J(1) - J(1 - e_i) = J_i - J_ii / 2 + ...; J_ii from gates 1 - size z, z = +-1:  E[ z_i (J_i(1 - size z) - J_i(1)) ] = -size J_ii.

    paired   J_i too comes from 1 - size z and 1 + size z, not from g = 1: as many passes
    """
    ones = gated.ones()
    signs = torch.randint(0, 2, ones.shape, generator=generator).to(ones) * 2 - 1
    less, other = gated.gradient(ones - size * signs), gated.gradient(ones + size * signs if paired else ones)
    first = (less + other) / 2 if paired else other
    return torch.stack([first, signs * (less - other) / (4 * size if paired else 2 * size)])


def _ablation(gated, batch, generator):
    from captum.attr import FeatureAblation

    at_once = max(1, batch // len(gated.batch))
    return FeatureAblation(gated).attribute(gated.ones(), 0.0, None, (gated.item(),), perturbations_per_eval=at_once)[None]


def _shapley(gated, batch, generator, n_samples):
    from captum.attr import ShapleyValueSampling

    at_once = max(1, batch // len(gated.batch))
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        sampling = ShapleyValueSampling(gated)
        return sampling.attribute(gated.ones(), 0.0, None, (gated.item(),), n_samples=n_samples, perturbations_per_eval=at_once)[None]


@dataclass(frozen=True)
class Method:
    """call (gated, batch, generator, **settings) -> (part, row, column); its settings; whether its scores add up to on minus off."""

    call: object
    settings: dict
    complete: bool

    def share(self, settings):
        """How far the baseline gates are from 1."""
        return settings.get("share", 1.0)


METHODS = {
    "gradient": Method(_gradient, {}, False),
    "integrated": Method(_integrated, {"share": 1.0, "n_steps": 16}, True),
    "curvature": Method(_curvature, {"size": 0.5, "paired": False}, False),
    "ablation": Method(_ablation, {}, False),
    "shapley": Method(_shapley, {"n_samples": 10}, True),
}
