"""The models of tests/models, for the verbs that open checkpoints."""

from tests.models.conftest import own, still  # noqa: F401
