"""A study of Stable Diffusion's real size, from a published list of prompts to the finished report, on a randomly initialised model.

Everything is done by the commands that docs and study name, each a process of its own: the base model and a stand-in for the detector are
written as files, prompts imported, the bundled study sd14-church-check copied and run with few units, steps and iterations.

What is finished is kept under runs/full-size/; stopped, it resumes. The table goes to docs/results/full-size.md.
"""

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil

from experiments.full_size import copies, measured, models, tables
from workbench.errors import RunError, WorkbenchError
from workbench.execution.run_folder import Store
from workbench.storage import read_json, write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "results" / "full-size.md"
STUDY = "sd14-church-check"
# as prompts/church.csv of UnlearnDiffAtk is written: its columns, other prompts
COLUMNS = "case_number,prompt,evaluation_seed,evaluation_guidance"
PROMPTS = (
    "A church with bright stained glass windows.",
    "A white church on a hill in the evening sun.",
    "A small stone church beside a river.",
    "A church at night, its bells ringing.",
)
LISTS = {
    "target": (),
    "reference": ("--swap", "church=barn"),
    "near": ("--swap", "church=castle", "--expect", "castle"),
}
SMALL = (
    "sampling.steps=2",
    "variants.0.parameters.iterations=3",
    "variants.0.parameters.steps=2",
    "variants.0.parameters.trajectories=1",
    "attacks.0.parameters.timesteps=1",
    "attacks.0.parameters.iterations=2",
    "attacks.0.parameters.looks=1",
    "record.trajectories=['reference']",
    "quality.noise_floor=[]",
)
CHANGES = {  # PNDM makes 3 calls for 2 steps, Euler 2
    "sd14": (*SMALL, "record.calls=[0, 2]"),
    "sdxl": (*SMALL, "record.calls=[0, 1]", f"model.base={models.BASES['sdxl']}", "model.dtype=bfloat16")
    + ("variants.0.parameters.modules=x",),
}
DTYPES = {"sd14": "float32", "sdxl": "bfloat16"}
DISK = {"sd14": 12, "sdxl": 12}  # GB, about
WORKBENCH = [sys.executable, "-P", "-m", "workbench.cli"]


