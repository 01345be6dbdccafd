"""Configuration: layers, command-line values, grids, the messages of mistakes, and what a run's name covers."""

import json
import re
import shutil

import pytest
import torch

import mambarec.config.catalogue as catalogue
from mambarec.base.errors import ConfigError
from mambarec.base.places import CHECKOUT
from mambarec.base.settings import checked, only_with
from mambarec.config.catalogue import available_datasets, available_models
from mambarec.config.configurator import Axis, Config, override_pairs
from mambarec.config.yaml_files import parse_value, read_yaml
from mambarec.experiments.grid import by_point, describe, varied

# what a run's numbers do not depend on
NEUTRAL = {
    "wide_search_space",
    "data_path",
    "results_dir",
    "model_path",
    "gpu_id",
    "cuda_graphs",
    "hyper_parameters",
    "search_space",
    "model_identity",
    "checkpoint_seconds",
    "tensorboard",
    "save_recommended_topk",
    "tuned",
}


@pytest.fixture
def add_lines(configs):
    """add_lines("model/BPR.yaml", "key: value") appends to that file of the copied configs."""

    def add(file: str, lines: str) -> None:
        path = configs / file
        path.write_text(f"{path.read_text()}\n{lines}\n")

    return add


@pytest.fixture
def given(configs):
    """given("--key value --other value", model) -> Config on 'toy', as the command line makes it."""

    def make(words: str = "", model: str = "MambaRec", **options) -> Config:
        return Config(model, "toy", override_pairs(words.split()), **options)

    return make


@pytest.fixture
def undeclared(configs, tmp_path):
    """undeclared("key: value", "--key value") -> Config of the model Plain, whose file declares nothing, as MMRec's."""

    def make(lines: str = "", words: str = "", search: bool = False) -> Config:
        folder = tmp_path / "models"
        folder.mkdir(exist_ok=True)
        (folder / "plain.py").write_text("class Plain:\n    pass\n")
        (folder / "Plain.yaml").write_text(f"{lines}\n")
        return Config("Plain", "toy", {"model_path": str(folder), **override_pairs(words.split())}, search)

    return make


