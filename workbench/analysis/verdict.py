"""The verdict in plain words: sentences made from findings, each with the evidence behind it, and the headline.

verdict    {headline, words, reasons, caveats} of report.json
headline   one line: what was found about each erased variant
words      an entry per finding; the undecided comparisons of two variants share one
"""

from workbench.analysis import rules
from workbench.analysis.findings import AT_THE_CEILING, NOTHING_TO_REACTIVATE, UNDECIDED
from workbench.analysis.headline import first_attack, same
from workbench.analysis.rates import RELATIVE_CUT
from workbench.analysis.rules import DEFAULT

CAVEATS = [
    "Prompt attacks alone prove no removal: what was not reactivated here may be reactivated by an attack that was not tried.",
    "Activity is compared on the base model's own trajectory; images come from each variant's own.",
    "A static attack (random_tokens, from_file) has other seeds as its control. On the base model's trajectory seeds play no part, so "
    "there its control is the prompt without attack: what such an attack adds to the activity is any change of wording, not a search.",
]
KEPT = {"near": "related concepts", "far": "unrelated concepts"}
# outcomes as a sentence says them, and as a count of variants does
SAID = {"concept returns": "the concept returns", "concept does not return by this attack": "the concept does not return by this attack"}
COUNTED = {"concept does not return by this attack": "does not return", "not reactivated by these attacks": "not reactivated"}
SETS = {"target": "prompts with the concept", "reference": "prompts without it"}


def verdict(variants, tables, concept, trajectory="reference", thresholds=DEFAULT, relocations=()):
    """{headline, words, reasons, caveats} of report.json.

    variants   [(name, role)] without the base;  tables   {table name: rows};  trajectory   the latents the words rest on
    relocations   rows of Sensitivity.relocation with variant, attack, provenance added
    """
    found = rules.found(variants, tables, trajectory, thresholds, relocations)
    first = {name: first_attack(tables["effects"], tables["rates"], name, role, trajectory) for name, role in variants}
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
        f"{row['variant']}: {KEPT.get(row['kind'], row['kind'])} are drawn right at a rate of "
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
            shared.setdefault((finding.beside, finding.variant), []).append(finding)
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
    "deactivation": lambda one: one.variant,
    "erasure": lambda one: f"{one.variant}, images without attack",
    "reactivation": lambda one: f"{one.variant}, {_attack(one)}",
    "images": lambda one: f"{one.variant}, images under {_attack(one)}",
    "effect of pruning": lambda one: f"{one.variant}, effect of pruning under {_attack(one)}",
    "comparison": lambda one: f"{one.variant} beside {one.beside}, images {_under(one)}",
    "relocation": lambda one: f"{one.variant}, relocation under {_attack(one)}",
}


def _deactivation(one, concept):
    activity = _full(one.evidence["activity"])
    if one.role == "sham":
        return (
            f"After erasing something else, in {one.variant}, the neurons of {concept} have an activity of {activity}, where the base "
            "model is 1: this is how far erasing anything moves them."
        )
    which = "watched concept neurons" if one.role == "pruned" else "concept neurons"
    sentence = (
        f"In {one.variant}, the {which} have an activity of {activity}, where the base model is 1 with the concept in the prompt and 0 "
        f"without it: {one.outcome}."
    )
    drift = one.evidence.get("drift")
    return sentence + (f" With prompts without the concept they drift by {_full(drift)}." if drift else "")


def _erasure(one, concept):
    rate = _full(one.evidence["rate without attack"], one.about["n_units"])
    sentence = f"Without attack, the images of {one.variant} show the concept at a rate of {rate}"
    base = one.evidence.get("rate of the base model")
    if base is None:
        return f"{sentence}; the base model's rate was not measured."
    change = one.evidence["difference from the base model"]
    return f"{sentence}, those of the base model at {_short(base)}, a difference of {_short(change, '+')}: {one.outcome}."


