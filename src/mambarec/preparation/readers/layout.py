"""How a text file holds a table: its encoding, its separator, and whether its quotation marks quote. Decided by evidence.

A quotation mark at the start of a field either opens a quoted field, which may hold separators and line ends, or is a
character like any other. A wrong choice joins lines that belong to different rows, so both readings are compared over
the whole file (`_quote`). A file that the engine would not read line by line, such as one with a quote that never ends, is
copied in a plain form first (`plain_copy`); what cannot be used is refused line by line.
"""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mambarec.base.errors import DataError
from mambarec.base.text import encoding_of, trimmed_text
from mambarec.base.words import command, option
from mambarec.preparation.readers.lines import bounded_lines, opened, too_long
from mambarec.preparation.report import Source

SEPARATORS = ",\t;|"
COLONS = "::"  # separates the fields in the files of MovieLens
LINE = "\0line"  # the column of a plain copy that has each row's line in the original; no column of a file is named like this
_OTHERS = {
    b"PK\x03\x04": "a zip archive or a workbook of Excel",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel",
    b"BZh91AY&SY": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"SQLite format 3": "a database of SQLite",
    b"\x93NUMPY": "an array of NumPy",
}
_NO_TEXT = bytes({*range(32), 127} - {*b"\t\n\v\f\r\x01\x02\x1c\x1d\x1e\x1f"})  # no separators of any program either
_NO_TEXT_SHARE, _NO_TEXT_LEAST = 0.02, 4  # from which on a file is no text
_JSON = re.compile(r"\s*(\[\s*)?\{\s*[\"'][^\"']*[\"']\s*:")
_NAMED = {" ": "blanks", ",": "commas", "\t": "tabs", ";": "semicolons"}
_SAID = re.compile(rf"\"?sep=([{SEPARATORS}])\"?", re.IGNORECASE)  # the first line that some programs write for Excel
_ABOVE = 20  # lines among which the header may stand below a title
_BLOCK = 1 << 22
_LONGEST_FIELD = 1 << 26  # bytes; what is quoted over more than this is no field
_SAMPLE = 100  # rows that show whether each ends with a separator
_SHOWN = 100  # characters of a line that a message shows
_JOINED = 200  # lines that one row may cover in a file with stray quotation marks
_LF, _CR, _COMMA = 10, 13, 44

csv.field_size_limit(_LONGEST_FIELD)


@dataclass(frozen=True)
class Layout:
    """path: the file to read, which may be a copy. names: of the columns; '' where one has none.

    quote: '' where marks do not quote.

    has_header: whether the first line has the names. lines: rows below it, whether they can be used or not. plain: whether the
    engine finds the same rows as `rows` does. trailing: the lines end with a separator, and the last column, without a name, is
    empty. numbered: a last column has each row's line in the original file. lists: the places of columns of Parquet that hold
    lists; their entries are joined by blanks.
    """

    path: Path
    names: list[str]
    separator: str
    quote: str = ""
    has_header: bool = True
    lines: int = 0
    plain: bool = True
    numbered: bool = False
    trailing: bool = False
    lists: frozenset[int] = frozenset()


class Row(NamedTuple):
    """line: where the row starts, from 1. fields: None where the row cannot be used, and then `reason` says why."""

    line: int
    fields: list[str] | None
    reason: str
    content: str


def check_is_table(path: Path) -> None:
    """DataError, which says what to do, for a file that holds JSON, an archive or a workbook, or is no text at all."""
    head = _head(path)
    kind = next((kind for start, kind in _OTHERS.items() if head.startswith(start)), None)
    if kind:
        raise DataError(f"{path} is {kind}. This command reads text and Parquet; save the table as CSV")
    n_no_text = len(head) - len(head.translate(None, _NO_TEXT)) if encoding_of(head) == "utf-8" else 0
    if n_no_text >= max(_NO_TEXT_LEAST, _NO_TEXT_SHARE * len(head)):
        raise DataError(
            f"{path} is no table: it holds binary data. This command reads text and Parquet; save it as CSV, or name "
            f"its encoding by {option('encoding')}"
        )
    if found := _JSON.match(head.decode(encoding_of(head), "replace").removeprefix("\ufeff")):
        lines = "" if found[1] else ", lines=True"
        raise DataError(
            f"{path} holds {'JSON' if found[1] else 'JSON lines'}. This command reads text and Parquet. "
            f"`{command('prepare', 'amazon', '--reviews')}` reads reviews of Amazon. Make a CSV of anything else by pandas: "
            f"pandas.read_json({path.name!r}{lines}).to_csv({f'{path.stem}.csv'!r}, index=False)"
        )