def assert_error(make, *phrases: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    for phrase in phrases:
        assert phrase in str(caught.value)


# layers


def test_each_layer_overrides_the_one_before(given, add_lines):
    assert given(model="BPR")["epochs"] == 1000
    add_lines("dataset/toy.yaml", "epochs: 11")
    assert given(model="BPR")["epochs"] == 11
    add_lines("model/BPR.yaml", "epochs: 12")
    assert given(model="BPR")["epochs"] == 12
    assert given("--epochs 13", model="BPR")["epochs"] == 13
    assert given(model="LightGCN")["epochs"] == 11


def test_settings_of_the_mirror_gradient_are_read_only_with_mg(given, add_lines):
    assert given()["beta"] is None
    assert given("--mg")["beta"] == 3
    assert given("--mg --beta 5")["beta"] == 5
    add_lines("dataset/toy.yaml", "beta: 4")
    assert given("--mg")["beta"] == 4


def test_the_mirror_gradient_can_be_asked_for_in_a_yaml(given, add_lines):
    add_lines("model/BPR.yaml", "mg: true")
    assert given(model="BPR")["beta"] == 3
    assert given("--mg false", model="BPR")["beta"] is None


def test_a_key_that_nobody_declares_reads_as_none_in_a_model_that_declares_nothing(undeclared):
    assert undeclared()["no_such_key"] is None


def test_a_key_that_nobody_declares_is_an_error_in_our_own_code(given):
    config = given()
    assert_error(lambda: config["no_such_key"], "'no_such_key'", "nobody declares it", "MambaRecSettings", "mambarec.py")
    assert config.get("no_such_key") is None
    assert all(trial.get("no_such_key") is None for trial in given("--seed 1 2").trials())
    assert_error(lambda: given("--seed 1 2").trials()[1]["no_such_key"], "'no_such_key'")


def test_a_mapping_of_every_key(given):
    config = given()
    assert "no_such_key" not in config
    assert "embedding_size" in config
    assert set(dict(config)) == set(config)
    assert len(config) == len(list(config))


def test_names_of_models_and_data_sets_are_found_in_any_case(configs):
    config = Config("mambarec", "TOY")
    assert (config["model"], config["dataset"]) == ("MambaRec", "toy")


def test_paths_of_a_yaml_start_at_src_and_those_of_the_command_line_at_the_current_directory(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = given("--results_dir here/results")
    assert config["data_path"] == f"{CHECKOUT / 'data'}/"  # models append the name of the data set to the string
    assert config["results_dir"] == f"{tmp_path / 'here' / 'results'}/"


def test_device_is_the_cpu_without_use_gpu(given):
    assert given("--use_gpu false")["device"] == torch.device("cpu")


# values of the command line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e-04", 1e-4),
        ("1.0e-4", 1e-4),
        ("-2E3", -2000.0),
        ("5e+2", 500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("7", 7),
        ("-3", -3),
        ("0x1F", 31),
        ("010", "010"),
        ("0", 0),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("[1, 2e-3, a]", [1, 2e-3, "a"]),
        ("Recall@20", "Recall@20"),
        ("1e", "1e"),
        ("e4", "e4"),
        ("a: [", "a: ["),
        ("@odd", "@odd"),
    ],
)
def test_a_word_is_read_as_its_yaml_value(text, value):
    parsed = parse_value(text)
    assert (parsed, type(parsed)) == (value, type(value))


def test_numbers_with_an_exponent_are_floats_in_a_yaml_too(undeclared):
    config = undeclared("small: 1e-04\nlarge: 2.5e3\nhash: 12e")
    assert (config["small"], config["large"], config["hash"]) == (1e-4, 2500.0, "12e")


def test_an_infinite_number_in_a_yaml_is_an_error(undeclared):
    assert_error(lambda: undeclared("some_weight: .inf"), "Plain.yaml", "some_weight=inf", "finite")


def test_without_a_declaration_a_value_has_the_type_of_the_yamls(undeclared):
    config = undeclared("width: 8\nrate: 0.5\nname: a\nsizes: [1, 2]", "--width 4.0 --rate 1 --name 3 --sizes 5")
    assert [config[key] for key in ("width", "rate", "name", "sizes")] == [4, 1.0, "3", [5]]
    assert_error(lambda: undeclared("width: 8", "--width 0.5"), "width=0.5", "an integer, as its default 8 is")
    assert_error(lambda: undeclared("sizes: [1]", "--sizes a"), "sizes='a'", "a list of integers")
    assert undeclared("weight: 0", "--weight 0.05")["weight"] == 0.05 and undeclared("weight: 0", "--weight 2")["weight"] == 2
    assert_error(lambda: undeclared("weight: 0", "--weight a"), "weight='a'", "an integer or number, as its default 0 is")
    grid = "hyper_parameters: [rate]\nrate: [0, 0.1]"
    assert undeclared(grid, "--rate 0.1")["rate"] == 0.1 and repr(undeclared(grid, "--rate 0")["rate"]) == "0"
    assert_error(lambda: undeclared("width: 8", "--widht 4"), "no key 'widht'", "did you mean '--width'?")


@pytest.mark.parametrize("words", ["--modalities text visual", "--modalities [text,visual]"])
def test_several_words_for_a_key_that_is_a_list_are_one_value(given, words):
    config = given(words)
    assert config["modalities"] == ["text", "visual"]
    assert config.axes == {}


def test_a_list_in_brackets_stays_one_value_and_several_are_an_axis(given):
    assert points(given("--feature_map [3,4,4]"), "feature_map") == [([3, 4, 4],)]
    assert [list(trial["feature_map"]) for trial in given("--feature_map [3,4,4] [48,1,1]").trials()] == [[3, 4, 4], [48, 1, 1]]


def test_one_word_for_a_key_that_is_a_list_is_a_list(given):
    assert given("--modalities text")["modalities"] == given("--modalities [text]")["modalities"] == ["text"]


def test_words_become_overrides():
    words = ["--learning_rate", "1e-4", "--mg", "--seed", "1", "2", "3", "--topk=[5,10]", "--weight", "-1", "--name=a=b"]
    expected = {"learning_rate": 1e-4, "mg": True, "seed": [1, 2, 3], "topk": [5, 10], "weight": -1, "name": "a=b"}
    assert override_pairs(words) == expected
    assert override_pairs([]) == {}


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        (["0.1"], ["'0.1' belongs to no key", "--key value"]),
        (["-m", "BPR"], ["this command has no option -m; -h shows its options"]),
        (["--seed", "1", "-m", "BPR"], ["this command has no option -m; -h shows its options"]),
        (["--seed", "1", "--epochs", "2", "--seed", "3"], ["--seed is given twice"]),
        (["--seed=1", "--seed=1"], ["--seed is given twice"]),
    ],
)
def test_words_that_make_no_overrides_are_an_error(words, phrases):
    assert_error(lambda: override_pairs(words), *phrases)


