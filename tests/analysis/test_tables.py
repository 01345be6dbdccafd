"""What the tables show, to the character, in each format; and that records give the tables of their runs."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from mambarec.analysis.comparison import compare
from mambarec.analysis.records import Record, load_records
from mambarec.analysis.tables import Cell, Table, as_csv, as_latex, as_markdown, as_text, performance_table, rendered
from mambarec.base.errors import ConfigError, RunError
from mambarec.cli import report
from mambarec.running.run import run

TABLE = Table(
    "Title",
    ["Model", "R@20", "N@20"],
    [
        [Cell("A_1"), Cell("0.1000 ± 0.0100", underlined=True, star=True), Cell("–")],
        [Cell("B"), Cell("0.2000 ± 0.0100", bold=True), Cell("0.1000", bold=True)],
        [Cell("Improv."), Cell("+100.00%"), Cell("–")],
    ],
    ["*: p < 0.05.", "Many words " + "more " * 25 + "on a second line."],
    [("", 1), ("toy", 2)],
    last_apart=True,
)


def test_text():
    assert as_text(TABLE).splitlines() == [
        "Title",
        "",
        "                       toy",
        "Model                   R@20        N@20",
        "----------------------------------------",
        "A_1       _0.1000 ± 0.0100_*           –",
        "B        **0.2000 ± 0.0100**  **0.1000**",
        "----------------------------------------",
        "Improv.             +100.00%           –",
        "",
        "- *: p < 0.05.",
        "- Many words more" + " more" * 22,
        "  more more on a second line.",
    ]


def test_markdown():
    assert as_markdown(TABLE).splitlines() == [
        "**Title** (toy)",
        "",
        "| Model | R@20 | N@20 |",
        "|---|---|---|",
        r"| A_1 | <u>0.1000 ± 0.0100</u>\* | – |",
        "| B | **0.2000 ± 0.0100** | **0.1000** |",
        "| Improv. | +100.00% | – |",
        "",
        r"- \*: p < 0.05.",
        "- Many words " + "more " * 25 + "on a second line.",
    ]


def test_csv():
    rows = list(csv.reader(io.StringIO(as_csv(TABLE))))
    assert rows[0] == ["Model", "toy R@20", "toy N@20"] and rows[1] == ["A_1", "0.1000 ± 0.0100", "–"]


def test_numbers_of_a_csv_have_no_commas_and_texts_keep_theirs():
    row = [Cell("A, B"), Cell("1,025,152"), Cell("fanouts=[3,100]"), Cell("12,3")]
    assert as_csv(Table("Wide", list("abcd"), [row])).splitlines()[1] == '"A, B",1025152,"fanouts=[3,100]","12,3"'


def test_latex():
    assert as_latex(TABLE).splitlines() == [
        r"\begin{table*}",
        r"\centering",
        r"\caption{*: p $<$ 0.05. Many words " + "more " * 25 + "on a second line.}",
        r"\footnotesize\setlength{\tabcolsep}{3pt}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & \multicolumn{2}{c}{toy} \\",
        r"\cmidrule(lr){2-3}",
        r"Model & R@20 & N@20 \\",
        r"\midrule",
        r"A\_1 & \underline{0.1000{\tiny$\pm$.0100}}$^*$ & -- \\",
        r"B & \textbf{0.2000{\tiny$\pm$.0100}} & \textbf{0.1000} \\",
        r"\midrule",
        r"Improv. & +100.00\% & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]


def test_latex_has_words_on_the_left_and_minus_signs():
    row = [Cell("toy"), Cell("A"), *(Cell(text) for text in ("-0.1", "+0.2 to -0.1", "< 1e-4", "–", "1–5"))]
    lines = as_latex(Table("Wide", list("abcdefg"), [row])).splitlines()
    assert r"\begin{tabular}{llrrrrr}" in lines
    assert r"toy & A & $-$0.1 & +0.2 to $-$0.1 & $<$ 1e-4 & -- & 1--5 \\" in lines


def test_best_is_bold_second_underlined_and_a_missing_figure_is_a_dash(make_record):
    records = [
        make_record("A", [0.1, 0.1]),
        make_record("B", [0.3, 0.3]),
        make_record("MambaRec", [0.2, 0.2]),  # float16: 0.19995, and 0.30005
        make_record("B", [0.3, 0.3], dataset="other"),
    ]
    table = performance_table(compare(records))
    marks = {row[0].text: (row[1].bold, row[1].underlined, row[5].text) for row in table.rows}
    assert marks["A"] == (False, False, "–")
    assert marks["B"][:2] == (True, False) and marks["MambaRec"][:2] == (False, True)
    assert table.rows[-1][1].text == "-33.36%"


def test_the_notes_name_values_that_are_not_those_of_the_yaml(make_record):
    def said(*records):
        return [note for note in performance_table(compare(records)).notes if note.startswith("Other values")]

    def lightgcn(value, n_layers, **more):
        return make_record("LightGCN", [value], n_layers=n_layers, **more)

    usual, record = lightgcn(0.1, 2), lightgcn(0.1, 4)
    assert said(usual) == []
    assert said(record) == ["Other values than those of the YAMLs: LightGCN n_layers=4."]
    bpr = make_record("BPR", [0.1], embedding_size=8)
    assert said(bpr, lightgcn(0.1, 2, embedding_size=8)) == ["Other values than those of the YAMLs: all rows embedding_size=8."]
    assert said(bpr, record) == ["Other values than those of the YAMLs: BPR embedding_size=8; LightGCN n_layers=4."]
    assert said(make_record("LightGCN", [0.1], model_path="/nowhere", n_layers=4)) == []  # whose YAML is not here
    assert said(make_record("LightGCN", [0.1], mg=True, beta=5)) == [
        "Other values than those of the YAMLs: LightGCN mg=True beta=5."
    ]
    chosen = performance_table(compare([usual, lightgcn(0.2, 4, valid=0.9)]))
    assert "LightGCN n_layers=4" in chosen.notes[0] and not any(note.startswith("Other values") for note in chosen.notes)


def test_the_notes_name_runs_whose_batches_several_processes_shared(make_record):
    def note(**more):
        record = make_record("LightGCN", [0.1], **more)
        shared = replace(record, environment={**record.environment, "processes": 2})
        return [note for note in performance_table(compare([shared])).notes if "several processes" in note]

    assert note() == []
    assert note(propagation="sampled") == [
        "Trained by several processes, each with a part of every batch: LightGCN propagation=sampled on toy seed 1 by 2."
    ]


def test_selection_on_test_marks_title_and_caption(make_record):
    text = rendered(compare([make_record("A", [0.1]), make_record("A", [0.2], x=2)], by_test=True))
    assert "GRID POINTS CHOSEN ON TEST as MMRec does" in text and "TEST chose the one shown" in text and "optimistic" in text


def test_the_caption_begins_with_the_search_points_and_states_seeds_budget_and_cost(make_record):
    records = [make_record("A", [0.1], seed=seed, x=1) for seed in (1, 2)]
    records += [make_record("A", [0.1], x=2, valid=0.05), make_record("B", [0.1], seed=1), make_record("B", [0.1], seed=2)]
    caption = performance_table(compare(records)).caption
    assert caption.startswith(
        "Settings tried: A 2, B 1; validation chose the one shown: A x=1. Figures of the test split of toy"
    )
    assert "over seeds 1, 2, the same for all rows" in caption
    assert (
        "at most 1000 epochs. A run stops early after 20 evaluations without a better validation Recall@20. Evaluations in"
        in caption
    )
    assert "A 3 runs, 15 epochs, 9 s; B 2 runs, 10 epochs, 6 s" in caption
    equal = [make_record(model, [0.1], x=x, valid=x) for model in "AB" for x in (1, 2)]
    assert performance_table(compare(equal)).caption.startswith("Settings tried of each row: 2; validation chose")
    assert performance_table(compare(equal[::2])).caption.startswith("One setting was tried for each row. ")


def test_an_unknown_metric_is_named(make_record):
    with pytest.raises(ConfigError, match="the runs have no 'recall@7'"):
        rendered(compare([make_record("A", [0.1])]), metrics=["recall@7"])


@pytest.fixture
def runs(make_config, tmp_path):
    """Two models with two seeds each, trained."""
    for model in ("BPR", "MambaRec"):
        for seed in (1, 2):
            run(make_config(model, seed=seed))
    return tmp_path / "results"


def test_records_give_the_tables_of_their_runs_and_the_same_bytes_again(runs, tmp_path):
    saved = [record.save(tmp_path / "records") for record in load_records([runs])]
    assert len(saved) == 4 and max(path.stat().st_size for path in saved) < 20_000
    for form in ("text", "csv", "latex", "markdown"):
        of_runs, of_records = (rendered(compare(load_records([place])), form) for place in (runs, tmp_path / "records"))
        assert of_runs == of_records
    before = saved[0].read_bytes()
    assert Record.of_file(saved[0]).save(tmp_path / "records") == saved[0]
    assert saved[0].read_bytes() == before


def test_the_program_writes_tables_and_records_and_names_what_is_missing(runs, tmp_path, capsys):
    assert report.main(["records", "-d", "toy", "-m", "bpr", "--results", str(runs), "--output", str(tmp_path / "kept")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    both = ["--results", str(runs), str(tmp_path / "kept")]
    assert report.main(["table", *both, "--format", "latex", "--output", str(tmp_path / "deep" / "table.tex")]) == 0
    assert r"\toprule" in (tmp_path / "deep" / "table.tex").read_text()
    assert report.main(["table", *both, "-m", "MGCN"]) == 2
    assert "no finished run of model 'MGCN'; there are runs of: BPR, MambaRec" in capsys.readouterr().err
    assert report.main(["table", "--results", str(tmp_path / "nowhere")]) == 2
    assert "no finished run and no *.record.npz there" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["result.json", "per_user.npz"])
def test_a_run_that_cannot_be_read_is_named(runs, damage):
    (path,) = list((runs / "toy" / "BPR").glob("seed1-*"))
    (path / damage).unlink()
    with pytest.raises(RunError, match=path.name):
        Record.of_run(Path(path))
