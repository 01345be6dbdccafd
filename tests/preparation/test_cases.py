"""Small files that were once read wrongly, in tests/cases, and what is right: prepare.py from the file to the figures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambarec.cli import prepare as program
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.preparation.features.items import read_items
from mambarec.preparation.validation import popularity

CASES = Path(__file__).resolve().parents[1] / "cases"
UI = ("--user-column", "user", "--item-column", "item")


@pytest.fixture
def call(tmp_path, configs, capsys):
    """call(command, *words) -> (exit status, standard output, standard error) of prepare.py on the data set 'mine'."""

    def invoke(command, *words):
        more = ["--threads", 1, "--overwrite"] if command in ("table", "amazon") else []
        status = program.main([str(word) for word in (command, "-d", "mine", "--data_path", tmp_path / "data", *more, *words)])
        return status, *capsys.readouterr()

    return invoke


@pytest.fixture
def made(call, tmp_path):
    """made(command, *words) -> the interactions with original ids, and report.json; each line is accounted for."""

    def make(*words):
        status, _, err = call(*words)
        assert status == 0, err
        folder = tmp_path / "data" / "mine"
        frame = pd.read_csv(folder / "mine.inter", sep="\t")
        for kind in ("user", "item"):
            ids = pd.read_csv(folder / f"{kind[0]}_id_mapping.csv", sep="\t", dtype=str, keep_default_na=False)
            frame[kind] = ids.set_index(f"{kind}ID").iloc[:, 0].reindex(frame[f"{kind}ID"].astype(str)).to_numpy()
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        for source in report["sources"]:
            counted = sum(one["count"] for one in source["refused"] + source["left_out"])
            assert source["lines"] == source["rows"] + counted
        dropped = sum(row["interactions"] for row in report["dropped"])
        assert report["sources"][0]["rows"] == report["read"]["interactions"] == len(frame) + dropped
        return frame, report

    return make


def texts(tmp_path) -> dict[str, str]:
    frame = pd.read_csv(tmp_path / "data" / "mine" / "items.csv", dtype=str, keep_default_na=False)
    return dict(zip(frame["original_id"], frame["text"], strict=True))


def copy_of_inter(name, tmp_path, configs):
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    (folder / "mine.inter").write_bytes((CASES / name).read_bytes())
    (configs / "dataset" / "mine.yaml").write_text("inter_file_name: mine.inter\n")
    return folder


def last_items(path, time) -> pd.Series:
    frame = pd.read_csv(path)
    frame["time"] = time(frame)
    return frame.sort_values("time").groupby("user")["item"].last()


def test_a_quotation_mark_in_a_tab_separated_log_is_a_character(made, tmp_path):
    frame, report = made("table", "--interactions", CASES / "quotes_log.tsv", *UI, "--time-column", "time", "--k-core", 1)
    assert (len(frame), frame.user.nunique(), frame.item.nunique()) == (2000, 200, 100)
    assert report["sources"][0]["lines"] == report["sources"][0]["rows"] == 2000


def test_each_item_has_its_own_text(made, tmp_path):
    items = ("--items", CASES / "quotes_cat.tsv", "--text-columns", "title")
    made("table", "--interactions", CASES / "quotes_log_plain.tsv", *UI, "--k-core", 1, *items)
    found = texts(tmp_path)
    assert len(found) == 100 and found["i3"] == '"Heroes and other' and found["i60"] == 'Tablet 7"'
    assert all(text == f"Item {item[1:]}" for item, text in found.items() if item not in ("i3", "i60"))


@pytest.mark.parametrize("scale", [1, 1e3, 1e6, 43000])
def test_the_last_item_is_the_last_by_the_fraction(made, tmp_path, scale):
    frame = pd.read_csv(CASES / "t01.csv")
    frame["t"] = [
        format(value if scale != 43000 else 43000 + value, "f") if scale in (1, 43000) else repr(value * scale)
        for value in frame["t"]
    ]
    frame.to_csv(tmp_path / "t.csv", index=False)
    found, _ = made("table", "--interactions", tmp_path / "t.csv", *UI, "--time-column", "t", "--split", "leave-one-out")
    test = found[found.x_label == 2].set_index("user")["item"]
    assert (test == last_items(tmp_path / "t.csv", lambda one: one["t"])[test.index]).sum() == 30
    assert np.allclose(sorted(found.timestamp), sorted(frame["t"].astype(float)), atol=0)


def test_offsets_are_applied(made):
    frame, report = made(
        "table", "--interactions", CASES / "date_mixedzone.csv", *UI, "--time-column", "time", "--split", "leave-one-out"
    )
    last = last_items(CASES / "date_mixedzone.csv", lambda one: pd.to_datetime(one["time"], utc=True))
    test = frame[frame.x_label == 2].set_index("user")["item"]
    assert (test == last[test.index]).sum() == 40
    assert 1499992801 in set(frame.timestamp)  # 02:40:01 two hours ahead of UTC
    assert report["sources"][0]["notes"] == ["UTC offsets of times are applied: Z in 160, +02:00 in 160"]


def test_an_index_that_pandas_wrote_is_passed_over(made, tmp_path):
    assert len(made("table", "--interactions", CASES / "pandas_index.csv", *UI)[0]) == 320
    text = (CASES / "pandas_index.csv").read_text()
    (tmp_path / "again.csv").write_text("Unnamed: 0" + text)
    assert len(made("table", "--interactions", tmp_path / "again.csv", *UI)[0]) == 320


def test_quotes_around_ids_are_taken_off_on_both_sides(made, tmp_path):
    files = ("--ratings", CASES / "az23_quote_nonnumeric.csv", "--meta", CASES / "az23_meta.jsonl.gz")
    frame, report = made("amazon", *files)
    assert frame.timestamp.min() == 1600000000000 and "0001388703" in set(frame["item"])
    assert (
        sum(bool(text) for text in texts(tmp_path).values()) == 20
        and "az23_meta.jsonl.gz has 20 of the 20 items" in report["notes"]
    )


def test_a_whole_number_and_the_same_with_a_fraction_of_zero_are_one_id(made, tmp_path):
    columns = ("--user-column", "customer_id", "--item-column", "article_id", "--text-columns", "prod_name")
    files = ("--interactions", CASES / "hm_transactions_mixed.csv", "--items", CASES / "hm_articles_int.csv")
    frame, _ = made("table", *files, *columns)
    assert (len(frame), frame.user.nunique(), frame.item.nunique()) == (140, 20, 12)
    assert texts(tmp_path)["618136477"] == "Top 2"
    zeros = "".join(re_zero(line) for line in (CASES / "hm_transactions_mixed.csv").read_text().splitlines(keepends=True))
    (tmp_path / "zeros.csv").write_text(zeros)
    _, report = made("table", "--interactions", tmp_path / "zeros.csv", *files[2:], *columns)
    assert texts(tmp_path)["0618136477"] == "Top 2" and any("leading zeros" in one for one in report["sources"][1]["notes"])


def re_zero(line: str) -> str:
    """The line with a zero before its item, as the data set itself has it."""
    first, user, item, rest = line.split(",", 3)
    return ",".join([first, user, item if item == "article_id" else f"0{item.removesuffix('.0')}", rest])


def test_ties_are_broken_by_the_seed(made, tmp_path, configs):
    words = (
        "--interactions",
        CASES / "ties_by_item.csv",
        *UI,
        "--time-column",
        "time",
        "--split",
        "leave-one-out",
        "--k-core",
        1,
    )
    frame, report = made("table", *words)
    largest = frame.groupby("user")["item"].max()
    test = frame[frame.x_label == 2].set_index("user")["item"]
    assert (test == largest[test.index]).mean() < 0.3
    assert any(note.startswith("2,400 of 2,400 interactions (100.0%) have the same time") for note in report["notes"])
    recall = popularity(RecDataset(Config("BPR", "mine", {"data_path": str(tmp_path / "data"), "use_gpu": False})))
    assert 0.06 < float(recall.split()[1].rstrip(",")) < 0.13
    other = made("table", *words, "--seed", 7)[0]
    assert (other[other.x_label == 2].set_index("user")["item"][test.index] != test).mean() > 0.5


@pytest.mark.parametrize("spelled", ["nan", "", "NULL", "None", "\\N", "NA", " null ", "NaN", "nan.0", "-nan.0"])
def test_rows_without_a_user_are_left_out_and_counted(made, tmp_path, spelled):
    path = tmp_path / "guests.csv"
    path.write_text((CASES / "guests_nan.csv").read_text().replace("\nnan,", f"\n{spelled},"))
    frame, report = made("table", "--interactions", path, *UI, "--time-column", "time")
    assert (len(frame), frame.user.nunique(), frame.item.nunique()) == (198, 33, 20)
    assert [(one["count"], one["lines"][:2]) for one in report["sources"][0]["left_out"]] == [(97, [4, 5])]


def test_the_first_row_of_an_item_that_is_not_empty_counts(made, tmp_path):
    files = ("--interactions", CASES / "enc_semicolon.csv", "--items", CASES / "dup_items.csv")
    _, report = made("table", *files, *UI, "--time-column", "time", "--text-columns", "title")
    assert texts(tmp_path) == {f"i{n}": f"Old i{n}" for n in range(20)}
    assert report["sources"][1]["notes"][0].startswith("40 further rows of items")


def test_a_pair_in_two_splits_is_wrong(call, tmp_path, configs):
    folder = copy_of_inter("val_is_test.inter", tmp_path, configs)
    status, out, _ = call("check")
    assert status == 1 and "60 of the 60 pairs of validation are in test too (60 pairs)" in out
    frame = pd.read_csv(CASES / "k_gap.inter", sep="\t")
    leaked = frame[frame.x_label == 0].head(7).assign(x_label=2)
    pd.concat([frame, leaked]).to_csv(folder / "mine.inter", sep="\t", index=False)
    status, out, _ = call("check")
    assert status == 1 and "7 of the 360 pairs of training are in test too (67 pairs)" in out and "1 problem\n" in out


def test_a_number_that_occurs_nowhere_is_not_counted_or_ranked(call, tmp_path, configs):
    copy_of_inter("k_gap.inter", tmp_path, configs)
    status, out, _ = call("check")
    assert (
        status == 0
        and "\nitems                        40\n" in out
        and "50,000 item numbers below the largest are in no split" in out
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("i_id_mapping.csv", "itemID\n{}\n", "has the columns ['itemID']; expected two, original id and number"),
        ("i_id_mapping.csv", "item_id,itemID,title\n{}\n", "expected two, original id and number"),
        ("items.csv", "item_id,text,original_id\n{}\n", ""),
    ],
)
def test_check_reads_the_tables_of_ids_as_the_other_commands_do(call, tmp_path, configs, name, text, message):
    folder = copy_of_inter("k_gap.inter", tmp_path, configs)
    n_items = pd.read_csv(folder / "mine.inter", sep="\t").itemID.max() + 1
    n_columns = text.count(",") + 1
    fields = {1: lambda n: f"{n}", 3: lambda n: f"a{n},{n},t" if name != "items.csv" else f"{n},,a{n}"}[n_columns]
    (folder / name).write_text(text.format("\n".join(map(fields, range(n_items)))))
    status, out, _ = call("check")
    assert (status == 1 and message in out) if message else status == 0


# a join that finds too little


@pytest.mark.parametrize("known", [0, 9])
def test_a_join_that_finds_less_than_half_is_an_error(call, tmp_path, known):
    lines = ["item,title", *(f"{'' if n < known else 'x-'}i{n},T{n}" for n in range(20))]
    (tmp_path / "items.csv").write_text("\n".join(lines) + "\n")
    words = ("--interactions", CASES / "pandas_index.csv", *UI, "--items", tmp_path / "items.csv", "--text-columns", "title")
    status, _, err = call("table", *words)
    assert status == 2 and f"has {known} of the 20 items" in err and "'x-i1" in err and "--allow-unmatched" in err
    assert call("table", *words, "--allow-unmatched")[0] == 0


def test_metadata_and_image_features_of_other_items_are_an_error(call, tmp_path):
    ratings = CASES / "az23_quote_nonnumeric.csv"
    (tmp_path / "meta.json").write_text('{"parent_asin": "OTHER1", "title": "a"}\n{"parent_asin": "OTHER2", "title": "b"}\n')
    status, _, err = call("amazon", "--ratings", ratings, "--meta", tmp_path / "meta.json")
    assert status == 2 and "has 0 of the 20 items" in err and "'OTHER1', 'OTHER2'" in err and "'0001388703'" in err
    assert call("amazon", "--ratings", ratings, "--meta", tmp_path / "meta.json", "--allow-unmatched")[0] == 0


# encodings and what is not there


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_text_files_of_other_encodings_are_read(made, tmp_path, encoding):
    path, items = tmp_path / "visits.csv", tmp_path / "items.csv"
    path.write_text((CASES / "pandas_index.csv").read_text().replace("u", "ü").replace("üser", "user"), encoding=encoding)
    items.write_text("item,title\n" + "".join(f"i{n},Grün {n}\n" for n in range(20)), encoding=encoding)
    frame, _ = made("table", "--interactions", path, *UI, "--items", items, "--text-columns", "title")
    assert frame.user.str.startswith("ü").all() and texts(tmp_path)["i3"] == "Grün 3"


def test_latin_1_is_read_when_named_and_else_an_error_says_so(call, made, tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text((CASES / "pandas_index.csv").read_text().replace(",i1", ",é1"), encoding="latin-1")
    status, _, err = call("table", "--interactions", path, *UI)
    assert status == 2 and "not UTF-8" in err and "--encoding" in err
    assert "é1" in set(made("table", "--interactions", path, *UI, "--encoding", "latin-1")[0]["item"])


def test_a_date_that_cannot_be_read_is_shown_as_it_stands(call, tmp_path):
    lines = (CASES / "pandas_index.csv").read_text().splitlines()
    (tmp_path / "visits.csv").write_text("\n".join([lines[0], *(line.rsplit(",", 1)[0] + ",14.07.17" for line in lines[1:])]))
    status, _, err = call("table", "--interactions", tmp_path / "visits.csv", *UI, "--time-column", "time")
    assert status == 2 and "line 2, time is neither a number nor a date: '0,u0,i0,14.07.17'" in err


def test_the_order_of_the_lines_changes_nothing(made, tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"i{i}", int(t))
        for u in range(30)
        for i, t in zip(rng.permutation(25)[:9], rng.integers(0, 30, 9), strict=True)
    ]
    results = []
    for order in (np.arange(len(rows)), rng.permutation(len(rows))):
        pd.DataFrame([rows[place] for place in order], columns=["user", "item", "time"]).to_csv(tmp_path / "v.csv", index=False)
        for split in ("random", "leave-one-out", "user-time", "global-time", "cold-item"):
            frame, _ = made(
                "table", "--interactions", tmp_path / "v.csv", *UI, "--time-column", "time", "--split", split, "--k-core", 3
            )
            results.append(sorted(zip(frame.user, frame.item, frame.timestamp, frame.x_label, strict=True)))
    assert results[:5] == results[5:]


# one id in two spellings, and what stands for none


VISITS = [(f"u{user}", f"i{item}") for user in range(9) for item in range(9) if user != item]


def visits(path, spell, *more):
    """Write VISITS as a table, each line spelled by spell(number, user, item), and further lines."""
    path.write_text("\n".join(["user,item", *(spell(n, *pair) for n, pair in enumerate(VISITS)), *more]) + "\n")
    return ("--interactions", path, *UI, "--k-core", 1)


@pytest.mark.parametrize(
    "spell",
    [
        lambda n, u, i: f'"""{u}""",{i}',
        lambda n, u, i: f"'{u}',{i}" if n % 2 else f"{u},{i}",
        lambda n, u, i: f'"{u}", "{i}"',
        lambda n, u, i: f"\u200b{u},{i}\u200e" if n % 2 else f"{u},{i}",
    ],
    ids=["three marks", "some quoted", "blanks before marks", "marks without width"],
)
def test_marks_and_blanks_around_ids_do_not_count(made, tmp_path, spell):
    frame, _ = made("table", *visits(tmp_path / "v.csv", spell))
    assert set(zip(frame.user, frame.item, strict=True)) == set(VISITS)


@pytest.mark.parametrize(
    ("spell", "said"),
    [
        (lambda n, u, i: f"{u},{int(i[1:]) * 100}{'.0' * (n % 2)}", "end with .0"),
        (lambda n, u, i: f"{u},{i[1:]}e+02" if n % 2 else f"{u},{int(i[1:]) * 100}", "such as 1e+02 are read as whole numbers"),
        (lambda n, u, i: f"{u},{'0' * (int(u[1:]) % 2)}{int(i[1:]) * 100}", "stay apart"),
    ],
    ids=["fraction of zero", "scientific", "leading zeros"],
)
def test_numbers_of_two_spellings_are_said(made, tmp_path, spell, said):
    frame, report = made("table", *visits(tmp_path / "v.csv", spell))
    assert frame.item.nunique() == (9 if said != "stay apart" else 18)
    assert any(said in note for note in report["sources"][0]["notes"])


EAN = 4_190_460_000_000


@pytest.mark.parametrize(
    ("spell", "digits"),
    [
        (lambda item: f"{EAN + 7_777_777_777 * item:.2E}", "3 digits"),
        (lambda item: f"{EAN + 7_777_777_777 * item:.5E}", "6 digits"),
        (lambda item: f"{EAN + 7_777_777_777 * item:g}", "6 digits"),
        (lambda item: f"{EAN + 7_777_777_777 * item:.2E}".replace(".", ","), "3 digits"),
        (lambda item: f"{EAN + 577_777_777_777 * item:.0E}", "1 digit."),
        (lambda item: f"{EAN + 7_777_777_777 * item:.2E}" if item % 3 else f"code{item}", "3 digits"),
        (lambda item: f"{EAN + 7_777_777_777 * item:.2E}" if item % 3 else f"{EAN + item}", "3 digits"),
        (lambda item: f"{EAN + 7_777_777_777 * item:.2E}" if item % 3 else f"{item + 1}E+05", "3 digits"),
    ],
    ids=["Excel's form", "general", "%g", "decimal comma", "one digit", "among words", "among whole ids", "among exact ones"],
)
def test_ids_that_excel_has_cut_are_warned_of_and_stay_as_they_are(made, tmp_path, spell, digits):
    visits(tmp_path / "v.csv", lambda n, u, i: f"{u};{spell(int(i[1:]))}")
    (tmp_path / "v.csv").write_text((tmp_path / "v.csv").read_text().replace("user,item", "user;item"))
    frame, report = made("table", "--interactions", tmp_path / "v.csv", *UI, "--k-core", 1)
    cut = sorted(item for n in range(9) if "E+12" in (item := spell(n).upper()))
    notes = [note for note in report["sources"][0]["notes"] if note.startswith("WARNING")]
    assert len(notes) == 1 and f"has cut these ids to {digits}" in notes[0] and "Export them as text" in notes[0]
    assert f"{len(set(cut))} item ids such as {cut[0]} " in notes[0].upper().replace("ITEM IDS SUCH AS", "item ids such as")
    assert {item.upper() for item in frame.item} >= set(cut)
    if any("E+05" in spell(n) for n in range(9)):
        assert "100000" in set(frame.item)


@pytest.mark.parametrize(
    "spell",
    [
        lambda item: f"{item + 1}E+05",
        lambda item: f"{item + 1}e+05",
        lambda item: f"4.19046{item:07}E+12",
        lambda item: f"1.{item:02}E7",
    ],
    ids=["Excel", "R", "all digits", "Java"],
)
def test_exact_ids_in_scientific_form_are_whole_numbers_without_a_warning(made, tmp_path, spell):
    frame, report = made("table", *visits(tmp_path / "v.csv", lambda n, u, i: f"{u},{spell(int(i[1:]))}"))
    assert set(frame.item) == {f"{int(float(spell(item)))}" for item in range(9)}
    notes = report["sources"][0]["notes"]
    assert any(f"9 item ids such as {spell(0)} are read" in note for note in notes)
    assert not any("WARNING" in note for note in notes)


def test_rare_ids_of_r_with_few_digits_are_exact(made, tmp_path):
    ids = [("1.2e+07" if n == 12_000_000 else f"{n}") for n in range(11_999_900, 12_000_050)]
    (tmp_path / "v.csv").write_text("\n".join(["user,item", *(f"u{n % 9},{item}" for n, item in enumerate(ids))]) + "\n")
    frame, report = made("table", "--interactions", tmp_path / "v.csv", *UI, "--k-core", 1)
    assert "12000000" in set(frame.item) and not any("WARNING" in note for note in report["sources"][0]["notes"])


@pytest.mark.parametrize(("kept", "is_said"), [(15, True), (16, False)])
def test_long_ids_that_excel_has_rounded_are_warned_of(made, tmp_path, kept, is_said):
    def spell(n, user, item):
        return f"{user},{f'12345678901{5000 + 37 * int(item[1:])}77'[:kept]:0<17}"

    frame, report = made("table", *visits(tmp_path / "v.csv", spell))
    warned = [note for note in report["sources"][0]["notes"] if "Excel keeps 15 digits" in note]
    assert frame.item.nunique() == 9 and [note.split(",")[0] for note in warned] == is_said * [
        "WARNING: all 9 item ids of more than 15 digits end with zeros"
    ]


def test_a_word_among_numbers_does_not_keep_their_spellings_apart(made, tmp_path):
    spelled = visits(tmp_path / "v.csv", lambda n, u, i: f"{u},{i[1:]}00{'.0' * (n % 2)}", "u1,special", "u2,special")
    assert made("table", *spelled)[0].item.nunique() == 10


def test_accents_of_two_forms_are_one_id_and_find_their_text(made, tmp_path):
    spelled = visits(tmp_path / "v.csv", lambda n, u, i: ("e\u0301" if n % 2 else "\u00e9") + f"{u},\u00e9{i}")
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"e\u0301i{n},T{n}\n" for n in range(9)))
    frame, _ = made("table", *spelled, "--items", tmp_path / "items.csv", "--text-columns", "title")
    assert (len(frame), frame.user.nunique(), frame.item.nunique()) == (72, 9, 9)
    assert texts(tmp_path)["\u00e9i3"] == "T3"


@pytest.mark.parametrize(
    "spelled", ["-nan", "nil", "(null)", "undefined", "<null>", "#NA", "1.#QNAN", "#N/A N/A", "-", "?", '"NULL"']
)
def test_more_spellings_of_nothing(made, tmp_path, spelled):
    more = [f"{spelled},i{n}" for n in range(9)] + [f"u{n},{spelled}" for n in range(9)]
    frame, report = made("table", *visits(tmp_path / "v.csv", lambda n, u, i: f"{u},{i}", *more))
    assert set(zip(frame.user, frame.item, strict=True)) == set(VISITS)
    assert sum(one["count"] for one in report["sources"][0]["left_out"]) == 18


def test_texts_that_stand_for_nothing_are_empty(made, tmp_path):
    lines = [f"i{n},{'nan' if n < 3 else f'T{n}'},{'NULL' if n > 6 else 'B'}" for n in range(9)]
    (tmp_path / "items.csv").write_text("\n".join(["item,title,brand", *lines, "i0,Late,nan"]) + "\n")
    items = ("--items", tmp_path / "items.csv", "--text-columns")
    made("table", *visits(tmp_path / "v.csv", lambda n, u, i: f"{u},{i}"), *items, "title")
    assert texts(tmp_path)["i0"] == "Late" and texts(tmp_path)["i1"] == ""
    made("table", *visits(tmp_path / "v.csv", lambda n, u, i: f"{u},{i}"), *items, "title,brand")
    assert texts(tmp_path)["i1"] == "B" and texts(tmp_path)["i8"] == "T8"


def test_reviews_whose_user_is_null_are_left_out(made, tmp_path):
    lines = [
        json.dumps({"user_id": u if n % 8 else None, "parent_asin": i, "rating": 5, "timestamp": n})
        for n, (u, i) in enumerate(VISITS)
    ]
    (tmp_path / "r.json").write_text("\n".join(lines) + "\n")
    frame, report = made("amazon", "--reviews", tmp_path / "r.json", "--k-core", 1)
    assert len(frame) == 63 and report["sources"][0]["left_out"][0]["count"] == 9


# how tables are written


def test_a_header_in_the_middle_of_a_table_is_refused(call, tmp_path):
    words = visits(tmp_path / "v.csv", lambda n, u, i: f"{u},{i}", "user,item")
    status, out, _ = call("table", *words, "--max-malformed", 0.1)
    assert status == 0 and "the header again: 1 (line 74)" in out


def test_a_header_with_commas_in_a_tab_separated_table(made, tmp_path):
    lines = ["user\titem\ttitle, a, b, c", *(f"{u}\t{i}\tx, y, z, w" for u, i in VISITS)]
    (tmp_path / "v.tsv").write_text("\n".join(lines) + "\n")
    assert len(made("table", "--interactions", tmp_path / "v.tsv", *UI, "--k-core", 1)[0]) == 72


def test_texts_in_quotes_behind_blanks_keep_their_separators(made, tmp_path):
    (tmp_path / "items.csv").write_text("item, title\n" + "".join(f'"i{n}", "T{n}, ""big"" one"\n' for n in range(9)))
    words = visits(tmp_path / "v.csv", lambda n, u, i: f"{u},{i}")
    _, report = made("table", *words, "--items", tmp_path / "items.csv", "--text-columns", "title")
    assert texts(tmp_path)["i3"] == 'T3, "big" one'
    assert "blanks before and behind quotation marks are passed over" in report["sources"][1]["notes"]


def test_leading_zeros_of_a_part_of_the_ids_find_their_texts(made, tmp_path):
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"{n},T{n}\n" for n in range(5, 14)) + "total,x\n")
    words = visits(tmp_path / "v.csv", lambda n, u, i: f"{u},{int(i[1:]) + 5:02}")
    made("table", *words, "--items", tmp_path / "items.csv", "--text-columns", "title")
    assert texts(tmp_path) == {f"{n:02}": f"T{n}" for n in range(5, 14)}


def test_bytes_in_a_parquet_file_are_text(made, tmp_path):
    frame = pd.DataFrame({"user": [f"\u00fc{u}".encode() for u, _ in VISITS], "item": [i for _, i in VISITS]})
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "v.parquet")
    found, _ = made("table", "--interactions", tmp_path / "v.parquet", *UI, "--k-core", 1)
    assert set(found.user) == {f"\u00fcu{n}" for n in range(9)}


@pytest.mark.parametrize("column", ["--rating-column", "--time-column"])
@pytest.mark.parametrize("spelled", ["1_0", "1_0.5", "0x1F", "0b11", "1_500_000_000", "ten"])
def test_what_only_a_programming_language_takes_for_a_number_is_refused(call, tmp_path, column, spelled):
    rows = [f"u{u},i{i},{5 + i}" for u in range(12) for i in range(12)]
    rows[20] = rows[20].rpartition(",")[0] + f",{spelled}"
    (tmp_path / "visits.csv").write_text("user,item,number\n" + "\n".join(rows) + "\n")
    words = ("table", "--interactions", tmp_path / "visits.csv", *UI, column, "number")
    status, out, _ = call(*words)
    what = "rating is not a number" if column == "--rating-column" else "time is neither a number nor a date"
    assert status == 0 and f"refused: {what}: 1 (line 22)" in out


def test_a_text_that_is_a_formula_is_guarded_in_items_csv_and_comes_back(made, tmp_path):
    titles = ["=1+1", "-5% off", "'tis", "'=1", "plain", "@me", "ＡＢ", "＝1", "+49 30 1", "-abc"]
    pd.DataFrame({"item": [f"i{n}" for n in range(20)], "title": titles * 2}).to_csv(tmp_path / "items.csv", index=False)
    files = ("--interactions", CASES / "enc_semicolon.csv", "--items", tmp_path / "items.csv")
    made("table", *files, *UI, "--time-column", "time", "--text-columns", "title")
    folder = tmp_path / "data" / "mine"
    written = pd.read_csv(folder / "items.csv", dtype=str)
    assert not written["text"].str.match(r"[=+@＝]|-5").any() and written["original_id"].str.fullmatch(r"i\d+").all()
    found = read_items(folder)
    expected = dict(zip([f"i{n}" for n in range(20)], titles * 2, strict=True))
    assert dict(zip(found["original_id"], found["text"], strict=True)) == expected