def test_values_take_the_type_of_the_default(given):
    config = given(
        "--embedding_size 32.0 --learning_rate 1 --USER_ID_FIELD 3 --topk 5 20 --metrics Recall --learning_rate_scheduler 0.9 5"
    )
    for key, value in {
        "embedding_size": 32,
        "learning_rate": 1.0,
        "USER_ID_FIELD": "3",
        "learning_rate_scheduler": [0.9, 5.0],
    }.items():
        assert (config[key], type(config[key])) == (value, type(value))
    assert config["topk"] == [5, 20]  # a list by default, so several values are no axis
    assert config["metrics"] == ["Recall"]
    assert config.axes == {}


# grids


def points(config: Config, *keys: str) -> list[tuple]:
    return [tuple(trial[key] for key in keys) for trial in config.trials()]


def test_one_value_per_key_makes_one_trial(given):
    assert points(given("--seed 5"), "seed") == [(5,)]


def test_several_values_make_a_product_with_seeds_innermost(given):
    config = given("--seed 1 2 --mmd_weight 0.1 0.2 --n_layers 1 2")
    expected = [(mmd, n, seed) for mmd in (0.1, 0.2) for n in (1, 2) for seed in (1, 2)]
    assert points(config, "mmd_weight", "n_layers", "seed") == expected
    assert all(trial.axes == {} for trial in config.trials())


def test_a_value_given_twice_is_one_point(given):
    assert points(given("--seed 1 2 1"), "seed") == [(1,), (2,)]


def test_lists_and_mappings_of_an_axis_stay_what_they_are(given):
    config = given("--modalities [text] [image,text] [text] --learning_rate_scheduler [1,5] [1.0,50]")
    assert config.axes == {"modalities": [["text"], ["image", "text"]], "learning_rate_scheduler": [[1.0, 5.0], [1.0, 50.0]]}
    norms = [{"max_norm": 1}, {"max_norm": 5}]
    assert Config("BPR", "toy", {"clip_grad_norm": Axis([*norms, norms[0]])}).axes == {"clip_grad_norm": norms}


def test_lists_under_hyper_parameters_are_axes_as_in_mmrec(given, add_lines, configs):
    (configs / "model" / "BPR.yaml").write_text("reg_weight: [0.1, 1e-02]\nhyper_parameters: [reg_weight]\n")
    assert points(given(model="BPR"), "reg_weight") == [(0.1,), (0.01,)]


def test_a_list_of_seeds_is_an_axis_everywhere(given, add_lines):
    add_lines("model/BPR.yaml", "seed: [3, 4]")
    assert points(given(model="BPR"), "seed") == [(3,), (4,)]


