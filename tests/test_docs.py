"""The documentation: links lead somewhere, commands and calls are understood, pages written from the code are up to date."""

import argparse
import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import mambarec as mr
from mambarec.analysis.comparison import Versus, compare
from mambarec.analysis.selection import select
from mambarec.base.commands import COMMANDS
from mambarec.base.errors import UserError
from mambarec.cli import prepare, recommend, report, train
from mambarec.config.catalogue import available_datasets, available_models
from mambarec.config.configurator import Config, override_pairs
from mambarec.experiments.grid import is_every
from mambarec.mmrec import export

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
WRITTEN = [DOCS / "reference" / name for name in ("commands.md", "keys.md")]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PROGRAMS = {"main.py": "train", "prepare.py": "prepare", "recommend.py": "recommend", "report.py": "report"}
PARSERS: dict[str, Callable] = {
    "train": train.parse,
    "prepare": prepare.parse,
    "recommend": recommend.parse,
    "report": report.parse,
}


def loaded(name: str):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


reference = loaded("reference")


MADE = ("src/configs/tuned", "benchmarks/latest.json")  # by commands that the pages show


# links and paths


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_of_a_page_leads_somewhere(page):
    place = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(TEXTS[page])):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (place / name).resolve() if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if page.startswith("docs/") and name:
            assert path.is_relative_to(DOCS), f"{page}: {target} is not on the site"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page}: {target}"


@pytest.mark.parametrize("page", TEXTS)
def test_every_file_of_the_project_that_a_page_names_exists(page):
    pattern = r"(?<![\w./~-])(?:\.\./)?((?:src|docs|tests|benchmarks)/[\w./-]*\w)(?![\w/<*…]|\.\*)"
    for name in re.findall(pattern, TEXTS[page]):
        assert (ROOT / name).exists() or name.startswith(MADE), f"{page}: {name}"


def test_every_page_is_in_the_navigation():
    def files(entry) -> Iterator[str]:
        for one in entry if isinstance(entry, list) else entry.values():
            yield from [one] if isinstance(one, str) else files(one)

    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(files(settings["nav"])) == sorted(pages)


# commands


def commands(text: str) -> Iterator[str]:
    """The commands of a page: of bash blocks, and of lines with four spaces before them."""
    blocks = [body for _, kind, body in FENCE.findall(text) if kind == "bash"]
    blocks += [line.strip() for line in FENCE.sub("", text).splitlines() if re.match(r"    [a-zA-Z]", line)]
    for block in blocks:
        yield from (line for line in re.sub(r"\\\n\s*", "", block).splitlines() if line.strip())


def mentioned(text: str) -> Iterator[str]:
    """The commands that the text of a page mentions, which may be cut short."""
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    yield from (span for span in spans if re.match(r"(mambarec|python [a-z_]+\.py|make) ", span))


def words_of(command: str) -> list[str]:
    """Words without those that set variables, and without comments and ellipses."""
    words = shlex.split(command.replace("…", ""), comments=True)
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        words.pop(0)
    return words


def check(command: str) -> bool:
    """Whether this is a command of the project, after it was parsed; an error where it cannot be understood."""
    for part in command.split("&&"):
        words = words_of(part)
        if not words:
            continue
        if words[0] == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
            assert all(word in targets for word in words[1:] if "=" not in word), command
            return True
        if words[:2] == ["pip", "install"]:
            assert set(re.findall(r"\w+", "".join(re.findall(r"\.\[(.*?)\]", part)))) <= extras(), command
        elif words[0] == "mambarec" and len(words) > 1:
            assert words[1] in COMMANDS, command
            meant = COMMANDS[words[1]]
            understand(meant.module.rpartition(".")[2], [*meant.before, *words[2:]])
            return True
        elif words[0] == "python" and len(words) > 1 and words[1] in PROGRAMS:
            understand(PROGRAMS[words[1]], words[2:])
            return True
    return False


