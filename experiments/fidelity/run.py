"""How well cheap scores say what happens when neurons of the emoji model are really taken out, and what they cost.

Base and ESD variant of the study emoji-ink-style, target T2, on the base model's target trajectories. Two questions, each with
its own truth: one neuron out (a fixed random sample, and the top of the list; goal: Spearman 0.9 within 5 UNet passes), and a
whole random set out (goal: Pearson 0.8). A forward or backward pass of one row counts 1. Finished tables are kept under
runs/fidelity/, so that a stopped experiment resumes.
"""

import argparse
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from workbench.analysis.fidelity import by_sets, one_by_one
from workbench.diffusion.denoise import denoise
from workbench.diffusion.targets import Items, Linear
from workbench.execution import execute
from workbench.models import text
from workbench.models.variants import applied, exchanged
from workbench.neurons import sites
from workbench.storage import digest, read_table, write_table
from workbench.study.study import BASE, load_study

ONE_BY_ONE = {
    "gradient": ("gradient", {}),
    "curvature": ("curvature", {}),
    "curvature, paired": ("curvature", {"paired": True}),
    "first 5 % of the way": ("integrated", {"share": 0.05, "n_steps": 1}),
    "whole way, 8 steps": ("integrated", {"n_steps": 8}),
}
SHARES = (0.01, 0.1, 0.3)


def by_set_methods(share):
    """What is asked of random sets of this share."""
    return {
        "gradient": ("gradient", {}),
        f"first {share:.0%} of the way": ("integrated", {"share": share, "n_steps": 1}),
        f"first {share:.0%} of the way, 2 steps": ("integrated", {"share": share, "n_steps": 2}),
        "whole way, 8 steps": ("integrated", {"n_steps": 8}),
    }


class Bench:
    """Models, prompts and latents; tables that are computed once."""

    def __init__(self, given):
        self.given, self.folder = given, Path(given.out)
        study = load_study("emoji-ink-style")
        _, self.workspace = execute.prepare(study, self.folder)
        self.erased = study.variants[0].name
        if self.erased in given.models:
            execute.run_nodes(self.workspace, [self.workspace.plan.node(f"erase:{self.erased}")], others=[Path("runs") / study.name])
        self.model, n = self.workspace.model, given.prompts
        self.rows = {name: self.workspace.prompt_set(name).rows(0, n) for name in ("target", "reference")}
        self.own = {name: parameter.data for name, parameter in self.model.parameters().items()}
        self.base = self._states()
        sampling = {"n_steps": study.sampling.steps, "guidance": study.sampling.guidance, "keep": given.calls}
        empty = text.unconditional(self.model)
        _, self.trajectory = denoise(self.model, self.base["target"], empty, self.rows["target"].seeds, **sampling)
        self.layers = sites.layers(self.model.unet, ["ff"])

    @torch.no_grad()
    def _states(self):
        return {name: text.encode(self.model, rows.prompts) for name, rows in self.rows.items()}

    def table(self, name, measure, *arguments, **more):
        """measure(model, layers, items, target, ...) of one model, kept as a file under its settings."""
        about = [self.model.digest(), name, measure.__name__, arguments, more, self.given.prompts, self.given.calls]
        path = self.folder / "fidelity" / f"{digest([str(part) for part in about])[:16]}.parquet"
        if not path.exists():
            began = time.perf_counter()
            with applied(self.model, self.workspace.variant(name)) if name != BASE else nullcontext():
                states = self._states()
                items = Items(self.trajectory, states["target"], list(self.rows["target"].table["unit"]))
                target = Linear(
                    states["reference"], self.base["target"], self.base["reference"], base=lambda: exchanged(self.model, self.own)
                )
                found = measure(self.model, self.layers, items, target, *arguments, batch=self.given.batch, **more)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(path, found)
            sys.stderr.write(f"{name}, {measure.__name__}: {time.perf_counter() - began:.0f} s\n")
        return read_table(path)


def shown(row, measure):
    """0.950 (0.930 to 0.970)"""
    return f"{row[measure]:.3f} ({row[f'{measure}_low']:.3f} to {row[f'{measure}_high']:.3f})"


def main():
    """Print the two tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=[BASE, "erased"])
    parser.add_argument("--prompts", type=int, default=8, help="target prompts; each is a unit of its own")
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 4, 7])
    parser.add_argument("--neurons", type=int, default=200, help="in the random sample")
    parser.add_argument("--top", type=int, default=50, help="of the list")
    parser.add_argument("--sets", type=int, default=100, help="random sets of each share")
    parser.add_argument("--batch", type=int, default=16, help="UNet rows at once")
    parser.add_argument("--out", default="runs/fidelity", help="folder of the results")
    given = parser.parse_args()
    bench, say = Bench(given), sys.stdout.write
    say(
        f"Emoji model, target T2, {given.prompts} prompts, calls {', '.join(map(str, given.calls))}, base model's target trajectory; "
        "zero ablation; brackets: 95 %, prompts and neurons (or sets) resampled together.\n\n"
        "One neuron out: scores against exact single ablation\n\n"
        "| model | gates on | method | UNet passes | sample: Spearman | top: Spearman | sample: Pearson |\n|---|---|---|---:|---|---|---|\n"
    )
    for name in given.models:
        for both in (False, True):
            methods = ONE_BY_ONE if not both else {"gradient": ONE_BY_ONE["gradient"]}
            found = bench.table(name, one_by_one, methods, given.neurons, given.top, both=both)
            for method, rows in found.groupby("method", sort=False):
                sample, top = (rows[rows["where"] == where].iloc[0] for where in ("sample", "top"))
                gated = "prompt and reference" if both else "prompt"
                say(f"| {name} | {gated} | {method} | {sample['passes']:g} | {shown(sample, 'spearman')} | ")
                say(f"{shown(top, 'spearman')} | {shown(sample, 'pearson')} |\n")
                sys.stdout.flush()
    say("\nA random set out: sums of scores against ablation of the whole set\n\n")
    say("| model | share of neurons | sets | method | UNet passes | Pearson | Spearman |\n|---|---:|---:|---|---:|---|---|\n")
    for name in given.models:
        for share in SHARES:
            found = bench.table(name, by_sets, by_set_methods(share), share, given.sets)
            for _, row in found.iterrows():
                say(f"| {name} | {share:.0%} | {row['n_sets']} | {row['method']} | {row['passes']:g} | ")
                say(f"{shown(row, 'pearson')} | {shown(row, 'spearman')} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