def test_other_lists_of_a_yaml_stay_lists(undeclared):
    config = undeclared("layer_sizes: [64, 32]")
    assert config["layer_sizes"] == [64, 32]
    assert config.axes == {}


def test_a_list_of_one_value_is_that_value(undeclared):
    assert points(undeclared("hyper_parameters: [dropout]\ndropout: [0.3]"), "dropout") == [(0.3,)]


def test_one_value_of_the_command_line_replaces_an_axis(undeclared):
    lines = "hyper_parameters: [dropout]\ndropout: [0.3, 0.4]"
    assert points(undeclared(lines, "--dropout 0.5"), "dropout") == [(0.5,)]
    assert points(undeclared(lines, "--dropout 0.5 0.6"), "dropout") == [(0.5,), (0.6,)]


def test_search_makes_axes_of_the_search_space(given):
    expected = [(mmd, factor) for mmd in (0.1, 0.15, 0.2) for factor in (4, 8, 16)]
    assert points(given(search=True), "mmd_weight", "reduction_factor") == expected
    assert given().axes == {}
    assert set(given("--mmd_weight 0.3", search=True).axes) == {"reduction_factor"}


def test_a_wide_search_has_the_bandwidths_too(given):
    axes = given(search="wide").axes
    assert axes == {**given(search=True).axes, "mmd_kernel_bandwidth": [1.0, 1.5, 2.0]}
    assert_error(lambda: given(model="BPR", search="wide"), "--search wide", "BPR.yaml has no wide_search_space")


def test_search_without_a_search_space_is_an_error(given, configs):
    (configs / "model" / "BPR.yaml").write_text("reg_weight: 0.1\n")
    assert_error(lambda: given(model="BPR", search=True), "BPR.yaml", "search_space", "--KEY VALUE VALUE")


def test_trials_do_not_share_what_they_are_given_later(given):
    first, second = given("--seed 1 2").trials()
    first["device"] = "changed"
    assert second["device"] != "changed"


def test_an_empty_list_of_values_is_an_error(given, add_lines):
    add_lines("model/BPR.yaml", "seed: []")
    assert_error(lambda: given(model="BPR"), "BPR.yaml", "'seed'", "empty list")


# mistakes


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [("--mmd_wieght 0.1", "mmd_weight"), ("--learningrate 0.1", "learning_rate"), ("--embeding_size 8", "embedding_size")],
)
def test_an_unknown_key_suggests_the_nearest(given, words, suggestion):
    key = words.split()[0].removeprefix("--")
    assert_error(lambda: given(words), f"MambaRec has no key '{key}'", f"did you mean '--{suggestion}'?")


def test_an_unknown_key_unlike_any_lists_what_there_is(given):
    assert_error(lambda: given("--zzzz 1"), "no key 'zzzz'", "embedding_size", "mmd_weight", "vision_feature_file")


def test_a_key_of_another_model_is_unknown(given):
    assert_error(lambda: given("--mmd_weight 0.1", model="BPR"), "BPR has no key 'mmd_weight'")


def test_a_key_of_another_model_names_its_owner(given):
    assert_error(lambda: given("--mmd_weight 0.1", model="BPR"), "BPR has no key 'mmd_weight'; it is a key of MambaRec")
    assert_error(lambda: given("--beta 3"), "MambaRec has no key 'beta'; it is a key of the mirror gradient; add --mg")


@pytest.mark.parametrize(("name", "near"), [("MambaRecc", "MambaRec"), ("lightgnc", "LightGCN"), ("VBRP", "VBPR")])
def test_an_unknown_model_suggests_the_nearest(configs, name, near):
    assert_error(lambda: Config(name, "toy"), f"no model '{name}'", f"Did you mean '{near}'?")
    with pytest.raises(ConfigError) as caught:
        Config("zzzz", "toy")
    assert "Did you mean" not in str(caught.value)


