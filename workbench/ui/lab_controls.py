"""The controls of the Ablation lab: which neurons, what is done to them, undo and redo. What they say is in the session and the address."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import streamlit as st

from workbench.errors import RunError
from workbench.ui import lab_state, layer_names, neuron_files, pick
from workbench.ui.lab_state import Asked, History
from workbench.ui.run_list import State
from workbench.ui.text import plain

SOURCES = {"named": "a named set", "highest": "highest by a score", "layer": "a layer", "link": "by name or number"}
SIZES = (1, 2, 5, 10, 20, 50, 100, 150, 200, 400, 800, 1600)
MODE_HELP = (
    "zero: towards 0 · mean: towards the mean of the reference prompts · scale: multiplied by the strength · clamp: held at the strength "
    "times the mean of the target prompts · patch: towards the base model's values"
)
BRANCHES = ("cond", "uncond", "both")
SHARES = ("zero", "mean", "patch")  # modes whose strength is a share


def _share(text: str) -> float | None:
    try:
        return min(max(float(text), 0.0), 5.0)
    except ValueError:
        return None


IN_ADDRESS: dict[str, Callable[[str], Any]] = {  # key -> how its text is read; None where it says nothing that is possible
    "pick": str,
    "lab-prompt": str,
    "lab-seeds": str,
    "lab-mode": lambda text: text if text in lab_state.MODES else None,
    "lab-strength": _share,
    "lab-branch": lambda text: text if text in BRANCHES else None,
}


@dataclass(frozen=True)
class Controls:
    """The controls of one run.

    variants   that can be shown;  n_calls   of the UNet for one image
    """

    state: State
    variants: tuple[str, ...]
    n_calls: int

    def begin(self) -> None:
        """Set the controls when the page is first opened on this run; what the address says wins."""
        if st.session_state.get("lab-run") == str(self.state.folder):
            return
        self.put(lab_state.first(self.state, self.variants))
        for key, read in IN_ADDRESS.items():
            if (said := st.query_params.get(key)) is not None and (value := read(said)) is not None:
                st.session_state[key] = value
        st.session_state["lab-run"] = str(self.state.folder)

    def put(self, asked: Asked | None) -> None:
        """Set the controls to a state."""
        if asked is None:
            return
        st.session_state["pick"] = asked.pick
        st.session_state["lab-mode"], st.session_state["lab-branch"] = asked.mode, asked.branch
        st.session_state["lab-strength"] = asked.strength
        st.session_state["lab-calls"] = asked.calls or (0, self.n_calls - 1)
        st.session_state["lab-prompt"] = asked.prompt
        st.session_state["lab-seeds"] = ", ".join(map(str, asked.seeds))
        st.session_state["lab-variants"] = list(asked.variants)

    @property
    def history(self) -> History:
        """Undo and redo of this run in this session."""
        kept: dict[str, History] = st.session_state.setdefault("lab-history", {})
        return kept.setdefault(str(self.state.folder), History())

    def note(self) -> None:
        """Note the state for undo, before the buttons are drawn that say whether there is one."""
        with suppress(RunError):
            self.history.show(self.asked())

    def neurons(self) -> None:
        """Which neurons."""
        source = st.radio("Neurons", list(SOURCES), format_func=SOURCES.__getitem__, key="lab-source", horizontal=True)
        if source == "named":
            self._named()
        elif source == "highest":
            self._highest()
        elif source == "layer":
            layers = sorted(neuron_files.frame(self.state)["layer"].unique())
            st.selectbox(
                "Layer",
                layers,
                index=None,
                key="lab-layer",
                on_change=_picked_by,
                args=("layer",),
                format_func=layer_names.short,
                placeholder="Choose a layer",
            )
        st.text_input(
            "Picked",
            key="pick",
            bind="query-params",
            help=f"The neurons as a link names them; can be typed. Forms: {pick.FORMS}",
        )
        with st.container(horizontal=True):
            is_random = Asked(pick=st.session_state["pick"]).is_random
            st.button(
                "Back to the picked neurons" if is_random else "Same size at random",
                key="lab-swap",
                on_click=_swap,
                icon=":material/shuffle:",
                help="A comparable random set: as many neurons in each layer, none of those picked",
            )
            if is_random:
                st.button("Another", key="lab-another", on_click=_another)

    def _named(self) -> None:
        named, now = pick.choices(self.state), st.session_state["pick"]
        st.session_state["lab-named"] = now if now in named else None
        st.selectbox(
            "Set, cluster or list",
            named,
            index=None,
            format_func=pick.words,
            key="lab-named",
            on_change=_picked_by,
            args=("named",),
            placeholder="Choose a set",
        )

    def _highest(self) -> None:
        kinds = neuron_files.columns(self.state)
        numbers = [name for name, kind in kinds.items() if "float" in kind or "double" in kind]
        n = len(neuron_files.frame(self.state))
        st.selectbox("Score", numbers, index=None, key="lab-column", on_change=_picked_by, args=("highest",), placeholder="Choose a score")
        st.select_slider("How many", [k for k in SIZES if k <= n], key="lab-k", on_change=_picked_by, args=("highest",))

    def ablation(self) -> None:
        """What is done to them."""
        st.segmented_control(
            "Mode",
            list(lab_state.MODES),
            format_func=lab_state.MODES.__getitem__,
            required=True,
            key="lab-mode",
            bind="query-params",
            help=MODE_HELP,
        )
        most = 1.0 if st.session_state["lab-mode"] in SHARES else 5.0
        if st.session_state.get("lab-most", most) != most:  # a slider with another range forgets its value, also the one in the address
            st.session_state["lab-strength"] = min(st.session_state["lab-kept-strength"], most)
        st.session_state["lab-most"] = most
        strength = st.session_state["lab-kept-strength"] = st.slider("Strength", 0.0, most, step=0.05, key="lab-strength")
        if st.query_params.get("lab-strength", "1") != f"{strength:g}":
            st.query_params["lab-strength"] = f"{strength:g}"
        st.slider("Calls of the UNet", 0, self.n_calls - 1, key="lab-calls", help="The calls at which the ablation works, from 0")
        st.segmented_control("Branch", BRANCHES, required=True, key="lab-branch", bind="query-params")
        past = self.history
        with st.container(horizontal=True):
            st.button("Undo", key="lab-undo", icon=":material/undo:", disabled=not past.can_undo, on_click=self._undo, shortcut="Ctrl+Z")
            st.button("Redo", key="lab-redo", icon=":material/redo:", disabled=not past.can_redo, on_click=self._redo, shortcut="Ctrl+Y")

    def _undo(self) -> None:
        self.put(self.history.undo())

    def _redo(self) -> None:
        self.put(self.history.redo())

    def images(self) -> None:
        """For which images."""
        one, two = st.columns([3, 1])
        one.text_input("Prompt", key="lab-prompt", bind="query-params", max_chars=lab_state.MOST_LETTERS)
        two.text_input("Seeds", key="lab-seeds", bind="query-params", help=f"At most {lab_state.MOST_SEEDS}, with commas")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.pills("Variants", self.variants, selection_mode="multi", key="lab-variants")
            st.toggle("Under attack", key="lab-attacked", help="The vectors that the attack found stand before the prompt")
            with st.popover("The run's prompts", icon=":material/format_quote:"):
                for prompt, seed in lab_state.prompts(self.state)[:12]:
                    name = f"lab-prompt-{prompt}-{seed}"
                    st.button(f"{plain(prompt)} ({seed})", key=name, on_click=_example, args=(prompt, seed), type="tertiary")

    def asked(self) -> Asked:
        """What the controls say; RunError where that is no request."""
        said = st.session_state
        first, last = said["lab-calls"]
        return Asked(
            pick=said["pick"],
            mode=said["lab-mode"],
            strength=float(said["lab-strength"]),
            calls=None if (first, last) == (0, self.n_calls - 1) else (first, last),
            branch=said["lab-branch"],
            prompt=lab_state.prompt_of(said["lab-prompt"]),
            seeds=lab_state.seeds_of(said["lab-seeds"]),
            variants=tuple(name for name in self.variants if name in (said["lab-variants"] or ())),
        )


def _swap() -> None:
    """A comparable random set instead of the picked neurons, or back."""
    st.session_state["pick"] = Asked(pick=st.session_state["pick"]).swapped(st.session_state.get("lab-random", 1)).pick


def _another() -> None:
    """The next comparable random set."""
    seed = st.session_state["lab-random"] = st.session_state.get("lab-random", 1) + 1
    st.session_state["pick"] = Asked(pick=st.session_state["pick"]).swapped().swapped(seed).pick


def _picked_by(source: str) -> None:
    """Write what the controls of a source say into the pick."""
    said = st.session_state
    if source == "named" and said.get("lab-named"):
        said["pick"] = said["lab-named"]
    elif source == "highest" and said.get("lab-column"):
        said["pick"] = f"top:{said['lab-column']}:{said['lab-k']}"
    elif source == "layer" and said.get("lab-layer"):
        said["pick"] = f"layer:{said['lab-layer']}"


def _example(prompt: str, seed: int) -> None:
    """Ask for one of the run's prompts."""
    st.session_state["lab-prompt"], st.session_state["lab-seeds"] = prompt, str(seed)
