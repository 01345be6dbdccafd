"""Numbers in words, and back."""

import argparse

import pytest

from mambarec.base.words import command_text, count, duration, positive


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.4, "8 s"), (99.4, "99 s"), (120, "2 min"), (5999, "100 min"), (7200, "2.0 h")]
)
def test_a_duration_is_in_the_unit_that_suits_it(seconds, text):
    assert duration(seconds) == text


def test_a_count_has_its_plural():
    assert [count(number, "seed") for number in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]


def test_an_option_must_be_above_zero():
    assert positive("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match="0; expected a number above 0"):
        positive("0")


def test_a_command_is_one_to_type():
    assert command_text(["/a/b/src/main.py", "-m", "BPR", "--name", "a b"]) == "python main.py -m BPR --name 'a b'"
    assert command_text(["mambarec train", "-m", "BPR"]) == "mambarec train -m BPR"