def test_a_slip_in_writing_a_value_is_explained(given):
    assert_error(lambda: given("--topk 10,20"), "topk='10,20'", "Several values have spaces between them: --topk 10 20")
    assert_error(lambda: given("--n_layers 1,2"), "Several values have spaces between them: --n_layers 1 2")
    assert_error(lambda: given("--learning_rate 0,001"), "The decimal sign is a point: 0.001")
    assert_error(lambda: given("--seed 1,2"), "seed='1,2'", "--seed 1 2")
    assert_error(lambda: given("--seed"), "seed=True", "A key without a value is true; write --seed 999")
    assert_error(lambda: given("--topk"), "topk=True", "write --topk 5 10 20 50")


def test_dashes_may_stand_for_underscores(given):
    assert given("--learning-rate 0.5 --mmd-weight=0.3")["learning_rate"] == 0.5
    assert_error(lambda: given("--learning-rate 1 --learning_rate 1"), "--learning_rate is given twice")
    assert_error(lambda: given("--learning-rat 1"), "no key 'learning_rat'", "did you mean '--learning_rate'?")


def test_a_file_of_any_modality_may_be_declared(given):
    assert given("--audio_feature_file audio.npy")["audio_feature_file"] == "audio.npy"


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        ("--embedding_size abc", ["embedding_size='abc'", "an integer above 0 and at most 65,536"]),
        ("--embedding_size 1.5", ["embedding_size=1.5", "an integer"]),
        ("--embedding_size 0", ["embedding_size=0", "above 0"]),
        ("--embedding_size true", ["embedding_size=True", "an integer"]),
        ("--embedding_size 8 abc", ["embedding_size='abc'", "an integer"]),
        ("--learning_rate -1", ["learning_rate=-1", "above 0"]),
        ("--learning_rate fast", ["learning_rate='fast'", "a number"]),
        ("--learning_rate .inf", ["learning_rate=inf", "finite"]),
        ("--learning_rate .nan", ["learning_rate=nan", "finite"]),
        ("--learning_rate 0.1 -1", ["learning_rate=-1", "above 0"]),
        ("--weight_decay -0.1", ["weight_decay=-0.1", "not below 0"]),
        ("--seed -1", ["seed=-1", "an integer from 0 to 4,294,967,295"]),
        ("--seed null", ["seed=None", "an integer"]),
        ("--use_gpu maybe", ["use_gpu='maybe'", "true or false"]),
        ("--use_gpu 1", ["use_gpu=1", "true or false"]),
        ("--valid_metric null", ["valid_metric=", "None", "a word"]),
        ("--topk 5 0", ["topk=[5, 0]", "above 0"]),
        ("--topk 5 abc", ["topk=[5, 'abc']", "a list of one or more integers above 0"]),
        ("--topk []", ["topk=[]", "one or more"]),
        ("--learner adamw", ["learner='adamw'", "adam", "sgd"]),
        ("--learning_rate_scheduler 0.9", ["learning_rate_scheduler=0.9", "[decay, epochs]"]),
        ("--learning_rate_scheduler 0.9 0", ["learning_rate_scheduler=[0.9, 0]", "[decay, epochs]"]),
        ("--learning_rate_scheduler -0.5 1", ["learning_rate_scheduler=[-0.5, 1]", "decay above 0, at most 1"]),
        ("--learning_rate_scheduler 1e300 1", ["decay above 0, at most 1"]),
        ("--checkpoint_seconds 10 20", ["checkpoint_seconds changes no result: several values would make the same run"]),
        ("--save_recommended_topk true false", ["save_recommended_topk changes no result"]),
        ("--valid_metric Recall@21", ["valid_metric=Recall@21", "not computed", "20", "recall"]),
        ("--valid_metric AUC@20", ["valid_metric=AUC@20", "not computed"]),
        ("--valid_metric Recall", ["valid_metric=Recall", "not computed"]),
        ("--topk 5 10", ["valid_metric=Recall@20", "not computed", "[5, 10]. Give one that is: --valid_metric Recall@5"]),
        ("--metrics NDCG", ["valid_metric=Recall@20", "not computed", "ndcg"]),
        ("--metrics Recall AUC", ["'auc' is not a metric", "recall, ndcg"]),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_an_error(given, words, phrases):
    assert_error(lambda: given(words), *phrases)


