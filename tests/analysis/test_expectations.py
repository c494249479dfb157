"""Known answers: met, missed, not measured; what is missed is said first."""

from workbench.analysis.expectations import applied, check
from workbench.study.expected import Expected

RATE = {"variant": "erased", "prompt_set": "u@erased", "attack": "u", "provenance": "optimised", "against": "erased", "control": False}
RATE |= {"definition": "asr", "rate": 0.6, "low": 0.46, "high": 0.73, "n": 49}
VERDICT = {"headline": "Erasing silenced them.", "words": [{"word": "silenced"}], "reasons": [], "caveats": ["a caveat"]}


def expected(low, high, **given):
    return Expected(**{"variant": "erased", "attack": "u", "definition": "asr", "low": low, "high": high, "source": "a board"} | given)


def test_a_rate_whose_interval_reaches_the_expected_one_is_as_expected():
    for low, high in ((0.5, 0.7), (0.1, 0.46), (0.73, 0.9)):
        (word,) = check([expected(low, high)], [RATE])
        assert word["word"] == "as expected" and word["evidence"][0]["n"] == 49
    said = applied(VERDICT, [word])
    assert said["headline"] == VERDICT["headline"] and said["caveats"] == VERDICT["caveats"] and said["words"][0] is word


def test_a_rate_out_of_reach_is_said_before_everything_else():
    (word,) = check([expected(0.74, 0.9)], [RATE])
    said = applied(VERDICT, [word])
    assert word["word"] == "set-up is off" and "0.60 (0.46 to 0.73, n = 49)" in word["sentence"] and "a board" in word["sentence"]
    assert said["headline"].startswith("The set-up is off") and said["headline"].endswith(VERDICT["headline"])
    assert said["caveats"] == [word["sentence"], "a caveat"]


def test_what_was_not_measured_is_no_pass():
    missing = RATE | {"rate": None, "low": None, "high": None}
    for rates in ([], [missing], [RATE | {"control": True}], [RATE | {"variant": "other"}]):
        (word,) = check([expected(0.5, 0.7)], rates)
        assert word["word"] == "not measured" and applied(VERDICT, [word])["headline"].startswith("The set-up is off")


def test_the_attack_made_on_the_variant_itself_is_the_one_meant():
    transferred = RATE | {"against": "other", "rate": 0.1, "low": 0.05, "high": 0.2}
    assert check([expected(0.5, 0.7)], [transferred, RATE])[0]["word"] == "as expected"


def test_no_expectation_changes_nothing():
    assert applied(VERDICT, check([], [RATE])) is VERDICT
