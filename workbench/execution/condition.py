"""A condition: a variant with a prompt set. Only this module writes ids of nodes, and the columns that say which condition a row is of.

Condition    (variant, prompt set): the id of its node in a stage, its columns in report.json
erasing      the id of the node that makes a variant;  attacking   that of the node that makes an attack's prompts
"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from workbench.execution.workspace import Workspace


class Condition(NamedTuple):
    """A variant with a prompt set, by their names."""

    variant: str
    prompt_set: str

    def node(self, stage: str, *before: str) -> str:
        """The id of its node in a stage, such as "record:erased:target"; `before` stands between the two."""
        return ":".join((stage, *before, self.variant, self.prompt_set))

    def keys(self, workspace: "Workspace") -> dict[str, Any]:
        """The columns that say which condition a row is of: variant, prompt_set, attack, provenance, against, control."""
        planned = workspace.plan.sets[self.prompt_set]
        return {
            "variant": self.variant,
            "prompt_set": self.prompt_set,
            "attack": planned.attack,
            "provenance": workspace.prompt_set(self.prompt_set).provenance(self.variant),
            "against": planned.against,
            "control": planned.control,
        }


def erasing(variant: str) -> str:
    """The id of the node that makes a variant."""
    return f"erase:{variant}"


def attacking(name: str) -> str:
    """The id of the node that makes the prompts of an attack and of its control; `name` is that of the attack's prompt set."""
    return f"attack:{name}"
