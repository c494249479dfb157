"""A tiny study on the tiny model, and runs of its nodes. Its finished run is a fixture of all tests (`conftest.py`).

written, quickly_written   the study and its prompt files, whole or with one site, one call and one attack
before, made_again         nodes that a node follows from; one node computed anew on what a run has of them
"""

STUDY = """
schema_version = 1
name = "tiny"
title = "A tiny study"
[concept]
name = "ink"
kind = "style"
names = ["ink"]
[model]
base = "{base}"
[prompts]
target = "target.csv"
reference = "reference.csv"
near = "near.csv"
[detectors]
labels = ["style:ink"]
steer = {{ method = "emoji", which = "steer" }}
judge = {{ method = "emoji", which = "judge" }}
[sampling]
steps = 3
guidance = 2.0
batch = 3
[[variants]]
name = "erased"
method = "esd"
parameters = {{ iterations = 2, steps = 3, trajectories = 2, batch = 2 }}
[[variants]]
name = "pruned"
method = "prune_neurons"
parent = "erased"
role = "pruned"
[[attacks]]
method = "embedding_pgd"
against = ["erased"]
parameters = {{ iterations = 2, looks = 2 }}
[[attacks]]
method = "paraphrase"
parameters = {{ wordings = ["black outline"], others = ["water colour"] }}
[record]
sites = ["ff", "update"]
calls = [0, 2]
[choose]
n_random = 19
n_resamples = 100
"""


def written(folder, model):
    """Path of the study and its prompt files in a folder."""
    things = ["owl", "cat", "house", "church", "mountain", "bridge"]
    rows = {"target": "{} in ink style", "reference": "{} in noto style", "near": "{} in fluent style"}
    for name, template in rows.items():
        lines = [f"u{i},{template.format(thing)},{i},style:fluent" for i, thing in enumerate(things)]
        (folder / f"{name}.csv").write_text("unit,prompt,seed,expect\n" + "\n".join(lines) + "\n")
    path = folder / "tiny.toml"
    path.write_text(STUDY.format(base=model))
    return path


def quickly_written(folder, model):
    """As `written`, the study of `quick_file`."""
    path = written(folder, model)
    text = path.read_text().replace('sites = ["ff", "update"]\ncalls = [0, 2]', 'sites = ["ff"]\ncalls = [2]\ntrajectories = ["reference"]')
    left_out = text[text.rindex("[[attacks]]") : text.index("[record]")]
    path.write_text(text.replace(left_out, ""))
    return path


def before(plan, node):
    """All nodes that a node's result follows from, in their order."""
    wanted = set(node.inputs)
    for one in reversed(plan.nodes):
        wanted |= set(one.inputs) if one.id in wanted else set()
    return [one for one in plan.nodes if one.id in wanted]


def made_again(study, run, node_id, folder):
    """The workspace in which one node of a study was computed anew, on what a run has of its inputs."""
    from workbench.execution.execute import prepare, run_nodes

    plan, workspace = prepare(study, folder)
    node = plan.node(node_id)
    run_nodes(workspace, before(plan, node), others=[run.folder])
    run_nodes(workspace, [node])
    return workspace
