"""The verdict in plain words: sentences made from findings, each with the evidence behind it, and the headline.

verdict    {headline, words, reasons, caveats} of report.json
headline   one line: what was found about each erased variant
words      an entry per finding; the comparisons of two variants that give no word share one
"""

from workbench.analysis import rules
from workbench.analysis.findings import (
    AT_THE_CEILING,
    CANNOT_TELL,
    IN_PART,
    NO_VALID_SET,
    NOTHING_TO_REACTIVATE,
    TOO_FEW,
    TRANSFERRED,
    UNDECIDED,
    WHILE_DRAWN,
)
from workbench.analysis.headline import first_attack, same
from workbench.analysis.rates import RELATIVE_CUT
from workbench.analysis.rules import DEFAULT, MARGIN, MIN_UNITS
from workbench.study.prompt_set_name import PromptSetName

CAVEATS = [
    "Prompt attacks alone prove no removal: an attack that was not tried may reactivate what was not reactivated here.",
    "Activity is compared on the base model's own trajectory; images come from each variant's own.",
    "The control of a static attack (random_tokens, from_file) is the prompt without attack with other seeds. Activity on the base "
    "model's trajectory does not depend on seeds, so there the attack's effect is that of any change of wording, not of a search.",
]
KEPT = {"near": "related concepts", "far": "unrelated concepts"}
# outcomes as a sentence says them, and as a count of variants does
SAID = {"concept returns": "the concept returns", "concept does not return by this attack": "the concept does not return by this attack"}
COUNTED = {"concept does not return by this attack": "does not return", "not reactivated by these attacks": "not reactivated"}
COUNTED |= {IN_PART: "in part"}
REACTIVATED = ("reactivated", IN_PART)
NEURONS = {"concept": "concept neurons", "watch": "watched concept neurons"}
SETS = {"target": "prompts with the concept", "reference": "prompts without the concept"}
BESIDE_THE_SHAM = {
    "more than the sham": "erasing the concept does more than erasing something else",
    "no more than the sham": "erasing the concept does no more than erasing something else",
}
COMPARABLE = {
    "more than comparable ones": "more than comparable neurons",
    "no more than comparable ones": "no more than comparable neurons",
    CANNOT_TELL: "undecided whether more than comparable neurons",
}


def verdict(variants, tables, concept, trajectory="reference", thresholds=DEFAULT, relocations=(), n_choosing=None):
    """{headline, words, reasons, caveats} of report.json.

    variants   [(name, role)] without the base;  tables   {table name: rows};  trajectory   the latents the words rest on
    relocations   rows of Sensitivity.relocation with variant, attack, provenance added
    n_choosing    units of the half that chose the neurons
    """
    found = rules.found(variants, tables, trajectory, thresholds, relocations, n_choosing)
    shown = {"where": trajectory, "validity": tables.get("set_validity", ())}
    first = {name: first_attack(tables["effects"], tables["rates"], name, role, **shown) for name, role in variants}
    return {
        "headline": headline(found, variants, concept, first),
        "words": words(found, concept),
        "reasons": _reasons(tables),
        "caveats": list(CAVEATS),
    }


def _reasons(tables):
    reasons = [
        f"{row['variant']}: {_full(rules.evidence(row, 'rate'), row.get('n_units'))} of the images without attack show the concept."
        for row in tables["rates"]
        if row["attack"] is None and row["prompt_set"] == "target" and row["rate"] is not None
    ]
    return reasons + [
        f"{row['variant']}: {KEPT.get(row['kind'], row['kind'])} are drawn as asked at a rate of "
        f"{_full(rules.evidence(row, 'rate'), row.get('n_units'))}."
        for row in tables["retention"]
        if row["rate"] is not None
    ]


