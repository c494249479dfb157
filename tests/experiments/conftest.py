"""The tiny study of tests/execution, for experiments."""

from tests.execution.conftest import finished, study_file  # noqa: F401