def extras() -> set[str]:
    """The names of the extras in setup.cfg."""
    section = (ROOT / "setup.cfg").read_text().partition("[options.extras_require]")[2]
    return set(re.findall(r"^(\w+) =", section, flags=re.MULTILINE))


def understand(program: str, words: list[str]) -> None:
    """Parse a program's words, and check the keys and values that it would train with."""
    if program == "export":
        reference.parser_of(export.main).parse_args(words)
        return
    parsed = PARSERS[program](words)
    if program == "train":
        order, rest = parsed
        models, datasets = order.models, order.datasets
        if "model_path" in order.given:
            return  # the folder is the reader's
    elif program == "report" and parsed.words:
        rest, models = parsed.words, ["MambaRec"]
        datasets = [parsed.dataset] if isinstance(parsed.dataset, str) else parsed.dataset
    else:
        return
    overrides = override_pairs(rest)
    overrides.pop("tuned", None)  # its files are the reader's
    for model in available_models() if is_every(models) else models:
        for dataset in datasets:
            Config(model, dataset if dataset in available_datasets() else "demo", overrides)


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_of_a_page_is_understood(page, capsys):
    wrong = []
    for command in (*commands(TEXTS[page]), *mentioned(TEXTS[page])):
        try:
            check(command)
        except SystemExit as ended:
            said = capsys.readouterr().err
            if ended.code and not (command in mentioned(TEXTS[page]) and "are required" in said):
                wrong.append(f"{command}\n{said.strip().splitlines()[-1]}")
        except (AssertionError, UserError) as error:
            wrong.append(f"{command}\n{error}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize(
    "command",
    [
        "mambarec trian -m BPR",
        "mambarec train -m BPR --mmd_weight 0.1",
        "python main.py -m BPR --learning_rate fast",
        "python report.py table --formt csv",
        "mambarec report ablation -d tiktok --epochz 2",
        "mambarec prepare table -d mine",
        "pip install -e '.[reports]'",
        "make runn",
    ],
)
def test_the_check_finds_a_wrong_command(command):
    with pytest.raises((SystemExit, AssertionError, UserError)):
        check(command)


def test_the_pages_have_commands_to_check():
    assert check("mambarec train -m BPR --epochs 2  # two") and check("make run") and not check("cd src")
    found = [command for text in TEXTS.values() for command in commands(text)]
    assert sum(command.startswith(("mambarec ", "python ", "make ")) for command in found) > 80


def test_every_option_that_the_text_names_exists():
    known = {"--help", "--key"}
    for parser in map(reference.parser_of, [*PARSERS.values(), export.main]):
        for one in [parser, *(sub for _, sub in reference.subcommands(parser).values())]:
            known |= {name for action in one._actions for name in action.option_strings}
    keys = {key for model in available_models() for key in Config(model, "demo", {"mg": True})}
    for page, text in TEXTS.items():
        for name in re.findall(r"`(--[\w-]+)", FENCE.sub("", text)):
            assert name in known or name[2:] in keys, f"{page}: {name}"


def comparisons_of(page: str) -> list[Versus]:
    """What the commands of a page find, of those that make tables of committed records."""
    found: list[Versus] = []
    for command in commands(TEXTS[page]):
        words = words_of(command)
        if words[:3] == ["mambarec", "report", "table"] and "results" not in words:
            options = report.parse(words[2:])
            options.results = [ROOT / path for path in options.results]
            records = select(options.results, report._wanted(options)).records
            found += compare(records, options.reference, split=options.split).tests
    return found


