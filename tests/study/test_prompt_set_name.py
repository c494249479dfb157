"""Names of prompt sets: what is written is read back."""

from hypothesis import given
from hypothesis import strategies as st

from workbench.study.prompt_set_name import PromptSetName, control_of, name_of

LABELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
VARIANTS = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


@given(LABELS, st.none() | VARIANTS, st.booleans())
def test_a_name_is_read_back_as_it_was_written(attack, against, control):
    assert PromptSetName.read(name_of(attack, against, control)) == (attack, against, control)


def test_names_are_those_of_the_run_folders():
    assert name_of("embedding_pgd", "erased", True) == "embedding_pgd@erased~control" == control_of("embedding_pgd@erased")
    assert name_of("random_tokens") == "random_tokens" and control_of("random_tokens") == "random_tokens~control"


def test_a_control_has_no_control():
    assert control_of("a@b~control") not in ("a@b~control", "a@b")
