"""Sizes are bounded before memory is taken: each claim is refused with a sentence that says the bound."""

import gzip
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch

from faults.fuzzing import MEGABYTES
from mambarec.analysis.records import Record
from mambarec.base.bounded import read_arrays, read_text
from mambarec.base.errors import ConfigError, DataError, RunError, UserError
from mambarec.base.memory import process_peak_mb, reset_process_peak
from mambarec.config.yaml_files import read_yaml
from mambarec.data.dataset import RecDataset
from mambarec.preparation.features.backbones import Backbone
from mambarec.preparation.features.images import _prepare
from mambarec.preparation.readers.layout import first_lines
from mambarec.preparation.readers.lines import opened, read_lines
from mambarec.running.run import open_dataset, run
from mambarec.running.sizes import check_sizes


@pytest.fixture(autouse=True)
def _within_memory():
    reset_process_peak()
    before = process_peak_mb() or 0.0
    yield
    assert (process_peak_mb() or 0.0) - before < MEGABYTES


def head(shape: tuple, dtype: str = "<f4") -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}) + "\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


def test_a_feature_file_that_claims_a_trillion_rows(make_config, toy):
    (toy / "image_feat.npy").write_bytes(head((10**12, 64)) + bytes(64))
    with pytest.raises(DataError, match=r"image_feat\.npy"):
        RecDataset(make_config("VBPR")).features()


@pytest.mark.parametrize("claims", ["a trillion", "what zeros become"])
def test_a_member_of_an_archive_that_becomes_more_than_it_may(tmp_path, claims):
    path = tmp_path / "x.record.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("json.npy", "w", force_zip64=True) as file:
        size = 10**12 if claims == "a trillion" else 300 * 2**20
        file.write(head((size,), "|u1"))
        for _ in range(0 if claims == "a trillion" else 300):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(RunError, match="1,000,000,000,000 bytes; it has" if claims == "a trillion" else "at most 268,435,456"):
        Record.of_file(path)


def test_a_member_is_no_path(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.npy", head((1,)) + bytes(4))
    assert list(read_arrays(path)) == ["../../escaped"]
    assert not list(tmp_path.parent.parent.glob("escaped*"))


@pytest.mark.slow
def test_a_dump_of_10_kilobytes_that_becomes_100_megabytes(tmp_path):
    path = tmp_path / "dump.json.gz"
    for content in (bytes(2**20), b"\n" * 2**20):
        with gzip.open(path, "wb", compresslevel=9) as file:
            for _ in range(100):
                file.write(content)
        with pytest.raises(DataError, match=r"a line of more than 16,777,216|more than 200 times its size"):
            list(read_lines(path))
        with pytest.raises(DataError, match="200 times"), opened(path) as file:
            while file.read(2**20):
                pass


def test_an_ordinary_gz_is_no_bomb(tmp_path):
    path = tmp_path / "dump.json.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"a": %d}\n' % n for n in range(1000))))
    assert len(list(read_lines(path))) == 1000 and first_lines(path, 1) == ['{"a": 0}']


def test_a_line_that_does_not_end(tmp_path):
    path = tmp_path / "dump.json"
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(DataError, match="a line of more than 16,777,216 characters"):
        list(read_lines(path))
    with pytest.raises(DataError, match="a line of more than"):
        first_lines(path, 1)


@pytest.mark.filterwarnings("ignore:Image size")  # extract_features ignores it
def test_a_picture_of_a_thousand_million_pixels():
    pytest.importorskip("PIL", reason="needs the extra features")

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    backbone = Backbone("none", torch.nn.Identity(), lambda picture: torch.from_numpy(np.array(picture)))
    for side in (10_000, 40_000):  # one PIL would warn of, one that it refuses
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        found = _prepare(picture, backbone)
        assert isinstance(found, str) and "pixels" in found


def test_a_yaml_of_a_gigabyte_and_a_settings_file_that_is_a_device(tmp_path):
    path = tmp_path / "x.yaml"
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ConfigError, match="1,073,741,824 bytes; at most 1,048,576"):
        read_yaml(path)
    (tmp_path / "link.yaml").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="no regular file"):
        read_yaml(tmp_path / "link.yaml")
    with pytest.raises(ValueError, match="at most"):
        read_text(path)


