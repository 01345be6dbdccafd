"""Damaged and hostile settings: YAML files, words of the command line, each refused with a sentence or used."""

import json

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from faults.fuzzing import SCALARS, VALUES, accepts, changed, fuzz, mutated
from mambarec.cli import prepare, recommend, report
from mambarec.cli import train as program
from mambarec.config.configurator import Config, override_pairs
from mambarec.config.yaml_files import read_yaml
from mambarec.experiments.grid import plan
from mambarec.running.run import open_dataset

FILES = ["overall.yaml", "dataset/toy.yaml", "model/BPR.yaml", "model/MambaRec.yaml", "mg.yaml"]
KEYS = [
    *"seed epochs topk learning_rate embedding_size threads metrics valid_metric modalities n_layers knn_k mmd_weight".split(),
    *"clip_grad_norm learning_rate_scheduler inter_file_name field_separator results_dir data_path model_path variant".split(),
    *"feature_map attention_reduction learner precision USER_ID_FIELD audio_feature_file hyper_parameters search_space".split(),
    *"mg beta use_gpu gpu_id checkpoint_seconds eval_batch_size approximate_knn_above is_multimodal_model end2end".split(),
]
WORDS = st.sampled_from(
    "0 1 -1 1e999 nan .inf null true 1000000000000000000 4611686018427387904 10,20 [1,2] [[1]] {a: 1} {max_norm: 1} &a [*a] "
    "!!python/object:os.system 2001-13-45 2001-01-01 1:2:3 ../../etc /dev/zero = -- - ' \" @ % `".split(" ")
) | st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@pytest.fixture(autouse=True)
def _threads():
    yield
    torch.set_num_threads(1)


def use(configs: list[Config]) -> None:
    """What a run does with its settings before it trains."""
    for config in configs[:3]:
        json.dumps(config.identity(), sort_keys=True)
        open_dataset(config).features()
        assert config.unread() is not None


@pytest.fixture
def toy_places(toy, tmp_path):
    return {"data_path": str(toy.parent), "results_dir": str(tmp_path / "results"), "use_gpu": False, "threads": 1}


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_yaml_is_refused_or_used(configs, toy_places, file):
    original = (configs / file).read_bytes()

    @fuzz()
    @given(mutated(original))
    def check(content):
        (configs / file).write_bytes(content)
        accepts("YAML, bytes", lambda: use(Config("MambaRec" if "BPR" not in file else "BPR", "toy", toy_places).trials()))

    check()


@pytest.mark.parametrize("file", FILES)
def test_a_yaml_with_other_values_is_refused_or_used(configs, toy_places, file):
    original = read_yaml(configs / file)

    @fuzz()
    @given(changed(original), st.booleans())
    def check(content, search):
        text = yaml.safe_dump(content, allow_unicode=True)
        (configs / file).write_text(text, encoding="utf-8", errors="surrogatepass")
        name = "MambaRec" if "BPR" not in file else "BPR"
        accepts("YAML, values", lambda: use(Config(name, "toy", toy_places, search).trials()))

    check()


@fuzz(40)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
def test_values_of_any_kind_are_refused_or_used(configs, toy_places, values):
    accepts("settings, values", lambda: use(Config("MambaRec", "toy", {**toy_places, **values}).trials()))


@fuzz(60)
@given(
    st.lists(
        st.sampled_from([f"--{key}" for key in KEYS]) | st.sampled_from(["-m", "-d", "--search", "--mg"]) | WORDS, max_size=6
    )
)
def test_words_of_the_command_line_are_refused_or_used(configs, toy_places, words):
    def work():
        order, rest = program.parse(["-d", "toy", *words])
        overrides = toy_places | override_pairs(rest)
        use(plan(order.models, order.datasets, overrides, order.search))

    accepts("main.py, words", work)


@fuzz(30)
@given(st.lists(WORDS | st.sampled_from(["html", "ablation", "-d", "-m", "--results", "--split", "--output"]), max_size=5))
def test_words_of_report_are_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    accepts("report.py, words", lambda: report.main(["table", "--results", str(tmp_path), *words]))


@fuzz(30)
@given(st.lists(WORDS | st.sampled_from(["--run", "similar", "export", "-k", "--users", "--item", "--explain"]), max_size=5))
def test_words_of_recommend_are_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    accepts("recommend.py, words", lambda: recommend.main(["--run", str(tmp_path), *words]))


@fuzz(15)
@given(
    st.sampled_from(["--min-rating", "--k-core", "--seed", "--max-malformed", "--memory", "--threads", "--split", "-d"]),
    WORDS | SCALARS.map(str).filter(lambda text: "\0" not in text and text.isprintable()),
)
def test_values_of_prepare_are_refused_or_used(tmp_path, configs, option, value):
    (tmp_path / "x.csv").write_text("who,what,stars\n" + "".join(f"u{u},i{i},4\n" for u in range(8) for i in range(8)))
    words = ["table", "-d", "mine", "--interactions", tmp_path / "x.csv", "--user-column", "who", "--item-column", "what"]
    words += ["--rating-column", "stars", "--data_path", tmp_path / "data", "--overwrite", "--threads", "1", option, value]
    accepts("prepare.py, values", lambda: prepare.main([str(word) for word in words]))
