"""Text files of strangers: UTF-8 with or without a byte order mark, or UTF-16, told by the first bytes."""

import codecs
import unicodedata
from pathlib import Path

from mambarec.base.bounded import read_bytes
from mambarec.base.errors import DataError

BLANK = " \t\r\n\v\f\u00a0\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u3000"
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def encoding_of(head: bytes) -> str:
    """The encoding that the first bytes of a file show: utf-8 unless they are those of UTF-16 or UTF-32."""
    for mark, encoding in _MARKS.items():  # that of UTF-32 starts like one of UTF-16, so it comes first
        if head.startswith(mark):
            return encoding
    zeros = [head[place::2].count(0) for place in (0, 1)]
    for place, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):  # without a mark: every other byte of plain letters is zero
        if 2 * zeros[place] > 0.8 * len(head) and not zeros[1 - place]:
            return encoding
    return "utf-8"


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark; DataError where it cannot be read or is in another encoding."""
    try:
        content = read_bytes(path)
        encoding = encoding_of(content[:4096])
        return content.decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as text in {encoding}: {error}. Save it as UTF-8") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def trimmed_text(text: str) -> str:
    """An id without blanks around it, and without quotation marks where it stands between two; accents in one form."""
    bare = text.strip(BLANK)
    mark = bare[:1]
    if mark and mark in "\"'" and bare[-1] == mark and mark not in bare.strip(mark):
        bare = bare.strip(mark).strip(BLANK)
    return unicodedata.normalize("NFC", bare)
