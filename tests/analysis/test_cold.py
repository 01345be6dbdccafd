"""The cold-start protocol: recall by hand, replaced scores, tests, table and figures."""

import numpy as np
import pandas as pd
import pytest
import torch

import mambarec.config.catalogue as catalogue
from mambarec.analysis import cold
from mambarec.base.errors import RunError
from mambarec.cli import report
from mambarec.data.dataset import RecDataset
from mambarec.running.trained import load_trained

NEW = [3, 11, 40, 41, 52]


@pytest.fixture
def split(toy):
    """The toy data in which some items have test pairs alone."""
    frame = pd.read_csv(toy / "toy.inter", sep="\t")
    frame.loc[frame["itemID"].isin(NEW), "x_label"] = 2
    frame.to_csv(toy / "toy.inter", sep="\t", index=False)
    return toy


@pytest.fixture
def split_twice(split):
    """The same, and some items have validation pairs alone."""
    frame = pd.read_csv(split / "toy.inter", sep="\t")
    frame.loc[frame["itemID"].isin([5, 17, 30]), "x_label"] = 1
    frame.to_csv(split / "toy.inter", sep="\t", index=False)
    return split


def by_hand(trained, scores, users_items, candidates):
    """Mean Recall@20 over the users of some pairs, when these candidates are ranked."""
    history = trained.dataset.inter_matrix("csr").toarray() > 0
    values = []
    for user, wanted in users_items.items():
        row = np.where(candidates & ~history[user], scores[user], -np.inf)
        best = np.argsort(-row, kind="stable")[:20]
        values.append(np.isin(best[np.isfinite(row[best])], list(wanted)).sum() / len(wanted))
    return np.mean(values)


def pairs(dataset, keep, split="test"):
    found = {}
    for user, item in zip(dataset.users[split].tolist(), dataset.items[split].tolist(), strict=True):
        if keep(item):
            found.setdefault(user, set()).add(item)
    return found


@pytest.mark.parametrize(("model", "settings"), [("MGCN", {"cold_items": "neighbours"}), ("ItemKNN", {}), ("LightGCN", {})])
def test_recall_of_new_and_warm_items_is_that_of_a_naive_loop(make_run, split, model, settings):
    trained = load_trained(make_run(model, **settings))
    measured = cold.measure(trained)
    with torch.no_grad():
        everyone = torch.arange(trained.dataset.n_users)
        scores = trained.model.full_sort_predict([everyone, torch.zeros(2, 0, dtype=torch.long)]).numpy()
        if model == "LightGCN":
            scores[:, NEW] = cold._replacement(trained, np.array(NEW), None)(everyone).numpy()
    every, only = np.ones(64, dtype=bool), np.isin(np.arange(64), NEW)
    new, warm = pairs(trained.dataset, lambda item: item in NEW), pairs(trained.dataset, lambda item: item not in NEW)
    for view, wanted, candidates in (("new", new, every), ("only", new, only), ("warm", warm, every)):
        assert measured.mean(view, "recall") == pytest.approx(by_hand(trained, scores, wanted, candidates))
        assert len(measured.values[view, "ndcg"]) == len(wanted)
    assert len(measured.pairs) == sum(map(len, new.values()))


def test_validation_chooses_the_boost_by_the_harmonic_mean_of_new_and_warm_recall(make_run, split_twice):
    trained = load_trained(make_run("VBPR", cold_items="neighbours", epochs=3))
    everyone, is_new = torch.arange(trained.dataset.n_users), np.isin(np.arange(64), [*NEW, 5, 17, 30])
    with torch.no_grad():
        scores = trained.model.full_sort_predict([everyone, torch.zeros(2, 0, dtype=torch.long)]).numpy()

    def naive(split, boost):
        every, factors = np.ones(64, dtype=bool), np.where(is_new, boost, 1).astype(np.float32)
        wanted = (pairs(trained.dataset, lambda item, kind=kind: is_new[item] == kind, split) for kind in (True, False))
        return tuple(by_hand(trained, scores * factors, one, every) for one in wanted)

    means = [2 * new * warm / (new + warm) for new, warm in (naive("valid", boost) for boost in cold.BOOSTS)]
    assert len(set(means)) > 3
    assert cold.best_boost(trained) == cold.BOOSTS[int(np.argmax(means))]
    measured = cold.measure(trained, boost=3.0)
    assert (measured.mean("new", "recall"), measured.mean("warm", "recall")) == pytest.approx(naive("test", 3.0))


