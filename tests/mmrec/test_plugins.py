"""Models from elsewhere: they run as ours do, are kept from the data, and a broken one is named and stops no other."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from mambarec.base.errors import ConfigError, ModelError, RunError
from mambarec.cli import train as program
from mambarec.config.catalogue import code_digest
from mambarec.config.configurator import Config
from mambarec.mmrec.plugins import load_model_class, write_graph
from mambarec.running.directory import same_result
from mambarec.running.run import assemble, open_dataset, run, run_path
from mambarec.running.trained import load_trained

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plugin.md").read_text()
MODEL = """
import os
import numpy as np
import torch
from torch import nn
from common.abstract_recommender import GeneralRecommender


class Plain(GeneralRecommender):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.users = nn.Embedding(self.n_users, 4)
        self.items = nn.Embedding(self.n_items, 4)
        {constructor}

    def calculate_loss(self, batch):
        scores = (self.users(batch[0]) * self.items(batch[1])).sum(1)
        return {loss}

    def full_sort_predict(self, batch):
        return {scores}
"""
PARTS = {"constructor": "pass", "loss": "-scores.sigmoid().mean()", "scores": "self.users(batch[0]) @ self.items.weight.T"}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "theirs"
    place.mkdir()
    return place


@pytest.fixture
def write(folder):
    """write(file='plain.py', **parts): a model, correct but for the parts that are given."""

    def make(file: str = "plain.py", yaml: str = "", **parts: str):
        name = Path(file).stem.capitalize()
        (folder / file).write_text(MODEL.format(**{**PARTS, **parts}).replace("Plain", name))
        (folder / f"{name}.yaml").write_text(yaml)

    return make


@pytest.fixture
def call(toy, tmp_path, folder, capsys, in_this_process):
    """call(*words) -> (exit status, standard output, standard error) of the program, on the toy data, with the folder."""

    def invoke(*words: str):
        places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--model-path", str(folder)]
        small = ["--epochs", "1", "--use_gpu", "false", "--threads", "1"]
        status = program.main(["-d", "toy", *words, *places, *small])
        return status, *capsys.readouterr()

    return invoke


@pytest.mark.slow
def test_the_example_of_the_page_passes_the_contract(folder):
    code, settings = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1] for kind in ("python", "yaml"))
    (folder / "blend.py").write_text(code)
    (folder / "Blend.yaml").write_text(settings)
    words = [sys.executable, "-m", "pytest", "tests/models/test_contract.py", "-k", "Blend", "-p", "no:cacheprovider"]
    environment = {**os.environ, "MAMBAREC_MODEL_PATH": str(folder)}
    ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "10 passed" in ended.stdout
    assert len(code.strip().splitlines()) <= 50


def test_their_grid_trains_side_by_side_and_is_reported(write, call, folder):
    write(yaml="learning_rate: [1e-03, 1e-02, 0.001.0.005]\nhyper_parameters: ['learning_rate']\n")
    status, out, err = call("-m", "Plain", "BPR", "--jobs", "2")
    assert status == 0, err
    assert "Plain on toy learning_rate=0.01" in out and "BPR" in out
    assert "learning_rate=0.001.0.005 is left out of the grid" in out.split("time to go")[0]
    config = Config("Plain", "toy", {"model_path": str(folder)})
    assert len(config.trials()) == 2
    assert "Plain.yaml: learning_rate=0.001.0.005 is left out of the grid; expected a number" in config.left_out[0]


def test_a_file_of_the_same_name_wins_and_is_another_run(write, call, folder, make_config):
    write("bpr.py", yaml="embedding_size: 8\n")
    (folder / "Bpr.yaml").rename(folder / "BPR.yaml")
    (folder / "bpr.py").write_text((folder / "bpr.py").read_text().replace("Bpr", "BPR"))
    status, out, _ = call("-m", "BPR")
    assert status == 0 and f"BPR is {folder / 'bpr.py'}, not src/models/bpr.py" in out
    ours, theirs = make_config("BPR"), make_config("BPR", model_path=str(folder))
    assert "model_code" not in ours.identity() and theirs.identity()["model_code"]
    (folder / "bpr.py").write_text((folder / "bpr.py").read_text() + "\n# changed\n")
    assert make_config("BPR", model_path=str(folder)).identity() != theirs.identity()


def test_a_finished_run_of_theirs_opens_again(write, make_config, folder):
    write()
    result = run(make_config("Plain", model_path=str(folder)))
    trained = load_trained(result["directory"])
    assert type(trained.model).__name__ == "Plain"
    assert Path(trained.config["results_dir"]) == Path(result["directory"]).parents[2]  # where neighbours are kept


def test_a_run_of_a_model_that_predicts_from_its_last_step_says_why_it_cannot_score(write, make_config, folder):
    write(constructor="self.last = None", loss="-self.kept(batch)", scores="self.last[0][batch[0]] @ self.last[1].T")
    text = (folder / "plain.py").read_text()
    kept = "    def kept(self, batch):\n        self.last = self.users.weight.detach(), self.items.weight.detach()\n"
    kept += "        return (self.users(batch[0]) * self.items(batch[1])).sum(1).sigmoid().mean()\n\n"
    (folder / "plain.py").write_text(text.replace("    def calculate_loss", f"{kept}    def calculate_loss"))
    result = run(make_config("Plain", model_path=str(folder)))
    with pytest.raises(RunError, match=r"does not recommend what the run recorded: .*'NoneType'.*its state_dict does not hold"):
        load_trained(result["directory"])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"constructor": "config['no_such_key'].lower()"}, "Plain.__init__ raised AttributeError: "),
        ({"constructor": "config['no_such_key'].lower()"}, "train.log. It read these keys, which nothing sets: no_such_key"),
        ({"constructor": "raise RuntimeError('boom')"}, "Plain.__init__ raised RuntimeError: boom (plain.py, line 14)"),
        ({"constructor": "raise ValueError('wants more items')"}, "Plain cannot be built: wants more items"),
        ({"constructor": "np.ones(3) + np.ones(4)"}, "Plain.__init__ raised ValueError: operands"),
        ({"constructor": "exit()"}, "Plain.__init__ raised SystemExit"),
        ({"constructor": "self.users = self.items = None"}, "Plain has no parameters to train"),
        ({"loss": "scores.mean() * float('nan')"}, "Plain: the loss is nan at epoch 1, step 1"),
        ({"loss": "0.5"}, "Plain.calculate_loss raised AttributeError"),
        ({"loss": "scores.mean().detach()"}, "Plain.calculate_loss raised RuntimeError: element 0 of tensors"),
        ({"scores": "self.users(batch[0])"}, "Plain.full_sort_predict returned scores of shape (48, 4); expected (48, 64)"),
        ({"scores": "None"}, "Plain.full_sort_predict returned a NoneType; expected a tensor (48, 64)"),
        ({"scores": "torch.ones(48, 64).long()"}, "Plain.full_sort_predict returned scores of type torch.int64"),
        ({"scores": "torch.full((48, 64), float('nan'))"}, "Plain.full_sort_predict returned NaN"),
        ({"scores": "undefined"}, "Plain.full_sort_predict raised NameError: name 'undefined' is not defined"),
    ],
)
def test_a_broken_model_is_named_with_the_point_and_stops_no_other(write, call, parts, message):
    write(**parts)
    status, out, err = call("-m", "Plain", "BPR")
    assert status == 1 and "error: 1 of 2 trials failed" in err and message in err
    assert "BPR on toy: validation recall@20" in out
    status, _, alone = call("-m", "Plain", "--seed", "7")
    assert status == 2 and alone.startswith("error: ") and message in alone and "Traceback" not in alone
    if " raised " in message:
        log = Path(re.search(r"traceback in (\S+log)", alone)[1])
        assert "Traceback" in log.read_text()


def test_a_file_that_cannot_be_imported_is_named(write, call, folder):
    write()
    text = (folder / "plain.py").read_text()
    (folder / "plain.py").write_text(f"import no_such_package.part\n{text}")
    assert "imports no_such_package, which is not installed: pip install no_such_package" in call("-m", "Plain")[2]
    (folder / "helper.py").write_text("value = 1\n")
    (folder / "plain.py").write_text(f"from helper import value\n{text}")
    assert "imports helper, a file beside it: write `from models.helper import …`" in call("-m", "Plain")[2]
    (folder / "plain.py").write_text(f"from common.elsewhere import x\n{text}")
    assert (
        "Plain.import raised ModuleNotFoundError: No module named 'common.elsewhere' (plain.py, line 1)"
        in call("-m", "Plain")[2]
    )
    (folder / "plain.py").write_text(f"def broken(:\n{text}")
    assert "Plain.import raised SyntaxError" in call("-m", "Plain")[2]
    (folder / "plain.py").write_text("value = 1\n")
    with pytest.raises(ConfigError, match="defines no class 'Plain'"):
        load_model_class("Plain", str(folder))


def test_a_folder_that_is_none_is_named(call, tmp_path, capsys):
    assert program.main(["-m", "BPR", "--model-path", str(tmp_path / "nowhere")]) == 2
    assert f"model_path: {tmp_path / 'nowhere'} is no folder" in capsys.readouterr().err


def test_a_stopped_run_goes_on_when_the_model_names_a_parameter_twice(write, make_config, folder):
    write(constructor="self.again = None  # data_path", loss="-scores.mean() + 0 * self.twice()")
    text = (folder / "plain.py").read_text()
    (folder / "plain.py").write_text(
        text + "\n    def twice(self):\n        self.again = self.items.weight\n        return 0.0\n"
    )
    config = make_config("Plain", model_path=str(folder))
    train, _, _, trainer = assemble(config, open_dataset(config))
    trainer._train_epoch(train, 0)
    assert "again" in dict(trainer.model.named_parameters(remove_duplicate=False))
    other = assemble(config, open_dataset(config))[3]
    other.load_state_dict(trainer.state_dict())
    assert torch.equal(other.model.items.weight, trainer.model.items.weight)


# what a model sees of the data

CACHE = """path = os.path.abspath(config['data_path'] + config['dataset'])
        assert os.path.exists(os.path.join(path, 'image_feat.npy')) and config['data_path'].endswith('/')
        torch.save(torch.ones(2), os.path.join(path, 'graph_10.pt'))"""


def test_graphs_that_a_model_keeps_in_data_path_stay_out_of_the_data(write, make_config, folder, toy, capsys):
    write(constructor=CACHE)
    before = {path.name: path.read_bytes() for path in toy.iterdir()}
    result = run(make_config("Plain", model_path=str(folder)))
    assert {path.name: path.read_bytes() for path in toy.iterdir()} == before
    assert "graph_10.pt: written by Plain" in (Path(result["directory"]) / "train.log").read_text()


@pytest.mark.parametrize("file", ["toy.inter", "new.txt"])
def test_a_model_that_writes_into_the_data_itself_is_named(write, make_config, folder, toy, file):
    write(constructor=f"open({str(toy / file)!r}, 'a').write('x')  # data_path")
    with pytest.raises(ModelError, match=rf"Plain.__init__ wrote into data_path: {file} in .*toy"):
        run(make_config("Plain", model_path=str(folder)))


GRAPH = """path = os.path.join(config['data_path'] + config['dataset'], config['{kind}_graph_dict_file'])
        self.graph = np.load(path, allow_pickle=True).item()"""


@pytest.mark.parametrize("kind", ["user", "item"])
def test_the_graph_that_a_model_asks_for_is_made_when_it_is_missing(write, make_config, folder, toy, kind):
    write(constructor=GRAPH.format(kind=kind))
    config = make_config("Plain", model_path=str(folder))
    dataset = open_dataset(config)
    graph = assemble(config, dataset)[3].model.graph
    matrix = dataset.inter_matrix("csr").toarray()
    shared = matrix @ matrix.T if kind == "user" else matrix.T @ matrix
    np.fill_diagonal(shared, 0)
    assert list(graph) == list(range(len(shared)))
    for row, (ids, counts) in graph.items():
        assert type(ids) is list and type(counts) is list and counts == sorted(counts, reverse=True)
        assert dict(zip(ids, counts, strict=True)) == {other: n for other, n in enumerate(shared[row]) if n}
    assert torch.tensor(graph[0][1]).softmax(0).isfinite().all()  # floats, as DualGNN expects
    assert not list(toy.glob("*graph*")) and not list(Path(config["results_dir"]).rglob("*graph*"))


def test_a_graph_of_items_has_the_number_of_neighbours_that_is_in_its_name(write, make_config, folder):
    write(yaml="item_graph_dict_file: item_graph_dict_2.npy\n", constructor=GRAPH.format(kind="item"))
    config = make_config("Plain", model_path=str(folder))
    dataset = open_dataset(config)
    graph = assemble(config, dataset)[3].model.graph
    matrix = dataset.inter_matrix("csr").toarray()
    shared = matrix.T @ matrix
    np.fill_diagonal(shared, 0)
    for item, (ids, counts) in graph.items():
        largest = np.sort(shared[item])[::-1][:2]
        assert counts == [count for count in largest if count >= 2] and counts == [shared[item, other] for other in ids]
    assert {len(ids) for ids, _ in graph.values()} >= {0, 2}


def test_a_graph_that_the_data_set_has_is_used_and_is_part_of_the_run(write, make_config, folder, toy):
    write(constructor=GRAPH.format(kind="user"))
    config = make_config("Plain", model_path=str(folder))
    names = {run_path(config, open_dataset(config))}
    others = make_config("BPR")
    of_another = run_path(others, open_dataset(others))
    for shared in (2.0, 3.0):
        np.save(toy / "user_graph_dict.npy", {0: [[1], [shared]]})
        dataset = open_dataset(config)
        assert assemble(config, dataset)[3].model.graph == {0: [[1], [shared]]}
        names.add(run_path(config, dataset))
    assert len(names) == 3
    assert run_path(others, open_dataset(others)) == of_another  # which does not read it


def test_what_an_earlier_training_left_in_the_data_is_not_read(write, make_config, folder, toy):
    write(constructor="self.found = sorted(os.listdir(config['data_path'] + config['dataset']))")
    for name in ("mm_adj_10.pt", "inter.json", "user_graph_dict.npy", "more.txt"):
        (toy / name).write_text("{}")
    config = make_config("Plain", model_path=str(folder))
    dataset = open_dataset(config)
    assert assemble(config, dataset)[3].model.found == ["image_feat.npy", "more.txt", "text_feat.npy", "toy.inter"]
    assert "inter.json, mm_adj_10.pt: kept from the model, since it may be a graph of an earlier training" in dataset.notes


def test_a_file_that_is_kept_from_a_model_is_not_called_missing(write, make_config, folder, toy):
    write(constructor="torch.load(config['data_path'] + config['dataset'] + '/more.pt')")
    (toy / "more.pt").write_text("{}")
    with pytest.raises(ModelError, match=r"toy/more.pt is kept from Plain, since a file of this name may be a graph"):
        run(make_config("Plain", model_path=str(folder)))


def test_a_model_that_opens_the_features_itself_gets_what_stands_in_for_missing_ones(write, make_config, folder, toy):
    write(constructor="self.found = np.load(config['data_path'] + config['dataset'] + '/image_feat.npy')")
    before = np.load(toy / "image_feat.npy")
    for share in (0.0, 0.5):
        missing = {"missing_modality": "visual", "missing_share": share, "missing": "zero"} if share else {}
        config = make_config("Plain", model_path=str(folder), **missing)
        dataset = open_dataset(config)
        found = assemble(config, dataset)[3].model.found
        np.testing.assert_array_equal(found, dataset.features()["visual"])
        assert (found != before).any() == bool(share)
    (toy / "more").mkdir()
    np.save(toy / "more" / "image.npy", before)
    write(constructor="self.found = np.load(config['data_path'] + config['dataset'] + '/more/image.npy')")
    config = make_config("Plain", model_path=str(folder), vision_feature_file="more/image.npy", **missing)
    dataset = open_dataset(config)
    np.testing.assert_array_equal(assemble(config, dataset)[3].model.found, dataset.features()["visual"])
    np.testing.assert_array_equal(np.load(toy / "image_feat.npy"), before)


@pytest.mark.parametrize(
    ("constructor", "hook", "factor"),
    [
        ("self.odd = False", "self.odd = not self.odd", "1 + self.odd"),
        ("self.count = None", "self.count = (self.count or 0) + 1", "self.count"),
        ("self.weight = np.float64(1)", "self.weight = self.weight * np.exp(-0.1)", "float(self.weight)"),
        ("pass", "self.step += 1", "self.step"),  # it begins with the class's value
        (
            "self.built = False",
            "if not self.built: self.graph, self.built = torch.rand(1).to_sparse(), True",
            "self.graph.to_dense()",
        ),
        ("self.total = torch.zeros(1)", "self.total += torch.rand(1)", "self.total"),
        # a parameter and a plain attribute with one memory, as MMRec's models have them
        ("self.pictures = nn.Embedding.from_pretrained(self.v_feat, freeze=False)", "pass", "self.v_feat.mean()"),
    ],
)
def test_what_a_model_changes_outside_its_parameters_goes_on_after_a_stop(
    write, make_config, folder, tmp_path, interrupted_after, constructor, hook, factor
):
    write(constructor=constructor, loss=f"-scores.sigmoid().mean() * ({factor})")
    text = (folder / "plain.py").read_text()
    method = f"    step = 0\n\n    def pre_epoch_processing(self):\n        {hook}\n\n"
    (folder / "plain.py").write_text(text.replace("    def calculate_loss", f"{method}    def calculate_loss"))
    config = make_config("Plain", model_path=str(folder), epochs=6)
    with interrupted_after(2):
        run(config)
    with interrupted_after(4):
        run(config, resume=True)
    resumed = run(config, resume=True)
    whole = run(config.at(results_dir=f"{tmp_path}/whole/"))
    assert same_result(resumed["directory"], whole["directory"]) == []


def test_keys_that_nothing_sets_are_named(write, make_config, folder, caplog):
    write(yaml="use_gates: true\n", constructor="self.gated = config['use_gate']")
    run(make_config("Plain", model_path=str(folder)))
    assert "Plain read these keys, which nothing sets, as None: use_gate" in caplog.text


def test_mirror_gradient_is_refused_where_the_model_has_a_key_of_the_same_name(write, make_config, folder):
    write(yaml="beta: 0.1\n")
    with pytest.raises(ConfigError, match=r"Plain.yaml has a key of the same name: beta"):
        make_config("Plain", model_path=str(folder), mg=True)


def test_a_file_beside_a_model_that_does_not_parse_changes_nothing(write, make_config, folder):
    write(constructor="self.moved = nn.Parameter(torch.ones(2)).to(self.device)")
    (folder / "begun.py").write_text("class Begun(\n")
    (folder / "marked.py").write_text("x = 1\n", encoding="utf-8-sig")
    config = make_config("Plain", model_path=str(folder))
    names = [name for name, _ in assemble(config, open_dataset(config))[3].model.named_parameters()]
    assert names == ["users.weight", "items.weight"]


def test_a_graph_holds_the_200_that_share_most(tmp_path):
    rng = np.random.default_rng(0)
    matrix = (rng.random((230, 40)) < 0.5).astype(float)
    write_graph(tmp_path / "graph.npy", csr_matrix(matrix))
    ids, counts = np.load(tmp_path / "graph.npy", allow_pickle=True).item()[3]
    shared = matrix[3] @ matrix.T
    shared[3] = -1
    assert len(ids) == 200 and 3 not in ids
    assert counts == sorted(shared, reverse=True)[:200]


def test_the_code_of_a_run_is_that_of_the_files_which_its_model_imports_too(tmp_path):
    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)

    write("blend", "import torch\nfrom models.layers import Gate\n")
    write("layers", "from models import mlp\n")
    write("mlp", "MLP = 1\n")
    write("other", "from mambarec.nn import graph\n")
    write("mambarec", "a model that is no import of the others")
    known = code_digest(tmp_path / "blend.py")
    write("other", "from mambarec.nn import graph\n\n")
    assert code_digest(tmp_path / "blend.py") == known
    write("mlp", "MLP = 2\n")
    assert code_digest(tmp_path / "blend.py") != known
    write("layers", "from . import mlp\nfrom .gates import Gate\n")
    write("gates", "Gate = 1\n")
    digests = {code_digest(tmp_path / "blend.py")}
    for name in ("gates", "mlp"):
        write(name, "Gate = 2\n")
        digests.add(code_digest(tmp_path / "blend.py"))
    assert len(digests) == 3
    alone = (tmp_path / "other.py").read_bytes()
    assert code_digest(tmp_path / "other.py") == hashlib.sha256(alone).hexdigest()  # as it always was
