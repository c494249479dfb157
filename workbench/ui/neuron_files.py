"""The neuron table of a run, a few columns at a time, for what needs no Streamlit.

frame      columns of neurons.parquet as a data frame;   columns   their names and kinds
"""

from functools import lru_cache
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet

from workbench.errors import RunError
from workbench.storage import DamagedFile
from workbench.ui.neuron_table import checked
from workbench.ui.run_list import State

FILE = "neurons.parquet"
ALWAYS = ("layer", "index", "site")


def frame(state: State, columns: tuple[str, ...] = ()) -> pandas.DataFrame:
    """layer, index, site and the given columns, as far as the table has them; shared between callers, so never changed.

    Raises   RunError without a table, or for a damaged one
    """
    return _frame(*_file(state), tuple(dict.fromkeys((*ALWAYS, *columns))))


def columns(state: State) -> dict[str, str]:
    """{column: kind of its values as pyarrow says it} of the neuron table; RunError without one."""
    return dict(_columns(*_file(state)))


def _file(state: State) -> tuple[str, int, int]:
    path = state.report_folder / FILE
    if not state.document or state.document.get("neuron_table") is None or not path.is_file():
        raise RunError(f"The run {state.folder.name} has no table of single neurons yet. Run its study again to finish it: {state.command}")
    about = path.stat()
    return str(path), about.st_mtime_ns, about.st_size


@lru_cache(maxsize=8)
def _columns(path: str, modified: int, size: int) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((field.name, str(field.type)) for field in pyarrow.parquet.read_schema(path))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(path, error) from None


@lru_cache(maxsize=16)
def _frame(path: str, modified: int, size: int, wanted: tuple[str, ...]) -> pandas.DataFrame:
    known = {name for name, _ in _columns(path, modified, size)}
    try:
        table = pandas.read_parquet(path, columns=[name for name in wanted if name in known], page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(Path(path), error) from None
    return checked(table, path)
