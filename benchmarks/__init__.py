"""Speed, memory and growth, measured: `make bench`, `make bench-growth`; plain forms to measure against."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # as if run from there
