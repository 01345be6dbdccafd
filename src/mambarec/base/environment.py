"""Whether this Python can run the programs of src/: its version, and the packages that they need.

A program asks before it imports anything else. So this file is written for old versions of Python too.
"""

import sys
from importlib.util import find_spec

VERSION = (3, 11)
# The packages that setup.cfg installs, by the names under which they are imported.
PACKAGES = ("torch", "numpy", "scipy", "pandas", "yaml", "lmdb", "tqdm", "rich", "filelock", "psutil", "jinja2", "pydantic")


def check_environment():  # type: ignore[no-untyped-def]
    """End the program with status 2 and a sentence where Python is too old or a package is missing."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if sys.version_info < VERSION:
        problem = "Python {}.{} or newer is needed, and this is {}.{}".format(*VERSION + sys.version_info[:2])
    elif missing:
        problem = f"{sys.executable} has no package {missing[0]}"
    else:
        return
    hint = (
        "In a checkout, activate the environment that `make run` makes: source .venv/bin/activate. "
        "Or install the package into this one: pip install . -c constraints.txt, in the folder that has setup.cfg"
    )
    sys.stderr.write(f"error: {problem}. {hint}\n")
    sys.exit(2)