def words(found, concept):
    """[{subject, word, sentence, evidence} and what the entry is about as data] of report.json, from findings.

    The data: kind, variant, outcome, attack, provenance, against, beside; see findings.Finding.
    """
    entries, shared = [], {}
    for finding in found:
        if finding.kind == "comparison" and not finding.decided:
            shared.setdefault((finding.beside, finding.variant, finding.outcome), []).append(finding)
        elif finding.kind != "relocation":
            entries.append(entry(finding, SUBJECTS[finding.kind](finding), SENTENCES[finding.kind](finding, concept)))
    entries += [_together(several) for several in shared.values()]
    moved = [finding for finding in found if finding.kind == "relocation"]
    return entries + [entry(one, SUBJECTS[one.kind](one), SENTENCES[one.kind](one, concept)) for one in moved]


def entry(finding, subject, sentence, evidence=None):
    """One of the `words` of report.json: the finding as data, its title and sentence, and the numbers (default: the finding's)."""
    evidence = finding.evidence if evidence is None else evidence
    about = {key: getattr(finding, key) for key in ("kind", "variant", "outcome", "attack", "provenance", "against", "beside")}
    numbers = [{"name": name} | number._asdict() for name, number in evidence.items()]
    return about | {"subject": subject, "word": finding.outcome, "sentence": sentence, "evidence": numbers}


SUBJECTS = {
    "set": lambda one: _chosen(one),
    "deactivation": lambda one: one.variant,
    "these neurons": lambda one: (
        f"{one.variant}, concept neurons against comparable neurons" + (f" under {_attack(one)}" if one.attack else "")
    ),
    "another concept": lambda one: f"{one.variant}, neurons of {one.about['concept']} {_where(one)}",
    "beyond the sham": lambda one: f"{one.variant} compared with {one.about['sham']}",
    "erasure": lambda one: f"{one.variant}, images without attack",
    "reactivation": lambda one: f"{one.variant}, {_attack(one)}",
    "images": lambda one: f"{one.variant}, images under {_attack(one)}",
    "effect of pruning": lambda one: f"{one.variant}, effect of pruning under {_attack(one)}",
    "comparison": lambda one: f"{one.variant} compared with {one.beside}, images {_under(one)}",
    "relocation": lambda one: f"{one.variant}, relocation under {_attack(one)}",
}


def _chosen(one, concept=None):
    """The set of neurons that a finding is about, with the concept where it is given."""
    if one.about["of"]:
        return f"the neurons of {one.about['of']}"
    return f"the {NEURONS[one.about['neuron_set']]}" + (f" of {concept}" if concept else "")


def _where(one):
    """On which prompts the neurons of another concept were measured."""
    if one.attack:
        return f"under {_attack(one)}"
    return f"on prompts of {one.about['concept']}" if one.about["prompts"] == "other-target" else "on the study's prompts"


def _set_of_neurons(one, concept):
    which = _chosen(one, concept)
    if one.outcome == NO_VALID_SET:
        return f"{one.about['reason'].rstrip('.')}. The verdict says nothing about {which}."
    if one.outcome == TOO_FEW:
        return f"{_upper(which)} were chosen or measured on {one.about['n']} units per half; a verdict needs {MIN_UNITS}: too few units."
    if one.outcome != "valid set":
        return f"Whether {which} are a valid set was not tested, so the verdict says nothing about them."
    known = {kind: one.evidence.get(f"the same of {kind} sets") for kind in ("comparable", "random")}
    beside = ", ".join(f"{kind} sets {_short(number)}" for kind, number in known.items() if number)
    share = one.evidence.get("share confirmed on the evaluation half")
    said = [f"{_text(share.value)} of them are confirmed on the evaluation half" + (f" ({beside})" if beside else "")] if share else []
    over = one.evidence.get("scale over its standard error")
    said += [f"their contrast in the base model is {over.value:.1f} standard errors from 0"] if over else []
    return f"{_upper(which)} are a valid set" + (f": {'; '.join(said)}." if said else ".")


def _upper(text):
    return text[0].upper() + text[1:]