def say(line):
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def without_far(text):
    """The text of the study with one retained list, not two."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("far = "))


class Walk:
    """One model's walk in its own folder; steps that are finished are not done again.

    folder    prompts and model files are beside the study in it, the run folder is `run`
    """

    def __init__(self, kind, size, folder):
        self.kind, self.size, self.folder = kind, size, Path(folder)
        self.store = Store(self.folder / "run")
        self.base = self.folder / models.BASES[kind]

    @property
    def known(self):
        """[{step, command, seconds, exit, resident, anonymous, nodes}] of everything done so far."""
        path = self.folder / "steps.json"
        return read_json(path) if path.is_file() else []

    def done(self, name):
        """Whether a step has ended well."""
        return any(row["step"] == name and row["exit"] == 0 for row in self.known)

    def step(self, name, words, run_log=None):
        """Do a step, if it is not done yet.

        Raises   RunError when its command fails
        """
        if self.done(name):
            return
        say(f"{self.kind}, {name}")
        log = self.folder / "walk.log"
        self.folder.mkdir(parents=True, exist_ok=True)
        row = {"step": name, "command": " ".join(map(str, words))} | measured.run([str(word) for word in words], log, run_log)
        write_json(self.folder / "steps.json", [*self.known, row])
        if row["exit"]:
            raise RunError(f"{name} ended with {row['exit']}; what it said is in {log}.")

    def prepare(self):
        """Model, detector, prompts and study as files."""
        merges = models.merges_file(self.folder.parent / "vocabulary")
        self.base.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.base.with_name(f"{self.base.name}.half"), ignore_errors=True)
        self.step("model", [sys.executable, "-m", "experiments.full_size.models", self.kind, self.size, merges, self.base])
        if not (self.folder / "models" / "resnet-50" / "preprocessor_config.json").is_file():
            models.classifier(self.folder / "models" / "resnet-50")
        source, rows = self.folder / "church.csv", [f'{i},"{prompt}",{1000 + i},7.5' for i, prompt in enumerate(PROMPTS)]
        write_text(source, "\n".join([COLUMNS, *rows]) + "\n")
        for name, words in LISTS.items():
            out = self.folder / "prompts" / f"sd14-church-{name}"
            given = ["--provenance", "static", *words, "--model", self.base, "--out", out, "--force"]
            self.step(f"import {name}", [*WORKBENCH, "import-prompts", source, *given])
        if not self.done("init"):
            (self.folder / "full-size.toml").unlink(missing_ok=True)
        self.step("init", [*WORKBENCH, "init", "full-size", "--like", STUDY, "--out", self.folder])
        study = self.folder / "full-size.toml"
        write_text(study, without_far(study.read_text(encoding="utf-8")))

    def words(self):
        """The command that runs the study."""
        sets = [word for change in CHANGES[self.kind] for word in ("--set", change)]
        return [*WORKBENCH, "run", self.folder / "full-size.toml", "--out", self.store.folder, "--engine", "inline", *sets]

    def run(self):
        """The study, to its report."""
        self.step("run", self.words(), self.store.folder / "run.log")

    def copies(self):
        """The questions of `copies`, {what: its answer}; those asked before are kept."""
        found, path = {}, self.folder / "copies.json"
        known = read_json(path) if path.is_file() else {}
        for what in copies.QUESTIONS:
            if what not in known:
                out = self.folder / f"copies-{what}.log"
                out.unlink(missing_ok=True)
                words = [sys.executable, "-m", "experiments.full_size.copies", what, self.store.folder, self.base, DTYPES[self.kind]]
                row = measured.run([str(word) for word in words], out)
                if row["exit"]:
                    raise RunError(f"The question {what} ended with {row['exit']}; what it said is in {out}.")
                known[what] = json.loads(out.read_text().strip().splitlines()[-1])
                write_json(path, known)
            found[what] = known[what]
        return found

    def summary(self):
        """What the document says of this model: written beside the steps, so that the tables of both models can be made anew."""
        manifest = self.store.manifest()
        about = {"kind": self.kind, "size": self.size, "dtype": DTYPES[self.kind], "steps": self.known, "nodes": manifest["nodes"]}
        about |= {"changes": list(CHANGES[self.kind]), "parameters": tables.n_parameters(self.base)}
        path = self.folder / "copies.json"
        about |= {"copies": read_json(path) if path.is_file() else {}, "report": self.report()}
        about |= {"disk": {"base model": tables.on_disk(self.base)} | tables.disk_by_stage(self.store.folder)}
        write_json(self.folder / "summary.json", about | tables.surroundings())

    def report(self):
        """{file: bytes} of the report."""
        return {path.name: path.stat().st_size for path in sorted(self.store.report_folder.glob("report.*"))}


def main():
    """Parse, walk, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xl", action="store_true", help="SDXL base in bfloat16 in place of Stable Diffusion 1.4 in float32")
    parser.add_argument("--size", type=int, choices=(64, 32), default=64, help="latent positions along one side; 32 costs a fifth")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "full-size", help="folder of everything")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="where the tables go")
    parser.add_argument("--dry-run", action="store_true", help="say what the study would compute, once model and prompts are there")
    parser.add_argument("--tables", action="store_true", help="only write the document anew")
    given = parser.parse_args()
    kind = "sdxl" if given.xl else "sd14"
    walk = Walk(kind, given.size, given.out.absolute() / f"{kind}-{given.size}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the command that runs is ended too
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if given.dry_run and not walk.done("init"):
        free = psutil.virtual_memory().available / 2**30
        say(f"The model is not there yet. It takes some minutes and about {DISK[kind]} GB on disk; {free:.0f} GiB of memory are free.")
        return
    if given.dry_run:
        os.execv(sys.executable, [str(word) for word in [*walk.words(), "--dry-run"]])
    if not given.tables:
        try:
            walk.prepare()
            walk.run()
            walk.copies()
        finally:
            if walk.store.is_run():
                walk.summary()
    found = [read_json(path) for path in sorted(given.out.glob("*/summary.json"))]
    write_text(given.document, tables.document(found))
    say(f"Written: {given.document}")


if __name__ == "__main__":
    try:
        main()
    except WorkbenchError as error:
        sys.stderr.write(f"full size: {error}\n")
        sys.exit(2)