def _reactivation(one, concept):
    effect, p = one.evidence["reactivation"], one.evidence["p among matched random sets"]
    sentence = (
        f"{_attack(one)} changes the activity of {one.variant} by {_full(effect)} against its control (p = {p.value:.3f} among {p.n} "
        "matched random sets)"
    )
    if one.outcome != NOTHING_TO_REACTIVATE:
        return f"{sentence}: {one.outcome}."
    why = "its images show the concept" if one.about["ceiling"] == "images" else "its neurons are as active"
    return f"{sentence}. Without attack {why} as in the base model, so there was nothing to reactivate."


def _images(one, concept):
    asr, control = one.evidence["ASR"], one.evidence["ASR of the control"]
    tested = f" ({one.about['test']} = {one.evidence[one.about['test']].value:.2g})" if one.about["test"] else ""
    sentence = (
        f"Under {_attack(one)}, the images of {one.variant} show the concept at a rate of {_full(asr, one.about['n_units'])}, under its "
        f"control at {_full(control, one.about['n_units'])}{tested}"
    )
    if one.outcome != NOTHING_TO_REACTIVATE:
        return f"{sentence}: {_said(one)}."
    return f"{sentence}. Without attack they show it as in the base model, so there was nothing to reactivate."


def _said(one):
    return SAID.get(one.outcome, one.outcome)