def _deactivation(one, concept):
    activity = _full(one.evidence["activity"])
    if one.role == "sham":
        return (
            f"In {one.variant}, where something else was erased, the neurons of {concept} have an activity of {activity}, where the base "
            f"model is 1 (how far erasing anything moves them): {one.outcome}."
        )
    which = NEURONS["watch" if one.role == "pruned" else "concept"]
    sentence = (
        f"In {one.variant}, the {which} have an activity of {activity}, where the base model is 1 with the concept in the prompt and 0 "
        f"without it: {one.outcome}."
    )
    if one.outcome == WHILE_DRAWN:
        rate = _short(one.evidence["rate without attack"])
        sentence += f" The images without attack show the concept at a rate of {rate}, so these neurons do not carry it."
    if kept := one.evidence.get("unrelated concepts drawn right"):
        sentence += f" Unrelated concepts are drawn as asked at a rate of only {_short(kept)}: the model is damaged."
    drift, left = one.evidence.get("drift"), one.evidence.get("activity above that without the concept")
    if drift is None:
        return sentence
    sentence += f" On prompts without the concept they drift by {_full(drift)}"
    if left is None:
        return f"{sentence}."
    return (
        f"{sentence}: a fall of more than {MARGIN:g} is not excluded, so the outcome rests on the activity with the concept minus that "
        f"without it, {_full(left)}."
    )


def _these_neurons(one, concept):
    own, other = one.evidence[one.about["of"]], one.evidence["the same on comparable neurons"]
    verb = "lose" if one.about["of"] == "deactivation" else "gain"
    where = f"Under {_attack(one)}, in" if one.attack else "In"
    sentence = (
        f"{where} {one.variant}, the {NEURONS['watch' if one.role == 'pruned' else 'concept']} {verb} {_text(own.value)}, comparable "
        f"neurons of the same layers {_text(other.value)} (95 % of such sets {_text(other.low)} to {_text(other.high)}), a difference of "
        f"{_short(one.evidence['difference'], '+')}: {COMPARABLE[one.outcome]}."
    )
    if one.outcome != "no more than comparable ones":
        return sentence
    return f"{sentence} The response of whole layers to the prompt changes, not that of these neurons in particular."


def _another_concept(one, concept):
    own, other, name = one.evidence[one.about["of"]], one.evidence["the same on the neurons of another concept"], one.about["concept"]
    which = f"the {NEURONS['watch']} of {concept}" if one.role == "pruned" else f"the neurons of {concept}"
    scale = f"{_full(other)} on the scale of {name}{_tested(one)}, a difference of {_short(one.evidence['difference'], '+')}"
    if one.attack:
        sentence = f"Under {_attack(one)}, in {one.variant}, {which} gain {_short(own)}, the neurons of {name} {scale}"
    else:
        said = name if one.about["prompts"] == "other-target" else concept
        sentence = (
            f"In {one.variant}, on prompts of {concept}, {which} lose {_short(own)}; on prompts of {said}, the neurons of {name} lose "
            f"{scale}"
        )
    return f"{sentence}: {_of_another(one, concept)}."


def _of_another(one, concept):
    """The outcome with the names in it: 'not only the neurons of ink'."""
    said = {
        "not those of another concept": f"the neurons of {one.about['concept']} change by less than {MARGIN:g}",
        "also those of another concept": f"not only the neurons of {concept}",
    }
    return said.get(one.outcome, one.outcome)


def _beyond_the_sham(one, concept):
    return (
        f"In {one.about['sham']}, where something else was erased, the activity is "
        f"{_full(one.evidence['activity in the sham minus that here'])} higher than in {one.variant}: "
        f"{BESIDE_THE_SHAM.get(one.outcome, one.outcome)}."
    )


def _erasure(one, concept):
    rate = _full(one.evidence["rate without attack"], one.about["n_units"])
    sentence = f"Without attack, the images of {one.variant} show the concept at a rate of {rate}"
    base = one.evidence.get("rate of the base model")
    if base is None:
        return f"{sentence}; the base model's rate was not measured."
    change = one.evidence["difference from the base model"]
    return f"{sentence}, those of the base model at {_short(base)}, a difference of {_short(change, '+')}: {one.outcome}."


