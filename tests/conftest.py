"""Fixtures: a tiny model with the real architecture."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest  # noqa: E402


@pytest.fixture
def model():
    """A tiny random base model."""
    from tests import tiny
    from workbench.models.load import from_pipeline

    return from_pipeline(tiny.pipeline(), "tiny")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny pipeline saved as a diffusers folder."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny.pipeline().save_pretrained(folder)
    return folder
