"""The child processes of test_kill.py: everything is imported once in the fork server, so that a child starts at once."""

import diffusers
import torch
import transformers

from workbench.run import measure, reporting, runs, stages

IMPORTED = (diffusers.StableDiffusionPipeline, transformers.CLIPTextModel, measure, reporting, stages)


def run(study_file, folder):
    """Run the study on one thread, so that every process computes the same bits."""
    torch.set_num_threads(1)
    runs.run(study_file, folder)