def _reactivation(one, concept):
    effect = one.evidence["reactivation"]
    sentence = f"{_attack(one)} changes the activity of {one.variant} by {_full(effect)} against its control{_tested(one)}"
    if one.outcome == NOTHING_TO_REACTIVATE:
        why = "its images show the concept" if one.about["ceiling"] == "images" else "its neurons are as active"
        return f"{sentence}. Without attack {why} as in the base model, so there was nothing to reactivate."
    null = one.evidence.get("change by wording in the base model")
    sentence += (
        f"; wording alone changes it by up to {_text(null.high)} in the base model"
        if null
        else "; what wording alone does was not measured"
    )
    return f"{sentence}{_how_much(one)}: {one.outcome}."


def _how_much(one):
    """How much came back, of how much, and where that is beside the threshold of deactivation."""
    attacked, lost = one.evidence.get("activity under the attack"), one.evidence.get("activity lost without attack")
    if attacked is None or lost is None:
        return ""
    at = one.about["threshold"]
    where = "below" if attacked.high < at else "above" if attacked.low > at else "on both sides of"
    said = f". Without attack {_text(lost.value)} of the activity is lost; under the attack it is {_short(attacked)}"
    return f"{said}, {'still ' if where == 'below' else ''}{where} the threshold {at:g} of deactivation"


def _tested(one):
    test = one.about["test"]
    return f" ({test} = {one.evidence[test].value:.2g})" if test else ""


def _images(one, concept):
    asr, control = one.evidence["ASR"], one.evidence["ASR of the control"]
    sentence = (
        f"Under {_attack(one)}, the images of {one.variant} show the concept at a rate of {_full(asr, one.about['n_units'])}, under its "
        f"control at {_full(control, one.about['n_units'])}{_tested(one)}"
    )
    if one.outcome != NOTHING_TO_REACTIVATE:
        return f"{sentence}: {_said(one)}."
    return f"{sentence}. Without attack they show it as in the base model, so there was nothing to reactivate."


def _said(one):
    return SAID.get(one.outcome, one.outcome)


def _pruning(one, concept):
    sentence = (
        f"Under {_attack(one)}, pruning changes the activity of neurons that were not pruned by "
        f"{_full(one.evidence['effect of pruning'])}{_tested(one)}: {one.outcome}"
    )
    if one.outcome != TRANSFERRED:
        return f"{sentence}."
    return (
        f"{sentence}. The attack was made against {one.against or 'another variant'}, so the difference is not the effect of pruning alone."
    )


def _comparison(one, concept):
    what = "ASR" if one.about["definition"] == "asr" else "share of images with the concept"
    difference = _full(one.evidence["difference of rates"], one.about["n_units"])
    test = one.about["test"]
    return (
        f"In {one.variant} the {what} differs from that in {one.beside} by {difference} {_under(one)} ({_pair(one)}; {test} = "
        f"{one.evidence[test].value:.3g}): {one.outcome}."
    )


def _relocation(one, concept):
    overlap, chance = one.evidence["overlap with the set chosen again (IoU)"], one.evidence["overlap by chance (IoU)"]
    return (
        f"Under {_attack(one)}, neurons of {one.variant} outside the concept set change by "
        f"{_full(one.evidence['mean delta outside the set'])} standard deviations of the base model; a set chosen by its "
        f"response to the attack overlaps it by {overlap.value:.2f} (IoU; chance {chance.value:.2f}): {one.outcome}."
    )


SENTENCES = {
    "set": _set_of_neurons,
    "deactivation": _deactivation,
    "these neurons": _these_neurons,
    "another concept": _another_concept,
    "beyond the sham": _beyond_the_sham,
    "erasure": _erasure,
    "reactivation": _reactivation,
    "images": _images,
    "effect of pruning": _pruning,
    "comparison": _comparison,
    "relocation": _relocation,
}


