"""CPU seconds and bytes of the pages: first open, and every interaction, on a run of Stable Diffusion's size and on the example run.

    python benchmarks/pages.py [RUN ...]      further run folders to measure
    python benchmarks/pages.py --page NAME    only one page

Each page is opened in a process of its own, in process (AppTest), as the server would after its start. An interaction sets one widget to
another value and back: the first time nothing is kept, the second time what pages keep is there ("cached"). Goals: first open < 3 s,
95 of 100 cached interactions < 0.3 s; the card of a neuron reads < 5 MB of recordings.

The lab computes in a process of its own, whose CPU seconds count with those of the page. The server warms it up while the first page is
read, so the lab is opened after that; a line below the table says what warming up took, and what the lab's first open takes without it.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
N_NEURONS, N_CALLS, N_PROMPTS = 50_000, 50, 100
EXAMPLE = ROOT / "data" / "example-run"
MOST = 24  # widgets of a page
SECONDS = 600
LAB = "lab"


def write_synthetic(folder):
    """A finished run with the tables of the tests' example report, as many neurons, calls and prompts as a run of Stable Diffusion has."""
    import numpy as np
    import pandas

    from tests.pages.example_runs import finished, manifest, results
    from tests.report.example import write_neurons
    from workbench.report import document as schema

    finished(folder)
    report = folder / "report"
    document = schema.load(report)
    first = [row for row in document["activity_by_call"] if row["call"] == document["activity_by_call"][0]["call"]]
    calls = range(N_CALLS)
    document["activity_by_call"] = [row | {"call": call, "timestep": 981.0 - 20 * call} for row in first for call in calls]
    schema.write(document, report)
    write_neurons(report / document["neuron_table"], N_NEURONS)
    neurons = pandas.read_parquet(report / document["neuron_table"], columns=["layer", "index", "site"])
    random = np.random.default_rng(0)
    parts = [
        neurons.assign(
            call=np.int16(call),
            timestep=np.float32(981 - 20 * call),
            **{name: random.normal(size=len(neurons)).astype("float32") for name in ("contrast_a", "contrast_b", "z_a")},
        )
        for call in calls
    ]
    pandas.concat(parts, ignore_index=True).astype({"layer": "category", "site": "category"}).to_parquet(report / "neurons_by_call.parquet")
    shown = list(dict.fromkeys(row["unit"] for row in document["images"]))
    units = (shown + [f"unit-{number}" for number in range(N_PROMPTS)])[:N_PROMPTS]
    shutil.rmtree(folder / "nodes")
    conditions = list(dict.fromkeys((row["variant"], row["prompt_set"]) for row in document["images"]))[:8]
    manifest(folder, [node for variant, name in conditions for node in results(folder, variant, name, units)])


