"""Texts in cells of a CSV, which a spreadsheet must not run as formulas."""

import re
from typing import Any

# What a spreadsheet takes for a formula. Of the last three signs a word, a number or a handle does no harm: -abc, +49, @name.
_FORMULA = re.compile(r"[=\t\r\n＝]|[-+@＋－＠].*[^\w.-]", re.DOTALL)
FORMULA_SIGNS = "=\t\r\n＝-+@＋－＠"  # with which a formula can begin


def guarded(text: str) -> str:
    """A text for a cell of a CSV: where a spreadsheet would run it as a formula, or it has such an apostrophe, with one before.

    `unguarded` takes it away again.
    """
    return f"'{text}" if text.startswith("'") or _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """What `guarded` was given. An apostrophe before anything else, as in 'tis, stays."""
    return text[1:] if text.startswith("'") and text[1:2] and text[1] in FORMULA_SIGNS + "'" else text


def guarded_frame(frame: Any) -> Any:
    """A pandas table with every text in its columns `guarded`."""
    words = frame.select_dtypes(include=["string", "object"]).columns
    texts = {name: frame[name].map(lambda value: guarded(value) if isinstance(value, str) else value) for name in words}
    return frame.assign(**texts)