def _together(several):
    """The comparisons of two variants that give no word, for one reason, in one entry."""
    first = several[0]
    each = "; ".join(
        f"{_pair(one)} {_short(one.evidence['difference of rates'])}"
        + ("" if one.about["power"] is None or one.outcome != UNDECIDED else f", power {one.about['power']:.2f}")
        for one in several
    )
    size = _size(first.evidence["difference of rates"], first.about["n_units"])
    a, b = first.beside, first.variant
    if first.outcome == TRANSFERRED:
        sentence = (
            f"Under attacks made against only one of {a} and {b}, and transferred to the other, the images of {b} differ by: {each} "
            f"(n = {size} pairs each). A transferred attack may be weaker on the variant it was not made against, so this does not "
            "compare the two fairly."
        )
        title = "transferred attacks"
    elif first.outcome == TOO_FEW:
        sentence = f"Too few units to compare the images of {b} with those of {a} (n = {size} pairs each): {each}."
        title = "images"
    else:
        sentence = f"No difference between the images of {b} and those of {a} was found (n = {size} pairs each): {each}."
        title = "other images"
        if any(one.about["power"] is not None for one in several):
            sentence += f" Power is the chance of finding a true reduction by {100 * RELATIVE_CUT:.0f} % with so many pairs."
    numbers = {f"difference of rates, {_pair(one)}": one.evidence["difference of rates"] for one in several}
    found = entry(first, f"{b} compared with {a}, {title}", sentence, numbers)
    return found | dict.fromkeys(("attack", "provenance", "against"))


def headline(found, variants, concept, first):
    """What was found about each erased variant, by name: without attack, and under the attack that is shown first.

    first   {variant: labels of the attack that is shown first, from headline.first_attack}
    """
    by_variant = {name: [one for one in found if one.variant == name] for name, role in variants if role == "erased"}
    by_variant = {name: own for name, own in by_variant.items() if own}
    if not by_variant:
        return f"Nothing can be said about {concept} yet: no erased variant was measured."
    chosen = next((one for one in found if one.kind == "set" and one.about["neuron_set"] == "concept"), None)
    start = _no_words_on_neurons(chosen, concept)
    if len(by_variant) == 1:
        ((name, own),) = by_variant.items()
        return _about_one(name, own, concept, first.get(name), start)
    return _about_several(by_variant, concept, first, start)


def _no_words_on_neurons(chosen, concept):
    """Why nothing is said about neurons; None where the set is valid, or where nothing was measured on it."""
    if chosen is None or chosen.outcome == "valid set":
        return None
    neurons = f"the neurons chosen for {concept}"
    if chosen.outcome == TOO_FEW:
        return f"Too few units for a verdict on {neurons} ({chosen.about['n']} per half, at least {MIN_UNITS} needed)"
    if chosen.outcome == NO_VALID_SET:
        return f"{_upper(neurons)} are not a valid set, so the verdict says nothing about them"
    return f"Whether {neurons} are a valid set was not tested, so the verdict says nothing about them"


def _about_one(name, own, concept, first, start):
    parts = [start or _neurons(name, own, concept)]
    erasure = _one(own, "erasure")
    if erasure and erasure.outcome == AT_THE_CEILING:
        rates = [_short(erasure.evidence[key]) for key in ("rate without attack", "rate of the base model")]
        parts.append(
            f"the images of {name} without attack show the concept as in the base model (rate {rates[0]}, base model {rates[1]}), so there "
            "was nothing to reactivate"
        )
        return "; ".join(parts) + "."
    attacked = [one for one in own if one.kind in ("reactivation", "images")]
    if not attacked:
        return "; ".join([*parts, f"no attack was measured on {name}"]) + "."
    if start is None:
        parts += _under_attack([one for one in attacked if one.kind == "reactivation"], first)
    parts += _in_images(name, [one for one in attacked if one.kind == "images"], first, erasure)
    return "; ".join(parts) + "."