def separator_hint(names: Sequence[str], wanted: str) -> str:
    """What is wrong where a header is one column, in whose name there is the wanted one; '' for any other header."""
    found = re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", names[0]) if len(names) == 1 else None
    if not found or found[0] == names[0]:
        return ""
    separator = re.search(r"[^\w\"']", names[0])
    by = f"are separated by {_NAMED.get(separator[0], repr(separator[0]))}" if separator else "have no separator"
    return f"its fields {by}. Separate them by a comma, a tab, a semicolon, | or ::"


def find_layout(
    source: Source, spill: Path, names: list[str] | None = None, encoding: str | None = None, wanted: Sequence[str] = ()
) -> Layout:
    """The layout of a text file; DataError where it is empty, not in the encoding, or has lines above its header.

    spill: a folder for a copy in UTF-8, where the file is in another encoding. names: of the columns of a file without a
    header. wanted: names of columns that a header has. What was decided is noted in `source`.
    """
    path = source.path
    found = encoding or encoding_of(_head(path))
    if codecs.lookup(found).name != "utf-8":
        path = _in_utf8(source, spill, found)
        source.note(f"read as {found}")
    first = _first_lines(path, _SAMPLE + 1)
    if not first:
        raise _empty(source, names)
    if not first[0].strip():
        raise DataError(f"{source.path}: the first line holds only blanks. Remove it")
    if said := _said(first[0]):
        path = _without_first_line(path, source, spill)
        first = _first_lines(path, _SAMPLE + 1)
        if not first:
            raise _empty(source, names)
        source.note(f"the first line says that the separator is {said!r}; it is passed over")
    elif _has_colons(first):
        path = _with_tabs(path, source, spill)
        first = _first_lines(path, _SAMPLE + 1)
        source.note(f"the separator is {COLONS!r}")
    if names is None:
        _check_header_is_first(path, source, wanted)
    separator = said or _separator(first)
    if 2 * sum(bool(re.search(f'{re.escape(separator)} +"', line)) for line in first) > len(first):
        path = _without_blanks(path, source, spill, separator)
        first = _first_lines(path, _SAMPLE + 1)
        source.note("blanks before and behind quotation marks are passed over")
    lines, is_plain, marks = _survey(path, separator)
    is_plain = is_plain and not said  # the engine would take the line that is left empty for the header
    base = Layout(path, names or [], separator, "", names is None, lines - (names is None), is_plain)
    layout, note = _candidate(base, "", first)
    for mark in marks:
        quoted, note_of_quoted = _candidate(base, mark, first)
        verdict = _quote(quoted, layout)
        source.note(verdict.why)
        if verdict.quoted:
            strict = verdict.strict
            is_plain = quoted.plain and strict.regular and not strict.own_rows
            layout, note = replace(quoted, plain=is_plain, lines=strict.rows - quoted.has_header), note_of_quoted
            break
    _check_widths(layout, source, first)
    source.note(note)
    return layout


def _empty(source: Source, names: list[str] | None) -> DataError:
    return DataError(f"{source.path} is empty; expected a table" + (" with a header" if names is None else ""))


def _said(line: str) -> str:
    """The separator that the first line of a file names, such as sep=; and '' for any other line."""
    found = _SAID.fullmatch(line.strip(" \r\n"))
    return found[1] if found else ""


