"""prepare.py on a system where two folders cannot change places in one step."""

import utils.files as files
from prepare import main

files._exchange = lambda first, second: False
__all__ = ["main"]
