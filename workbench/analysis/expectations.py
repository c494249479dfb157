"""A known answer: the rates a study expects, compared with those it found. Where they disagree, the set-up is off, which is said first.

check    expectations and rows of `rates` -> words of the verdict, findings of the kind "known answer"
applied  verdict and these words -> the verdict that says so
"""

from workbench.analysis.findings import OUTCOMES, Evidence, Finding
from workbench.analysis.verdict import entry

AS_EXPECTED, OFF, NOT_MEASURED = OUTCOMES["known answer"]
SUBJECT = "Known answer"


def check(expected, rates):
    """Words of the verdict (see `verdict.words`), one for each expectation.

    expected   objects with variant, attack (None = without attack), definition, low, high, source
    rates      rows of the table `rates`
    outcome    as expected: the 95 % interval of the rate meets low to high; set-up is off: it does not; not measured
    """
    return [_word(one, _row(one, rates)) for one in expected]


def applied(verdict, words):
    """The verdict with these words first; when one is off or could not be measured, headline and caveats begin with it."""
    wrong = [word["sentence"] for word in words if word["outcome"] != AS_EXPECTED]
    if not words:
        return verdict
    start = f"The set-up is off, so do not rely on the results: {wrong[0]} " if wrong else ""
    return verdict | {
        "headline": start + verdict["headline"],
        "words": [*words, *verdict["words"]],
        "caveats": [*wrong, *verdict["caveats"]],
    }


def _row(one, rates):
    rows = [
        row
        for row in rates
        if (row["variant"], row["attack"], row["definition"]) == (one.variant, one.attack, one.definition)
        and not row["control"]
        and row["prompt_set"] != "reference"
        and row["rate"] is not None
    ]
    return min(rows, key=lambda row: row["against"] != one.variant, default=None)


def _word(one, row):
    what = f"{one.definition} of {one.variant}" + (f" under {one.attack}" if one.attack else "")
    wanted = f"{one.low:.2f} to {one.high:.2f} is expected ({one.source})"
    if row is None:
        return _said(one, {}, NOT_MEASURED, {}, f"The {what} was not measured; {wanted}.")
    met = row["low"] <= one.high and row["high"] >= one.low
    sentence = f"The {what} is {row['rate']:.2f} ({row['low']:.2f} to {row['high']:.2f}, n = {row['n']}); {wanted}."
    if not met:
        sentence += " Check base model, sampler, guidance, seeds on the CPU, the detector and its threshold, and the eraser's settings."
    evidence = {one.definition: Evidence(row["rate"], row["low"], row["high"], row["n"])}
    return _said(one, row, AS_EXPECTED if met else OFF, evidence, sentence)


def _said(one, row, outcome, evidence, sentence):
    made = {"attack": one.attack, "provenance": row.get("provenance"), "against": row.get("against")}
    return entry(Finding("known answer", one.variant, outcome, evidence, **made), SUBJECT, sentence)
