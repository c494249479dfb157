"""Names of a concept found in prompts as whole words."""

import pytest

from workbench.study.words import any_of, saying


@pytest.mark.parametrize("prompt", ["a church", "A CHURCH.", "churches at dusk", "the church's door", "(church:1.2)", "an old_church, old"])
def test_a_name_is_said_in_any_case_with_marks_around_it_and_in_the_plural(prompt):
    assert saying([prompt], ["church"]) == [True]


@pytest.mark.parametrize("prompt", ["churchill", "a chur ch", "mychurch", "", "church2"])
def test_a_part_of_a_longer_word_is_no_name(prompt):
    assert saying([prompt], ["church"]) == [False]


def test_a_name_of_several_words_is_said_as_a_whole_whatever_spaces_are_between():
    assert saying(["by Vincent VAN  Gogh", "a white van", "gogh van"], ["van gogh", "starry night"]) == [True, False, False]
    assert any_of(["church", "church tower"]).sub("X", "a Church Tower and churches") == "a X and churches"


def test_a_name_that_ends_in_a_mark_is_found():
    assert saying(["draw C++ here", "draw C+ here"], ["c++"]) == [True, False]