@pytest.mark.parametrize("page", ["docs/results/baby.md", "docs/results/sports.md"])
def test_the_tests_in_a_page_are_those_of_its_commands(page):
    """Rows with a difference, its interval and p-values: each is what a command above gives, up to the sign."""
    number = r"[+-]?\.\d{4}"
    rows = re.findall(rf"\| ({number}), ({number}) to ({number}) \| ([^|]+) \|", TEXTS[page])
    found = comparisons_of(page)
    assert found and rows
    for *interval, values in rows:
        ends = [float(value) for value in interval]
        fitting = [
            [one.wilcoxon_adjusted, one.t_test_adjusted]
            for one in found
            if np.allclose([one.test.difference, one.test.low, one.test.high], ends, atol=6e-5)
        ]
        assert any(
            all((re.fullmatch(r"< \.0001", text) and p < 1e-4) or text == f"{p:.{len(text) - 1}f}"[1:] for text, p in pairs)
            for ps in fitting
            for pairs in [list(zip(values.split(", "), ps, strict=False))]
        ), (interval, values, fitting)


TEN = "BPR LightGCN VBPR MMGCN GRCN SLMRec FREEDOM MGCN LGMRec MambaRec"
COLUMNS = {"tiktok": "comparison", "demo": "comparison", "baby": "ledger"}  # of the first pages' table, and their records


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_figures_of_the_first_pages_are_those_of_the_records(page):
    shown = {row[0]: row[1:] for row in re.findall(r"^\| (\w+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", TEXTS[page], re.MULTILINE)}
    for column, (dataset, folder) in enumerate(COLUMNS.items()):
        options = report.parse(f"table --results {DOCS / 'results' / folder} -d {dataset} -m {TEN}".split())
        comparison = compare(select(options.results, report._wanted(options)).records, "MambaRec")
        differing = {one.label for one in comparison.tests if one.is_significant}
        best = max(comparison.column(dataset), key=lambda entry: entry.mean("recall@20")).label
        for entry in comparison.column(dataset):
            figure = f"{entry.mean('recall@20'):.4f}"[1:]
            figure = f"**{figure}**" if entry.label == best else figure
            star = r" \*" if entry.label in differing else ""
            assert shown[entry.label][column] == f"{figure} ± {entry.deviation('recall@20'):.4f}{star}".replace("± 0", "± ")


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_pages_know_how_many_models_there_are(page):
    assert f"{len(available_models())} models" in TEXTS[page]
    assert page != "README.md" or all(re.search(rf"\b{name}\b", TEXTS[page]) for name in available_models())


# Python


def python_blocks() -> list[tuple[str, str]]:
    return [(page, body) for page, text in TEXTS.items() for _, kind, body in FENCE.findall(text) if kind == "python"]


@pytest.mark.parametrize(("page", "code"), python_blocks())
def test_every_call_of_the_interface_in_a_page_is_possible(page, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("mambarec"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), node.module
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            owner = {"mr": mr, "run": mr.Run, "table": mr.Table}.get(node.func.value.id)
            if owner:
                function = getattr(owner, node.func.attr)
                itself = [] if owner is mr else [None]
                names = {word.arg: None for word in node.keywords if word.arg}
                inspect.signature(function).bind(*itself, *node.args, **names)


# what is written from the code


def test_the_pages_written_from_the_code_are_up_to_date():
    for path, text in reference.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python docs/reference.py"


def test_the_reference_has_every_command_every_option_and_every_key():
    commands_page, keys_page = (path.read_text(encoding="utf-8") for path in WRITTEN)
    assert all(f"## mambarec {name}\n" in commands_page for name in COMMANDS)
    doors = reference.subcommands(reference.parser_of(report.parse))
    assert all(f"### mambarec report {name}\n" in commands_page for name in doors)
    for model in available_models():
        section = keys_page.partition(f"\n## {model}\n")[2].partition("\n## ")[0]
        content = yaml.safe_load((ROOT / "src" / "configs" / "model" / f"{model}.yaml").read_text(encoding="utf-8"))
        apart = {"search_space", "wide_search_space", "model_identity"}
        assert all(f"| `{name}` |" in section for name in set(content) - apart)
        assert all(str(entry) in section for entry in content.get("model_identity", []))


def test_a_parser_is_found_without_parsing():
    def parse(words):
        parser = argparse.ArgumentParser(prog="one")
        return parser.parse_args(words)

    assert reference.parser_of(parse).prog == "one"
