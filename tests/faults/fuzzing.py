"""What the tests of damaged and hostile files share: mutations of valid ones, and what a reader may do with them.

In `make test` a test tries few examples, always the same. In `make faults` it tries many, new ones each time. Their number is
FUZZ_EXAMPLES.
"""

import atexit
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from faults.harness import WHOLE
from mambarec.base.errors import UserError
from mambarec.base.memory import process_peak_mb, reset_process_peak

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "500" if WHOLE else "0"))
SECONDS = 120  # one example may take as long on a busy machine
MEGABYTES = 2048  # that one example may add
COUNTS: dict[str, list[int]] = {}  # by test: examples, and those refused


def _tell() -> None:
    for name, (count, refused) in sorted(COUNTS.items()):
        print(f"{name:32} {count:>8,} tried {refused:>8,} refused")


if EXAMPLES:
    atexit.register(_tell)


def fuzz(few: int = 12) -> Callable:
    """Settings of a test: `few` examples in the short form."""
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Late(BaseException):
    """An example took too long. It is no Exception: a TimeoutError is an OSError, which a program would explain as one."""


@contextmanager
def _within_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise Late(f"nothing after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def accepts(name: str, work: Callable[[], Any]) -> bool:
    """Whether work is done; false when it is refused, by a UserError or exit status 1 or 2. Anything else fails the test."""
    counts = COUNTS.setdefault(name, [0, 0])
    counts[0] += 1
    reset_process_peak()
    before = process_peak_mb() or 0.0
    with _within_time():
        try:
            status = work()
            refused = isinstance(status, int) and status in (1, 2)
        except UserError as error:
            assert str(error).strip()
            refused = True
        except SystemExit as error:  # argparse
            assert error.code in (0, 2), error.code
            refused = error.code == 2
    assert (process_peak_mb() or 0.0) - before < MEGABYTES
    counts[1] += refused
    return not refused


def unlisted(path: Path) -> Path:
    """A run's directory without its manifest, as a stranger may send it: what is in the files is all there is to judge by."""
    (path / "manifest.json").unlink(missing_ok=True)
    return path


# strategies

_HOSTILE = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b'"',
    b"'",
    b"\t\t\t",
    b",,,,",
    b"nan",
    b"-1",
    b"1e999",
    b"9" * 400,
    b"4611686018427387904",
    b"[" * 3000,
    b"{" * 3000,
    b"\x1b]8;;http://x\x07",
    "\u202e".encode(),
    b"PK\x03\x04",
    b"\x1f\x8b\x08\x00",
    b"\x80\x04",
    b"\x93NUMPY\x01\x00",
]


@st.composite
def mutated(draw: Any, content: bytes) -> bytes:
    """A valid file with a few bytes changed, cut out, repeated, put in or exchanged for hostile ones; seldom, any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=400))
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        size = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["flip", "cut", "end", "repeat", "hostile", "line"]))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + size]
        elif kind == "end":
            del data[at:]
        elif kind == "repeat":
            data[at:at] = data[at : at + size] * draw(st.integers(1, 50))
        elif kind == "hostile":
            data[at : at + draw(st.integers(0, 8))] = draw(st.sampled_from(_HOSTILE))
        else:
            lines = bytes(data).split(b"\n")
            lines[draw(st.integers(0, len(lines) - 1))] = draw(st.sampled_from(_HOSTILE) | st.binary(max_size=30))
            data = bytearray(b"\n".join(lines))
    return bytes(data)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0, 1, -1, 10**18, 2**62, 10**400, "", "../../etc", "\x1b[2J", "=1+1|cmd", "a" * 300, "\0"])
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)


@st.composite
def changed(draw: Any, content: Any) -> Any:
    """A JSON value in which a part, at any depth, is another value, gone, or doubled."""
    if isinstance(content, dict) and content and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(content)))
        kind = draw(st.sampled_from(["change", "change", "change", "drop", "rename"]))
        rest = {name: value for name, value in content.items() if name != key}
        if kind == "drop":
            return rest
        if kind == "rename":
            return rest | {draw(st.text(max_size=8)): content[key]}
        return content | {key: draw(changed(content[key]))}
    if isinstance(content, list) and content and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(content) - 1))
        return [*content[:at], draw(changed(content[at])), *content[at + 1 :]]
    return draw(VALUES)
