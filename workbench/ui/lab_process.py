"""The process that holds the lab's model: `python -m workbench.ui.lab_process FD`, started by `lab_session.py` and by nobody else.

It gets requests over a socket whose number is FD, computes one after the other, and answers. It holds one run at a time; the libraries
stay loaded when another run is asked for. When the socket closes, because the pages have ended or were killed, it ends at once.
"""

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.execution import child

if TYPE_CHECKING:
    from workbench.lab import Lab
    from workbench.ui.lab_session import Place

STOPPABLE = ("attack",)  # requests that tell their progress and can be stopped


class Holder:
    """The lab of the run that was asked for last; `place` is that run, None when no model is loaded."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self._lab: Lab | None = None

    def lab(self, place: "Place") -> "Lab":
        """The lab of a run, opened again when the run is another one or has changed."""
        from workbench.lab import Lab

        if self._lab is None or place != self.place:
            self._lab = self.place = None  # its memory is free before the next model comes
            lab = Lab(place.folder)
            lab.warm()
            self._lab, self.place = lab, place
        return self._lab

    def answer(self, name: str, place: "Place", given: tuple[Any, ...], stop: Callable[[], bool], tell: Callable[..., object]) -> Any:
        """What a request asks for."""
        from workbench.ui import live

        if name == "warm":
            return self.warm(place, stop)
        more = {"stop": stop, "tell": tell} if name in STOPPABLE else {}
        return live.REQUESTS[name](self.lab(place), *given, **more)

    def warm(self, place: "Place", stop: Callable[[], bool]) -> int:
        """Load the model of a run and compute what the page shows first; how many variants were computed before it was stopped."""
        from workbench.execution.open_run import Run
        from workbench.ui import lab_state, live, pick, run_list

        state, study = run_list.look(place.folder), Run(place.folder).study
        size = live.model_bytes(study)
        if size is None or size > live.MOST_BYTES or not state.document or not state.document["neuron_table"]:
            return 0
        asked = lab_state.first(state, lab_state.variants(state, study))
        neurons = pick.resolve(state, asked.pick)
        lab, rest = self.lab(place), lab_state.rest(state, neurons)
        if stop():
            return 0
        live.outcomes(lab, asked.variants, asked, neurons, rest)
        lab.warm_means(stop)
        return len(asked.variants)


def main() -> None:
    """Answer what is asked, until the pages end."""
    connection = child.connection_of_this()
    come: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stops: set[int] = set()

    def take(said: tuple[Any, ...]) -> None:
        kind, *rest = said
        stops.add(rest[0]) if kind == "stop" else come.put(rest)

    threading.Thread(target=child.listen, args=(connection, take), daemon=True).start()
    holder = Holder()
    while True:
        number, name, place, given = come.get()

        def stop(number: int = number) -> bool:
            return number in stops

        def tell(step: float, of: float, note: str = "") -> None:
            connection.send(("progress", step, of, note))

        try:
            said = ("finished", holder.answer(name, place, given, stop, tell))
        except Exception as error:
            said = ("failed", child.packed(error))
        connection.send((*said, holder.place))


if __name__ == "__main__":
    main()