def test_data_without_new_items_cannot_be_measured(make_config):
    with pytest.raises(RunError, match="the protocol needs the split cold-and-warm"):
        cold.new_items(RecDataset(make_config("BPR")))


def test_links_may_have_another_number_of_neighbours(make_run, split):
    trained = load_trained(make_run("VBPR", cold_items="neighbours"))
    own, ten, one = (cold.measure(trained, k) for k in (None, 10, 1))
    assert all((own.values[key] == ten.values[key]).all() for key in own.values)
    assert any((own.values[key] != one.values[key]).any() for key in own.values)


@pytest.fixture
def elsewhere(configs, tmp_path, monkeypatch):
    """Data and YAMLs go where the test may write."""
    monkeypatch.setattr(report, "DATA", tmp_path / "data")
    monkeypatch.setattr(catalogue, "HOME", catalogue.CHECKOUT)
    return tmp_path


def test_the_command_makes_the_data_set_trains_and_writes_table_and_figures(elsewhere, toy, in_this_process, capsys):
    pytest.importorskip("matplotlib", reason="figures need the extra [report]")
    words = [
        "cold",
        "-d",
        "toy",
        "-m",
        "ItemKNN",
        "Pop",
        "VBPR",
        "--data_path",
        str(toy.parent),
        "--epochs",
        "1",
        "--seed",
        "1",
    ]
    words += ["--results_dir", str(elsewhere / "results"), "--threads", "1", "--use_gpu", "false"]
    assert report.main(words) == 0
    assert (elsewhere / "data" / "toy-cold" / "toy-cold.inter").is_file()
    figures = elsewhere / "results" / "toy-cold" / "figures" / "ItemKNN-Pop-VBPR"
    assert f"{figures / 'cold.txt'}\n" in capsys.readouterr().out
    assert {path.name for path in figures.glob("*.csv")} == {"cold-neighbours.csv", "cold-similarity.csv"}
    assert pd.read_csv(figures / "cold-neighbours.csv")["neighbours"].tolist() == list(cold.NEIGHBOURS)
    text = (figures / "cold.txt").read_text()
    places = [text.index(f"\n{label} ") for label in ("content kNN", "interactions kNN", "popularity", "VBPR")]
    assert places == sorted(places) and text.count("VBPR against popularity") == 2
    assert text.count("New items, boosted") == 1 and "harmonic mean of new and warm Recall@20 on validation" in " ".join(
        text.split()
    )
    assert report.main([*words, "--cold_items", "own"]) == 2 and report.main([*words, "--item_dropout", "0"]) == 2


def test_a_data_set_in_another_spelling_has_the_same_cold_one(elsewhere, toy, in_this_process):
    pytest.importorskip("matplotlib", reason="figures need the extra [report]")
    for name in ("toy", "TOY"):
        words = ["cold", "-d", name, "-m", "Pop", "--data_path", str(toy.parent), "--seed", "1", "--threads", "1"]
        assert report.main([*words, "--results_dir", str(elsewhere / "results"), "--use_gpu", "false"]) == 0
    assert [path.name for path in (elsewhere / "data").glob("*-cold")] == ["toy-cold"]


