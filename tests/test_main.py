"""The command line as a user meets it: one program, exit statuses, messages without tracebacks."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mambarec.base.places import version
from mambarec.cli import train as program
from mambarec.config.catalogue import available_models
from mambarec.config.configurator import Config
from mambarec.experiments import sweep
from mambarec.experiments.trials import attempt

SRC = Path(__file__).resolve().parents[1] / "src"


@pytest.fixture
def call(toy, tmp_path, capsys, in_this_process):
    """call(*words) -> (exit status, standard output, standard error), on the toy data."""

    def invoke(*words: str):
        places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results")]
        small = ["--embedding_size", "8", "--train_batch_size", "32", "--epochs", "2", "--use_gpu", "false", "--threads", "1"]
        given = {word.split("=")[0] for word in words}
        defaults = [word for i in range(0, len(small), 2) if small[i] not in given for word in small[i : i + 2]]
        defaults += [word for i in range(0, len(places), 2) if places[i] not in given for word in places[i : i + 2]]
        status = program.main(["-d", "toy", *words, *defaults] if "-d" not in words else [*words, *defaults])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return invoke


def test_one_run_prints_a_table_and_where_the_files_lie(call, tmp_path):
    status, out, _ = call("-m", "MambaRec")
    assert status == 0
    assert "MambaRec on toy, seed 999: best epoch" in out
    assert all(name in out for name in ("recall", "ndcg", "precision", "map", "hitrate", "mrr", "@5", "@50"))
    assert str(tmp_path / "results" / "toy" / "MambaRec" / "seed999-") in out


def test_several_values_make_a_grid_and_its_best_is_by_validation(call):
    status, out, _ = call("-m", "MambaRec", "--mmd_weight", "0.1", "0.2", "--reduction_factor", "2", "4")
    assert status == 0
    assert out.count("mmd_weight=") >= 4 and out.count("*\n") >= 1


def test_a_single_trial_goes_to_the_engine_that_was_asked_for(call, monkeypatch):
    asked = []

    class Cluster:
        def __init__(self, workers, gpus):
            self.each = workers, gpus

        def __call__(self, trials, show):
            asked.extend((trial, *self.each) for trial in trials)
            return map(attempt, trials)

    monkeypatch.setattr(sweep, "RayCluster", Cluster)
    status, *_ = call("-m", "BPR", "--engine", "ray", "--workers-per-trial", "2", "--gpus-per-trial", "0.5")
    assert status == 0 and [each for _, *each in asked] == [[2, 0.5]]


@pytest.mark.parametrize("words", [["--workers-per-trial", "2"], ["--gpus-per-trial", "1"]])
def test_what_is_for_ray_is_refused_without_it(call, words, capsys):
    with pytest.raises(SystemExit):
        call("-m", "BPR", *words)
    assert "are for --engine ray" in capsys.readouterr().err


def test_a_trial_of_several_workers_is_not_pruned(call, capsys):
    words = ["-m", "BPR", "--learning_rate", "0.1", "0.2", "--sampler", "tpe", "--search-budget", "2", "--engine", "ray"]
    with pytest.raises(SystemExit):
        call(*words, "--workers-per-trial", "2", "--pruner", "median")
    assert "does not end trials of several workers" in capsys.readouterr().err
    assert program.parse([*words, "--workers-per-trial", "2"])[0].used_pruner == "none"
    assert program.parse(words)[0].used_pruner == "median"


@pytest.mark.parametrize("share", ["0", "2", "-1", "half", "nan"])
def test_a_process_asks_for_a_gpu_or_a_part_of_one(call, share, capsys):
    with pytest.raises(SystemExit):
        call("-m", "BPR", "--engine", "ray", "--gpus-per-trial", share)
    assert f"{share}; expected a number above 0 and at most 1" in capsys.readouterr().err


def test_lists_stay_lists(call):
    status, out, _ = call("-m", "BPR", "--topk", "3", "20")
    assert status == 0 and "@3" in out and "@20" in out and "@50" not in out


def test_models_side_by_side_take_the_keys_they_know(call):
    status, out, _ = call("-m", "BPR", "LightGCN", "--n_layers", "1", "--seed", "1", "2")
    assert status == 0
    assert "BPR on toy seed=1" in out and "LightGCN on toy seed=2" in out


def test_mirror_gradient_trains(call):
    assert call("-m", "MambaRec", "--mg", "--beta", "2")[0] == 0


def test_model_names_may_be_spelled_in_any_case(call):
    assert "MambaRec on toy" in call("-m", "mambarec")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "NoSuchModel"], "no model 'NoSuchModel' in src/models; there are: "),
        (["-m", "BPR", "-d", "nowhere"], "configs/dataset; there are: baby, clothing, demo"),
        (["--learning_rat", "0.1"], "MambaRec has no key 'learning_rat'; did you mean '--learning_rate'?"),
        (["--embedding_size", "abc"], "embedding_size='abc'; expected an integer"),
        (["--embedding_size", "0"], "embedding_size=0; expected an integer above 0"),
        (["--reduction_factor", "100000"], "reduction_factor=100000: min(24, 16) // 100000 = 0 dimensions; use at most 16"),
        (["--feature_map", "[3, 1, 1]"], "feature_map=[3, 1, 1]: expected C, H, W whose product is the reduced width 2"),
        (["--variant", "other"], "variant='other'; expected one of paper, released"),
        (["--variant", "released", "--contrast", "both"], "contrast=both has no effect with variant: released"),
        (["--modalities", "audio"], "declares no 'audio'; it declares: visual, text"),
        (["--valid_metric", "Recall@7"], "valid_metric=Recall@7 is not computed"),
        (["-m", "BPR", "LightGCN", "--mmd_weight", "0.1"], "none of BPR, LightGCN has a key 'mmd_weight'"),
        (["--patience", "5"], "MambaRec has no key 'patience'; did you mean '--stopping_step'?"),
        (["-m", "BPR", "LightGCN", "--lr", "5"], "none of BPR, LightGCN has a key 'lr'; did you mean '--learning_rate'?"),
        (["-m", "BPR,LightGCN"], "Separate several names by spaces: BPR LightGCN"),
        (["-m", "BPR", "toy"], "toy is a data set: write -d toy"),
        (["-m", "BPR", "-d", "LightGCN"], "LightGCN is a model: write -m LightGCN"),
        (["-m", "BPR", "-d", "shop"], "`mambarec prepare table -d shop` makes one of your own tables"),
        (["-d", "tiktok", "--data_path", "/nowhere"], "/nowhere/tiktok/tiktok.inter does not exist"),
    ],
)
def test_a_mistake_ends_with_one_message_and_status_2(call, tmp_path, words, message):
    status, _, err = call(*words)
    assert status == 2
    assert err.startswith("error: ") and message in err
    assert not (tmp_path / "results").exists()


def test_a_name_without_its_option_says_which(call, capsys):
    assert program.main(["BPR"]) == 2 and "'BPR' belongs to no key; BPR is a model: write -m BPR" in capsys.readouterr().err
    assert program.main(["demo"]) == 2 and "demo is a data set: write -d demo" in capsys.readouterr().err


def test_an_option_that_cannot_be_used_is_one_line(call, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/a/src/main.py"])
    with pytest.raises(SystemExit) as ended:
        program.main(["-m", "BPR", "--jobs", "two"])
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.count("\n") == 1
    assert err.startswith("error: argument --jobs: two; expected a whole number above 0. `python main.py -h` shows the options")


def test_a_missing_modality_suggests_the_one_that_is_there(call, toy):
    (toy / "image_feat.npy").unlink()
    status, _, err = call("-m", "MambaRec")
    assert status == 2 and "image_feat.npy does not exist" in err and "--modalities text" in err and "-d demo" in err
    assert call("-m", "MambaRec", "--modalities", "text")[0] == 0
    assert call("-m", "LightGCN")[0] == 0


@pytest.mark.parametrize("words", [["-m", "all"], ["-m", "BPR", "MambaRec", "VBPR"], ["-m", "VBPR", "--seed", "1", "2"]])
def test_what_is_missing_is_said_before_anything_is_trained(call, toy, tmp_path, words):
    (toy / "text_feat.npy").unlink()
    status, _, err = call(*words)
    assert status == 2 and not (tmp_path / "results").exists()
    assert err.startswith("error: nothing is trained, since something is missing.") and "text_feat.npy does not exist" in err
    assert err.count("\n") == 2  # models that lack the same thing share a line
    if "BPR" in words or "all" in words:
        assert "give -m usable, or name the others: -m BPR" in err


def test_usable_models_are_those_whose_features_and_packages_are_there(call, toy, tmp_path):
    for modality in ("image", "text"):
        (toy / f"{modality}_feat.npy").unlink()
    folder = tmp_path / "models"
    folder.mkdir()
    source = (SRC / "models" / "bpr.py").read_text(encoding="utf-8").replace("class BPR", "class Other")
    (folder / "other.py").write_text(f"import no_such_package\n{source}", encoding="utf-8")
    (folder / "Other.yaml").write_text("is_multimodal_model: false\nreg_weight: 0.1\n")
    older = "import missing_too\nclass Older:\n    def __init__(self, config, dataset): pass\n"  # of MMRec, it declares no keys
    (folder / "older.py").write_text(older)
    (folder / "Older.yaml").write_text("is_multimodal_model: false\n")
    status, out, err = call("-m", "usable", "--model-path", str(folder))
    assert status == 0, err
    assert "left out: Other: " in out and "imports no_such_package, which is not installed: pip install no_such_package" in out
    assert "Older on toy: Older: " in out and "imports missing_too, which is not installed: pip install missing_too" in out
    trained = {path.name for path in (tmp_path / "results" / "toy").iterdir() if any(path.iterdir())}
    without_features = {name for name in available_models() if not Config(name, "toy")["is_multimodal_model"]}
    assert {"BPR", "LightGCN"} <= trained == without_features
    status, out, _ = call("-m", "usable", "--modalities", "text", "--epochs", "1")
    assert status == 0 and "text_feat.npy does not exist" in out


def test_a_search_of_the_usable_models_leaves_out_those_without_a_space_or_features(call, toy, configs):
    for modality in ("image", "text"):
        (toy / f"{modality}_feat.npy").unlink()
    status, out, err = call("-m", "usable", "--search", "--save-best", "--search-budget", "2", "--epochs", "1")
    assert status == 0, err
    assert "left out, since their YAML has no search_space: Pop" in out
    assert sorted(path.name for path in (configs / "tuned" / "toy").iterdir()) == ["BPR.yaml", "LightGCN.yaml"]


def test_a_data_set_without_features_says_which_models_need_none(call, toy, configs):
    (configs / "dataset" / "toy.yaml").write_text("inter_file_name: toy.inter\n")
    status, _, err = call("-m", "MambaRec")
    assert status == 2 and "error: the model reads item features, and the data set toy has none" in err
    assert "has some that toy.yaml does not name: add the line 'vision_feature_file: image_feat.npy'" in err
    for file in ("image_feat.npy", "text_feat.npy"):
        (toy / file).unlink()
    (toy / "items.csv").write_text("item_id,original_id,text\n")  # as `prepare table` writes it
    status, _, err = call("-m", "VBPR")
    assert status == 2 and "`mambarec prepare text -d toy` makes the text features" in err
    assert "`mambarec prepare images -d toy --images FOLDER` makes the visual features" in err


def test_a_missing_feature_file_of_ones_own_data_names_the_command_that_makes_it(call, toy):
    (toy / "items.csv").write_text("item_id,original_id,text\n")
    (toy / "image_feat.npy").unlink()
    status, _, err = call("-m", "MambaRec")
    assert status == 2 and "`mambarec prepare images -d toy --images FOLDER` makes the visual features" in err
    assert "Or train without it: --modalities text" in err


def test_a_third_modality_needs_one_line(call, toy):
    np.save(toy / "audio_feat.npy", np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32))
    status, out, _ = call("-m", "MambaRec", "--audio_feature_file", "audio_feat.npy")
    assert status == 0 and "MambaRec on toy" in out


def test_the_program_runs_from_any_directory_and_shows_no_traceback(tmp_path):
    words = [sys.executable, str(SRC / "main.py"), "-m", "BPR", "-d", "baby", "--data_path", "missing/"]
    environment = {**os.environ, "PYTHONPATH": ""}
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {tmp_path}/missing/baby/baby.inter does not exist")
    assert "Traceback" not in ended.stderr


def test_models_are_compared_by_the_metrics_that_were_asked_for(call):
    status, out, _ = call("-m", "BPR", "LightGCN", "--topk", "5", "20")
    assert status == 0 and "R@20" in out and "R@10" not in out
    status, out, _ = call("-m", "BPR", "LightGCN", "--topk", "5", "--valid_metric", "Recall@5")
    assert status == 0 and "Test performance" not in out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("compare", "'compare' is no option. Write `mambarec compare -m BPR MGCN`"),
        ("search", "'search' is no option. Write `mambarec search -m BPR MGCN`"),
        ("report", "'report' is another command: `mambarec report`"),
    ],
)
def test_the_name_of_a_command_after_the_program_is_explained(word, said, capsys):
    assert program.main([word, "-m", "BPR"]) == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("module", ["train", "prepare", "recommend", "report"])
def test_every_command_knows_its_version(module, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"mambarec.cli.{module}").main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"mambarec {version()}\n"


def test_the_package_is_a_program(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    command = [sys.executable, "-m", "mambarec", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert ended.stdout == f"mambarec {version()}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epochs 5 --jobs 2 3", "'3' belongs to no option: --jobs takes one value"),
        ("--seed 1 --restart 2", "'2' belongs to no option: --restart takes no value"),
        ("--epochs 5 --search-budget=2 3", "'3' belongs to no option: --search-budget takes one value"),
        ("--learning_rate 1e-3 --search wide 2", "'2' belongs to no option: --search takes one value"),
    ],
)
def test_a_word_behind_an_option_that_has_its_values_goes_to_no_other(words, message, capsys):
    with pytest.raises(SystemExit):
        program.parse(words.split())
    assert message in capsys.readouterr().err
