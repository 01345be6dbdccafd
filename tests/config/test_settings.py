"""Declared keys: what becomes of a value, what is refused and in which words, and declarations of models beside src/models."""

import pickle
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator

from mambarec.base.errors import ConfigError, ModelError
from mambarec.base.settings import Settings, checked, key, like, takes_list
from mambarec.config.catalogue import available_models, declared_settings, model_files, model_yamls
from mambarec.config.configurator import Config, override_pairs
from mambarec.config.description import of_model
from mambarec.config.keys import RunSettings, modality_of
from mambarec.config.yaml_files import read_yaml
from mambarec.mmrec.plugins import load_model_class


class Example(Settings):
    whole: int = key("A count.", gt=0, le=1000)
    share: float = key("A share.", ge=0, le=1)
    maybe: int | None = key("A width.", gt=0)
    sizes: list[Annotated[int, Field(gt=0)]] = key("Widths.", min_length=1)
    mode: Literal["a", "b"] = key("A choice.")
    word: str = key("A name.")
    flag: bool = key("A switch.")
    even: int = key("A number.")

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("expected an even number")
        return value


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("whole", 3, 3),
        ("whole", 3.0, 3),
        ("share", 1, 1.0),
        ("maybe", None, None),
        ("sizes", 4, [4]),
        ("sizes", [4.0, 2], [4, 2]),
        ("mode", "b", "b"),
        ("word", 3, "3"),
        ("word", 0.5, "0.5"),
        ("flag", False, False),
        ("even", 4, 4),
    ],
)
def test_a_value_gets_the_type_of_its_key(name, given, value):
    found = checked(Example, name, given)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("whole", 0, "an integer above 0 and at most 1,000"),
        ("whole", 1001, "an integer above 0 and at most 1,000"),
        ("whole", 1.5, "an integer above 0 and at most 1,000"),
        ("whole", True, "an integer above 0 and at most 1,000"),
        ("whole", "3", "an integer above 0 and at most 1,000"),
        ("whole", None, "an integer above 0 and at most 1,000"),
        ("share", 1.1, "a number from 0 to 1"),
        ("share", float("nan"), "a number from 0 to 1"),
        ("share", False, "a number from 0 to 1"),
        ("maybe", 0, "an integer above 0, or null"),
        ("sizes", [], "a list of one or more integers above 0"),
        ("sizes", [1, 0], "a list of one or more integers above 0"),
        ("mode", "c", "one of a, b"),
        ("mode", 3, "one of a, b"),
        ("word", True, "a word"),
        ("flag", 1, "true or false"),
        ("even", 3, "an even number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_is_allowed(name, given, words):
    with pytest.raises(ValueError, match="expected") as caught:
        checked(Example, name, given)
    assert str(caught.value) == f"expected {words}"


def test_only_a_list_takes_several_values():
    fields = Example.model_fields
    assert [name for name, field in fields.items() if takes_list(field)] == ["sizes"]


def test_without_a_declaration_the_example_says_the_type():
    assert (
        like(2.0, 1) == 2 and like(1, 0.5) == 1.0 and like(7, "a") == "7" and like([1.0], [2]) == [1] and like("x", None) == "x"
    )
    with pytest.raises(ValueError, match="expected true or false, as its default True is"):
        like(1, True)


@pytest.mark.parametrize("model", available_models())
def test_a_models_yaml_sets_every_key_that_its_class_declares_and_no_other(model):
    settings = declared_settings(model, model_files()[model])
    yaml = read_yaml(model_yamls(model)[0])
    assert set(settings.model_fields) == set(yaml) - set(RunSettings.model_fields)
    assert not set(settings.model_fields) & set(RunSettings.model_fields)


@pytest.mark.parametrize("model", available_models())
def test_every_point_of_a_search_is_allowed(model, known_toy):
    content = read_yaml(model_yamls(model)[0])
    for option, name in ((True, "search_space"), ("wide", "wide_search_space")):
        if name in content:
            assert set(Config(model, "toy", search=option).axes) == set(content[name])


# a model beside src/models

BLEND = '''
from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender


class BlendSettings(Settings):
    """The keys of Blend."""

    share: float = key("A share.", ge=0, le=1)
    depth: int = key("Layers.", default=2, ge=0)


class Blend(GeneralRecommender):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.seen = config["share"], config["depth"], config[{read!r}]
'''


@pytest.fixture
def blend(known_toy, tmp_path):
    """blend("--key value", yaml, read) -> Config of the model Blend, which declares share and depth, and reads `read` too."""

    def make(words: str = "", yaml: str = "share: 0.5", read: str = "seed", code: str = BLEND) -> Config:
        folder = tmp_path / "models"
        folder.mkdir(exist_ok=True)
        (folder / "blend.py").write_text(code.replace("{read!r}", repr(read)))
        (folder / "Blend.yaml").write_text(yaml)
        return Config("Blend", "toy", {"model_path": str(folder), **override_pairs(words.split())})

    return make


def test_a_model_beside_src_models_can_declare_its_keys(blend):
    assert [blend()[key] for key in ("share", "depth")] == [0.5, 2]
    assert blend("--depth 3 --share 1")["depth"] == 3
    assert [trial["share"] for trial in blend("--share 0 0.5").trials()] == [0.0, 0.5]
    pickle.loads(pickle.dumps(blend()))


def test_its_keys_are_described_with_the_default_of_the_class(blend):
    folder = Path(blend()["model_path"])
    assert {key.name: (key.value, key.accepts) for key in of_model("Blend", folder)} == {
        "share": ("0.5", "number from 0 to 1"),
        "depth": ("2", "integer not below 0"),
    }
    (folder / "Blend.yaml").write_text("")
    assert {key.name: key.value for key in of_model("Blend", folder)} == {"share": "", "depth": "2"}


@pytest.mark.parametrize(
    ("words", "yaml", "phrases"),
    [
        ("--share 2", "share: 0.5", ["share=2", "a number from 0 to 1"]),
        ("--depth -1", "share: 0.5", ["depth=-1", "an integer not below 0"]),
        ("--shar 1", "share: 0.5", ["Blend has no key 'shar'", "did you mean '--share'?"]),
        ("", "share: 0.5\nn_layers: 2", ["Blend.yaml: Blend has no key 'n_layers'; it is a key of", "LightGCN"]),
        ("", "share: 2", ["Blend.yaml: share=2", "a number from 0 to 1"]),
        ("", "depth: 1", ["Blend.yaml does not set 'share'"]),
        ("--mmd_weight 1", "share: 0.5", ["Blend has no key 'mmd_weight'; it is a key of MambaRec"]),
    ],
)
def test_its_mistakes_are_named(blend, words, yaml, phrases):
    with pytest.raises(ConfigError) as caught:
        blend(words, yaml)
    for phrase in phrases:
        assert phrase in str(caught.value)


def test_its_keys_are_known_as_its_own(blend):
    folder = blend()["model_path"]
    with pytest.raises(ConfigError, match="BPR has no key 'depth'; it is a key of Blend"):
        Config("BPR", "toy", {"model_path": folder, "depth": 1})


def test_a_key_that_it_reads_and_does_not_declare_is_an_error(blend, make_loader, toy):
    config = blend(f"--data_path {toy.parent}", read="strength")
    with pytest.raises(ConfigError, match="the key 'strength' was read, and nobody declares it; declare it in BlendSettings"):
        load_model_class("Blend", config["model_path"])(config, make_loader(config))
    config = blend(f"--data_path {toy.parent}")
    assert load_model_class("Blend", config["model_path"])(config, make_loader(config)).seen == (0.5, 2, 999)


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("import no_such_package", ConfigError, "imports no_such_package, which is not installed: pip install no_such_package"),
        ("from common.loss import BPRLoss", ConfigError, "declares its keys, so it imports from mambarec"),
        ("1 / 0", ModelError, "Blend.import raised ZeroDivisionError"),
    ],
)
def test_a_declaration_that_cannot_be_imported_is_named(blend, line, error, words):
    with pytest.raises(error, match=words):
        blend(code=f"{line}\n{BLEND}")


def test_a_key_of_a_feature_file_names_its_modality():
    keys = ["vision_feature_file", "text_feature_file", "audio_feature_file", "_feature_file", "text_feature_files", "visual"]
    assert [modality_of(key) for key in keys] == ["visual", "text", "audio", None, None, None]
