"""Log lines that go to the console without breaking the progress bar, and to the run's own file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from utils.console import printable

LOGGER_NAME = "mambarec"


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


def get_logger() -> logging.Logger:
    """The project's logger; its console handler is attached on first use."""
    logger = logging.getLogger(LOGGER_NAME)
    if not logger.handlers:
        console = _ConsoleHandler()
        console.setFormatter(_Printable("%(message)s"))
        logger.addHandler(console)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


def silence_console() -> None:
    """Keep this process off the console; files still get every line."""
    get_logger().handlers[:] = [logging.NullHandler()]


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append every log line to `path` as well, with its time, while the context is open."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
    get_logger().addHandler(handler)
    try:
        yield
    finally:
        get_logger().removeHandler(handler)
        handler.close()
