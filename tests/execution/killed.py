"""The child processes of test_kill.py: everything is imported once in the fork server, so that a child starts at once."""

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

import diffusers
import filelock
import psutil
import torch
import transformers

from workbench import resources
from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.execution import execute, workspace
from workbench.execution.engines import inline
from workbench.execution.stages import measure, report
from workbench.models import load

IMPORTED = (filelock, psutil, diffusers.StableDiffusionPipeline, transformers.CLIPTextModel, inline, measure, report, workspace)


def ready():
    """Nothing: the first child waits until the fork server has imported everything."""


def run(study_file, folder, model=None, data=None, largest_file=None, user=None, error_file=None):
    """Run the study on one thread, so that every process computes the same bits.

    data           folder of bundled data that this user may read
    largest_file   bytes after which the system refuses to write, as a full disk does
    user           become this user once the model is loaded;  error_file   where an expected error is written
    """
    torch.set_num_threads(1)
    model = load.load(model) if model else None
    if data:
        resources.folder = lambda name: Path(data)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    if user is not None:
        execute.prepare(study_file, folder, model=model)  # imports the methods: the other user may not be able to read the checkout
        os.seteuid(user)
    try:
        execute.run(study_file, folder, model=model)
    except WorkbenchError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(error_file).write_text(str(error))
        sys.exit(2)


def command(words, said):
    """The command line itself, which ends the process with its exit code; what it says goes into the file `said`."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a test run under nohup would hand down that it is ignored
    sys.argv = ["workbench", *words]
    with open(said, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        main.main()