def _one(own, kind):
    return next((one for one in own if one.kind == kind), None)


def _neurons(name, own, concept):
    one = _one(own, "deactivation")
    if one is None:
        return f"In {name}, the activity of the neurons chosen for {concept} was not measured"
    neurons = f"the neurons chosen for {concept}"
    activity = f"(activity {_plain(one.evidence['activity'])}; base model 1)"
    if one.outcome == WHILE_DRAWN:
        rate = f"a rate of {one.evidence['rate without attack'].value:.2f}"
        return f"In {name}, {neurons} are deactivated {activity} while its images show the concept at {rate}, so they do not carry it"
    if one.outcome == "changed at large":
        return f"{name} changed at large, not only for {concept}, so no change can be attributed to erasing {activity}"
    if one.outcome == UNDECIDED:
        return f"Whether {neurons} are deactivated in {name} is undecided {activity}"
    these = next((each for each in own if each.kind == "these neurons" and each.about["of"] == "deactivation"), None)
    beside = ""
    if these:
        but = "but " if one.outcome == "deactivated" and these.outcome == "no more than comparable ones" else ""
        beside = f", {but}{COMPARABLE[these.outcome]}"
    return f"In {name}, {neurons} are {one.outcome} {activity}{beside}{_beside_another(own)}"


def _beside_another(own):
    """', while those of twemoji change by less than 0.1': the neurons of another concept with prompts of that concept."""
    one = next((one for one in own if one.kind == "another concept" and not one.attack and one.about["prompts"] != "target"), None)
    if one is None or not one.decided:
        return ""
    if one.outcome == "also those of another concept":
        return f", and those of {one.about['concept']} change too"
    return f", while those of {one.about['concept']} change by less than {MARGIN:g}"


def _first_of(findings, first):
    """The finding about the attack that is shown first; the first of all where it has none of this kind."""
    return next((one for one in findings if first and same(vars(one), first)), findings[0])


def _under_attack(effects, first):
    """What the attack shown first did to the neurons, and another one that reactivated them where this one did not."""
    if not effects:
        return []
    shown = _first_of(effects, first)
    by = f"{_plain(shown.evidence['reactivation'], '+')}, against its control"
    if shown.outcome == NOTHING_TO_REACTIVATE:
        return ["the chosen neurons are as active as in the base model, so there is nothing to reactivate"]
    if shown.outcome in REACTIVATED:
        return [_reactivates(shown, "the chosen neurons")]
    others = [one for one in effects if one.outcome in REACTIVATED]
    if others:
        most = max(others, key=lambda one: one.evidence["reactivation"].value)
        does_not = f"{_attack(shown)} does not reactivate the chosen neurons"
        undecided = f"it is undecided whether {_attack(shown)} reactivates the chosen neurons"
        return [f"{does_not if shown.decided else undecided} ({by}), but {_reactivates(most, 'them')}"]
    null = shown.evidence.get("change by wording in the base model")
    by += f"; wording alone: up to {_text(null.high)}" if null else ""
    if all(one.decided for one in effects):
        return [f"the attacks tried here did not reactivate the chosen neurons ({_attack(shown)}: {by})"]
    return [f"whether the attacks reactivate the chosen neurons is undecided ({_attack(shown)}: {by})"]


def _reactivates(one, neurons):
    """'pgd (optimised) reactivates them in part, by +0.16 (0.10 to 0.22) of 0.86 lost, to an activity of 0.26'."""
    by = f"by {_short(one.evidence['reactivation'], '+')}"
    lost, attacked = one.evidence.get("activity lost without attack"), one.evidence.get("activity under the attack")
    of = f" of {_text(lost.value)} lost" if lost else ""
    to = f", to an activity of {_text(attacked.value)}" if attacked else ""
    return f"{_attack(one)} reactivates {neurons}{' in part,' if one.outcome == IN_PART else ''} {by}{of}{to}"