def _has_colons(first: Sequence[str]) -> bool:
    """Whether `::` separates the fields: most lines have it as often as the first. No other separator is like this."""

    def fits(separator: str) -> bool:
        n = first[0].count(separator) if first else 0
        return n > 0 and 2 * sum(line.count(separator) == n for line in first) > len(first)

    return fits(COLONS) and not any(map(fits, SEPARATORS))


def _check_header_is_first(path: Path, source: Source, wanted: Sequence[str]) -> None:
    """DataError where a line below the first has all names that are wanted, and the first has none of them."""
    names = {_bare(name) for name in wanted}
    is_first = True
    for number, line in enumerate(_first_lines(path, _ABOVE, blank=True), start=1):
        found = [{_bare(field) for field in line.split(separator)} for separator in SEPARATORS]
        if not line.strip():
            continue
        if is_first and any(names & fields for fields in found):
            return
        if not is_first and any(names and names <= fields for fields in found):
            raise DataError(f"{source.path}: the header seems to be in line {number}. Remove the lines above it")
        is_first = False


def _bare(name: str) -> str:
    return trimmed_text(name).casefold()


def plain_copy(layout: Layout, source: Source, spill: Path) -> Layout:
    """Copy a file so that each row is one that the engine reads, its line in a last column; `source` gets the refused ones."""
    path = spill / f"{source.path.name}.plain.csv"
    spill.mkdir(exist_ok=True)
    n_rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for row in rows(layout):
            if layout.trailing and row.fields and row.fields[-1].strip():
                source.reject(row.line, "too many fields", row.content)
            elif row.fields is None:
                source.reject(row.line, row.reason, row.content)
            else:
                writer.writerow([*row.fields, row.line])
                n_rows += 1
    discard(layout, source)
    return Layout(path, [*layout.names, LINE], ",", '"', False, n_rows, True, True)


def discard(layout: Layout, source: Source) -> None:
    """Remove the file if it is a copy."""
    if layout.path != source.path:
        layout.path.unlink(missing_ok=True)


# rows, one by one


def rows(layout: Layout) -> Iterator[Row]:
    """The rows below the header, also those that cannot be used; blank lines are none."""
    with opened(layout.path) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        lines = ((number, line) for number, line in enumerate(bounded_lines(text, layout.path), start=1) if line.strip("\r\n"))
        found = _joined(lines, layout.separator, layout.quote, len(layout.names))
        for row in itertools.islice(found, int(layout.has_header), None):
            yield row if row.fields is not None else row._replace(content=_readable(row.content))


def _readable(content: str) -> str:
    """A text in which bytes that are no UTF-8 stand as escapes, such as \\x8b."""
    return content.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _joined(lines: Iterable[tuple[int, str]], separator: str, quote: str, n: int) -> Iterator[Row]:
    waiting = list[tuple[int, str]]()  # read ahead, the next last
    source = iter(lines)
    forms = _forms(separator, quote) if quote else None
    while True:
        if waiting:
            number, line = waiting.pop()
        elif (following := next(source, None)) is not None:
            number, line = following
        else:
            return
        if forms is None or quote not in line:
            yield _row(number, line.rstrip("\r\n").split(separator), line, n)
        elif forms.whole.fullmatch(line):
            yield _row(number, _fields(line, separator, quote), line, n)
        else:
            ahead = [waiting.pop() for _ in range(min(len(waiting), _JOINED))]
            ahead += itertools.islice(source, max(0, _JOINED - len(ahead)))
            end = _end(line, ahead, separator, quote, n, forms)
            waiting.extend(reversed(ahead[end:]))
            if end:
                text = line + "".join(part for _, part in ahead[:end])
                yield _row(number, _fields(text, separator, quote), text, n)
            else:
                yield Row(number, None, "a quote that does not end, or text behind one that does", line)


def _end(line: str, ahead: list[tuple[int, str]], separator: str, quote: str, n: int, forms: "_Forms") -> int:
    """How many of the next lines belong to a row that starts with `line`; 0 where it is not one row with them."""
    if not forms.unfinished.fullmatch(line):
        return 0
    text, own_rows = line, 0
    for place, (_, part) in enumerate(ahead, start=1):
        text += part
        own_rows += part.count(separator) == n - 1
        if quote in part:
            if forms.whole.fullmatch(text):
                is_swallowed = own_rows == place >= _own_rows(separator)
                return 0 if is_swallowed or len(_fields(text, separator, quote)) != n else place
            if not forms.unfinished.fullmatch(text):
                return 0
    return 0


