"""The methods of a study as a paragraph for a paper, with its numbers, and the publications it cites as BibTeX.

paragraph   sentences by subject;   bibliography   the entries they cite, as a .bib file
"""

import tomllib
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from workbench import registry
from workbench.errors import MethodError
from workbench.methods import citations
from workbench.methods.citations import Entry
from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.wording import integer, number

WILSON, MCNEMAR, FALSE_DISCOVERY = "wilson1927probable", "mcnemar1947note", "benjamini1995controlling"
SCHEDULERS = {"DDIMScheduler": "song2021denoising"}
RETAINED = ("near", "far")


class Cited:
    """Collects what a text cites, and writes each citation: "(Wilson 1927)"."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def __call__(self, *keys: str) -> str:
        """' (Wilson 1927; McNemar 1947)'; "" where there is nothing to cite."""
        found = citations.entries(keys)
        self.entries |= {entry.key: entry for entry in found}
        return f" ({'; '.join(f'{entry.short} [{entry.key}]' for entry in found)})" if found else ""

    def method(self, kind: str, name: str | None) -> str:
        """The citation of a method; "" for one that is not installed, or is published nowhere."""
        try:
            return self(*registry.method(kind, name).citations) if name else ""
        except MethodError:
            return ""


def paragraph(report: Report) -> list[str]:
    """The text: models, prompts, neurons, attacks, detectors, statistics, software; a paragraph each, without markup."""
    return _written(report)[0]


def bibliography(report: Report) -> str:
    """The entries that the text cites, in its order, as BibTeX."""
    return "\n\n".join(entry.bibtex for entry in _written(report)[1]) + "\n"


def _written(report: Report) -> tuple[list[str], list[Entry]]:
    cite = Cited()
    parts = (_models, _prompts, _neurons, _attacks, _detectors, _statistics, _software)
    return [" ".join(filter(None, said)) for part in parts if any(said := part(report, cite))], list(cite.entries.values())


def _study(report: Report) -> Row:
    """The study file as a dict; {} for one that was built in Python or cannot be read."""
    try:
        return tomllib.loads(report.study["text"] or "")
    except tomllib.TOMLDecodeError:
        return {}


def _models(report: Report, cite: Cited) -> list[str]:
    settings = {row.get("name"): row for row in _study(report).get("variants", []) if isinstance(row, dict)}
    base = next((row for row in report["models"] if row["role"] == "base"), None)
    kind = report.study["concept"].get("kind")
    said = [f"We studied the concept {report.concept}{f' ({kind})' if kind else ''}."]
    if base:
        digest = f" (SHA-256 {base['digest'][:12]})" if base["digest"] else ""
        said.append(f"The base model was {base['what'] or base['variant']}{digest}.")
    for row in report["models"]:
        if row["role"] == "base":
            continue
        given = settings.get(row["variant"], {})
        values = given.get("parameters")
        how = f", {_settings(values)}" if isinstance(values, dict) and values else ""
        how += f", preset {given['preset']}" if given.get("preset") else ""
        made = f" from {row['parent']}" if row["parent"] else ""
        said.append(
            f"Variant {row['variant']} ({row['role']}) was made{made} by {row['method']}{cite.method('erasers', row['method'])}{how}."
        )
    return said


def _settings(values: Row) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _prompts(report: Report, cite: Cited) -> list[str]:
    study, sets = report.study, {row["set"]: row["n"] for row in report["reproduce"]["prompts"]}
    known = [(name, sets[name]) for name in ("target", "reference", *RETAINED) if name in sets]
    listed = "; ".join(f"{wording.named(wording.PROMPTS, name)}: {integer(n)}" for name, n in known)
    said = [f"Prompts: {listed}." if listed else ""]
    halves = ""
    if study["n_units_half_a"] is not None:
        halves = f", split into a selection half of {study['n_units_half_a']} and an evaluation half of {study['n_units_half_b']}"
    said.append(f"Prompts that are near-copies of one another form a unit; there were {integer(study['n_units'])} units{halves}.")
    said.append(
        f"Images were sampled with {study['steps']} steps of {study['scheduler']}{cite(*_keys(study['scheduler']))} and "
        f"classifier-free guidance of {study['guidance']:g}, with {_seeds(study['seeds'])}; each row of prompts and seeds started from "
        "the same noise in every variant."
    )
    return said


def _keys(scheduler: str) -> tuple[str, ...]:
    return (SCHEDULERS[scheduler],) if scheduler in SCHEDULERS else ()


def _seeds(seeds: list[int]) -> str:
    """'seed 3', 'seeds 0 to 39', 'seeds 1, 4'."""
    found = sorted(set(seeds))
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"seeds {found[0]} to {found[-1]}"
    shown = ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else "")
    return f"seed{'' if len(found) == 1 else 's'} {shown}"


def _neurons(report: Report, cite: Cited) -> list[str]:
    study = report.study
    if not report["activity"]:
        return []
    window = f" over the calls {study['window'][0]} to {study['window'][-1]}" if study["window"] else ""
    said = [
        f"Activity of neurons (sites: {', '.join(study['sites'])}) is the mean absolute activation{window}, conditional branch, recorded "
        "for all variants on the trajectory of the base model."
    ]
    if score := study.get("score"):
        chosen = next((row for row in report["selection"] if row["neuron_set"] == "concept"), None)
        how_many = f" {integer(chosen['n_chosen'])}" if chosen and chosen["n_chosen"] is not None else ""
        said.append(
            f"The{how_many} concept neurons were chosen in the base model, on the selection half, by {score['rule']}"
            f"{cite.method('scores', score['name'])} (in {score['unit']}); all activities were measured on the evaluation half."
        )
    if report["attribution"]:
        targets = ", ".join(sorted({str(row["target"]) for row in report["attribution"] if row.get("target")}))
        said.append(f"Attributions{f' to {targets}' if targets else ''} were computed with Captum{cite('kokhlikyan2020captum')}.")
    return said


def _attacks(report: Report, cite: Cited) -> list[str]:
    said = []
    for (attack, method), found in groupby(report["attacks"], key=lambda row: (row["attack"], row["method"])):
        rows = list(found)
        against = list(dict.fromkeys(row["against"] for row in rows if row["against"]))
        how = f"optimised against {_list(against)}" if against else "static"
        name = attack if attack == method else f"{attack} ({method})"
        settings = ", ".join(one for one in rows[0]["settings"].split(", ") if not one.endswith("= null"))
        said.append(
            f"Attack {name}{cite.method('attacks', method)} was {how}, on {integer(max(row['n'] for row in rows))} prompts"
            f"{f' ({settings})' if settings else ''}; {_cost(rows)}."
        )
    if said:
        said.append("Each attack was compared with a control of the same effort without the search.")
    return said


def _cost(rows: list[Row]) -> str:
    """What an attack cost per prompt, the dearest of its searches."""
    passes, looks, most = (max(row[name] for row in rows) for name in ("passes", "looks", "most_looks"))
    if not passes and not looks:
        return "it makes no search"
    queries = f"{number(looks, 1)} detector queries (at most {integer(most)})" if most else "no detector query"
    return f"per prompt it took {integer(round(passes))} UNet evaluations and {queries} on average"


def _list(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


ROLES = {"judge": "The judge, which decided all rates", "steer": "The attack-visible detector, which attacks could query"}


def _detectors(report: Report, cite: Cited) -> list[str]:
    said = []
    for row in sorted(report["detectors"], key=lambda row: row["role"] != "judge"):
        limits = ", ".join(number(at) for at in dict.fromkeys(row["thresholds"]))
        false = ""
        if row["rate"] is not None:
            false = f"; false positives: {wording.percent(row['rate'])} (95 % CI {wording.span(row['low'], row['high'], wording.percent)}, "
            false += f"n = {integer(row['n'])})"
        version = f"version {row['version']}, labels {_list(map(str, row['labels']))}, threshold {limits}"
        said.append(
            f"{ROLES.get(row['role'], row['role'])}, was {row['method']}{cite.method('detectors', row['method'])} ({version}){false}."
        )
    return said


def _statistics(report: Report, cite: Cited) -> list[str]:
    said = []
    if report["rates"] or report["retention"]:
        several = any(row["n_units"] not in (None, row["n"]) for row in report["rates"])
        effective = ", at the effective number of images where a unit has several" if several else ""
        said.append(f"Rates have Wilson's 95 % interval{cite(WILSON)}{effective}.")
    if report["comparisons"] or report["against_control"]:
        swapped = any(row["p_permutation"] is not None for row in (*report["comparisons"], *report["against_control"]))
        other = "; where a unit has several images, whole units were swapped instead" if swapped else ""
        said.append(f"Paired rates were compared by McNemar's exact test{cite(MCNEMAR)}{other}.")
    if report["activity"]:
        n_random = max((row["n_random"] or 0 for row in report["effects"]), default=0)
        sets = f" and compared with {integer(n_random)} matched random sets of neurons" if n_random else ""
        said.append(f"Activities and effects have jackknife t intervals over units (95 %), p by flipping the signs of units{sets}.")
    if any(row.get("n_family") for table in ("comparisons", "effects") for row in report[table]):
        said.append(f"P values were adjusted for the number of tests by the procedure of Benjamini and Hochberg{cite(FALSE_DISCOVERY)}.")
    if report["quality"]:
        said.append(f"Distances of images are kernel distances (KID){cite('binkowski2018demystifying')} in features of the judge.")
    if report["clip"]:
        said.append(f"CLIP scores follow CLIPScore{cite('hessel2021clipscore')}, with the factor 100.")
    return said


def _software(report: Report, cite: Cited) -> list[str]:
    facts = report["reproduce"]
    versions: dict[str, Any] = facts["versions"]
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    commit = (
        f" (commit {facts['git_commit'][:12]}{', with uncommitted changes' if facts['git_dirty'] else ''})" if facts["git_commit"] else ""
    )
    where = ", ".join(str(facts[name]) for name in ("device", "dtype") if facts[name])
    study = f"; SHA-256 of the study {facts['study_digest'][:12]}" if facts["study_digest"] else ""
    return [
        f"All steps were run with the Concept Erasure Workbench{commit}{f' on {where}' if where else ''}"
        f"{f', with {listed}' if listed else ''}{study}."
    ]