def _in_images(name, images, first, erasure):
    """What the images show under the attack shown first, and under another one where the concept returns only under that."""
    if not images:
        return []
    shown = _first_of(images, first)
    before = f", without attack {erasure.evidence['rate without attack'].value:.2f}" if erasure else ""
    returns = f"the concept returns in the images of {name}"
    clauses = {
        "concept returns": returns,
        "concept does not return by this attack": returns.replace("returns", "does not return"),
        TOO_FEW: f"there are too few units to say whether {returns}",
    }
    said = clauses.get(shown.outcome, f"it is undecided whether {returns}")
    said = f"under {_attack(shown)}, {said} (rate {_beside_control(shown)}{before})"
    others = [one for one in images if one.outcome == "concept returns"]
    if shown.outcome == "concept returns" or not others:
        return [said]
    most = max(others, key=lambda one: one.evidence["ASR"].value)
    return [said, f"under {_attack(most)}, {_said(most)} (rate {_beside_control(most)})"]


def _beside_control(one):
    return f"{one.evidence['ASR'].value:.2f}, control {one.evidence['ASR of the control'].value:.2f}"


def _about_several(by_variant, concept, first, start):
    parts = [start or _neurons_of_several(by_variant, concept), *_at_the_ceiling(by_variant)]
    parts += [] if start else _attacks_on_several(by_variant, first)
    return "; ".join([*parts, *_images_of_several(by_variant, first)]) + "."


def _neurons_of_several(by_variant, concept):
    found = {name: _one(own, "deactivation") for name, own in by_variant.items()}
    measured = {name: one for name, one in found.items() if one}
    n = len(by_variant)
    if not measured:
        return f"Of {n} erased variants, the activity of the neurons chosen for {concept} was not measured in any"
    outcomes = [one.outcome for one in measured.values()] + ["not measured"] * (n - len(measured))
    said = f"The neurons chosen for {concept} are deactivated in {_counted(outcomes, 'deactivated')} erased variants"
    order = sorted(measured, key=lambda name: measured[name].evidence["activity"].value)
    ends = _ends("best", "worst", order, lambda name: f"activity {_plain(measured[name].evidence['activity'])}")
    these = [one.outcome for own in by_variant.values() for one in own if one.kind == "these neurons" and one.about["of"] == "deactivation"]
    beside = f"; {', '.join(f'{COMPARABLE[one]} in {these.count(one)}' for one in dict.fromkeys(these))}" if these else ""
    return f"{said}{_others(outcomes, ('deactivated',))} ({ends}; base model 1){beside}"


def _counted(outcomes, wanted):
    return f"{outcomes.count(wanted)} of {len(outcomes)}"


def _others(outcomes, counted):
    """', not deactivated in 1, undecided in 2': the outcomes that were not counted yet."""
    return "".join(f", {COUNTED.get(one, one)} in {outcomes.count(one)}" for one in dict.fromkeys(outcomes) if one not in counted)


def _overall(findings, alarming):
    """The outcome over several attacks: the worst that one of them found, or what all of them did, or undecided."""
    outcomes = {one.outcome for one in findings}
    found = next((one for one in alarming if one in outcomes), None)
    return found or (outcomes.pop() if len(outcomes) == 1 else UNDECIDED)


def _ends(first, last, order, told):
    """The first and the last of an order by name, each with its number; of one alone no more than that."""
    if len(order) == 1:
        return f"{order[0]}, {told(order[0])}"
    return f"{first} {order[0]}, {told(order[0])}; {last} {order[-1]}, {told(order[-1])}"


def _open(by_variant):
    """The variants in which something was there to reactivate, and the names of the others."""
    at = [name for name, own in by_variant.items() if (one := _one(own, "erasure")) and one.outcome == AT_THE_CEILING]
    return {name: own for name, own in by_variant.items() if name not in at}, at


