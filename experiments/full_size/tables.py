"""The document of the walk: a table per model, from the summaries that the walk leaves."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("torch", "diffusers", "transformers", "safetensors")
NAMES = {"sd14": "Stable Diffusion 1.4", "sdxl": "SDXL base"}
GIB = 2**30


def surroundings():
    """What it was measured on."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB of memory",
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }


def on_disk(folder):
    """Bytes of the files under a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink())


def disk_by_stage(folder):
    """{stage: bytes} of a run folder's results, and what lies beside them."""
    found = {path.name: on_disk(path) for path in sorted((Path(folder) / "nodes").iterdir()) if path.is_dir()}
    return found | {"beside the results": on_disk(folder) - sum(found.values())}


def n_parameters(folder):
    """{part of the pipeline: number of parameters}, from the headers of its files."""
    from safetensors import safe_open

    found = {}
    for path in sorted(Path(folder).glob("*/*.safetensors")):
        with safe_open(path, "numpy") as file:
            sizes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - no dict
        found[path.parent.name] = found.get(path.parent.name, 0) + sum(_product(shape) for shape in sizes)
    return found


def _product(shape):
    total = 1
    for side in shape:
        total *= side
    return total


def markdown(columns, rows):
    """A Markdown table; the first column is text, the others numbers."""
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def gib(number):
    """Bytes in GiB."""
    return "" if number is None else f"{number / GIB:.2f}"


def memory_by_node(one):
    """{node: {resident, anonymous}} of the start that computed it last."""
    return {node: memory for step in one["steps"] for node, memory in step["nodes"].items()}


def by_stage(one):
    """Rows (stage, nodes done, seconds, most resident, most anonymous, disk) of the commands before the run, then of its stages."""
    rows = []
    for step in one["steps"]:
        if step["step"] not in ("run", "init") and step["exit"] == 0:
            rows.append([step["step"], "", f"{step['seconds']:.0f}", gib(step["resident"]), gib(step["anonymous"]), ""])
    seen = {}
    for node, memory in memory_by_node(one).items():
        known = seen.setdefault(node.partition(":")[0], {"resident": 0, "anonymous": 0})
        seen[node.partition(":")[0]] = {key: max(known[key], memory[key]) for key in known}
    for stage in dict.fromkeys(node["stage"] for node in one["nodes"]):
        own = [node for node in one["nodes"] if node["stage"] == stage]
        n_done, seconds = sum(node["state"] == "done" for node in own), sum(node["seconds"] or 0 for node in own)
        memory = seen.get(stage, {})
        cells = [gib(memory.get(key)) for key in ("resident", "anonymous")]
        rows.append([f"`{stage}`", f"{n_done} of {len(own)}", f"{seconds:.0f}", *cells, gib(one["disk"].get(stage))])
    return rows


def copies(one):
    """Rows (question, weights asked about, what the process held before, most while it ran, the difference in copies of the weights)."""
    words = {
        "load": f"base model, float16 files into {one['dtype']}",
        "variant": "erased variant read, applied, one evaluation",
        "save": "the variant's weights written",
    }
    rows = []
    for what, row in one["copies"].items():
        above = (row["most"] - row["before"]) / row["weights"]
        rows.append([words[what], gib(row["weights"]), gib(row["before"]), gib(row["most"]), f"{above:.2f}"])
    return rows


def erasing(one):
    """A sentence about the memory of the eraser's training."""
    memory = [value for node, value in memory_by_node(one).items() if node.startswith("erase:")]
    if not memory or "save" not in one["copies"]:
        return ""
    most, trained = max(value["anonymous"] for value in memory), one["copies"]["save"]["weights"]
    base = one["copies"]["load"]["weights"]
    return (
        f"Training held {gib(most)} GiB: the base model ({gib(base)} GiB) and {(most - base) / trained:.2f} times the weights it trains "
        f"({gib(trained)} GiB: themselves, two moments of Adam), activations with their gradients and torch itself included."
    )


def section(one):
    """The part of the document about one model."""
    name, xl = NAMES[one["kind"]], " --xl" if one["kind"] == "sdxl" else ""
    runs = [step for step in one["steps"] if step["step"] == "run"]
    finished = any(step["exit"] == 0 for step in runs)
    n_done, n = sum(node["state"] == "done" for node in one["nodes"]), len(one["nodes"])
    sizes = ", ".join(f"{part} {count:,}" for part, count in one["parameters"].items())
    pieces = [
        f"## {name}\n",
        f"`python -m experiments.full_size.run{xl} --size {one['size']}`, {one['date']}, {one['machine']}; "
        + ", ".join(f"{package} {number}" for package, number in one["versions"].items())
        + ".\n",
        f"Parameters: {sizes}. Weights in {one['dtype']}; latents of {one['size']} x {one['size']}, which changes no weight. "
        f"{'The study ran to its report' if finished else 'The study was stopped'}: {n_done} of {n} nodes"
        + (f", in {len(runs)} starts" if len(runs) > 1 else "")
        + ".\n",
        markdown(["", "nodes", "seconds", "most resident, GiB", "most anonymous, GiB", "disk, GiB"], by_stage(one)),
        f"\nBase model on disk: {gib(one['disk']['base model'])} GiB. Report: "
        + ", ".join(f"{file} {size / 2**20:.1f} MiB" for file, size in one["report"].items())
        + ".\n",
    ]
    if one["copies"]:
        columns = ["", "these weights, GiB", "held before, GiB", "most, GiB", "above that, in copies of the weights"]
        pieces += [markdown(columns, copies(one)), "", erasing(one), ""]
    pieces += ["Set in the study: " + ", ".join(f"`{change}`" for change in one["changes"]) + ".\n"]
    return "\n".join(pieces)


def document(found):
    """The whole document."""
    return "\n".join(
        [
            "# A study of Stable Diffusion's real size\n",
            f"{' and '.join(NAMES[one['kind']] for one in found)} with random weights and CLIP's real tokenizer, walked "
            "from a list of prompts in published columns towards the report: "
            "[experiments/full_size](../../experiments/full_size/README.md). What it shows is whether the commands work at this "
            "size and what they cost on a CPU; images and rates are those of noise.\n",
            "Resident memory counts mapped files, which the system drops when it needs room; anonymous memory does not. Both are the most "
            "seen in looks twice a second while the stage computed. Other processes shared the machine, so seconds are upper bounds.\n",
            *(section(one) for one in found),
        ]
    )