def card_reads(folder):
    """(bytes that the activity of one neuron takes, bytes of what is laid out) at Stable Diffusion's size: 8 conditions, half the calls."""
    import numpy as np

    from workbench.execution import by_neuron
    from workbench.execution.condition import Condition
    from workbench.execution.run_folder import Store
    from workbench.storage import write_json

    out = folder / "nodes" / "measure" / ("0" * 64) / by_neuron.FOLDER
    out.mkdir(parents=True)
    calls = list(range(N_CALLS // 2))
    one = np.random.default_rng(0).random((N_PROMPTS, len(calls), N_NEURONS // 16), dtype=np.float32)
    layers = [(f"layer{number}", one) for number in range(16)]
    write_json(out / "0.json", {"calls": calls, "timesteps": calls} | by_neuron.laid_out(layers, out / "0.bin"))
    # one file stands for all eight conditions: each is read by itself
    index = [{"variant": "base", "prompt_set": f"set{number}", "trajectory": "reference", "number": 0} for number in range(8)]
    write_json(out / "index.json", index)
    before = bytes_read()
    for number in range(8):
        assert by_neuron.read(Store(folder), ["0" * 64], Condition("base", f"set{number}"), "reference", "layer7", 1234) is not None
    return bytes_read() - before, 8 * (out / "0.bin").stat().st_size


def bytes_read():
    """Bytes that this process has read from files so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def cpu():
    """CPU seconds of this process and of the processes that it has started."""
    import psutil

    spent = time.process_time()
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        spent += times.user + times.system
    return spent


def warmed_up(run):
    """(CPU seconds of warming up the process of the lab, megabytes that it has then)."""
    import psutil

    from workbench.ui import lab_session, run_list

    began, session = cpu(), lab_session.session()
    session.warm_up(lab_session.place_of(run_list.look(run))).join()
    return cpu() - began, psutil.Process(session.pid).memory_info().rss / 1e6


def measured(run, name, warm=True):
    """{"open": seconds, "bytes": of the first answer, "first": [seconds], "cached": [seconds], "sent": [bytes], "error": text or None}.

    warm   whether the process of the lab is warmed up first; "warmed" says what that took
    """
    from streamlit.testing.v1 import AppTest
    from streamlit.testing.v1.local_script_runner import LocalScriptRunner

    sent = []
    kept = LocalScriptRunner.run

    def counted(self, *arguments, **options):
        found = kept(self, *arguments, **options)
        sent.append(sum(message.ByteSize() for message in self.forward_msgs()))
        return found

    LocalScriptRunner.run = counted
    os.environ["WORKBENCH_RUNS"] = str(run.parent)
    began = time.process_time()
    from workbench.resources import folder
    from workbench.ui.navigation import pages

    app = AppTest.from_file(str(folder("pages").parent / "workbench" / "ui" / "app.py"), default_timeout=SECONDS)
    app.query_params["run"] = run.name
    script = next(page.script for page in pages() if page.name == name)
    app.run()
    opened = time.process_time() - began
    warmed = warmed_up(run) if warm and name == LAB else None
    if name != pages()[0].name:  # only the page itself counts; what the first page imports is counted there
        began = cpu()
        app.switch_page(str(script)).run()
        opened = cpu() - began
    answer = {"warmed": warmed, "open": opened, "bytes": sent[-1], "first": [], "cached": [], "sent": [], "error": wrong(app)}
    for key in widgets(app)[: MOST if warm else 0]:
        for times in ("first", "cached"):
            for back in (False, True):
                change = changed(app, key, back)
                if change is None:
                    continue
                began = cpu()
                try:
                    change.run()
                except (KeyError, ValueError):  # a choice whose values are not its words
                    BEFORE.pop(key, None)
                    break
                answer[times].append(cpu() - began)
                answer["sent"].append(sent[-1])
                answer["error"] = answer["error"] or wrong(app)
    return answer


def wrong(app):
    """What a page said is wrong; None when nothing is."""
    return next((str(element.value)[:120] for element in (*app.exception, *app.error)), None)


KINDS = ("selectbox", "toggle", "checkbox", "segmented_control", "slider", "number_input", "multiselect", "radio", "button_group")
BEFORE = {}


def widgets(app):
    """[(kind, key)] of the widgets of the page and the sidebar, but the choice of the run."""
    found = []
    for kind in KINDS:
        for widget in getattr(app, kind, ()):
            if widget.key and widget.key != "run" and not widget.disabled:
                found.append((kind, widget.key))
    return list(dict.fromkeys(found))


def changed(app, key, back):
    """A widget set to another value, or back to the one before; None where it has no other, or is gone."""
    kind, name = key
    try:
        widget = getattr(app, kind)(key=name)
    except KeyError:
        return None
    if back:
        return widget.set_value(BEFORE[key]) if key in BEFORE else None
    value, options = widget.value, list(getattr(widget, "options", ()))
    other = None
    if kind in ("toggle", "checkbox"):
        other = not value
    elif kind in ("slider", "number_input"):
        step = getattr(widget, "step", None) or 1
        other = value + step if not isinstance(value, (list, tuple)) and value + step <= (widget.max or value + step) else None
    elif kind in ("multiselect",) or isinstance(value, list):
        other = [] if value else [options[0]] if options else None
    elif len(options) > 1:
        place = options.index(value) if value in options else 0
        other = options[(place + 1) % len(options)]
    if other is None:
        return None
    BEFORE[key] = value
    return widget.set_value(other)


def percentile(values, share):
    """A percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def in_process(run, name, *more):
    """`measured`, in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(Path(__file__).resolve()), "--measure", str(run), name, *more]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=2 * SECONDS)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        why = done.stderr.strip().splitlines()[-1][:120]
        return {"warmed": None, "open": None, "bytes": None, "first": [], "cached": [], "sent": [], "error": why}
    return json.loads(lines[-1])


def seconds(value):
    """A number of seconds as text."""
    return "" if value is None else f"{value:.2f}"


def table(run, names):
    """Print what was measured of a run as Markdown."""
    say = sys.stdout.write
    say(f"\n### {run.name}\n\n")
    say("| page | first open, s | first answer, kB | interactions | new p50, s | p95 | cached p50, s | p95 | sent p95, kB | wrong |\n")
    say("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n")
    lines = []
    for name in names:
        found = in_process(run, name)
        cells = [name, seconds(found["open"]), "" if found["bytes"] is None else f"{found['bytes'] / 1e3:.0f}", len(found["cached"])]
        for times in ("first", "cached"):
            cells += [seconds(statistics.median(found[times]) if found[times] else None), seconds(percentile(found[times], 0.95))]
        most = percentile(found["sent"], 0.95)
        cells += ["" if most is None else f"{most / 1e3:.0f}", found["error"] or ""]
        say(f"| {' | '.join(map(str, cells))} |\n")
        sys.stdout.flush()
        if found["warmed"] is not None:
            cold = in_process(run, name, "cold")["open"]
            took, megabytes = found["warmed"]
            lines.append(f"Warming up the lab: {took:.2f} s, {megabytes:.0f} MB; without it its first open takes {seconds(cold)} s.\n")
    say("".join(["\n", *lines] if lines else []))


def main(words):
    """Measure every page that the navigation has."""
    if words[:1] == ["--measure"]:
        sys.stdout.write(json.dumps(measured(Path(words[1]), words[2], warm="cold" not in words)) + "\n")
        return
    sys.path.insert(0, str(ROOT))
    from workbench.ui.navigation import pages

    names = [page.name for page in pages()]
    if "--page" in words:
        place = words.index("--page")
        names, words = [words[place + 1]], words[:place] + words[place + 2 :]
    further = [Path(word).resolve() for word in words] + ([EXAMPLE] if (EXAMPLE / "manifest.json").exists() else [])
    with tempfile.TemporaryDirectory() as folder:
        synthetic = Path(folder) / "runs" / "stable-diffusion-size"
        card, whole = card_reads(Path(folder) / "laid-out")
        sys.stdout.write(
            f"The activity of one neuron in 8 conditions reads {card / 1e6:.1f} MB of {whole / 1e9:.1f} GB laid out by neuron.\n"
        )
        write_synthetic(synthetic)
        for run in (synthetic, *further):
            table(run, names)


if __name__ == "__main__":
    main(sys.argv[1:])
