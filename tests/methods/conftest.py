"""Fixtures of the attacks' tests."""

import pytest
import torch

from tests import tiny
from workbench.models.load import from_pipeline
from workbench.study.prompts import read_prompts


@pytest.fixture
def targets(tmp_path):
    """Three prompts that say `ink`."""
    (tmp_path / "t.csv").write_text("unit,prompt,seed\na,owl in ink style,1\nb,cat in ink,2\nc,a house in black ink style,3\n")
    return read_prompts(tmp_path / "t.csv", "target", "target")


@pytest.fixture
def exact():
    """The tiny model in double precision."""
    return from_pipeline(tiny.pipeline(), "tiny", dtype=torch.float64)
