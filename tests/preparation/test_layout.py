"""Tables of any dialect and encoding give back their rows, and each line of a file is used, refused or left out."""

import csv
import io
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mambarec.base.errors import DataError
from mambarec.preparation.engine import Engine
from mambarec.preparation.readers.layout import rows
from mambarec.preparation.readers.tables import column, drop_unusable, layout_of, load
from mambarec.preparation.report import Source

LETTERS = st.characters(
    codec="utf-8", categories=("L", "N", "P", "S"), include_characters=" ", exclude_characters="\x00\"',;|\t"
)
SPECIAL = st.sampled_from(["a", "b", " ", '"', "'", ",", ";", "|", "\t", "\n", "\r\n", '""'])
TEXT = st.text(LETTERS, max_size=6) | st.lists(SPECIAL, max_size=6).map("".join)
WORD = st.text(LETTERS.filter(lambda one: one != " "), min_size=1, max_size=5).map(lambda text: f"x{text}")
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",\t;|"),
        "quoting": st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
    }
)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """read(bytes, *columns) -> what a file with this content gives in some columns, and its Source."""
    folder = tmp_path_factory.mktemp("layout")
    with Engine(folder / "spill", 0.2, 1) as engine:

        def reading(content: bytes, *columns: str, encoding=None):
            path = folder / "table.csv"
            path.write_bytes(content)
            source = Source(path, "rows")
            layout = layout_of(engine, source, encoding=encoding)
            engine.run("DROP TABLE IF EXISTS t")
            load(engine, source, "t", layout, {f"x{n}": column(layout, name, source, "") for n, name in enumerate(columns)})
            source.account()
            found = [tuple(value or "" for value in row) for row in engine.run("SELECT * FROM t ORDER BY rowid")]
            return found, source

        yield reading


def written(rows, dialect, encoding="utf-8") -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, **dialect).writerows(rows)
    return file.getvalue().encode(encoding)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(WORD, TEXT, WORD), min_size=1, max_size=12),
    dialect=DIALECTS,
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_csv_writes_is_read_back(read, rows, dialect, encoding):
    # What stands between apostrophes in most of the lines, the header among them, is taken for quoted by them.
    assume(2 * sum(len(text) > 1 and text[0] == text[-1] == "'" for _, text, _ in rows) < len(rows) + 1)
    content = written([("user", "text", "item"), *rows], dialect, encoding)
    found, source = read(content, "user", "text", "item")
    assert found == rows and not source.n_refused


@settings(max_examples=30, deadline=None)
@given(
    content=st.lists(
        st.sampled_from(
            [
                b"a",
                b"7",
                b'"',
                b"'",
                b",",
                b",",
                b"\t",
                b"\n",
                b"\n",
                b"\r",
                b"\r\n",
                b"\0",
                b"\xff",
                b" ",
                b'"a,b"',
                b"\xc3\xa9",
            ]
        ),
        max_size=40,
    ).map(b"".join)
)
def test_each_line_of_garbage_is_accounted_for(read, content):
    try:
        found, source = read(b"user,item\n" + content, "user", "item")
    except DataError as error:
        assert "fields and the header has 2" in str(error)
        return
    assert len(found) + source.n_refused == source.lines
    assert all(tally.count >= len(tally.lines) > 0 for tally in source.refused.values())
    if not any(mark in content for mark in (b'"', b"'", b"\r")):
        assert source.lines == sum(bool(line) for line in content.split(b"\n"))