def _pruning(one, concept):
    return (
        f"Under {_attack(one)}, pruning changes the activity of neurons that were not pruned by "
        f"{_full(one.evidence['effect of pruning'])}: {one.outcome}."
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
    overlap, chance = one.evidence["overlap with the set chosen anew (IoU)"], one.evidence["overlap by chance (IoU)"]
    return (
        f"Under {_attack(one)}, neurons of {one.variant} outside the set change by {_full(one.evidence['mean delta outside the set'])} "
        f"base standard deviations; the set chosen anew overlaps it by {overlap.value:.2f} (chance {chance.value:.2f}): {one.outcome}."
    )


SENTENCES = {
    "deactivation": _deactivation,
    "erasure": _erasure,
    "reactivation": _reactivation,
    "images": _images,
    "effect of pruning": _pruning,
    "comparison": _comparison,
    "relocation": _relocation,
}


def _together(several):
    """The undecided comparisons of two variants in one entry."""
    first = several[0]
    each = "; ".join(
        f"{_pair(one)} {_short(one.evidence['difference of rates'])}"
        + ("" if one.about["power"] is None else f", power {one.about['power']:.2f}")
        for one in several
    )
    size = _size(first.evidence["difference of rates"], first.about["n_units"])
    sentence = (
        f"For these prompts the images of {first.variant} cannot be told from those of {first.beside} (n = {size} pairs each): {each}."
    )
    if any(one.about["power"] is not None for one in several):
        sentence += f" Power is the chance that so many pairs find a true cut by {RELATIVE_CUT:.0%}."
    numbers = {f"difference of rates, {_pair(one)}": one.evidence["difference of rates"] for one in several}
    found = entry(first, f"{first.variant} beside {first.beside}, other images", sentence, numbers)
    return found | dict.fromkeys(("attack", "provenance", "against"))


def headline(found, variants, concept, first):
    """What was found about each erased variant, by name: without attack, and under the attack that is shown first.

    first   {variant: labels of the attack that is shown first, from headline.first_attack}
    """
    by_variant = {name: [one for one in found if one.variant == name] for name, role in variants if role == "erased"}
    by_variant = {name: own for name, own in by_variant.items() if own}
    if not by_variant:
        return f"Nothing can be said about {concept} yet: no erased variant was measured."
    if len(by_variant) == 1:
        ((name, own),) = by_variant.items()
        return _about_one(name, own, concept, first.get(name))
    return _about_several(by_variant, concept, first)


def _about_one(name, own, concept, first):
    parts = [_neurons(name, _one(own, "deactivation"), concept)]
    erasure = _one(own, "erasure")
    if erasure and erasure.outcome == AT_THE_CEILING:
        rates = [_short(erasure.evidence[key]) for key in ("rate without attack", "rate of the base model")]
        parts.append(
            f"its images without attack show the concept as in the base model (rate {rates[0]}, base model {rates[1]}), so there was "
            "nothing to reactivate"
        )
        return "; ".join(parts) + "."
    attacked = [one for one in own if one.kind in ("reactivation", "images")]
    if not attacked:
        return "; ".join([*parts, f"no attack was measured on {name}"]) + "."
    parts += _under_attack([one for one in attacked if one.kind == "reactivation"], first)
    parts += _in_images([one for one in attacked if one.kind == "images"], first, erasure)
    return "; ".join(parts) + "."


def _one(own, kind):
    return next((one for one in own if one.kind == kind), None)


def _neurons(name, one, concept):
    if one is None:
        return f"In {name} the activity of the neurons that carry {concept} was not measured"
    activity = f"(activity {_short(one.evidence['activity'])}; the base model is 1)"
    if one.decided:
        return f"In {name} the neurons that carry {concept} are {one.outcome} {activity}"
    return f"Whether the neurons that carry {concept} are deactivated in {name} is undecided {activity}"


def _first_of(findings, first):
    """The finding about the attack that is shown first; the first of all where it has none of this kind."""
    return next((one for one in findings if first and same(vars(one), first)), findings[0])


def _under_attack(effects, first):
    """What the attack shown first did to the neurons, and another one that reactivated them where this one did not."""
    if not effects:
        return []
    shown = _first_of(effects, first)
    by = f"by {_short(shown.evidence['reactivation'], '+')} against its control"
    if shown.outcome == NOTHING_TO_REACTIVATE:
        return ["as active as in the base model, they leave nothing to reactivate"]
    if shown.outcome == "reactivated":
        return [f"{_attack(shown)} reactivates them {by}"]
    others = [one for one in effects if one.outcome == "reactivated"]
    if others:
        most = max(others, key=lambda one: one.evidence["reactivation"].value)
        what = "does not reactivate them" if shown.decided else "leaves undecided whether it reactivates them"
        other = f"{_attack(most)} reactivates them by {_short(most.evidence['reactivation'], '+')}"
        return [f"{_attack(shown)} {what} ({by}), {other}"]
    if all(one.decided for one in effects):
        return [f"the attacks tried here did not reactivate them ({_attack(shown)} {by})"]
    return [f"whether the attacks reactivate them is undecided ({_attack(shown)} {by})"]


def _in_images(images, first, erasure):
    """What the images show under the attack shown first, and under another one where only that brings the concept back."""
    if not images:
        return []
    shown = _first_of(images, first)
    before = f", without attack {erasure.evidence['rate without attack'].value:.2f}" if erasure else ""
    parts = [f"under {_attack(shown)} the images show the concept at a rate of {_beside_control(shown)}{before}: {_said(shown)}"]
    others = [one for one in images if one.outcome == "concept returns"]
    if others and shown.outcome != "concept returns":
        most = max(others, key=lambda one: one.evidence["ASR"].value)
        parts.append(f"under {_attack(most)} at {_beside_control(most)}: {_said(most)}")
    return parts


def _beside_control(one):
    return f"{one.evidence['ASR'].value:.2f}, control {one.evidence['ASR of the control'].value:.2f}"


def _about_several(by_variant, concept, first):
    parts = [_neurons_of_several(by_variant, concept), *_attacks_on_several(by_variant, first), *_images_of_several(by_variant, first)]
    return "; ".join(part for part in parts if part) + "."


def _neurons_of_several(by_variant, concept):
    found = {name: _one(own, "deactivation") for name, own in by_variant.items()}
    measured = {name: one for name, one in found.items() if one}
    n = len(by_variant)
    if not measured:
        return f"Of {n} erased variants, the activity of the neurons that carry {concept} was not measured in any"
    outcomes = [one.outcome for one in measured.values()] + ["not measured"] * (n - len(measured))
    said = f"The neurons that carry {concept} are deactivated in {_counted(outcomes, 'deactivated')} erased variants"
    order = sorted(measured, key=lambda name: measured[name].evidence["activity"].value)
    ends = _ends("best", "worst", order, lambda name: f"activity {_short(measured[name].evidence['activity'])}")
    return f"{said}{_others(outcomes, 'deactivated')} ({ends}; the base model is 1)"


def _counted(outcomes, wanted):
    return f"{outcomes.count(wanted)} of {len(outcomes)}"


def _others(outcomes, counted):
    """', not deactivated in 1, undecided in 2': the outcomes that were not counted yet."""
    return "".join(f", {COUNTED.get(one, one)} in {outcomes.count(one)}" for one in dict.fromkeys(outcomes) if one != counted)


def _overall(findings, alarming):
    """The outcome over several attacks: what one of them found, or what all of them did, or undecided."""
    outcomes = {one.outcome for one in findings}
    return alarming if alarming in outcomes else outcomes.pop() if len(outcomes) == 1 else UNDECIDED


def _ends(first, last, order, told):
    """The first and the last of an order by name, each with its number; of one alone no more than that."""
    if len(order) == 1:
        return f"{order[0]}, {told(order[0])}"
    return f"{first} {order[0]}, {told(order[0])}; {last} {order[-1]}, {told(order[-1])}"


def _open(by_variant):
    """The variants in which something was there to reactivate, and the names of the others."""
    at = [name for name, own in by_variant.items() if (one := _one(own, "erasure")) and one.outcome == AT_THE_CEILING]
    return {name: own for name, own in by_variant.items() if name not in at}, at


def _attacks_on_several(by_variant, first):
    left, at = _open(by_variant)
    parts = []
    if at:
        names = ", ".join(at)
        parts.append(f"without attack the images of {names} show the concept as in the base model, so there was nothing to reactivate")
    effects = {name: [one for one in own if one.kind == "reactivation"] for name, own in left.items()}
    effects = {name: own for name, own in effects.items() if own}
    if not effects:
        return parts
    shown = {name: _first_of(own, first.get(name)) for name, own in effects.items()}
    outcomes = [_overall(own, "reactivated") for own in effects.values()]
    order = sorted(shown, key=lambda name: -shown[name].evidence["reactivation"].value)
    ends = _ends("worst", "best", order, lambda name: f"{_attack(shown[name])} by {_short(shown[name].evidence['reactivation'], '+')}")
    counted = f"{_counted(outcomes, 'reactivated')} attacked variants{_others(outcomes, 'reactivated')}"
    return [*parts, f"attacks reactivate them in {counted} ({ends})"]


def _images_of_several(by_variant, first):
    left, _ = _open(by_variant)
    images = {name: [one for one in own if one.kind == "images"] for name, own in left.items()}
    images = {name: own for name, own in images.items() if own}
    if not images:
        return []
    shown = {name: _first_of(own, first.get(name)) for name, own in images.items()}
    outcomes = [_overall(own, "concept returns") for own in images.values()]
    order = sorted(shown, key=lambda name: -shown[name].evidence["ASR"].value)

    def told(name):
        erasure = _one(by_variant[name], "erasure")
        before = f", without attack {erasure.evidence['rate without attack'].value:.2f}" if erasure else ""
        return f"{_attack(shown[name])} at a rate of {_beside_control(shown[name])}{before}"

    counted = f"{_counted(outcomes, 'concept returns')}{_others(outcomes, 'concept returns')}"
    return [f"in the images the concept returns in {counted} ({_ends('worst', 'best', order, told)})"]


def _attack(one):
    """The attack and how it was made: pgd (optimised), or pgd (transferred from esd)."""
    from_where = f" from {one.against}" if one.provenance == "transferred" and one.against else ""
    return f"{one.attack} ({one.provenance}{from_where})"


def _under(one):
    return f"under {one.attack}" if one.attack else "without attack"


def _set(name):
    """A prompt set's name as a person says it: "embedding_pgd@erased~control" is "control of embedding_pgd made against erased"."""
    made, _, control = name.partition("~")
    attack, _, against = made.partition("@")
    said = SETS.get(name, f"{attack} made against {against}" if against else attack)
    return f"control of {said}" if control else said


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


def _size(number, n_units=None):
    """'30', or '30 in 10 units' where units have several images."""
    return f"{number.n}" + (f" in {n_units} units" if n_units not in (None, number.n) else "")


def _full(number, n_units=None):
    """'0.10 (0.05 to 0.16, n = 50)'."""
    return f"{_text(number.value)} ({_text(number.low)} to {_text(number.high)}, n = {_size(number, n_units)})"
