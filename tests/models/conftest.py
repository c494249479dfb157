"""What reading of checkpoints shares: one model that nothing changes, and the UNet's own tensors."""

import pytest

from tests.models import given


@pytest.fixture(scope="session")
def still():
    """A tiny base model that tests only read."""
    from tests import tiny
    from workbench.models.load import from_pipeline

    return from_pipeline(tiny.pipeline(), "tiny")


@pytest.fixture(scope="session")
def own():
    """The state dict of its UNet."""
    return given.unet()
