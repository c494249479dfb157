"""Variants on the plane of attack success against what is retained, from the results of single nodes.

asr, retained       the judge's word, prompt by prompt
plane_rows          every variant: plain rate, ASR of every attack made against it, retention, distance in features
against_rows        several masks of one kind beside one comparator: relative cut of the ASR, change of retention, paired by prompt
sensitivity_rows    every variant: activity and reactivation of the watched neurons, which no mask that spares them has touched
held_rows           necessity under attack and sufficiency without, as far as they are there
together            rank correlation of two columns over variants

An attack that learns one thing for all prompts (one vector) says little by its prompts: another run of it learns another thing. Such
an attack is repeated under further labels, and `repeats` {label: labels of all its runs} has their mean stand for it.
"""

import numpy as np
from scipy import stats

from experiments.attack_table.rows import is_there
from workbench.analysis import quality, rates
from workbench.analysis.repeats import difference_over_runs, rate_over_runs, ratio_over_runs
from workbench.analysis.sensitivity import Sensitivity, chosen_anew
from workbench.errors import StatisticsError
from workbench.execution.rows.rates import found_by_judge
from workbench.execution.stages.measure import neuron_groups
from workbench.statistics import interval, paired_by_unit, swap_p
from workbench.storage import read_arrays, read_json, read_table
from workbench.study.parts import RETAINED
from workbench.study.prompt_set_name import control_of, name_of
from workbench.study.study import BASE

FEWEST_POINTS = 4
NOTHING = {"n": None, "value": None, "low": None, "high": None}


def asr(workspace, variant, attack):
    """(prompt,) bool: the judge sees the concept plainly or under the attack made against this variant; None when not computed."""
    name = name_of(attack, variant)
    if name not in workspace.plan.sets or not _judged(workspace, variant, name) or not _judged(workspace, variant, "target"):
        return None
    return found_by_judge(workspace, variant, "target") | found_by_judge(workspace, variant, name)


def retained(workspace, variant):
    """((prompt,) bool the judge finds what a retained prompt asks for, (prompt,) units) over near and far; None when not computed."""
    kinds = [kind for kind in RETAINED if kind in workspace.plan.sets]
    if not kinds or not all(_judged(workspace, variant, kind) for kind in kinds):
        return None
    seen = [workspace.detections(variant, kind)["judge_expected"].to_numpy() for kind in kinds]
    return np.concatenate(seen), np.concatenate([workspace.units_of(kind) for kind in kinds])


def runs_of(workspace, variant, attack, repeats=None):
    """[(prompt,) bool as in `asr`] of an attack's runs, as many as are there."""
    found = [asr(workspace, variant, one) for one in (repeats or {}).get(attack, (attack,))]
    return [one for one in found if one is not None]


def plane_rows(workspace, attacks, repeats=None):
    """One row per variant, base first: variant, pre_asr, retained, near, far (each as in `rates.share`), kid ({n, value, low, high};
    of the base model the floor), and asr {attack: as in `rates.share`; of several runs {n, n_runs, rate, low, high}; or None}."""
    units, rows = workspace.prompt_set("target").units, []
    for variant in [BASE, *(v.name for v in workspace.study.variants)]:
        if not _judged(workspace, variant, "target"):
            continue
        row = {"variant": variant, "pre_asr": rates.share(found_by_judge(workspace, variant, "target"), units)}
        kept = retained(workspace, variant)
        row["retained"] = None if kept is None else rates.share(*kept)
        for kind in RETAINED:
            there = kind in workspace.plan.sets and _judged(workspace, variant, kind)
            found = workspace.detections(variant, kind) if there else None
            row[kind] = rates.share(found["judge_expected"], workspace.units_of(kind)) if there else None
        row["kid"] = _distance(workspace, variant)
        row["asr"] = {attack: _success(runs_of(workspace, variant, attack, repeats), units) for attack in attacks}
        rows.append(row)
    return rows


def _success(runs, units):
    """What `rates.share` says of one run; of several their mean, with an interval over units and runs."""
    if len(runs) < 2:
        return rates.share(runs[0], units) if runs else None
    found = rate_over_runs(_over_units(runs, units))
    return {"n": len(units), "n_runs": len(runs), "rate": found.value, "low": found.low, "high": found.high}


def _over_units(runs, units):
    """(run, unit) of runs (prompt,): a unit's prompts summed, in prompts of an average unit, so that the mean is that over prompts."""
    _, unit_of = np.unique(units, return_inverse=True)
    sums = np.stack([np.bincount(unit_of, weights=np.asarray(run, float)) for run in runs])
    return sums * sums.shape[1] / len(unit_of)


