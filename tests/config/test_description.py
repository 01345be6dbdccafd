"""What is said of keys: by --help and in the reference."""

import pytest

from mambarec.cli import train
from mambarec.config.catalogue import available_models
from mambarec.config.description import of_model, of_run, read_values


def test_a_comment_over_several_lines_belongs_to_its_key(tmp_path):
    path = tmp_path / "A.yaml"
    lines = ["# A (2020).", "x: 1   # one", "       # and two", "y: [a]", "", "# of no key", "z: 2", ""]
    spaces = ["search_space:   # paper", "  x: [1, 2]", "wide_search_space:", "  x: [1, 2, 3]   # more", ""]
    path.write_text("\n".join([*lines, *spaces]))
    found = read_values(path)
    assert [(key.name, key.value, key.source) for key in found.keys] == [
        ("x", "1", "one and two"),
        ("y", "[a]", ""),
        ("z", "2", ""),
    ]
    assert found.about == "A (2020)."
    assert found.spaces == {"search_space": (["x: [1, 2]"], "paper"), "wide_search_space": (["x: [1, 2, 3]"], "")}


@pytest.mark.parametrize("model", available_models())
def test_every_key_has_a_meaning_a_range_and_a_value(model):
    for key in [*of_model(model), *of_run()]:
        assert key.meaning.endswith(".") and key.accepts and key.value, key


def test_help_names_the_keys_of_the_model_with_type_range_default_and_source(capsys):
    with pytest.raises(SystemExit) as ended:
        train.parse(["--help", "-m", "mambarec", "LightGCN"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert "keys of MambaRec:" in text and "keys of LightGCN:" in text and "keys of every run:" in text
    assert "--mmd-weight VALUE Weight of the MMD between modalities. Number not below 0. Default: 0.15." in text
    assert "Integer above 0 and at most 1,000,000. Default: 10 (released configuration)." in text
    assert "One of paper, released. Default: paper." in text


def test_help_of_an_unknown_model_names_the_nearest(capsys):
    assert train.main(["--help", "-m", "MambaRecc"]) == 2
    assert "Did you mean 'MambaRec'?" in capsys.readouterr().err
