"""The package as others install it: a wheel, in a folder that has modules of common names."""

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mambarec import cli
from mambarec.base.commands import COMMANDS
from mambarec.base.places import CODE, PACKAGE
from mambarec.cli import prepare, train

ROOT = Path(__file__).resolve().parents[1]


def test_every_file_that_is_no_module_goes_into_the_wheel():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    patterns = {room: text.split(", ") for room, text in parser["options.package_data"].items()}
    places = {
        "mambarec.configs": CODE / "configs",
        "mambarec.analysis": PACKAGE / "analysis",
        "mambarec.serving": PACKAGE / "serving",
    }
    assert patterns.keys() == places.keys()
    included = {path for room, place in places.items() for pattern in patterns[room] for path in place.glob(pattern)}
    files = [path for place in (PACKAGE, CODE / "models", CODE / "configs") for path in place.rglob("*") if path.is_file()]
    others = {path for path in files if path.suffix != ".py" and "__pycache__" not in path.parts}
    assert others == {path for path in included if path.is_file()}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_its_options(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0 and f"usage: mambarec {name}" in capsys.readouterr().out


def test_a_command_that_is_not_there_is_a_sentence(capsys):
    assert cli.main(["trian"]) == 2
    assert "error: there is no command 'trian'. Did you mean train?" in capsys.readouterr().err
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_an_option_takes_dashes_or_underscores():
    for words in (["--data_path", "x"], ["--data-path", "x"], ["--data-path=x"]):
        parsed = prepare.parse(["check", "-d", "toy", *words])
        assert parsed.data_path == Path("x")
    order, keys = train.parse(["--search_budget", "3", "--learning-rate", "0.1", "--name=a_b"])
    assert order.budget == 3 and order.name == "a_b" and keys == ["--learning-rate", "0.1"]


@pytest.mark.slow
def test_a_wheel_trains_the_demo_beside_modules_of_common_names(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", ROOT, source], check=True)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", tmp_path, source], check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"mambarec"}
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("utils.py", "models.py", "common.py"):
        (folder / name).write_text("raise SystemExit('not this one')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(folder)))}
    code = "import sys, mambarec.cli; sys.exit(mambarec.cli.main(['train', '-m', 'MambaRec', '-d', 'demo', '--epochs', '1']))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert list(folder.glob("results/demo/MambaRec/seed999-*/result.json")) and (folder / "data" / "demo").is_dir()