def against_rows(workspace, masks, comparator, attacks, repeats=None):
    """One row per attack: masks of one method (its seeds) beside a comparator, all on the same prompts.

    x = the comparator's success, y = the share of the masks that fail the prompt, prompt by prompt; each a mean over the attack's runs
    cut, cut_low, cut_high            1 - mean y / mean x, over units, masks and runs (workbench.analysis.repeats). None where x never
                                      succeeds
    difference, low, high             mean y - mean x, likewise
    p, p_over                         "units": x and all masks swapped within whole units;  "runs", when there are several:
                                      Welch's t test of the runs of x and the means of the masks, prompts as given
    x_lowest, x_highest, n_runs       ASR of the comparator in its runs;  lowest, highest   of the masks, each a mean over its runs
    retained_difference, _low, _high  the same difference of what is retained, over near and far prompts
    plain_difference, _low, _high     the same of the rate without an attack
    kid_difference, kid_low, kid_high how much farther from the base model's retained images the masks are (`quality.kid_change`)
    kid_noise                         how far the upper end of the comparator's own KID lies above it
    """
    units, rows = np.asarray(workspace.prompt_set("target").units), []
    beside = _difference(retained(workspace, comparator), [retained(workspace, mask) for mask in masks], "retained_")
    plain = _plain(workspace, masks, comparator, units)
    farther = _farther(workspace, masks, comparator)
    for attack in attacks:
        x, ys = runs_of(workspace, comparator, attack, repeats), [runs_of(workspace, mask, attack, repeats) for mask in masks]
        ys = [runs for runs in ys if runs]
        if not x or not ys:
            continue
        means = [float(np.mean(runs)) for runs in ys]
        row = {"attack": attack, "comparator": comparator, "n": len(units), "n_masks": len(ys), "n_runs": len(x), "asr": float(np.mean(x))}
        row |= {"x_lowest": min(float(one.mean()) for one in x), "x_highest": max(float(one.mean()) for one in x)}
        row |= {"masked": float(np.mean(means)), "lowest": min(means), "highest": max(means)}
        one, others = _over_units(x, units), np.stack([_over_units(runs, units).mean(axis=0) for runs in ys])
        found = paired_by_unit(x[0], ys[0][0], units) if len(x) == len(ys) == len(ys[0]) == 1 else difference_over_runs(one, others)
        row |= {"difference": found.value, "low": found.low, "high": found.high}
        row |= dict.fromkeys(("cut", "cut_low", "cut_high", "p"))
        if one.any():
            left = ratio_over_runs(others, one)
            row |= {"cut": 1 - left.value, "cut_low": 1 - left.high, "cut_high": 1 - left.low}
        row["p_over"] = "units" if len(x) == 1 else "runs"
        if len(x) == 1:
            row["p"] = swap_p(np.tile(x[0], len(ys)), np.concatenate([runs[0] for runs in ys]), np.tile(units, len(ys)))
        elif len(means) > 1:
            row["p"] = _welch([one.mean() for one in x], means)
        rows.append(row | beside | plain | farther)
    return rows


def _welch(a, b):
    """Two-sided p of Welch's t test; None where nothing varies."""
    if np.ptp(a) == np.ptp(b) == 0:
        return None
    return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def sensitivity_rows(workspace, attack, groups=("watch", "concept"), trajectory="reference", n_random=199):
    """One row per variant and neuron set whose recordings are there: activity A plainly, under the attack and its control, and
    reactivation R = A(attack) - A(control) with matched random sets; delta outside the concept set (relocation)."""
    if not is_there(workspace, "score"):
        return []
    table, half_b = read_table(workspace.result("score") / "neurons.parquet"), ~workspace.units_in_half_a()

    def means(condition, half):
        return workspace.unit_means(condition[1], workspace.mean_abs(*condition, trajectory))[half].mean(axis=1)

    rows, base = [], {(BASE, name): means((BASE, name), half_b) for name in ("target", "reference")}
    members = neuron_groups(table)
    concept, suppressed = members["concept", "ff"], table["in_suppressed"].to_numpy()
    ff, taken = (table["site"] == "ff").to_numpy(), concept | suppressed
    for variant in workspace.study.variants:
        name = name_of(attack, variant.name)
        conditions = [(variant.name, which) for which in ("target", name, control_of(name))]
        if name not in workspace.plan.sets or not all(is_there(workspace, f"record:{v}:{which}") for v, which in conditions):
            continue
        values = base | {condition: means(condition, half_b) for condition in conditions}
        measured = Sensitivity(values, table["layer"].to_numpy(), workspace.study.choose.n_resamples, workspace.study.choose.seed)
        early = [means(condition, ~half_b) for condition in (*conditions[1:], (BASE, "reference"))]
        try:
            anew = chosen_anew(*early, int(concept.sum()), ff)
            found = measured.relocation(variant.name, name, control_of(name), concept, anew, suppressed, ff)
            moved = {f"relocated{end}": found[key] for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))}
            moved["relocated_reason"] = None
        except StatisticsError as error:
            moved = dict.fromkeys(("relocated", "relocated_low", "relocated_high")) | {"relocated_reason": str(error)}
        for (group, site), where in members.items():
            if group not in groups:
                continue
            row = {"variant": variant.name, "neuron_set": group if site == "ff" else f"{group} ({site})", "attack": attack}
            try:
                for key, condition in zip(("plain", "attacked", "control"), conditions, strict=True):
                    row[key] = measured.activity(condition, where).value
                effect = measured.effect(conditions[1], conditions[2], where, n_random, taken)
            except StatisticsError as error:
                row |= dict.fromkeys(("plain", "attacked", "control"))
                effect = NOTHING | {"p_random": None, "reason": str(error)}
            rows.append(row | {key: effect[key] for key in ("n", "value", "low", "high", "p_random", "reason")} | moved)
    return rows