def _own_rows(separator: str) -> int:
    """From how many lines on a quoted field is no field, when each of them is a row of its own. A text rarely holds a tab."""
    return 2 if separator == "\t" else 3


def _row(number: int, fields: list[str], content: str, n: int) -> Row:
    if len(fields) != n:
        return Row(number, None, "too few fields" if len(fields) < n else "too many fields", content)
    if "\0" in content:
        return Row(number, None, "a NUL byte", content)
    if not content.isascii() and any("\udc80" <= character <= "\udcff" for character in content):
        return Row(number, None, "not UTF-8", content)
    return Row(number, fields, "", content)


class _Forms(NamedTuple):
    """whole: a row with its line end, where a mark inside of a field that does not start with one is a character.

    unfinished: the beginning of a row up to within a quoted field.
    """

    whole: re.Pattern[str]
    unfinished: re.Pattern[str]


def _forms(separator: str, quote: str) -> _Forms:
    s, q = re.escape(separator), re.escape(quote)
    field = f"(?:{q}(?:[^{q}]|{q}{q})*+{q}|[^{q}{s}\r\n][^{s}\r\n]*+|)"
    whole = re.compile(f"{field}(?:{s}{field})*+(?:\r\n|\r|\n)?")
    return _Forms(whole, re.compile(f"(?:{field}{s})*?{q}(?:[^{q}]|{q}{q})*+"))


def _fields(text: str, separator: str, quote: str) -> list[str]:
    if not quote:
        return text.rstrip("\r\n").split(separator)
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, quotechar=quote), [""])


# names and separator


def _separator(first: list[str]) -> str:
    """What most lines have as often as the header; of several a tab before others, since texts rarely hold one."""
    header, *lines = (re.sub(r'"[^"]*"', "", line) for line in first)

    def fitness(one: str) -> tuple[int, bool, int, int]:
        alike = sum(line.count(one) == header.count(one) for line in lines) if one in header else -1
        return alike, one == "\t", header.count(one), first[0].count(one)

    return max(SEPARATORS, key=fitness)


def _without_blanks(path: Path, source: Source, spill: Path, separator: str) -> Path:
    """A copy in which each quoted field starts and ends at a separator; it has the same lines."""
    s = re.escape(separator.encode())
    opening = re.compile(b"(?m)(^|" + s + b') +"(?!"[^' + s + b"\r\n])")
    closing = re.compile(b'(?m)(?<!")" +(?=' + s + b"|\r?$)")
    spill.mkdir(exist_ok=True)
    copy = spill / f"{source.path.name}.trimmed"
    with copy.open("wb") as file:
        for block in _whole_lines(path):
            file.write(closing.sub(b'"', opening.sub(rb'\1"', block)))
    if path != source.path:
        path.unlink()
    return copy


def _without_first_line(path: Path, source: Source, spill: Path) -> Path:
    """A copy in which the first line is blank, so that the others keep their numbers."""
    spill.mkdir(exist_ok=True)
    copy = spill / f"{source.path.name}.below"
    with copy.open("wb") as file:
        for number, block in enumerate(_whole_lines(path)):
            file.write(block if number else re.sub(rb"[^\r\n]+", b"", block, count=1))
    if path != source.path:
        path.unlink()
    return copy


def _with_tabs(path: Path, source: Source, spill: Path) -> Path:
    """A copy with a tab for each `::`; DataError where the file has tabs already."""
    spill.mkdir(exist_ok=True)
    copy = spill / f"{source.path.name}.tabs"
    with copy.open("wb") as file:
        for block in _whole_lines(path):
            if b"\t" in block:
                raise DataError(f"{source.path} has the separator {COLONS!r} and tabs. Replace the tabs by blanks")
            file.write(block.replace(COLONS.encode(), b"\t"))
    if path != source.path:
        path.unlink()
    return copy


