"""The HTML page: what it holds, that nothing in it loads or runs anything else, and that it is the same for the same runs."""

import base64
import hashlib
import json
import math
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mambarec.analysis.html import report
from mambarec.analysis.records import Record, load_records
from mambarec.base.errors import ConfigError, RunError
from mambarec.cli import report as program
from mambarec.config.configurator import Config

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="252pt" height="{}pt" viewBox="0 0 252 {}"><path d="M0 0L9 9"/></svg>'
INJECTED = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&\"'"


class Page(HTMLParser):
    """Elements as (name, attributes), and the text within the elements of each name."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "br", "img", "input", "source"):
            self._open.append(name)
            self.texts.setdefault(name, []).append("")

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, data):
        for name in set(self._open):
            self.texts[name][-1] += data

    def attributes(self, name: str) -> list[dict]:
        return [attributes for found, attributes in self.elements if found == name]

    @property
    def curves(self) -> list[dict]:
        return json.loads(self.texts["script"][0])


@pytest.fixture
def records(make_record):
    """Two models, the second much better, over two seeds; and another grid point of the first."""
    epochs = [{"epoch": i, "loss": 1 / (i + 1), "valid": {"recall@20": 0.01 * i}} for i in range(5)]
    values = {"BPR": [0.1, 0.2, 0.1, 0.3] * 20, "MambaRec": [0.5, 0.6, 0.4, 0.7] * 20}
    runs = [make_record(model, each, seed, lr=0.1) for model, each in values.items() for seed in (1, 2)]
    runs += [make_record("BPR", values["BPR"], seed, valid=0.01, lr=0.2) for seed in (1, 2)]
    return [replace(run, epochs=epochs) for run in runs]


def test_tables_are_marked_as_elsewhere(records):
    text = report(records)
    page = Page(text)
    assert page.texts["h2"] == [
        "Models by Recall@20 on test",
        "Test performance",
        "Efficiency",
        "Significance",
        "Training",
        "Runs",
        "Environment",
    ]
    assert '<span class="best">0.5500</span> <small>± 0.0000</small>' in text
    assert '<span class="second">0.1750</span><sup>*</sup> <small>± 0.0000</small>' in text
    performance = page.texts["table"][1]
    assert performance.index("MambaRec") < performance.index("BPR") < performance.index("Improv.")
    assert [one["aria-sort"] for one in page.attributes("th") if "aria-sort" in one] == ["descending"]
    assert len(page.attributes("tfoot")) == 2


def test_it_begins_with_what_the_tests_say(records):
    page = Page(report(records))
    assert page.texts["title"][0] == "toy: MambaRec is ahead of BPR."
    answer, means, points = (text for text in page.texts["p"][:3])
    assert answer == "MambaRec is ahead of BPR."
    assert means == "MambaRec has the highest Recall@20, 0.5500; next is BPR, 0.1750."
    assert points == "The models did not have the same number of grid points to choose from: 1 to 2."


def test_the_chart_has_each_model_with_interval_and_seeds_sorted(records):
    page = Page(report(records))
    rows = page.texts["table"][0].split()
    assert rows.index("MambaRec") < rows.index("BPR") and page.texts["table"][0].count("lower") == 1
    charts = [one["aria-label"] for one in page.attributes("svg") if one.get("role") == "img" and "aria-label" in one]
    name, low, high, *seeds = re.match(
        r"(\w+): 0.5500, interval ([\d.]+) to ([\d.]+); seed 1: ([\d.]+), seed 2: ([\d.]+)$", charts[0]
    ).groups()
    assert name == "MambaRec" and 0.5 < float(low) < 0.55 < float(high) < 0.6 and seeds == ["0.5500", "0.5500"]
    assert [one.get("class") for one in page.attributes("tr")].count("reference") == 1
    places = [float(one[key].rstrip("%")) for one in page.attributes("line") for key in ("x1", "x2")]
    places += [float(one["cx"].rstrip("%")) for one in page.attributes("circle")]
    assert len(places) > 10 and all(0 <= place <= 100 for place in places)


def test_a_single_model_without_differences_is_a_page_too(make_record):
    text = report([make_record("BPR", [0.25] * 8)])
    assert "Only BPR has finished runs" in text and "against" not in Page(text).texts["table"][0]


def test_every_run_is_named_once_and_drawn_with_its_epochs(records):
    page = Page(report(records + records))
    labels = ["BPR lr=0.1 seed 1", "BPR lr=0.1 seed 2", "BPR lr=0.2 seed 1", "BPR lr=0.2 seed 2"]
    labels += ["MambaRec seed 1", "MambaRec seed 2"]
    assert [curve["label"] for curve in page.curves] == labels
    assert [curve["chosen"] for curve in page.curves] == [True, True, False, False, True, True]
    assert page.curves[0]["valid"] == [0.0, 0.01, 0.02, 0.03, 0.04]
    assert page.curves[0]["loss"] == [1.0, 0.5, 0.333333, 0.25, 0.2]
    assert [one["id"] for one in page.attributes("details") if "id" in one] == [f"run-{i}" for i in range(6)]


def test_names_hold_what_varies_and_is_not_the_default_by_its_value(make_record):
    default = Config("LightGCN", "demo")["n_layers"]
    runs = [
        make_record("LightGCN", [0.1, 0.2], valid=0.5 if n == default else 0.1, dataset="demo", n_layers=n, reg_weight=7.0)
        for n in (10, 4, default, 1)
    ]
    labels = [curve["label"] for curve in Page(report(runs)).curves]
    assert labels == ["LightGCN seed 1", *(f"LightGCN n_layers={n} seed 1" for n in (1, 4, 10))]


def test_epochs_without_a_value_are_null(records):
    rows = [{"epoch": 0, "loss": math.nan}, {"epoch": 1, "valid": {"recall@20": 0.5}}]
    curve = Page(report([replace(records[0], epochs=rows)])).curves[0]
    assert curve["loss"] == [None, None] and curve["valid"] == [None, 0.5]


def test_texts_from_runs_and_figures_are_no_markup(make_record, tmp_path):
    (tmp_path / "a.svg").write_text(SVG.format(180, 180))
    (tmp_path / "a.txt").write_text(INJECTED)
    run = make_record("BPR", [0.1, 0.2], learner=INJECTED)
    other = make_record("BPR", [0.1, 0.2], learner="adam")
    run.environment.update(git=INJECTED, command=["main.py", INJECTED])
    page = Page(report([run, other], [tmp_path]))
    assert len(page.attributes("script")) == 2 and len(page.attributes("img")) == 1
    assert {curve["label"] for curve in page.curves} == {f"BPR learner={one} seed 1" for one in ("adam", INJECTED)}
    assert any(f"learner: {INJECTED}" in text for text in page.texts["pre"])
    assert not any(key.startswith("on") or key == "style" for _, attributes in page.elements for key in attributes)


def test_nothing_is_loaded_and_only_its_own_script_may_run(records, tmp_path):
    (tmp_path / "a.svg").write_text(SVG.format(180, 180))
    page = Page(report(records, [tmp_path]))
    targets = [attributes.get("src", attributes.get("href", "#")) for _, attributes in page.elements]
    assert all(target.startswith(("#", "data:image/")) for target in targets)
    assert not page.attributes("link") and "@import" not in page.texts["style"][0] and "url(" not in page.texts["style"][0]
    policy = next(meta["content"] for meta in page.attributes("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind, text in {"style": page.texts["style"][0], "script": page.texts["script"][1]}.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_links_lead_to_sections_of_the_page(records):
    page = Page(report(records))
    there = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.attributes("a")} <= there


def test_the_same_runs_give_the_same_bytes(records):
    assert report(records) == report(records)


# what a run's fold says


def test_a_run_names_the_settings_that_are_not_the_default_ones(make_run):
    page = Page(report([Record.of_run(make_run("VBPR", learning_rate=0.5))]))
    rows = page.texts["tr"]
    assert "learning_rate0.50.001" in rows and "embedding_size864" in rows  # key, value, default
    assert not any(row.startswith(("results_dir", "data_path", "reg_weight")) for row in rows)
    assert any("learning_rate: 0.5\n" in text and 'field_separator: "\\t"\n' in text for text in page.texts["pre"])


def test_of_an_unknown_model_all_settings_are_shown(make_record):
    text = report([make_record("Newest", [0.1, 0.2], new_key=7)])
    assert "does not know the model" in text and "new_key: 7" in text


# the data set


def test_the_head_counts_every_run_of_the_page(make_record):
    records = [make_record(model, [0.1], seed) for model, seed in (("A", 1), ("A", 2), ("B", 1))]
    page = Page(report(records))
    facts = dict(zip(*(page.texts[name] for name in ("dt", "dd")), strict=True))
    assert facts["Runs"] == "3" and facts["Epochs"] == str(sum(record.result["epochs"] for record in records))


def test_the_head_describes_the_data_of_the_runs(make_run, toy, tmp_path):
    run = Record.of_run(make_run("VBPR"))
    (kept,) = load_records([run.save(tmp_path)])  # its keys have another order
    assert Page(report([kept])).texts["dt"] == Page(report([run])).texts["dt"]
    facts = dict(zip(*(Page(report([run])).texts[name] for name in ("dt", "dd")), strict=True))
    assert facts["Users"] == "48" and facts["Items"] == "64" and facts["Width of features"] == "visual 24, text 16"
    table = toy / "toy.inter"
    table.write_text(table.read_text() + "0\t1\t0\n")
    facts = Page(report([run])).texts["dt"]
    assert "Users" not in facts and "Users tested" in facts


# figures


def test_the_smaller_of_svg_and_png_is_in_the_page(records, tmp_path):
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 700, 200)
    (tmp_path / "small.svg").write_text(SVG.format(180, 180))
    (tmp_path / "small.png").write_bytes(png + bytes(1000))
    (tmp_path / "small.csv").write_text("x,y\n1,2\n")
    (tmp_path / "wide.svg").write_text(SVG.format(72, 72) + " " * 50 + "<!--" + "-" * 1000 + "-->")
    (tmp_path / "wide.png").write_bytes(png)
    (tmp_path / "wide.csv").write_text("x\n" * 1000)
    (tmp_path / "notes.md").write_text("no figure")
    page = Page(report(records, [tmp_path, tmp_path / "none"]))
    first, second = page.attributes("img")
    assert first["src"].startswith("data:image/svg+xml,%3Csvg ") and (first["width"], first["height"]) == ("252", "180")
    assert base64.b64decode(second["src"].removeprefix("data:image/png;base64,")) == png
    assert (second["width"], second["height"]) == ("700", "200")
    assert "x,y\n1,2" in page.texts["pre"] and len(page.texts["figcaption"]) == 4


def test_a_dark_page_has_the_dark_form_of_a_figure(records, tmp_path):
    (tmp_path / "a.svg").write_text(SVG.format(180, 180))
    (tmp_path / "a-dark.svg").write_text(SVG.format(180, 180).replace("/>", ' fill="#111, #222"/>'))
    (tmp_path / "b.svg").write_text(SVG.format(180, 180))
    page = Page(report(records, [tmp_path]))
    (source,) = page.attributes("source")
    assert source["media"] == "screen and (prefers-color-scheme: dark)"
    assert source["srcset"].startswith("data:image/svg+xml,") and not set(source["srcset"].partition(",")[2]) & set(' ,"')
    assert "%23111" in source["srcset"]
    first, second = page.attributes("img")
    assert "class" not in first and second["class"] == "light-only" and "%23111" not in first["src"]


@pytest.mark.parametrize("name, content", [("a.png", b"GIF89a"), ("a.svg", b"<p>"), ("a.svg", b"\xff\xfe"), ("a.svg", b"")])
def test_a_figure_that_cannot_be_read_is_named(records, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"/a: this figure cannot be read .* or remove {name}$"):
        report(records, [tmp_path])


# the command line


def test_the_page_lies_beside_the_runs_of_its_data_set(records, tmp_path, capsys):
    for record in records:
        replace(record, source=record.source.with_name(f"{record.source.name}-{record.config['lr']}")).save(tmp_path)
    assert program.main(["html", "-d", "toy", "--results", str(tmp_path)]) == 0
    path = tmp_path / "toy" / "report.html"
    assert capsys.readouterr().out == f"{path}\n"
    assert len(Page(path.read_text(encoding="utf-8")).curves) == 6


def test_several_data_sets_have_a_page_above_theirs(make_record, tmp_path, capsys):
    for dataset in ("toy", "other"):
        for i, name in enumerate(("MambaRec", "BPR", "GRCN")):
            rises = [0.1 * i + 0.001 * j for j in range(50)]
            make_record(name, rises, dataset=dataset).save(tmp_path / "kept" if name != "GRCN" else tmp_path)
    assert program.main(["html", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'report.html'}"
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [one["href"] for one in page.attributes("a")] == ["other/report.html", "toy/report.html"]
    assert all((tmp_path / one["href"]).exists() for one in page.attributes("a"))
    assert page.texts["p"].count("MambaRec is behind BPR and GRCN.") == 2
    assert any("its test needs 3 data sets or more, and there are 2" in note for note in page.texts["li"])
    policy = next(meta["content"] for meta in page.attributes("meta") if "http-equiv" in meta)
    assert "script" not in policy and not page.attributes("script") and not page.attributes("b")


def test_one_output_for_two_data_sets_is_refused(make_record, tmp_path, capsys):
    for dataset in ("toy", "other"):
        make_record("BPR", [0.1, 0.2], dataset=dataset).save(tmp_path)
    assert program.main(["html", "--results", str(tmp_path), "--output", str(tmp_path / "page.html")]) == 2
    assert "there are runs of other, toy; choose one of these with -d" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(make_record, tmp_path, capsys):
    make_record("BPR", [0.1, 0.2]).save(tmp_path)
    assert program.main(["html", "--results", str(tmp_path), "--output", str(tmp_path)]) == 2
    assert f"{tmp_path}: a folder is there, and a file is expected" in capsys.readouterr().err


def test_a_metric_that_was_not_computed_is_refused(records):
    with pytest.raises(ConfigError, match="recall@3"):
        report(records, metrics=["recall@3"])