def garbage(separator: str, opening: str, closing: str) -> str:
    """2,000 rows; in one of 40 the title begins with a mark, in another one ends with it."""
    lines = [separator.join(["user", "title", "item"])]
    for n in range(2000):
        title = f"{opening}Heroes {n}" if n % 40 == 7 else f"Tablet {n}{closing}" if n % 40 == 29 else f"Item {n}"
        lines.append(separator.join([f"u{n % 50}", title, f"i{n}"]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("mark", ['"', "'"])
@pytest.mark.parametrize("both", [True, False])
def test_a_mark_that_swallows_lines_is_a_character(read, separator, mark, both):
    found, source = read(garbage(separator, mark, mark if both else "").encode(), "user", "title", "item")
    assert len(found) == 2000 and found[7] == ("u7", f"{mark}Heroes 7", "i7") and not source.n_refused
    assert any("is a character" in note for note in source.notes)


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_one_stray_mark_in_a_quoted_table_costs_one_line(read, separator, quoting):
    table = [("user", "title", "item"), *((f"u{n}", f'A "{n}"{separator} b\nc', f"i{n}") for n in range(500))]
    lines = written(table, {"delimiter": separator, "quoting": quoting, "lineterminator": "\n"}).decode()
    start = lines.index("\n", len(lines) // 2 - lines[len(lines) // 2 :: -1].index("i")) + 1
    stray = separator.join(["u", '"no end', "i"]) + "\n"
    found, source = read((lines[:start] + stray + lines[start:]).encode(), "user", "title", "item")
    assert len(found) == 500 and {row[1].count("\n") for row in found} == {1}
    assert source.n_refused == 1 and source.malformed[0]["content"] == stray.rstrip()
    assert source.malformed[0]["line"] == (lines[:start]).count("\n") + 1


def test_tab_separated_tables_that_are_quoted_are_unquoted(read):
    for dialect in ({"quoting": csv.QUOTE_ALL}, {"quoting": csv.QUOTE_MINIMAL}):
        table = [("user", "title", "item"), *((f"u{n}", f'7" {n}' if n % 9 == 0 else f"t{n}", f"i{n}") for n in range(90))]
        found, _ = read(written(table, {"delimiter": "\t", **dialect}), "user", "title", "item")
        assert found == table[1:]
    excel = "user\ttitle\titem\r\n" + "".join(
        f'u{n}\t"One, {n}"\ti{n}\r\n' if n % 9 == 0 else f"u{n}\tt\ti{n}\r\n" for n in range(90)
    )
    assert read(excel.encode(), "title")[0][0] == ("One, 0",)
    titles = "user\ttitle\titem\n" + "".join(f'u{n}\t"Heroes"\ti{n}\n' if n == 3 else f"u{n}\tt\ti{n}\n" for n in range(90))
    assert read(titles.encode(), "title")[0][3] == ('"Heroes"',)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_and_separators_at_the_end(read, ends):
    lines = ["user,item,", "u1,i1,", "u2,i2,"]
    assert read(ends.join(lines).encode(), "user", "item")[0] == [("u1", "i1"), ("u2", "i2")]
    found, source = read(ends.join(["user,item", *lines[1:]]).encode(), "user", "item")
    assert found == [("u1", "i1"), ("u2", "i2")] and "ends with a separator" in source.notes[0]
    found, source = read(ends.join(["user,item", "0,u1,i1", "1,u2,i2"]).encode(), "user", "item")
    assert found == [("u1", "i1"), ("u2", "i2")] and "first column has no name" in source.notes[0]


def test_lines_with_nul_bytes_or_of_another_encoding_are_refused(read):
    found, source = read(b"user,item\nu1,i1\nu\0,i2\n\nu\xe9,i3\nu4,i4\n", "user", "item")
    assert found == [("u1", "i1"), ("u4", "i4")]
    assert {reason: tally.lines for reason, tally in source.refused.items()} == {"a NUL byte": [3], "not UTF-8": [5]}
    assert read("user,item\né,ü\n".encode("latin-1"), "user", "item", encoding="latin-1")[0] == [("é", "ü")]


def test_the_line_of_a_row_that_is_refused_later_is_found(read, tmp_path):
    with Engine(tmp_path / "spill", 0.2, 1) as engine:
        for name, text in {
            "plain": "user,item\nu1,1\n\nshort\nu2,x\nu3,3\n",
            "quoted": 'user,item\n"u\n1",1\n\nu2,x\n',
            "copied": 'user,item\n"u\n1",1\nu",5,6\nu2,x\n"u3",3\n',
        }.items():
            path = tmp_path / name
            path.write_text(text)
            source = Source(path, "rows")
            layout = layout_of(engine, source)
            load(engine, source, name, layout, {"item": column(layout, "item", source, "")})
            drop_unusable(engine, source, name, {"TRY_CAST(item AS INTEGER) IS NULL": "no number"})
            source.account()
            assert source.refused["no number"].lines == [5], name
            assert "u2,x" in [one["content"] for one in source.malformed], name


def test_what_the_engine_reads_is_what_python_reads(read, tmp_path):
    """The two readers find the same rows, so a row's place gives its line."""
    content = written([("a", "b"), *((f"{n}", f'x"{n}\n,' * (n % 3)) for n in range(50))], {"lineterminator": "\n"})
    (tmp_path / "t.csv").write_bytes(content)
    with Engine(tmp_path / "spill", 0.2, 1) as engine:
        layout = layout_of(engine, Source(tmp_path / "t.csv", "rows"))
        assert layout.plain and layout.quote == '"'
        assert [tuple(row.fields or []) for row in rows(layout)] == read(content, "a", "b")[0]


def test_a_name_twice_or_in_two_cases(read):
    assert read(b"User,user,item\na,b,c\n", "user", "item")[0] == [("b", "c")]
    with pytest.raises(Exception, match=r"has the column 'user' \(\) twice, as columns 1 and 2"):
        read(b"user,user,item\na,b,c\n", "user", "item")
    assert json.dumps(read(b",user,item\n0,b,c\n", "user", "item")[0]) == '[["b", "c"]]'


@pytest.mark.parametrize(
    "line",
    [
        "u{user},p{item},2,5,15084672{item}",
        "u{user},p{item},4,Red shoe, 7",
        "{user},p{item},2,5,15084672{item}",
        "u{user},p{item},2,5,9,15084672{item}",
        'u{user},"p{item}",2,5,15084672{item}',
    ],
    ids=["decimal comma", "title", "numbers that do not count the lines", "two commas", "quoted ids"],
)
def test_lines_with_a_comma_too_many_are_refused(read, line):
    lines = [line.format(user=n // 3, item=n % 7) for n in range(40)]
    width = lines[0].count(",") + 1
    with pytest.raises(DataError, match=f"the lines have {width} fields and the header has 4.*point.*{lines[0][:6]}"):
        read("\n".join(["user,product,rating,when", *lines]).encode(), "user", "product")


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("mark", ["", '"'])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_the_numbers_of_rows_that_r_writes_are_passed_over(read, start, mark, separator):
    lines = [
        separator.join([f"{mark}{n + start}{mark}", f"{mark}u{n // 3}{mark}", f"{mark}i{n % 7}{mark}"]) for n in range(150)
    ]
    header = separator.join([f"{mark}user{mark}", f"{mark}item{mark}"])
    found, source = read("\n".join([header, *lines]).encode(), "user", "item")
    assert found == [(f"u{n // 3}", f"i{n % 7}") for n in range(150)] and not source.n_refused
    assert any("first column has no name" in note for note in source.notes)


def test_quoted_titles_with_a_comma_in_each_line_are_read(read):
    lines = [f'u{n},"Shoe {n}, red",i{n}' for n in range(40)]
    assert read("\n".join(["user,title,item", *lines]).encode(), "title", "item")[0][3] == ("Shoe 3, red", "i3")
    found, _ = read(
        "\n".join([",user,title,item", *(f"{7 * n},{line}" for n, line in enumerate(lines))]).encode(), "user", "item"
    )
    assert found[3] == ("u3", "i3")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("first", ["sep={}", "SEP={}", '"sep={}"', "sep={}\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_first_line_that_says_the_separator_is_passed_over(read, encoding, first, separator):
    lines = [first.format(separator), separator.join(["user", "title", "item"])]
    lines += [separator.join([f"u{n}", f'"a{separator} {n}"', f"i{n}"]) for n in range(9)]
    found, source = read("\n".join([*lines, "short"]).encode(encoding), "user", "title", "item")
    assert found == [(f"u{n}", f"a{separator} {n}", f"i{n}") for n in range(9)]
    assert source.refused["too few fields"].lines == [12]
    assert any("the first line says that the separator is" in note for note in source.notes)


def test_a_first_line_that_says_the_separator_is_believed(read):
    content = b"sep=;\nuser;item\nu1,5;i1,2\nu2,5;i2,2\n"
    assert read(content, "user", "item")[0] == [("u1,5", "i1,2"), ("u2,5", "i2,2")]
    with pytest.raises(DataError, match="is empty; expected a table with a header"):
        read(b"sep=;\n", "user")


def test_two_colons_separate_as_in_movielens(read):
    films = [f"{n}::Film, {n} (19{n})::{'|'.join(['Drama'] * (n % 3 + 1))}" for n in range(10, 40)]
    found, source = read("\n".join(["item::title::genres", *films, "short"]).encode(), "item", "title")
    assert found == [(f"{n}", f"Film, {n} (19{n})") for n in range(10, 40)]
    assert source.refused["too few fields"].lines == [32] and "the separator is '::'" in source.notes
    with pytest.raises(DataError, match="has the separator '::' and tabs"):
        read("\n".join(["item::title::genres", *films, "1::a\tb::c"]).encode(), "item")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_two_colons_within_fields_separate_nothing(read, separator):
    lines = [separator.join(line) for line in [("std::user", "item"), *((f"u::{n}", f"i{n}") for n in range(20))]]
    assert read("\n".join(lines).encode(), "std::user", "item")[0] == [(f"u::{n}", f"i{n}") for n in range(20)]


def test_a_first_line_of_blanks_is_refused(read):
    with pytest.raises(DataError, match="the first line holds only blanks"):
        read(b"  \nuser,item\nu1,i1\n", "user", "item")


def test_a_field_behind_the_last_separator_is_too_many(read):
    lines = [f"u{n},i{n},4,{'nice' if n == 150 else ''}" for n in range(200)]
    found, source = read("\n".join(["user,item,rating", *lines]).encode(), "user", "item", "rating")
    assert len(found) == 199 and source.refused["too many fields"].lines == [152]
    # decimal commas, and a comment that the first hundred lines lack
    lines = [f"u{n},i{n},2,5,{'nice' if n > 150 else ''}" for n in range(200)]
    found, source = read("\n".join(["user,item,rating,comment", *lines]).encode(), "user", "item", "rating")
    assert source.refused["too many fields"].count == 49
    with pytest.raises(DataError, match="Put fields that contain the separator between quotes"):
        source.check(0.01)