def _candidate(base: Layout, quote: str, first: list[str]) -> tuple[Layout, str]:
    """A layout with this quote and its names, and what is to be noted of a column that the header does not name.

    Where every row has one field more than the header, that column is the last if it is empty, and the first if it counts the
    rows: R writes their numbers so.
    """
    layout = replace(base, quote=quote)
    if not layout.has_header:
        return layout, ""
    names, fields = _sampled(layout, first)
    layout = replace(layout, names=names)
    if not fields or any(len(one) != len(names) + 1 for one in fields):
        return layout, ""
    if not any(one[-1].strip() for one in fields):
        note = "each line ends with a separator; it is passed over"
        return replace(layout, names=[*names, ""], plain=False, trailing=True), note
    if not _count_up([one[0] for one in fields]):
        return layout, ""
    note = "the first column has no name in the header; it has the numbers of the rows and is passed over"
    return replace(layout, names=["", *names], plain=False), note


def _sampled(layout: Layout, first: list[str]) -> tuple[list[str], list[list[str]]]:
    """The names in the header, and the fields of the lines below it, of the first lines of a file."""
    sample = [row.content for row in _joined(enumerate(first, start=1), layout.separator, layout.quote, 0)]
    header, *fields = [_fields(content, layout.separator, layout.quote) for content in sample]
    return [name.strip() for name in header], fields[:-1] or fields  # the last may be cut off


def _count_up(values: list[str]) -> bool:
    """Whether these are 0, 1, 2, … or 1, 2, 3, …, quoted or not."""
    bare = [value.strip(" \"'") for value in values]
    return any(bare == [f"{number}" for number in range(start, start + len(bare))] for start in (0, 1))


def _check_widths(layout: Layout, source: Source, first: list[str]) -> None:
    """DataError where all lines have the same number of fields, and it is larger than that of the header.

    Nobody knows then which column each field belongs to.
    """
    if not layout.has_header:
        return
    _, fields = _sampled(layout, first)
    widths = {len(one) for one in fields}
    if len(widths) == 1 and (width := widths.pop()) > len(layout.names):
        point = ", write decimals with a point" if layout.separator == "," else ""
        raise DataError(
            f"{source.path}: the lines have {width} fields and the header has {len(layout.names)}. Put fields that contain the "
            f"separator between quotes{point}, or give the first column a name. The first line below the header: "
            f"{first[1].strip()[:_SHOWN]!r}"
        )


# evidence


class _Verdict(NamedTuple):
    quoted: bool
    strict: "_Strict"
    why: str


def _quote(quoted: Layout, unquoted: Layout) -> _Verdict:
    """Which of two readings of a file fits, and why.

    What speaks against a reading is the number of lines that it makes unusable. Joining lines that are rows of their own
    speaks against quoting, and marks left around whole fields speak against the other. In tab-separated files, and for
    apostrophes, the latter counts only where quoting has a reason: each such field holds a separator, a comma, a line end or a
    mark, or most lines have one.
    """
    strict = _strict(quoted, len(unquoted.names))
    usual = quoted.separator != "\t" and quoted.quote == '"'
    if strict.regular:
        meant = usual or 2 * strict.fields >= strict.rows or strict.reasons == strict.fields
        against_unquoted = strict.bad_lines + (strict.fields if meant else 0)
        against_quoted = strict.own_rows
    else:
        against_unquoted, against_quoted = _against_unquoted(unquoted, quoted.quote, usual), 0
        if against_unquoted:
            against_quoted = sum(row.fields is None for row in rows(quoted))
    mark = quoted.quote
    if against_quoted < against_unquoted:
        return _Verdict(True, strict, f"{mark} quotes fields: else {against_unquoted:,} lines or fields would be spoilt")
    if against_quoted:
        return _Verdict(False, strict, f"{mark} is a character: as a quote it would join or spoil {against_quoted:,} lines")
    return _Verdict(False, strict, f"{mark} is a character: nothing shows that it quotes")


