"""From file: adversarial prompts made elsewhere, as a CSV with the columns unit and prompt (seed if the file has them)."""

from pydantic import BaseModel, ConfigDict, Field

from workbench import resources
from workbench.errors import PromptError
from workbench.methods.attacks import other_seeds, reworded
from workbench.study.prompts import read_prompts

OPTIMISED = False


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(description="CSV with one adversarial prompt for each unit of the target set")
    seed: int = Field(0, description="of the control's other noise")


def attack(model, targets, parameters, context):
    """Read the file and put its prompts in the order of the targets.

    Raises   PromptError when a unit of the targets has no row
    """
    path = resources.find_file(parameters.file, context.folder)
    given = read_prompts(path, "adversarial", "adversarial").table
    rows = given.drop_duplicates("unit").set_index("unit")
    missing = [unit for unit in targets.units if unit not in rows.index]
    if missing:
        raise PromptError(
            f'{path} has no prompt for {len(missing)} units of the target set, e.g. "{missing[0]}". '
            "Give the file a column `unit` that repeats the target set's units."
        )
    return reworded(targets, rows.loc[targets.units, "prompt"], context)


def control(model, targets, adversarial, parameters, context):
    """The unchanged prompts from other noise."""
    return other_seeds(targets, context, 1_000_003 + parameters.seed)