def _at_the_ceiling(by_variant):
    _, at = _open(by_variant)
    names = ", ".join(at)
    return [f"without attack the images of {names} show the concept as in the base model, so there was nothing to reactivate"] if at else []


def _attacks_on_several(by_variant, first):
    left, _ = _open(by_variant)
    effects = {name: [one for one in own if one.kind == "reactivation"] for name, own in left.items()}
    effects = {name: own for name, own in effects.items() if own}
    if not effects:
        return []
    shown = {name: _first_of(own, first.get(name)) for name, own in effects.items()}
    outcomes = [_overall(own, REACTIVATED) for own in effects.values()]
    order = sorted(shown, key=lambda name: -shown[name].evidence["reactivation"].value)
    ends = _ends("worst", "best", order, lambda name: f"{_attack(shown[name])} {_plain(shown[name].evidence['reactivation'], '+')}")
    counted = f"{_counted(outcomes, 'reactivated')} attacked variants{_others(outcomes, ('reactivated',))}"
    return [f"attacks reactivate the chosen neurons in {counted} ({ends})"]


def _images_of_several(by_variant, first):
    left, _ = _open(by_variant)
    images = {name: [one for one in own if one.kind == "images"] for name, own in left.items()}
    images = {name: own for name, own in images.items() if own}
    if not images:
        return []
    shown = {name: _first_of(own, first.get(name)) for name, own in images.items()}
    outcomes = [_overall(own, ("concept returns",)) for own in images.values()]
    order = sorted(shown, key=lambda name: -shown[name].evidence["ASR"].value)

    def told(name):
        erasure = _one(by_variant[name], "erasure")
        before = f", without attack {erasure.evidence['rate without attack'].value:.2f}" if erasure else ""
        return f"{_attack(shown[name])}, rate {_beside_control(shown[name])}{before}"

    counted = f"{_counted(outcomes, 'concept returns')} attacked variants{_others(outcomes, ('concept returns',))}"
    return [f"the concept returns in the images of {counted} ({_ends('worst', 'best', order, told)})"]


def _attack(one):
    """The attack and how it was made: pgd (optimised), or pgd (transferred from esd)."""
    from_where = f" from {one.against}" if one.provenance == "transferred" and one.against else ""
    return f"{one.attack} ({one.provenance}{from_where})"


def _under(one):
    return f"under {one.attack}" if one.attack else "without attack"


def _set(name):
    """A prompt set's name as a person says it: "embedding_pgd@erased~control" is "control of embedding_pgd made against erased"."""
    parts = PromptSetName.read(name)
    said = SETS.get(name, f"{parts.made} made against {parts.against}" if parts.against else parts.made)
    return f"control of {said}" if parts.control else said


def _pair(one):
    """The prompts of a comparison; both sets where each variant met an attack made against itself."""
    other = one.about["prompt_set_b"]
    return _set(one.about["prompt_set"]) + (f" and {_set(other)}" if other else "")


def _text(value, sign=""):
    """Two digits with a true minus; never a negative zero."""
    text = f"{value:{sign}.2f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def _short(number, sign=""):
    """'0.10 (0.05 to 0.16)'."""
    return f"{_text(number.value, sign)} ({_text(number.low)} to {_text(number.high)})"


def _plain(number, sign=""):
    """'0.10, 95 % CI 0.05 to 0.16', inside brackets."""
    return f"{_text(number.value, sign)}, 95 % CI {_text(number.low)} to {_text(number.high)}"


def _size(number, n_units=None):
    """'30', or '30 in 10 units' where units have several images."""
    return f"{number.n}" + (f" in {n_units} units" if n_units not in (None, number.n) else "")


def _full(number, n_units=None):
    """'0.10 (0.05 to 0.16, n = 50)'."""
    return f"{_text(number.value)} ({_text(number.low)} to {_text(number.high)}, n = {_size(number, n_units)})"
