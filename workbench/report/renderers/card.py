"""MODEL_CARD.md: one variant of a run in the form of a Hugging Face model card; the measured rates stand in its header as eval results.

The header is YAML whose single values are written as JSON, so that no text of a study can break it.
"""

import json
import re
import tomllib
from typing import Any

from workbench.errors import RunError, nearest
from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.methods_text import bibliography, paragraph
from workbench.report.renderers import marks
from workbench.report.table import view

TASK = {"type": "text-to-image", "name": "Text to image"}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
ORIGIN = "concept-erasure-workbench"


def render_card(document: dict[str, Any], variant: str | None = None) -> str:
    """The model card of a variant; by default of the first that is not the base model.

    Raises   RunError for a variant that the run does not have, or a run with the base model alone
    """
    report = Report(document)
    names = report.subjects
    if variant is None and names:
        variant = names[0]
    if variant not in names:
        asked = f'no variant "{variant}"' if variant else "no changed variant"
        raise RunError(f"The run has {asked}. It has: {', '.join(report.variants)}.{nearest(variant, names) if variant else ''}")
    row = next(row for row in report["models"] if row["variant"] == variant)
    return "\n\n".join([_header(report, row), *filter(None, _body(report, row))]) + "\n"


def _header(report: Report, model: Row) -> str:
    about: dict[str, Any] = {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
    base = _base(report)
    if HUB_ID.fullmatch(base):
        about["base_model"] = base
    about["tags"] = list(
        dict.fromkeys(["text-to-image", "concept-erasure", model["role"], *([model["method"]] if model["method"] else [])])
    )
    if results := _results(report, model["variant"]):
        about["model-index"] = [{"name": f"{report.study['name']}-{model['variant']}", "results": results}]
    return "\n".join(["---", *_yaml(about), "---"])


def _yaml(value: Any) -> list[str]:
    """Lines of YAML; keys and single values are written as JSON, which YAML reads."""
    if isinstance(value, dict) and value:
        pairs = [(json.dumps(key) if not re.fullmatch(r"[a-z_-]+", key) else key, inner) for key, inner in value.items()]
        return [line for key, inner in pairs for line in _under(f"{key}:", inner)]
    if isinstance(value, list) and value:
        return [line for inner in value for line in _item(inner)]
    return [json.dumps(value)]


def _under(key: str, value: Any) -> list[str]:
    """A key and its value, on the same line where it is a single one."""
    lines = _yaml(value)
    return [f"{key} {lines[0]}"] if not isinstance(value, dict | list) or not value else [key, *(f"  {line}" for line in lines)]


def _item(value: Any) -> list[str]:
    """A value as an item of a list."""
    lines = _yaml(value)
    return [f"- {lines[0]}", *(f"  {line}" for line in lines[1:])]


def _base(report: Report) -> str:
    """What the study calls its base model; "" where it does not say."""
    try:
        model = tomllib.loads(report.study["text"] or "").get("model", {})
    except tomllib.TOMLDecodeError:
        model = {}
    base = model.get("base") if isinstance(model, dict) else None
    return base if isinstance(base, str) else ""


def _rates(report: Report, variant: str) -> list[Row]:
    """Measured rates of a variant, without attack and with each attack beside its control, then of retained concepts."""
    rates = [row | {"metric": row["definition"], "dataset": row["prompt_set"]} for row in report.arranged("rates")]
    kept = [row | {"metric": "retention", "dataset": row["kind"], "prompt_set": row["kind"], "attack": None} for row in report["retention"]]
    return [row for row in (*rates, *kept) if row["variant"] == variant and row["rate"] is not None]


def _results(report: Report, variant: str) -> list[Row]:
    """Rates in the form of a model index: an entry for each prompt set."""
    found: dict[str, Row] = {}
    for row in _rates(report, variant):
        dataset = {"type": f"{ORIGIN}/{row['dataset']}", "name": _asked(row), "args": {"concept": report.concept}}
        metrics = found.setdefault(row["dataset"], {"task": TASK, "dataset": dataset, "metrics": []})["metrics"]
        said = {"low": row["low"], "high": row["high"], "confidence": 0.95, "n": row["n"], "n_units": row["n_units"]}
        said |= {name: row.get(name) for name in ("detector", "labels", "thresholds")}
        metrics.append(
            {
                "type": row["metric"],
                "name": _what(row),
                "value": row["rate"],
                "args": {name: value for name, value in said.items() if value is not None},
            }
        )
    return list(found.values())


def _asked(row: Row) -> str:
    return wording.condition_made(row)


def _what(row: Row) -> str:
    return "drawn as asked" if row["metric"] == "retention" else wording.named(wording.DEFINITIONS, row["metric"])


def _body(report: Report, model: Row) -> list[str]:
    name, text = model["variant"], marks.text
    made = [f"by {text(model['method'])}"] if model["method"] else []
    made += [f"from {text(model['parent'])}"] if model["parent"] else []
    about = f"Variant {text(name)} ({text(model['role'])}) of the base model {text(_base(report) or 'of the study')}"
    about += f", made {' '.join(made)}" if made else ""
    said = [word for word in report["verdict"]["words"] if word["variant"] == name]
    findings = [f"**{text(word['subject'])}: {text(word['word'])}.** {text(word['sentence'])}" for word in said]
    caveats = ([report.note] if report.note else []) + report["verdict"]["caveats"]
    facts = [("SHA-256 of its weights", model["digest"]), ("What was changed", model["what"])]
    references = bibliography(report).strip()
    return [
        f"# {text(name)}: {text(report.study['title'])}",
        f"{about}. Concept: {text(report.concept)}. This card was written from the report of a run of the Concept Erasure Workbench.",
        "\n".join(f"- {what}: {text(value)}" for what, value in facts if value),
        "## Results",
        _table(report, name),
        "## Findings",
        "\n".join(f"- {one}" for one in findings) if findings else "The run has no finding on this variant.",
        "## Limits",
        marks.bullets(caveats) if caveats else "The report states no caveat. It holds for the prompts, attacks and detectors named below.",
        "## Methods",
        *map(text, paragraph(report)),
        *(["## References", marks.code(references, "bibtex")] if references else []),
        "## Reproduce",
        marks.code(report["reproduce"]["command"], "sh"),
    ]


def _table(report: Report, variant: str) -> str:
    heads = [("Prompts", False), ("Rate", False), ("Value", True), ("95 % interval", True), ("n", True)]
    rows = [
        (
            _asked(row),
            _what(row),
            wording.percent(row["rate"]),
            wording.span(row["low"], row["high"], wording.percent),
            wording.integer(row["n"]),
        )
        for row in _rates(report, variant)
    ]
    return marks.table(view("", heads, rows)) or "No rate of this variant was measured."