def test_the_nearest_training_item_is_by_the_modalities_that_an_item_has(make_run, split, toy):
    trained = load_trained(make_run("VBPR", epochs=1))
    new = cold.new_items(trained.dataset)
    masks = {m: np.ones(64, dtype=bool) for m in ("image", "text")}
    masks["image"][new[:2]] = masks["text"][new[1]] = False
    for m, mask in masks.items():
        np.save(toy / f"{m}_mask.npy", mask)
    trained = load_trained(make_run("VBPR", epochs=1, seed=2))
    similarity, groups = cold._groups(trained)
    text = np.load(toy / "text_feat.npy")
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    warm = np.unique(trained.dataset.items["train"])
    assert similarity[new[0]] == pytest.approx((text[warm] @ text[new[0]]).max(), abs=1e-5)
    assert np.isnan(similarity[new[1]]) and groups[new[1]] == -1 and (groups[new[2:]] > 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        ["-m", "GUME"],
        ["-m", "Pop", "GUME"],
        ["--item_dropout", "0"],
        ["--cold_items", "own"],
        ["--learning_rate", "1e-3", "1e-2"],
        ["--data_path", "one", "two"],
        ["-m", "Pop", "ItemKNN", "--knn_kk", "7"],
        ["-m", "Pop", "ItemKNN", "--split", "random"],
    ],
)
def test_a_wrong_word_makes_no_data_set(elsewhere, toy, in_this_process, capsys, wrong):
    pytest.importorskip("matplotlib", reason="figures need the extra [report]")
    assert report.main(["cold", "-d", "toy", "--data_path", str(toy.parent), *wrong]) == 2
    assert not list((elsewhere / "data").glob("*-cold"))


def test_a_split_that_was_made_of_other_data_is_not_taken(elsewhere, toy, in_this_process, capsys):
    pytest.importorskip("matplotlib", reason="figures need the extra [report]")
    words = ["cold", "-d", "toy", "-m", "Pop", "--data_path", str(toy.parent), "--results_dir", str(elsewhere / "results")]
    assert report.main(words) == 0 and report.main(words) == 0
    np.save(toy / "text_feat.npy", np.load(toy / "text_feat.npy") + 1)
    assert report.main(words) == 2
    assert "toy-cold was made of other data than" in capsys.readouterr().err


def test_missing_modalities_are_trained_beside_a_model_of_everything(toy, elsewhere, in_this_process, make_config, capsys):
    pytest.importorskip("matplotlib", reason="figures need the extra [report]")
    words = ["missing", "--train", "-d", "toy", "-m", "VBPR", "--data_path", str(toy.parent), "--epochs", "1", "--seed", "1"]
    words += ["--results_dir", str(elsewhere / "results"), "--threads", "1", "--use_gpu", "false"]
    assert report.main(words) == 0
    table = pd.read_csv(elsewhere / "results" / "toy" / "figures" / "missing-trained.csv")
    assert table["model"].unique().tolist() == ["VBPR, trained on everything", "VBPR, trained with masks"]
    assert table["share"].tolist() == 2 * [0.0, 0.25, 0.5, 0.75]
    at_zero = table[table["share"] == 0]
    assert at_zero["recall@20 without visual"].nunique() == at_zero["recall@20 without text"].nunique() == 1
    capsys.readouterr()
    for wrong, message in (
        (["--missing_share", "0.1"], "the study sets missing_share itself"),
        (["--missing_seed", "1", "2"], "--missing_seed: a study takes one value"),
        (["--topk", "10", "--valid_metric", "Recall@10"], "the study shows recall@20, which these settings do not compute"),
        (["-m", "VBPR", "vbpr", "BPR"], "BPR on toy reads no modality"),
    ):
        assert report.main([*words, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_missing_modalities_of_a_model_whose_yaml_is_a_grid_are_refused_before_a_training(
    toy, elsewhere, in_this_process, tmp_path, capsys
):
    pytest.importorskip("matplotlib", reason="figures need the extra [report]")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "grid.py").write_text("from models.vbpr import VBPR\n\n\nclass Grid(VBPR):\n    pass\n")
    (folder / "Grid.yaml").write_text("reg_weight: [0.1, 0.01]\nhyper_parameters: [reg_weight]\nmodalities: [all]\n")
    words = ["missing", "--train", "-d", "toy", "-m", "Grid", "--model-path", str(folder), "--data_path", str(toy.parent)]
    assert report.main([*words, "--results_dir", str(elsewhere / "results")]) == 2
    assert "Grid.yaml has several values of reg_weight" in capsys.readouterr().err
    assert not (elsewhere / "results" / "toy").exists()