def held_rows(workspace):
    """The rows that the effects necessity and sufficiency of [ablate] have written, each with effect, variant and prompt_set."""
    rows = []
    for node in workspace.plan.of_stage("ablate"):
        if is_there(workspace, node.id):
            about = {"effect": node.parameters["effect"], "variant": node.variant, "prompt_set": node.prompt_set}
            rows += [row | about for shard in node.shards for row in read_json(workspace.store.file("ablate", shard.key, "rows.json"))]
    return rows


def together(x, y, n_resamples=2000, seed=0):
    """{n, spearman, low, high, reason}: does y go up with x over variants? Rank correlation, bootstrap over variants."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < FEWEST_POINTS or min(np.ptp(x), np.ptp(y)) == 0:
        reason = f"{len(x)} variants, or all the same: no correlation can be told"
        return {"n": len(x), "spearman": None, "low": None, "high": None, "reason": reason}
    rng, resampled = np.random.default_rng(seed), []
    for drawn in rng.integers(len(x), size=(n_resamples, len(x))):
        if min(np.ptp(x[drawn]), np.ptp(y[drawn])) > 0:
            resampled.append(stats.spearmanr(x[drawn], y[drawn]).statistic)
    found = interval(stats.spearmanr(x, y).statistic, resampled, len(x))
    return {"n": len(x), "spearman": found.value, "low": found.low, "high": found.high, "reason": None}


def _judged(workspace, variant, name, stage="detect"):
    node = f"{stage}:{variant}:{name}"
    return workspace.plan.has(node) and is_there(workspace, node)


def _features(workspace, variant):
    """((image, feature) of the judge, (image,) units) of the retained images, near and far; None when not computed."""
    kinds = [kind for kind in RETAINED if kind in workspace.plan.sets]
    if workspace.detector("judge").features is None or not kinds or not all(_judged(workspace, variant, kind) for kind in kinds):
        return None
    found, units = [], []
    for kind in kinds:
        found += workspace.gather("detect", variant, kind, lambda f: read_arrays(f / "features.safetensors")["features"].numpy())
        units.append(workspace.units_of(kind))
    return np.concatenate(found), np.concatenate(units)


def _distance(workspace, variant):
    """KID of a variant's retained images to the base model's; of the base model, to its own from other noise: the floor."""
    base, changed = _features(workspace, BASE), _from_other_noise(workspace) if variant == BASE else _features(workspace, variant)
    if base is None or changed is None:
        return None
    settings = {"n_resamples": workspace.study.choose.n_resamples, "seed": workspace.study.choose.seed}
    found = quality.kid(base[0], changed[0], base[1], changed[1], **settings)
    return {key: found[key] for key in ("n", "value", "low", "high")}


def _from_other_noise(workspace):
    """((image, feature), (image,) units) of the base model's retained images made again from other noise; None when not computed."""
    kinds = [kind for kind in RETAINED if kind in workspace.plan.sets]
    if not all(_judged(workspace, "seed", kind, "again") for kind in kinds):
        return None
    found, units = [], []
    for kind in kinds:
        found += workspace.gather("again", "seed", kind, lambda f: read_arrays(f / "features.safetensors")["features"].numpy())
        units.append(workspace.detections(BASE, kind)["unit"].to_numpy())
    return np.concatenate(found), np.concatenate(units)


def _farther(workspace, masks, comparator):
    """{kid_difference, kid_low, kid_high, kid_noise}."""
    base, before, *after = (_features(workspace, name) for name in (BASE, comparator, *masks))
    after = [seen for seen, _ in filter(None, after)]
    if base is None or before is None or not after:
        return dict.fromkeys(("kid_difference", "kid_low", "kid_high", "kid_noise"))
    found = quality.kid_change(base[0], before[0], after, base[1])
    own = quality.kid(base[0], before[0], base[1], before[1])
    change = {"kid_difference": found["value"], "kid_low": found["low"], "kid_high": found["high"]}
    return change | {"kid_noise": own["high"] - own["value"]}


def _difference(one, others, start):
    """{start + difference, low, high}: mean over `others` minus `one`, each ((prompt,) bool, units), over units and `others`."""
    names = [f"{start}{end}" for end in ("difference", "low", "high")]
    others = [other for other in others if other is not None]
    if one is None or not others:
        return dict.fromkeys(names)
    if len(others) == 1:
        found = paired_by_unit(one[0], others[0][0], one[1])
    else:
        found = difference_over_runs(_over_units([one[0]], one[1]), _over_units([other[0] for other in others], one[1]))
    return dict(zip(names, (found.value, found.low, found.high), strict=True))


def _plain(workspace, masks, comparator, units):
    seen = {name: (found_by_judge(workspace, name, "target"), units) for name in (comparator, *masks) if _judged(workspace, name, "target")}
    return _difference(seen.get(comparator), [seen.get(mask) for mask in masks], "plain_")