def test_a_thousand_million_laughs(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    for text in ("\n".join(lines), "a: &a [*a]", "a: " + "[" * 5000):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"100,000 values|alias stands within|nested too deeply"):
            read_yaml(tmp_path / "x.yaml")


def test_an_id_beyond_all_bounds(make_config, toy):
    with (toy / "toy.inter").open("a") as file:
        file.write(f"0\t{2**62}\t5.0\t0\t0\n")
    with pytest.raises(DataError, match="itemID is 4611686018427387904; expected 0 to"):
        RecDataset(make_config("BPR"))


def test_interactions_of_one_endless_line(make_config, toy):
    with (toy / "toy.inter").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(DataError, match="its first line is longer than 1,048,576 bytes"):
        RecDataset(make_config("BPR"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding_size": 10**9}, "embedding_size=1000000000; expected an integer above 0 and at most 65,536"),
        ({"epochs": 10**18}, "epochs=1000000000000000000; expected a number between"),
        ({"epochs": -1}, "epochs=-1; expected an integer above 0"),
        ({"seed": 2**32}, "seed=4294967296; expected an integer from 0 to 4,294,967,295"),
        ({"threads": 10**6}, "threads=1000000; expected an integer from 0 to 1,024"),
        ({"topk": [10**12]}, "expected a list of one or more integers above 0 and at most 1,000,000"),
        ({"topk": [20, 5000]}, "toy has 64 items; at most 1,000"),
        ({"knn_k": 65}, "knn_k=65: toy has 64 items, so at most 64 neighbours"),
        ({"knn_k": -1}, "knn_k=-1; expected an integer above 0"),
        ({"learning_rate": 10**400}, "expected a number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_number_that_no_machine_could_follow(make_config, values, message):
    with pytest.raises(ConfigError) as caught:
        run(make_config("MambaRec", **values))
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["knn_k", "image_knn_k", "text_knn_k"])
def test_more_neighbours_than_items_are_refused_by_the_name_of_the_key(make_config, key):
    with pytest.raises(ConfigError, match=f"^{key}=65: toy has 64 items, so at most 64 neighbours"):
        run(make_config("SMORE", **{key: 65}))


def test_neighbours_of_a_modality_that_is_not_read_are_not_counted(make_config):
    assert run(make_config("SMORE", modalities=["text"], image_knn_k=65, epochs=1))["epochs"] == 1


def test_a_default_that_no_modality_uses_does_not_refuse_a_small_catalogue(make_config):
    config = make_config("SMORE", image_knn_k=5, text_knn_k=5)
    dataset = open_dataset(config)
    dataset.n_items = 12  # below SMORE's own knn_k, which serves other modalities than these
    check_sizes(config, dataset)
    with pytest.raises(ConfigError, match=r"^image_knn_k=13: toy has 12 items"):
        check_sizes(make_config("SMORE", image_knn_k=13, text_knn_k=5), dataset)


def test_more_memory_than_the_machine_has_is_said_before_it_is_taken(make_config, monkeypatch):
    monkeypatch.setattr("mambarec.running.sizes._memory", lambda device: 10_000)
    with pytest.raises(
        ConfigError, match=r"embedding_size=8: the vectors of 48 users and 64 items, .* this machine has 0\.0 GB"
    ):
        run(make_config("BPR"))


def test_a_grid_that_could_not_be_listed(make_config):
    from mambarec.config.configurator import Axis

    axes = {key: Axis(range(1, 100)) for key in ("seed", "embedding_size", "n_layers", "knn_k")}
    with pytest.raises(ConfigError, match="makes 96,059,601 trials; at most 100,000"):
        make_config("MambaRec", **axes).trials()


def test_the_picture_of_a_device_is_left_out(tmp_path, write_items_of_one):
    from mambarec.preparation.features.packing import pack_images

    folder, items = write_items_of_one
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "B0.png").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is no file"):
        pack_images(folder, items, tmp_path / "pictures")


@pytest.fixture
def write_items_of_one(tmp_path):
    from mambarec.preparation.features.items import read_items

    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,original_id\n0,B0\n")
    return folder, read_items(folder)


def test_text_of_a_file_is_read_whole_within_the_bound(tmp_path):
    (tmp_path / "x").write_bytes(b"a" * 10)
    assert read_text(tmp_path / "x", 10) == "a" * 10
