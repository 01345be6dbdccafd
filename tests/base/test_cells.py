"""Texts in cells of a CSV."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambarec.base.cells import guarded, unguarded


@given(st.text())
def test_a_guarded_text_comes_back(text):
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "-1+cmd|' /C calc'!A0", "\t=1", "＝1", "'=1"])
def test_a_formula_is_guarded_and_a_name_in_apostrophes_stays(text):
    assert guarded(text) == f"'{text}" and unguarded(guarded(text)) == text
    assert unguarded("'tis") == "'tis" and unguarded("'") == "'"