class _Strict(NamedTuple):
    """regular: every row has its fields, and marks stand only around and, doubled, within them. The rest is counted.

    fields: quoted ones. reasons: those that had to be. own_rows: lines within a quoted field that are rows of their own.
    bad_lines: lines that are no row where marks are characters.
    """

    regular: bool
    rows: int = 0
    fields: int = 0
    reasons: int = 0
    own_rows: int = 0
    bad_lines: int = 0


def _strict(layout: Layout, n_unquoted: int | None = None) -> _Strict:
    """Read by columns of bytes, not by rows: a file may have many millions."""
    total, rest = np.zeros(5, dtype=np.int64), b""
    n_unquoted = n_unquoted or len(layout.names)
    with opened(layout.path) as file:
        while True:
            block = file.read(_BLOCK)
            data = rest + block
            if not rest and data.startswith(codecs.BOM_UTF8):
                data = data[3:]
            if not block and data and not data.endswith(b"\n"):
                data += b"\n"
            counted = _block(data, layout.separator, ord(layout.quote), len(layout.names), n_unquoted)
            if counted is None:
                return _Strict(False)
            used, counts = counted
            total += counts
            rest = data[used:]
            if len(rest) > _LONGEST_FIELD or (rest and not block):
                return _Strict(False)
            if not block:
                return _Strict(True, *total.tolist())


def _block(data: bytes, separator: str, mark: int, n: int, n_unquoted: int) -> tuple[int, np.ndarray] | None:
    """How many bytes the complete rows of a block take, and the counts of _Strict over them; None for irregular rows."""
    array = np.frombuffer(data, dtype=np.uint8)
    inside = np.cumsum(array == mark, dtype=np.uint8) & 1  # of a quoted field, behind each byte
    breaks = np.flatnonzero(array == _LF)
    ends = breaks[inside[breaks] == 0]  # of rows; the other breaks are within fields
    if not len(ends):
        return 0, np.zeros(5, dtype=np.int64)
    used = int(ends[-1]) + 1
    array, inside, breaks = array[:used], inside[:used], breaks[breaks < used]
    marks = np.flatnonzero(array == mark)
    opening, closing = marks[::2], marks[1::2]
    before = np.where(opening > 0, array[np.maximum(opening - 1, 0)], _LF)
    starts = (before == ord(separator)) | (before == _LF)
    if not (starts | (before == mark)).all():
        return None
    if not np.isin(array[closing + 1], (ord(separator), _LF, _CR, mark)).all():
        return None
    separators = np.flatnonzero(array == ord(separator))
    of_rows = _per_line(separators[inside[separators] == 0], ends, array)
    if (of_rows != n - 1).any():
        return None
    of_lines = _per_line(separators, breaks, array, blank=-1)
    continued = inside[breaks[:-1]] == 1
    row = np.searchsorted(ends, breaks[1:][continued])
    own = np.bincount(row, of_lines[1:][continued] == n_unquoted - 1, len(ends))
    swallowed = (own == np.bincount(row, minlength=len(ends))) & (own >= _own_rows(separator))
    within = (inside == 1) & ((array == ord(separator)) | (array == _COMMA) | (array == _LF))
    within[opening[~starts]] = True  # the second of a doubled mark
    reasons = np.diff(np.searchsorted(np.flatnonzero(within), np.append(opening[starts], used))) > 0
    bad_lines = ((of_lines != n_unquoted - 1) & (of_lines >= 0)).sum()
    counts = (len(of_rows), starts.sum(), reasons.sum(), own[swallowed].sum(), bad_lines)
    return used, np.array(counts, dtype=np.int64)


def _per_line(separators: np.ndarray, ends: np.ndarray, array: np.ndarray, blank: int | None = None) -> np.ndarray:
    """How many separators each line has that ends at `ends`, without blank lines or with `blank` for them."""
    counts = np.diff(np.searchsorted(separators, ends), prepend=0)
    lengths = np.diff(ends, prepend=-1) - 1
    is_blank = (lengths == 0) | ((lengths == 1) & (array[np.maximum(ends - 1, 0)] == _CR))
    return counts[~is_blank] if blank is None else np.where(is_blank, blank, counts)


