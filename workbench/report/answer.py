"""The answer of a study in plain words: one sentence about the images, one about the neurons. Made from findings and rows, never read
from a sentence.

answer   story -> sentences, the first about the images;  outcomes   what was found of a column, as words of a table
"""

from workbench.analysis import headline
from workbench.analysis.findings import (
    AT_THE_CEILING,
    IN_PART,
    NOTHING_TO_REACTIVATE,
    TOO_FEW,
    UNDECIDED,
    WHILE_DRAWN,
)
from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.story import Step, Story
from workbench.report.wording import number, percent

NO_BREAK = "\u00a0"
# what is said of images under an attack, with the numbers in brackets after it
RETURNS = {
    "concept returns": "but under {attack} it returns",
    "concept does not return by this attack": "and under {attack} it does not return",
    UNDECIDED: "and whether it returns under {attack} is undecided",
}
NEURONS = {
    "deactivated": "The concept neurons of {variant} are deactivated ({activity})",
    "not deactivated": "The concept neurons of {variant} are not deactivated ({activity})",
    WHILE_DRAWN: "The concept neurons of {variant} are deactivated ({activity}) while its images show the concept, so they do not carry it",
    "changed at large": "More than the concept changed in {variant}, so the activity of its concept neurons says little ({activity})",
    UNDECIDED: "Whether the concept neurons of {variant} are deactivated is undecided ({activity})",
    TOO_FEW: "There are too few units to say whether the concept neurons of {variant} are deactivated ({activity})",
}
COMPARED = {
    "more than comparable ones": ", more than comparable neurons",
    "no more than comparable ones": ", but no more than comparable neurons",
    "cannot tell": "; whether more than comparable neurons is undecided",
}
REACTIVATED = {
    "reactivated": "the attack reactivates them",
    IN_PART: "the attack reactivates them in part",
    "not reactivated by these attacks": "the attack does not reactivate them",
    UNDECIDED: "whether the attack reactivates them is undecided",
    TOO_FEW: "there are too few units to say whether the attack reactivates them",
}


def answer(report: Report, told: Story) -> list[str]:
    """The sentences of a story. A report whose findings are no data (an older one), or that has none, has its headline alone."""
    first = next((step for step in told.steps if step.role != "base"), None)
    if first is None or not any(word["kind"] for word in report["verdict"]["words"] if word["variant"] == _group(report, first.variant)):
        return [report["verdict"]["headline"]]
    return [sentence for sentence in (_images(report, told), _neurons(report, told)) if sentence] or [report["verdict"]["headline"]]


def outcomes(report: Report, step: Step) -> list[Row]:
    """The words of the verdict about a column: without attack about its images and neurons, under an attack about both under it."""
    kinds = ("images", "reactivation") if step.attack else ("erasure", "deactivation", "these neurons")
    return [word for kind in kinds if (word := _word(report, step.variant, kind, step.attack))]


def _group(report: Report, variant: str) -> str:
    """The name under which the verdict speaks of a variant: that of all its seeds, where it has several."""
    return next((row["variant"] for row in report["over_runs"] if variant in (row["variants"] or ())), variant)


def _word(report: Report, variant: str, kind: str, attack: Row | None = None) -> Row | None:
    """The finding of a kind about a variant, without attack or under one; None where there is none."""
    name, wanted = _group(report, variant), attack and attack | {"against": attack["against"] and _group(report, attack["against"])}
    for word in report["verdict"]["words"]:
        if (word["kind"], word["variant"]) == (kind, name):
            same = headline.same(word, wanted) if wanted and word["attack"] else word["attack"] is None and wanted is None
            if same:
                return word
    return None


def _outcome(report: Report, step: Step, kind: str, attack: bool = True) -> str | None:
    word = _word(report, step.variant, kind, step.attack if attack else None)
    return word["outcome"] if word else None


def _short(row: Row | None) -> str:
    return percent(row["rate"], 0).replace(" ", NO_BREAK) if row and row["rate"] is not None else "unknown"


def _images(report: Report, told: Story) -> str:
    """'Without attack, erased shows ink in 8 % of its images (base model 100 %), but under pgd it returns (35 %, control 8 %); ...'."""
    own = [step for step in told.steps if step.role != "base"]
    if own[0].rate is None or own[0].rate["rate"] is None:
        return ""
    parts: list[str] = []
    variants = list(dict.fromkeys(step.variant for step in own))
    for variant in variants:
        plain = next(step for step in own if step.variant == variant and not step.attack)
        under = next((step for step in own if step.variant == variant and step.attack), None)
        first, erasure = not parts, _outcome(report, plain, "erasure")
        base = f" of its images (base model {_short(told.ceiling)})" if first and told.ceiling else ""
        still = "still shows" if erasure == AT_THE_CEILING else "shows"
        said = f"{'Without attack, ' if first else ''}{variant} {still} {told.concept if first else 'it'} in {_short(plain.rate)}{base}"
        said += {AT_THE_CEILING: ", as the base model does", UNDECIDED: ", not surely fewer than the base model"}.get(
            erasure or "", ""
        ) * first
        parts.append(said + _under(report, under))
    few = any(word["outcome"] == TOO_FEW for step in own for word in outcomes(report, step) if word["kind"] in ("images", "erasure"))
    return "; ".join(parts) + (". There are too few units for a verdict on this." if few else ".")


def _under(report: Report, step: Step | None) -> str:
    """', but under pgd it returns (35 %, control 8 %)'."""
    if step is None or step.rate is None or step.rate["rate"] is None or step.attack is None:
        return ""
    outcome = _outcome(report, step, "images")
    control = f", control {_short(step.rate_of_control)}" if step.rate_of_control else ""
    numbers = f"({_short(step.rate)}{control})"
    name = f"{step.attack['attack']}"
    if outcome == NOTHING_TO_REACTIVATE:
        return f" and under {name} {numbers}"
    words = RETURNS.get(outcome or "")
    if words is None:
        return f", under {name} in {_short(step.rate)}{f' (control {_short(step.rate_of_control)})' if control else ''}"
    return f", {words.format(attack=name)} {numbers}"


def _neurons(report: Report, told: Story) -> str:
    """'The concept neurons of erased are deactivated (activity 0.16, base model 1), but no more than comparable neurons; ...'."""
    own = [step for step in told.steps if step.role != "base"]
    step = own[0]
    if step.why and step.activity is None:
        return "There is no valid set of concept neurons in this study, so it says nothing about neurons."
    if step.activity is None or step.activity["value"] is None:
        return ""
    words = NEURONS.get(_outcome(report, step, "deactivation") or "")
    if words is None:
        return ""
    said = words.format(variant=step.variant, activity=f"activity {number(step.activity['value'])}, base model 1")
    said += COMPARED.get(_outcome(report, step, "these neurons") or "", "")
    under = next((one for one in own if one.variant == step.variant and one.attack and one.activity), None)
    again = REACTIVATED.get(_outcome(report, under, "reactivation") or "") if under else None
    if under and again and under.activity and under.activity["value"] is not None:
        said += f"; {again} ({wording.number(under.activity['value'])})"
    return f"{said}."
