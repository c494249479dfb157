"""Every error a user can meet: what was asked, what was found, what is possible, what to do next."""

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Base of all expected errors; the command line prints the message and exits with code 2."""


class StudyError(WorkbenchError):
    """A study file says something impossible."""


class PromptError(WorkbenchError):
    """A prompt set cannot be used."""


class ModelError(WorkbenchError):
    """A model or checkpoint cannot be loaded or does not fit."""


class MethodError(WorkbenchError):
    """An eraser, attack, detector or score cannot do what was asked."""


class RecordingMismatch(WorkbenchError):
    """Two recordings, or a recording and a model, do not belong together."""


class StatisticsError(WorkbenchError):
    """A number cannot be computed from these data."""


class PlanError(WorkbenchError):
    """The plan of a run lacks a node, or a stage reads what it may not read."""


class RunError(WorkbenchError):
    """A run folder cannot be used."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind when it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def nearest(name: object, possible: Iterable[str]) -> str:
    """' Did you mean "esd"?' when one of the possible names is close, else the list of them."""
    possible = sorted(possible)
    close = difflib.get_close_matches(str(name), possible, n=1, cutoff=0.5)
    listed = ", ".join(possible) or "none"
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return f"{hint} Possible: {listed}."
