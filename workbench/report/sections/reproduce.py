"""What another person needs to get the same numbers."""

from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.section import Section, Template
from workbench.report.table import Column, Object, Table
from workbench.report.wording import integer

REPRODUCE = Object(
    "reproduce",
    (
        Column("command", "text"),
        Column("study_digest", "text?"),
        Column("seeds", "list"),
        Column("device", "text?"),
        Column("threads", "count?"),
        Column("dtype", "text?"),
        Column("scheduler", "text?"),
        Column("torch_deterministic", "flag?"),
        Column("versions", "object"),
        Column("git_commit", "text?"),
        Column("git_dirty", "flag?"),
        Column("prompts", "list", of=(Column("set", "text"), Column("n", "count"), Column("digest", "text?"))),
        Column("models", "list", of=(Column("variant", "text"), Column("digest", "text?"))),
        Column("wall_seconds", "number?"),
        Column("peak_memory_mb", "number?"),
        Column("started", "text?"),
        Column("finished", "text?"),
    ),
)


def _facts(report: Report) -> list[Row]:
    facts = report["reproduce"]
    memory = facts["peak_memory_mb"]
    named = (
        ("Study, SHA-256", facts["study_digest"]),
        ("Seeds", ", ".join(map(str, facts["seeds"]))),
        ("Scheduler", facts["scheduler"]),
        ("Device", facts["device"]),
        ("CPU threads", facts["threads"]),
        ("Number format", facts["dtype"]),
        ("Deterministic algorithms of torch", wording.YES[facts["torch_deterministic"]]),
        ("Git commit", facts["git_commit"]),
        ("Uncommitted changes", wording.YES[facts["git_dirty"]]),
        ("Wall time", wording.seconds(facts["wall_seconds"])),
        ("Peak memory", None if memory is None else f"{integer(round(memory))} MB"),
        ("Started", facts["started"]),
        ("Finished", facts["finished"]),
        *sorted(facts["versions"].items()),
    )
    return [{"name": name, "value": value} for name, value in named]


def _digests(report: Report) -> list[Row]:
    facts = report["reproduce"]
    return [row | {"kind": "prompt set", "name": row["set"]} for row in facts["prompts"]] + [
        row | {"kind": "model", "name": row["variant"], "n": None} for row in facts["models"]
    ]


CIRCUMSTANCES = Table(
    "reproduce",
    "Environment",
    (Column("name", "text", "What"), Column("value", "text", "Value")),
    derived=True,
    rows=_facts,
    fold="Environment: versions, seeds, device, time",
)
DIGESTS = Table(
    "digests",
    "Fingerprints (SHA-256)",
    (
        Column("kind", "text", "Kind"),
        Column("name", "text", "Name"),
        Column("n", "count?", "Prompts"),
        Column("digest", "text?", "Digest"),
    ),
    derived=True,
    rows=_digests,
    fold="Fingerprints of prompts and models",
)
TIMINGS = Table(
    "timings",
    "Time per stage",
    (
        Column("stage", "text", "Stage"),
        Column("seconds", "number?", "Time", wording.seconds),
        Column("nodes", "count?", "Nodes"),
    ),
    fold="Time per stage",
)


def _command(report: Report) -> str:
    from workbench.report.renderers.marks import code

    return code(report["reproduce"]["command"], "sh")


def _study_file(report: Report) -> str:
    from workbench.report.renderers.marks import code

    return f"### The study file\n\n{code(report.study['text'], 'toml')}"


SECTION = Section(
    order=920,
    title="Reproduce",
    short="Reproduce",
    lead=(
        "This command and the study file below repeat the study: bit for bit with the same versions, device and threads, else within "
        "rounding."
    ),
    parts=(
        Template("command.html.j2", _command),
        CIRCUMSTANCES,
        DIGESTS,
        TIMINGS,
        Template("study_file.html.j2", _study_file),
    ),
    always=True,
    objects=(REPRODUCE,),
)
