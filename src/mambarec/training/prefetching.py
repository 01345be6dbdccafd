"""Work done ahead in a thread: the next samples are drawn while a step computes."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

_AHEAD = 2  # samples that wait for their step
_END = object()

T = TypeVar("T")


def prefetched(values: Iterable[T]) -> Iterator[T]:
    """The same values, made in a thread, a few ahead of their use; what the thread raises is raised here.

    The thread ends with the values, or when the iterator is closed.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(_AHEAD)
    closed = threading.Event()

    def put(value: Any, error: BaseException | None = None) -> bool:
        while not closed.is_set():
            try:
                ready.put((value, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for value in values:
                if not put(value):
                    return
            put(_END)
        except BaseException as error:  # raised again where the values are used
            put(_END, error)

    thread = threading.Thread(target=work, name="prefetching", daemon=True)
    thread.start()
    try:
        while True:
            value, error = ready.get()
            if error is not None:
                raise error
            if value is _END:
                return
            yield value
    finally:
        closed.set()
        thread.join()
