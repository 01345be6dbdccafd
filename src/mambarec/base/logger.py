"""Log lines that go to the console without breaking the progress bar, and to the run's own file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from mambarec.base.console import printable
from mambarec.base.files import naming

LOGGER_NAME = "mambarec"


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _ConsoleHandler(logging.Handler):
    """Writes to standard output. Where that is full, training goes on, and the command says so when it ends."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record))
            sys.stdout.flush()  # a log file is read while the program runs
        except BrokenPipeError:
            raise
        except OSError:
            pass


class _FileHandler(logging.FileHandler):
    """Lets an error of the file leave, in place of a traceback on the console."""

    def emit(self, record: logging.LogRecord) -> None:
        with naming(Path(self.baseFilename)):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        raise


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
    handler = _FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
    get_logger().addHandler(handler)
    try:
        yield
    finally:
        get_logger().removeHandler(handler)
        with naming(path):
            handler.close()
