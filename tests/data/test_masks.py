"""Items without a modality: masks of files and seeds, what stands in, and what models make of them."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mambarec.base.errors import ConfigError, DataError
from mambarec.data.dataset import RecDataset
from mambarec.data.missing import with_stand_ins
from mambarec.nn.alignment import mmd
from mambarec.nn.graph import SparseGraph
from mambarec.running.run import load_model_class, run
from mambarec.running.trained import load_trained
from mambarec.training.trainer import init_seed

MASKED = ("MambaRec", "MGCN", "FREEDOM", "VBPR", "GUME", "SMORE", "LATTICE", "PGL", "DRAGON")
EVEN = np.arange(64) % 2 == 0


@pytest.fixture
def masked(toy):
    np.save(toy / "image_mask.npy", EVEN)
    return toy


@pytest.fixture
def stepped(make_config, make_loader):
    """stepped(name) -> a model after one loss, which is finite, and its data set."""

    def make(name):
        config = make_config(name)
        loader = make_loader(config)
        init_seed(config["seed"])
        model = load_model_class(name, None)(config, loader)
        model.train()
        model.pre_epoch_processing()
        losses = model.calculate_loss(next(iter(loader)))
        assert all(part.isfinite().all() for part in (losses if isinstance(losses, tuple) else (losses,)))
        return model, loader.dataset

    return make


@pytest.mark.parametrize(("kind", "expected"), [("mean", None), ("zero", 0.0)])
def test_what_stands_in_for_a_picture(make_config, masked, kind, expected):
    table = RecDataset(make_config("MGCN", missing=kind)).features()["visual"]
    raw = np.load(masked / "image_feat.npy")
    np.testing.assert_array_equal(table[EVEN], raw[EVEN])
    np.testing.assert_allclose(
        table[~EVEN], np.tile(raw[EVEN].mean(0) if expected is None else np.zeros(24), (32, 1)), atol=1e-6
    )


def test_neighbours_pass_features_on_over_the_pairs():
    pairs = sp.csr_matrix(np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]]))
    table = np.array([[1.0], [9.0], [9.0], [3.0], [9.0]], dtype=np.float32)
    mask = np.array([True, False, False, True, False])
    found = with_stand_ins(table, mask, "neighbours", pairs)
    assert found[[0, 3], 0].tolist() == [1, 3]
    np.testing.assert_allclose(found[[1, 2], 0], 1, atol=1e-6)  # item 0 is all that reaches them
    assert found[4, 0] == 2  # nothing does: the mean row


def test_a_share_is_drawn_from_the_seed_and_kept_with_the_run(make_config, toy):
    settings = {"missing_modality": "visual", "missing_share": 0.5, "epochs": 1}
    quarter = RecDataset(make_config("MGCN", **{**settings, "missing_share": 0.25})).masks()["visual"]
    result = run(make_config("MGCN", **settings))
    with np.load(f"{result['directory']}/masks.npz") as kept:
        half = kept["visual"]
    assert (~half).sum() == 32 and (~quarter).sum() == 16 and not half[~quarter].any()
    assert (load_trained(result["directory"]).dataset.masks()["visual"] == half).all()
    other = RecDataset(make_config("MGCN", **settings, missing_seed=1)).masks()["visual"]
    assert (other != half).any()


def test_a_mask_belongs_to_the_data_of_a_run(make_config, toy):
    before = RecDataset(make_config("MGCN")).fingerprint
    np.save(toy / "image_mask.npy", EVEN)
    assert RecDataset(make_config("MGCN")).fingerprint != before
    assert RecDataset(make_config("BPR")).fingerprint == RecDataset(make_config("LightGCN")).fingerprint


@pytest.mark.parametrize("name", MASKED)
def test_masked_items_have_no_edge_and_every_model_trains(name, stepped, masked):
    model = stepped(name)[0]
    owner = getattr(model, "encoder", model)
    graphs = getattr(owner, "item_graphs", None) or getattr(model, "raw_graphs", None)
    if graphs is not None:
        rows = graphs["visual"](torch.eye(64))
        assert not rows[~EVEN].any() and not rows[:, ~EVEN].any() and rows[EVEN].any()


@pytest.mark.parametrize("name", MASKED)
def test_numbers_that_occur_in_no_split_have_no_edge(name, stepped, toy):
    """Every second number is a gap whose features are those of the item before it: the nearest neighbour there could be."""
    path = toy / "toy.inter"
    head, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    column = head.index("itemID")
    lines = [head, *([*row[:column], str(2 * int(row[column])), *row[column + 1 :]] for row in rows)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    for file in ("image_feat.npy", "text_feat.npy"):
        np.save(toy / file, np.repeat(np.load(toy / file), 2, axis=0)[:-1])  # 64 items are numbered up to 126
    model, dataset = stepped(name)
    gaps = np.arange(127) % 2 == 1
    assert (dataset.absent_items == np.flatnonzero(gaps)).all() and not model.masks["visual"][gaps].any()
    graphs = [part for part in model.modules() if isinstance(part, SparseGraph) and part.shape[1] >= 127]
    if name == "LATTICE":
        learned = model.learned_graph()
        graphs += [
            lambda x, g=graph, w=weights: g.weighted_sum(w.detach(), x, "rows")
            for graph, weights in zip(learned.edges, learned.weights, strict=True)
        ]
    for graph in graphs:
        size = graph.shape[1] if isinstance(graph, SparseGraph) else 127
        columns = graph(torch.eye(size))[:, -127:]  # items come after users
        if len(columns) >= 127:
            columns[-127:].fill_diagonal_(0)  # LATTICE's graph of users and items leads from each node to itself
            assert not columns[-127:][gaps].any()
        assert columns.any() and not columns[:, gaps].any()


def test_alignment_is_of_the_items_that_have_both(make_config, make_loader, masked, monkeypatch):
    """What is aligned does not depend on what stands in for a picture that is not there."""

    def distances(kind):
        config = make_config("MambaRec", missing=kind, use_local_alignment=False)
        loader = make_loader(config)
        init_seed(config["seed"])
        model = load_model_class("MambaRec", None)(config, loader)
        file, seen = sys.modules[type(model).__module__], []
        with monkeypatch.context() as context:
            context.setattr(file, "mmd", lambda *rest, **options: seen.append(mmd(*rest, **options)) or seen[-1])
            model.calculate_loss(next(iter(loader)))
        return [value.item() for value in seen]

    assert distances("mean") == distances("zero") and distances("mean")[0] > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones(64), r"image_mask.npy is float64 \(64,\); expected bool \(64,\)"),
        (np.ones(63, dtype=bool), r"expected bool \(64,\)"),
        (np.zeros(64, dtype=bool), "is false for every item"),
        (np.array([{}] * 64, dtype=object), "cannot be read"),
    ],
)
def test_a_mask_that_is_none_is_refused(make_config, toy, content, message):
    np.save(toy / "image_mask.npy", content)
    with pytest.raises(DataError, match=message):
        RecDataset(make_config("MGCN")).features()


@pytest.mark.parametrize("name", ["visual_mask.npy", "vision_mask.npy", "images_mask.npy"])
def test_a_mask_that_no_feature_file_goes_with_is_refused_before_a_training(make_config, toy, name):
    np.save(toy / name, EVEN)
    with pytest.raises(DataError, match=f"{name} goes with no feature file of toy.yaml.*image_mask.npy for image_feat.npy"):
        run(make_config("VBPR"))
    RecDataset(make_config("BPR")).check_features()  # reads no features, and so no mask


def test_a_mask_is_named_after_any_feature_file(make_config, toy, configs):
    (configs / "dataset" / "toy.yaml").write_text("inter_file_name: toy.inter\naudio_feature_file: wav2vec.npy\n")
    (toy / "image_feat.npy").rename(toy / "wav2vec.npy")
    np.save(toy / "audio_mask.npy", EVEN)
    with pytest.raises(DataError, match=r"audio_mask.npy goes with no .*wav2vec_mask.npy for wav2vec.npy"):
        RecDataset(make_config("VBPR")).check_features()
    (toy / "audio_mask.npy").rename(toy / "wav2vec_mask.npy")
    dataset = RecDataset(make_config("VBPR"))
    dataset.check_features()
    assert (dataset.masks()["audio"] == EVEN).all()


def test_settings_that_mean_nothing_are_refused(make_config):
    with pytest.raises(ConfigError, match="name the modality"):
        RecDataset(make_config("MGCN", missing_share=0.5)).features()
    with pytest.raises(DataError, match="declares no 'sound'"):
        RecDataset(make_config("MGCN", missing_modality="sound", missing_share=0.5)).features()
    for key, value in (("missing", "guess"), ("missing_share", 1.0), ("missing_share", -0.1)):
        with pytest.raises(ConfigError, match=f"{key}="):
            make_config("MGCN", **{key: value})