def test_a_decimal_comma_is_told_from_a_list(given, add_lines):
    assert_error(lambda: given("--learning_rate 0,001"), "The decimal sign is a point: 0.001")
    assert_error(lambda: given("--learning_rate 0.1,0.2"), "--learning_rate 0.1 0.2")
    add_lines("dataset/toy.yaml", "learning_rate: 0,01")
    assert_error(given, "toy.yaml", "The decimal sign is a point: 0.01")


def test_a_wrong_value_in_a_yaml_names_the_file(given, add_lines):
    add_lines("dataset/toy.yaml", "embedding_size: abc")
    assert_error(given, "toy.yaml", "embedding_size='abc'", "an integer")


@pytest.mark.parametrize(
    ("content", "phrases"),
    [
        ("a: [1, 2\nb: 3\n", ["not valid YAML", "line 2"]),
        ("a: 1\nb: 2\na: 3\n", ["not valid YAML, line 3: key 'a' is given twice, first in line 1. Remove one"]),
        ("nested:\n  x: 1\n  x: 2\n", ["line 3: key 'x' is given twice, first in line 2"]),
        ("- a\n- b\n", ["holds a list", "key: value"]),
        ("a: !!python/object/apply:os.system ['true']\n", ["not valid YAML", "python/object/apply"]),
    ],
)
def test_a_yaml_that_cannot_be_used_is_named(given, configs, content, phrases):
    path = configs / "model" / "BPR.yaml"
    path.write_text(content)
    assert_error(lambda: given(model="BPR"), str(path), *phrases)


def test_a_yaml_in_another_encoding_is_named(given, configs):
    path = configs / "model" / "BPR.yaml"
    path.write_bytes("# Größe\na: 1\n".encode("latin-1"))
    assert_error(lambda: given(model="BPR"), str(path), "not valid YAML")


def test_an_empty_yaml_sets_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == {}


def test_a_folder_without_a_yaml_is_named_with_the_lines_that_it_needs(configs, toy):
    shutil.copytree(toy, toy.parent / "hand")
    (toy.parent / "hand" / "toy.inter").rename(toy.parent / "hand" / "hand.inter")
    lines = ["'inter_file_name: hand.inter'", "'vision_feature_file: image_feat.npy'", "'text_feature_file: text_feat.npy'"]
    path = str(configs / "dataset" / "hand.yaml")
    assert_error(lambda: Config("BPR", "hand", {"data_path": str(toy.parent)}), f"write {path} with the lines", *lines)
    assert_error(lambda: Config("BPR", "hand"), "there is no data set 'hand'")  # in data/ there is no such folder


def test_unknown_models_and_data_sets_list_what_there_is(configs):
    assert_error(lambda: Config("NoSuch", "toy"), "no model 'NoSuch'", "BPR", "LightGCN", "MambaRec")
    assert_error(lambda: Config("BPR", "nosuch"), "no data set 'nosuch'", "baby", "demo", "toy")
    assert {"BPR", "LightGCN", "MambaRec"} <= set(available_models())
    assert {"baby", "demo", "toy"} <= set(available_datasets())


# keys that nothing reads


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("vision_feature_fil: f.npy", "vision_feature_file"),
        ("vision_feature: f.npy", "vision_feature_file"),
        ("vision_feat: f.npy", "vision_feature_file"),
        ("text_features_file: f.npy", "text_feature_file"),
        ("smell_feature_fil: f.npy", "smell_feature_file"),
    ],
)
@pytest.mark.parametrize("model", ["BPR", "VBPR"])
def test_a_misspelt_key_of_features_is_an_error(given, add_lines, line, meant, model):
    add_lines("dataset/toy.yaml", line)
    expected = f"toy.yaml: {model} has no key '{line.partition(':')[0]}'; did you mean '{meant}'?"
    assert_error(lambda: given(model=model), expected)


