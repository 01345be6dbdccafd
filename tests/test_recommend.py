"""recommend.py as a user meets it: tables that give the run's own metrics again, messages without tracebacks."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mambarec.config.catalogue as catalogue
from mambarec.base.errors import ConfigError
from mambarec.cli import recommend as program
from mambarec.data.dataset import RecDataset

SRC = Path(__file__).resolve().parents[1] / "src"


@pytest.fixture
def call(capsys):
    """call(*words) -> (exit status, standard output, standard error)."""

    def invoke(*words):
        capsys.readouterr()  # what training said
        try:
            status = program.main([str(word) for word in words])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()

    return invoke


@pytest.mark.parametrize("model", ["MambaRec", "BPR"])
@pytest.mark.parametrize("original_ids", [False, True])
def test_recall_of_the_csv_is_that_of_the_run(call, make_run, make_config, toy, tmp_path, model, original_ids):
    if original_ids:
        for kind, n in (("user", 48), ("item", 64)):
            numbers = np.random.default_rng(n).permutation(n)
            frame = pd.DataFrame({f"{kind}_id": [f"{kind} {i}" for i in numbers], f"{kind}ID": numbers})
            frame.to_csv(toy / f"{kind[0]}_id_mapping.csv", index=False, sep="\t")
    directory = make_run(model)
    status, _, err = call("--run", directory, "-k", 20, "--output", tmp_path / "lists.csv")
    assert status == 0 and err == "960 recommendations for 48 users\n"
    frame = pd.read_csv(tmp_path / "lists.csv", dtype=str)

    dataset = RecDataset(make_config(model))
    pairs = pd.DataFrame({"user": dataset.users["test"], "item": dataset.items["test"]}).astype(str)
    if original_ids:
        pairs = pd.DataFrame({"user": "user " + pairs["user"], "item": "item " + pairs["item"]})
    hits = frame.merge(pairs).groupby("user").size().reindex(pairs["user"].unique(), fill_value=0)
    recall = (hits / pairs.groupby("user").size()).mean()
    assert recall == pytest.approx(json.loads((directory / "result.json").read_text())["test"]["recall@20"], abs=1e-12)


def test_what_a_model_prints_is_no_part_of_the_lists(call, make_run, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    text = "from models.bpr import BPR\n\n\nclass Loud(BPR):\n    def __init__(self, *given):\n"
    (folder / "loud.py").write_text(f"{text}        super().__init__(*given)\n        print('hello')\n")
    (folder / "Loud.yaml").write_text("reg_weight: 0.1\n")
    directory = make_run("Loud", model_path=str(folder))
    status, out, err = call("--run", directory, "-k", 3)
    assert status == 0 and out.startswith("user,item,rank,score\n") and "hello" in err


def test_users_of_a_file_and_all_users(call, make_run, tmp_path):
    directory = make_run("VBPR")
    (tmp_path / "ids.txt").write_text("3\n40\n")
    status, out, err = call("lists", "--run", directory, "--users", tmp_path / "ids.txt", "-k", 2, "--explain")
    header, *rows = out.splitlines()
    assert status == 0 and err == "4 recommendations for 2 users\n"
    assert header == "user,item,rank,score,visual_seen_1,visual_cosine_1,text_seen_1,text_cosine_1"
    assert [row.split(",")[0] for row in rows] == ["3", "3", "40", "40"]
    assert call("--run", directory, "--all", "-k", 1, "--format", "jsonl")[1].count("\n") == 48
    assert call("--run", directory, "--all", "--users", tmp_path / "ids.txt")[0] == 2


def test_users_without_training_pairs_are_left_out_of_all_or_said(call, make_run, toy, tmp_path):
    with (toy / "toy.inter").open("a") as file:
        file.write("49\t0\t1.0\t0\t2\n")
    directory = make_run("BPR")
    status, _, err = call("--run", directory, "--all", "-k", 1, "--output", tmp_path / "lists.csv")
    assert status == 0 and err == "48 recommendations for 48 users\n1 user without training pairs left out\n"
    (tmp_path / "ids.txt").write_text("0\n49\n")
    status, _, err = call("--run", directory, "--users", tmp_path / "ids.txt", "-k", 1)
    assert status == 0 and "1 of the users have no training pair: the model knows nothing of them" in err


def test_similar_items_and_vectors(call, make_run, tmp_path):
    directory = make_run("VBPR")
    status, out, _ = call("similar", "--run", directory, "--item", 3, "-k", 2)
    expected = ["by", "representation", "representation", "visual", "visual", "text", "text"]
    assert status == 0 and [line.split(",")[0] for line in out.splitlines()] == expected
    status, out, _ = call("export", "--run", directory, "--output", tmp_path / "vectors.npz")
    assert status == 0 and out == f"{tmp_path / 'vectors.npz'}\n" and (tmp_path / "vectors.npz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "/nowhere"], "error: /nowhere is no run's directory: config.json cannot be read"),
        (["similar", "--run", "{run}", "--item", "x"], "error: there is no item 'x'"),
        (["--run", "{run}", "--format", "parquet"], "error: --format parquet is not for the console"),
        (["--run", "{run}", "--data_path", "/nowhere"], "error: /nowhere/toy/toy.inter does not exist"),
        (["--run", "{run}", "-k", "0"], "argument -k: 0; expected a whole number above 0"),
        (["--run", "{run}", "--explain"], "error: BPR reads no item features"),
        (["similar", "--run", "{run}"], "the following arguments are required: --item"),
        ([], "error: name a finished run: --run DIRECTORY, or -m NAME -d NAME --seed N"),
    ],
)
def test_a_mistake_ends_with_one_message_and_status_2(call, make_run, words, message):
    directory = make_run("BPR", epochs=1)
    status, _, err = call(*(word.format(run=directory) for word in words))
    assert status == 2 and message in err and "Traceback" not in err


def test_users_by_id_and_those_the_data_do_not_have_are_passed_over(call, make_run, tmp_path):
    directory = make_run("BPR")
    status, out, err = call("--run", directory, "--user", 7, "nobody", 3, -4, "-k", 2)
    assert status == 0 and [line.split(",")[0] for line in out.splitlines()] == ["user", "7", "7", "3", "3"]
    assert err == "passed over, since the data set toy has no such users: nobody, -4\n4 recommendations for 2 users\n"
    (tmp_path / "ids.txt").write_text("9\nnobody\n")
    status, out, err = call("--run", directory, "--users", tmp_path / "ids.txt", "-k", 1)
    assert status == 0 and out.count("\n") == 2 and "passed over" in err
    status, _, err = call("--run", directory, "--user", "nobody", "-k", 1)
    assert status == 2 and "error: the data set toy has none of these users: 'nobody'" in err


def test_titles_stand_beside_the_ids(call, make_run, toy):
    directory = make_run("BPR")
    status, _, err = call("--run", directory, "--user", 7, "--titles")
    assert status == 2 and "items.csv gives no titles" in err
    texts = ["=1+1 is a formula" if item == 0 else f"thing {item}" for item in range(64)]
    pd.DataFrame({"item_id": range(64), "original_id": range(64), "text": texts}).to_csv(toy / "items.csv", index=False)
    status, out, _ = call("--run", directory, "--user", 7, "--titles", "-k", 64)
    rows = [line.split(",") for line in out.splitlines()]
    assert status == 0 and rows[0] == ["user", "item", "title", "rank", "score"]
    assert all(title == ("'=1+1 is a formula" if item == "0" else f"thing {item}") for _, item, title, *_ in rows[1:])
    status, out, _ = call("similar", "--run", directory, "--item", 3, "--titles", "-k", 2)
    assert status == 0 and out.splitlines()[0] == "by,item,title,rank,cosine"


def test_new_items_have_the_titles_of_their_folder(call, make_run, toy, tmp_path):
    directory = make_run("VBPR")
    pd.DataFrame({"item_id": [0, 1], "original_id": ["n0", "n1"], "text": ["lamp", "chair"]}).to_csv(
        tmp_path / "items.csv", index=False
    )
    for name in ("image_feat.npy", "text_feat.npy"):
        np.save(tmp_path / name, np.load(toy / name)[:2])
    status, out, _ = call("audience", "--run", directory, "--new-items", tmp_path, "--item", "n1", "-k", 2, "--titles")
    assert status == 0 and [line.split(",")[:2] for line in out.splitlines()[1:]] == [["n1", "chair"]] * 2
    words = ("--new-items", tmp_path, "--titles", "--user", 7, "-k", 66, "--include-seen")
    status, out, _ = call("--run", directory, *words)
    rows = [line.split(",") for line in out.splitlines()[1:]]
    assert status == 0 and {item: title for _, item, title, *_ in rows if title} == {"n0": "lamp", "n1": "chair"}


def test_a_page_of_lists(call, make_run, tmp_path):
    directory = make_run("VBPR")
    status, out, err = call("--run", directory, "--user", 7, 3, "--html", tmp_path / "lists.html", "-k", 4)
    page = (tmp_path / "lists.html").read_text()
    assert status == 0 and err == "" and out == f"{tmp_path / 'lists.html'}\n"
    assert page.count("<section>") == 2 and "<th>Reasons</th>" in page
    words = ("--html", tmp_path / "lists.html", "--output", tmp_path / "lists.csv", "-k", 4)
    status, _, err = call("--run", directory, "--user", 7, *words)
    assert status == 0 and "4 recommendations for 1 user\n" in err and len(pd.read_csv(tmp_path / "lists.csv")) == 4
    status, _, err = call("--run", directory, "--user", 7, "--html", tmp_path / "lists.html", "--images", tmp_path)
    assert status == 0 and f" items on the page have a picture in {tmp_path}; a picture is named by" in err
    status, _, err = call("--run", directory, "--images", tmp_path)
    assert status == 2 and "--images is for --html" in err


READER = """
import sys
sys.path.insert(0, {src!r})
import mambarec.config.catalogue as catalogue
from pathlib import Path
catalogue.CONFIGS = Path({configs!r})
from mambarec.cli import recommend
sys.exit(recommend.main({words!r}))
"""


def test_a_reader_that_has_read_enough_is_no_error(make_run):
    words = ["--run", str(make_run("VBPR")), "-k", "64", "--explain", "9"]
    script = READER.format(src=str(SRC), configs=str(catalogue.CONFIGS), words=words)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0 and errors == ""


@pytest.fixture
def new_items(toy, tmp_path):
    """A folder of two new items, copies of items 0 and 9."""
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "items.csv").write_text("original_id\nfirst\nsecond\n")
    for name in ("image_feat.npy", "text_feat.npy"):
        np.save(folder / name, np.load(toy / name)[[0, 9]])
    return folder


def test_new_items_stand_among_the_others_and_have_an_audience(call, make_run, new_items):
    directory = make_run("MGCN")
    status, out, err = call("--run", directory, "--new-items", new_items, "-k", 66, "--include-seen")
    header, *rows = out.splitlines()
    assert status == 0 and header == "user,item,rank,score,new" and err == "3,168 recommendations for 48 users\n"
    assert sum(row.endswith("True") for row in rows) == 96 and {row.split(",")[1] for row in rows} > {"first", "second", "9"}
    status, out, _ = call("audience", "--run", directory, "--new-items", new_items, "--item", "second", "-k", 3)
    assert status == 0 and out.splitlines()[0] == "item,user,rank,score" and len(out.splitlines()) == 4


def test_a_boost_multiplies_the_scores_of_new_items_alone(call, make_run, new_items):
    words = ["--run", make_run("MGCN"), "--new-items", new_items, "-k", 66, "--include-seen"]
    plain, boosted = (
        pd.read_csv(io.StringIO(call(*words, *more)[1]), dtype={"item": str}).set_index(["user", "item"])
        for more in ([], ["--boost", 2.5])
    )
    boosted = boosted.loc[plain.index]
    assert (boosted["new"] == plain["new"]).all()
    factors = np.where(plain["new"], 2.5, 1.0)
    np.testing.assert_allclose(boosted["score"], plain["score"] * factors, rtol=1e-6)
    assert (boosted["score"][~plain["new"]] == plain["score"][~plain["new"]]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--boost 2", "--boost is for new items"),
        ("--new-items new --explain", "--explain names reasons"),
        ("--new-items new --html page.html", "--html shows the data set's items only"),
        ("--basket 3 --explain", "leave --explain out"),
        ("--basket ,", "--basket names no item"),
        ("--html page.html --format csv", "--format is for a table"),
    ],
)
def test_options_that_do_not_go_together_are_said_before_a_run_is_opened(words, message):
    with pytest.raises(ConfigError, match=message):
        program.parse(words.split())


def test_what_is_wrong_with_new_items_or_a_basket_is_said_and_nothing_is_written(call, make_run, new_items, tmp_path):
    directory, output = make_run("MGCN"), tmp_path / "out.csv"

    def said(*words):
        status, out, err = call("--run", directory, "--output", output, *words)
        assert status == 2 and out == "" and not output.exists()
        return err

    assert "is no folder" in said("--new-items", tmp_path / "absent")
    assert "--explain names reasons" in said("--new-items", new_items, "--explain")
    assert "--boost is for new items" in said("--boost", 2)
    assert "leave --boost out" in said("--basket", "3", "--boost", 2)
    for wrong in ("0", "-1", "nan", "inf", "x"):
        assert "expected a number above 0 and at most 1000" in said("--new-items", new_items, f"--boost={wrong}")
    assert "there is no item '99'" in said("--basket", "3,99")
    assert "--basket names no item" in said("--basket", " , ")
    assert "leave --explain out" in said("--basket", "3", "--explain")
    table = np.load(new_items / "image_feat.npy")
    table[1] = np.nan
    np.save(new_items / "image_feat.npy", table)
    assert "row 1 holds NaN or Inf" in said("--new-items", new_items)


def test_a_basket_gets_a_list(call, make_run):
    status, out, err = call("--run", make_run("LightGCN"), "--basket", "3,7", "-k", 2)
    assert status == 0 and out.splitlines()[0] == "item,rank,score" and len(out.splitlines()) == 3
    assert err == "2 recommendations for a basket of 2\n"


def test_an_unknown_option_is_answered_with_the_nearest_one(capsys):
    with pytest.raises(SystemExit):
        program.main(["-m", "BPR", "--results_dir", "x"])
    assert "did you mean '--results'? `" in capsys.readouterr().err


def test_without_a_map_of_ids_titles_go_by_the_number_of_an_item(call, make_run, toy):
    texts = [f"thing {item}" for item in range(64)]
    pd.DataFrame({"item_id": range(64), "original_id": range(63, -1, -1), "text": texts}).to_csv(toy / "items.csv", index=False)
    status, out, _ = call("--run", make_run("BPR"), "--user", 7, "--titles", "-k", 9)
    rows = [line.split(",") for line in out.splitlines()[1:]]
    assert status == 0 and all(title == f"thing {item}" for _, item, title, *_ in rows)


def test_a_format_without_a_file_for_the_table_is_refused(call, make_run, tmp_path):
    status, _, err = call("--run", make_run("BPR"), "--user", 7, "--html", tmp_path / "page.html", "--format", "jsonl")
    assert status == 2 and "name a file for the table by --output" in err