def _against_unquoted(layout: Layout, mark: str, usual: bool) -> int:
    """How many lines are no row where marks are characters, and how many fields have a mark at either end, see `_quote`."""
    s, q = (re.escape(one.encode()) for one in (layout.separator, mark))
    start = b"(?:(?<=[" + s + b"\n])|^)" + q
    body = b"[^" + q + b"\r\n]*+(?:" + q + q + b"[^" + q + b"\r\n]*+)*+" + q + b"(?=[" + s + b"\r\n])"
    every = re.compile(start + body)
    with_reason = re.compile(start + b"(?=[^" + q + b"\r\n]*(?:[," + s + b"]|" + q + q + b"))" + body)
    lines = bad = closed = reasons = 0
    for block in _whole_lines(layout.path):
        array = np.frombuffer(block, dtype=np.uint8)
        breaks = np.flatnonzero(array == _LF)
        counts = _per_line(np.flatnonzero(array == ord(layout.separator)), breaks, array)
        lines, bad = lines + len(counts), bad + int((counts != len(layout.names) - 1).sum())
        closed += len(every.findall(block))
        reasons += len(with_reason.findall(block)) if not usual else 0
    return bad + (closed if usual or 2 * closed >= lines else reasons)


def _survey(path: Path, separator: str) -> tuple[int, bool, list[str]]:
    """Lines that are not blank; whether they end in \\n or \\r\\n and hold no NUL; marks that stand at the start of a field."""
    lines, is_plain, marks = 0, True, []
    for block in _whole_lines(path):
        array = np.frombuffer(block, dtype=np.uint8)
        lines += len(_per_line(np.empty(0), np.flatnonzero(array == _LF), array))
        is_plain = is_plain and b"\0" not in block and block.count(b"\r") == block.count(b"\r\n")
        for mark in "\"'":
            here = mark.encode()
            starts = (separator.encode() + here, b"\n" + here)
            if mark not in marks and here in block and (block.startswith(here) or any(start in block for start in starts)):
                marks.append(mark)
    return lines, is_plain, sorted(marks)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Blocks of a file that end with a line."""
    rest = b""
    with opened(path) as file:
        first = True
        while block := file.read(_BLOCK):
            data = rest + block
            if first and len(data) >= 3:
                data, first = data.removeprefix(codecs.BOM_UTF8), False
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if cut:
                yield data[:cut]
            elif len(rest) > _LONGEST_FIELD:
                raise too_long(path)
    if rest:
        yield rest + b"\n"


# encodings


def _head(path: Path) -> bytes:
    with opened(path) as file:
        return file.read(4096)


def first_lines(path: Path, count: int) -> list[str]:
    """The first lines of a file, without blank ones, one that says the separator, and line ends.

    What is not UTF-8 in them is replaced.
    """
    encoding = encoding_of(_head(path))
    lines = _first_lines(path, count, "utf-8-sig" if encoding == "utf-8" else encoding)
    below = lines[1:] if lines and _said(lines[0]) else lines
    return [line.rstrip("\r\n") for line in below]


def _first_lines(path: Path, count: int, encoding: str = "utf-8-sig", blank: bool = False) -> list[str]:
    """blank: whether blank lines count as lines too."""
    with opened(path) as raw:
        text = io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline="")
        return [line for line in itertools.islice(bounded_lines(text, path), count) if blank or line.strip("\r\n")]


def _in_utf8(source: Source, spill: Path, encoding: str) -> Path:
    spill.mkdir(exist_ok=True)
    path = spill / f"{source.path.name}.utf8"
    with opened(source.path) as raw, path.open("wb") as copy:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while block := raw.read(_BLOCK):
                copy.write(decoder.decode(block).encode("utf-8"))
            copy.write(decoder.decode(b"", final=True).encode("utf-8"))
        except UnicodeError as error:
            raise DataError(
                f"{source.path} is not text in {encoding} ({error}). Save it as UTF-8, or name its encoding by "
                f"{option('encoding')}"
            ) from None
    return path