def test_a_misspelt_key_of_a_models_yaml_is_an_error(given, add_lines):
    add_lines("model/BPR.yaml", "bedding_size: 32")
    assert_error(lambda: given(model="BPR"), "BPR.yaml: BPR has no key 'bedding_size'; did you mean 'embedding_size'?")


def test_a_grid_reads_no_key_in_the_place_of_its_model(given, add_lines):
    add_lines("dataset/toy.yaml", "missing_seed: 32")
    trials = given("--seed 1 2", model="BPR").trials()
    assert varied(trials) == [] and len(by_point(trials)) == 1 and describe(trials[0], trials).endswith("seed=1")
    assert "toy.yaml sets 'missing_seed', but nothing read it" in trials[0].unread()


def test_a_key_that_is_given_or_searched_and_that_the_model_never_reads_is_reported(given, undeclared):
    config = undeclared("beta: 1.0\ngamma: 1.0\nsearch_space: {gamma: [1.0, 2.0]}", "--beta 2", search=True)
    lines = config.unread()
    assert "--beta is given, but nothing read it" in lines
    assert "search_space sets 'gamma', but nothing read it" in lines
    config["beta"], config["gamma"]
    assert not [line for line in config.unread() if "beta" in line or "'gamma'" in line]


def test_a_misspelt_key_is_reported_where_nobody_declares_the_keys(given, add_lines, undeclared):
    add_lines("dataset/toy.yaml", "quux: 1")
    config = undeclared("bedding_size: 32")
    for key in ("embedding_size", "inter_file_name"):
        config[key]
    lines = config.unread()
    assert "Plain.yaml sets 'bedding_size', but nothing read it; did you mean 'embedding_size'?" in lines
    assert "toy.yaml sets 'quux', but nothing read it" in lines
    assert not [line for line in lines if "sets 'embedding_size'" in line or "sets 'inter_file_name'" in line]


def test_keys_that_all_runs_share_are_not_reported(given):
    assert not [line for line in given().unread() if "overall.yaml" in line or "search_space" in line]


@pytest.mark.parametrize("file", ["dataset/toy.yaml", "overall.yaml"])
def test_a_misspelt_key_of_a_shared_yaml_is_an_error(given, add_lines, file):
    add_lines(file, "epocs: 3")
    assert_error(lambda: given(model="BPR"), f"{file.rpartition('/')[2]}: BPR has no key 'epocs'; did you mean 'epochs'?")


def test_a_data_sets_yaml_may_set_keys_of_other_models_and_of_mmrec(given, add_lines):
    add_lines("dataset/toy.yaml", "n_layers: 1\nTIME_FIELD: timestamp\nanything: 5")
    lines = given(model="BPR").unread()
    for key in ("n_layers", "TIME_FIELD", "anything"):
        assert any(line.startswith(f"toy.yaml sets '{key}'") for line in lines)


def test_each_trial_reports_for_itself(undeclared):
    first, second = undeclared("extra: 1", "--seed 1 2").trials()
    first.get("extra")
    assert not [line for line in first.unread() if "extra" in line]
    assert [line for line in second.unread() if "extra" in line]


# what a run is named after


def test_identity_covers_every_key_but_places_and_logging(given):
    config = given("--use_gpu false")
    before = config.identity()
    assert "seed" in before
    for key in set(config) - {"device", "threads"}:
        changed = given("--use_gpu false")
        changed[key] = "something else"
        assert (changed.identity() == before) == (key in NEUTRAL), key


def test_identity_knows_the_kind_of_device_and_not_which(given):
    identities = []
    for device in ("cpu", "cuda:0", "cuda:1"):
        config = given("--use_gpu false")
        config["device"] = torch.device(device)
        identities.append(config.identity())
    assert identities[0] != identities[1] == identities[2]


