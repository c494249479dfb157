"""Where a study's time goes: the share of each stage spent inside the UNet, and the run folder's size over the dry run's estimate."""

import sys
import tempfile
from pathlib import Path

from inside import inside_the_unet
from on_device import DEVICE, clock

from workbench.execution import cost, execute
from workbench.models import load
from workbench.study.study import load_study


def main(limit=20):
    """Run the default study on its first prompts and print the table as Markdown."""
    model = load.load("emoji", DEVICE)
    stages, spent = {}, {}
    study = load_study("emoji-ink-style").with_values([f"prompts.limit={limit}"])
    with tempfile.TemporaryDirectory() as folder:
        plan, workspace = execute.prepare(study, Path(folder) / "run", model=model)
        expected = cost.estimate(plan, workspace).bytes
        original = type(workspace).run

        def measured(self, node, shard, to):
            before, began = inside[0], clock()
            original(self, node, shard, to)
            stages[node.stage] = stages.get(node.stage, 0.0) + inside[0] - before
            spent[node.stage] = spent.get(node.stage, 0.0) + clock() - began

        type(workspace).run = measured
        with inside_the_unet(model) as inside:
            execute.run(study, Path(folder) / "run", model=model)
        size = sum(p.stat().st_size for p in (Path(folder) / "run" / "nodes").rglob("*") if p.is_file())
    sys.stdout.write("| stage | seconds | share inside the UNet, forward and backward |\n|---|---:|---:|\n")
    for stage, seconds in spent.items():
        sys.stdout.write(f"| {stage} | {seconds:.1f} | {stages[stage] / seconds:.2f} |\n")
    sys.stdout.write(
        f"\nRun folder {size / 1e6:.1f} MB, the dry run said {expected / 1e6:.1f} MB: {size / expected:.2f} times the estimate.\n"
    )


if __name__ == "__main__":
    main()
