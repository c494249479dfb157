"""Raw activations of a few named neurons, kept so that another run can be held at them.

Columns   the reducer that keeps them: (prompt, token, neuron) at each call, for named neurons only
Held      which of them take the place of a gated neuron in each batch row
"""

from dataclasses import dataclass

import torch

from workbench.errors import RecordingMismatch


class Columns:
    """A reducer for `Taps`: every token of the named neurons, in the model's own number format.

    neurons    {layer path: (chosen,) indices}
    n_prompts  prompts to come; rows are told apart by `rows.prompt`
    calls      positions in the sampling loop
    branches   which halves are kept
    units      (prompt,) names, so that pairs can be checked; None = not known
    Memory     prompts x calls x branches x sum over layers of tokens x chosen values; nothing of the other neurons
    """

    def __init__(self, neurons, n_prompts, calls, branches=("cond",), units=None):
        self.neurons = {path: torch.as_tensor(chosen, dtype=torch.long) for path, chosen in neurons.items() if len(chosen)}
        self.n_prompts, self.calls, self.branches = n_prompts, frozenset(int(call) for call in calls), tuple(branches)
        self.units, self.kept = None if units is None else list(units), {}

    def wants(self, call):
        """Whether this call is kept."""
        return call in self.calls

    def add(self, layer, activation, rows):
        """Keep the named columns of one activation (row, token, neuron)."""
        if layer.path not in self.neurons:
            return
        if int(self.neurons[layer.path].max()) >= activation.shape[2]:
            raise RecordingMismatch(
                f'Layer "{layer.path}" has neurons 0 to {activation.shape[2] - 1}; {int(self.neurons[layer.path].max())} was named.'
            )
        columns = self.neurons[layer.path].to(activation.device)
        for branch in self.branches:
            mine = rows.of_branch(branch)
            if len(mine):
                key = layer.path, branch, rows.call
                if key not in self.kept:
                    empty = activation.new_full((self.n_prompts, activation.shape[1], len(columns)), torch.nan, device="cpu")
                    self.kept[key] = empty
                self.kept[key][rows.prompt[mine].cpu()] = activation[mine.to(activation.device)].index_select(2, columns).cpu()

    def at(self, path, neurons, call, branch):
        """(prompt, token, neuron) of some of the kept neurons.

        Raises   RecordingMismatch when these were not recorded at this call and branch
        """
        key = path, branch, call
        if key not in self.kept:
            have = ", ".join(str(c) for c in sorted({c for _, b, c in self.kept if b == branch})) or "none"
            raise RecordingMismatch(
                f'Neurons of "{path}" are to be held at values of call {call}, {branch} branch, which were not recorded. '
                f"Recorded calls of that branch: {have}. Record the source with the same steps, or narrow the window of calls."
            )
        neurons, own = torch.as_tensor(neurons, dtype=torch.long), self.neurons[path]
        place = {int(neuron): position for position, neuron in enumerate(own)}
        absent = [int(neuron) for neuron in neurons if int(neuron) not in place]
        if absent:
            raise RecordingMismatch(
                f'{len(absent)} neurons of "{path}" were not recorded, e.g. {absent[0]}. Record them in the source too.'
            )
        values = self.kept[key].index_select(2, torch.tensor([place[int(neuron)] for neuron in neurons]))
        if values.isnan().any():
            rows = torch.nonzero(values.isnan().flatten(1).any(1)).flatten()
            raise RecordingMismatch(
                f'Prompt {int(rows[0])} (and {len(rows) - 1} more) of "{path}" at call {call} was never recorded, or is no number.'
            )
        return values

    @property
    def bytes(self):
        """What is kept now."""
        return sum(values.numel() * values.element_size() for values in self.kept.values())


@dataclass
class Held:
    """Values of one gate row in one layer.

    source    Columns of another condition, at the same calls
    path      layer path;  neurons (chosen,) long
    draw      (prompt,) long, the source prompt of each prompt; None = the same one
    average   True = one value per neuron, the mean over the source's prompts and tokens at that call
    """

    source: Columns
    path: str
    neurons: torch.Tensor
    draw: torch.Tensor | None = None
    average: bool = False

    def __post_init__(self):
        self._now = None, None

    def values(self, rows, mine):
        """(row, token or 1, chosen) for the rows at the positions `mine`."""
        found = []
        for row in mine.tolist():
            branch = rows.branch[row]  # nothing was recorded of a further branch of guidance: what holds is that of the cond branch
            here = self._source(rows.call, "cond" if branch == "further" else branch)
            found.append(here if self.average else here[self._prompt(int(rows.prompt[row]), len(here))])
        return torch.stack(found)

    def _source(self, call, branch):
        """(prompt, token, chosen), or (1, chosen) of an average; the last one asked for is remembered."""
        if self._now[0] != (call, branch):
            values = self.source.at(self.path, self.neurons, call, branch)
            self._now = (call, branch), values.mean(dim=(0, 1))[None] if self.average else values
        return self._now[1]

    def _prompt(self, prompt, n):
        """The source prompt of a prompt."""
        place = prompt if self.draw is None else int(self.draw[prompt])
        if not 0 <= place < n:
            raise RecordingMismatch(f"Prompt {prompt} takes its values from prompt {place} of a source with {n} prompts.")
        return place