def test_identity_knows_the_number_of_threads(given):
    threads = torch.get_num_threads()
    try:
        assert given("--threads 1").identity() != given("--threads 2").identity()
        assert given("--threads 1").identity()["threads"] == 1
    finally:
        torch.set_num_threads(threads)


def test_identity_does_not_depend_on_the_way_a_value_was_given(given, add_lines):
    by_hand = given("--n_layers 3").identity()
    assert given("--n_layers 3 4").trials()[0].identity() == by_hand
    add_lines("dataset/toy.yaml", "seed: 999")
    assert given("--n_layers=3.0").identity() == by_hand


def test_configuration_can_be_written_as_json(given):
    config = given("--seed 1 2 --mmd_weight 0.1 0.2").trials()[3]
    read = json.loads(json.dumps(config.plain()))
    assert set(read) == set(config)
    assert (read["seed"], read["mmd_weight"], read["dataset"]) == (2, 0.2, "toy")
    assert json.loads(json.dumps(config.identity())) == config.identity()


def test_the_users_folder_comes_before_the_package(known_toy, tmp_path, monkeypatch):
    """As with an installed package, whose data sets and tuned values lie in the user's folder."""
    monkeypatch.setattr(catalogue, "HOME", tmp_path)
    assert catalogue.config_file("dataset/toy.yaml") == catalogue.CONFIGS / "dataset" / "toy.yaml"
    mine = tmp_path / "configs" / "dataset" / "toy.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("inter_file_name: mine.inter\n")
    assert catalogue.config_file("dataset/toy.yaml") == mine and catalogue.config_file("dataset/nowhere.yaml") is None
    tuned = tmp_path / "configs" / catalogue.tuned_file("BPR", "toy")
    tuned.parent.mkdir(parents=True)
    tuned.write_text("learning_rate: 0.125\n")
    config = Config("BPR", "toy", {"tuned": True})
    assert config["inter_file_name"] == "mine.inter" and config["learning_rate"] == 0.125


def test_a_name_that_is_spelt_exactly_comes_before_one_in_another_case(configs):
    for name in ("Mine", "mine", "MINE"):
        (configs / "dataset" / f"{name}.yaml").write_text("inter_file_name: mine.inter\n")
        assert Config("BPR", name)["dataset"] == name


@pytest.mark.parametrize(
    ("model", "given", "text"),
    [
        (
            "GRCN",
            {"n_layers": Axis([1, 2])},
            "n_layers has an effect only with --routing paper. With --routing mmrec, its values",
        ),
        ("LATTICE", {"mess_dropout": Axis([[0.1, 0.2], [0.3, 0.4]])}, "mess_dropout has an effect only with --cf_model ngcf"),
        ("LightGCN", {"fanouts": Axis([[3], [5]])}, "fanouts has an effect only with --propagation sampled"),
        ("MGCN", {"layer_size": Axis([2, 4]), "propagation": Axis(["full", "sampled"])}, "With --propagation full, its values"),
    ],
)
def test_a_grid_over_a_key_without_effect_is_refused(model, given, text, make_config):
    with pytest.raises(ConfigError, match=re.escape(text)):
        make_config(model, **given)


def test_a_grid_over_a_key_with_the_value_that_it_needs(make_config):
    assert len(make_config("GRCN", n_layers=Axis([1, 2]), routing="paper").trials()) == 2
    with pytest.raises(ConfigError, match="With --routing mmrec, its values make equal runs"):
        make_config("GRCN", n_layers=Axis([1, 2]), routing=Axis(["mmrec", "paper"]))
    assert make_config("GRCN", n_layers=1)["n_layers"] == 1  # a file of all settings may be given again


@pytest.mark.parametrize("model", available_models())
def test_what_a_key_needs_is_a_value_of_a_key(model):
    declared = catalogue.declared_settings(model, catalogue.find_model(model, None)[1])
    for other, value in only_with(declared).values() if declared else ():
        assert checked(declared, other, value) == value
