"""Copy MambaRec into an MMRec checkout: `make plugin MMREC=/path/to/MMRec`, or `python export_plugin.py /path/to/MMRec`.

What it imports goes with it, in files that MMRec has none of; the base class is MMRec's own. The copies import one another as
MMRec's files do: `common.dream` stands for `mambarec.nn.dream`. The class that declares the keys stays here: MMRec checks none.
"""

import ast
import re
from pathlib import Path

from mambarec.base.console import Parser, show
from mambarec.base.errors import ConfigError, exit_status
from mambarec.base.files import real, write_text
from mambarec.base.places import CODE, PACKAGE

MODEL = "mambarec.models.mambarec"
_SETTINGS = "Settings"
_FOR_SETTINGS = ("mambarec.base.settings", "pydantic")  # modules that only a declaration of keys imports from
THEIRS = frozenset({"mambarec.nn.abstract_recommender"})  # modules that MMRec has too, with the same interface
_ROOMS = {"mambarec.models": "models", "mambarec.nn": "common", "mambarec.base": "utils"}  # ours, and MMRec's


def files() -> dict[Path, str]:
    """Path in MMRec's src/ -> text: the model, all of the project that it imports, and its YAML."""
    yaml = Path("configs", "model", "MambaRec.yaml")
    found = {yaml: (CODE / yaml).read_text(encoding="utf-8")}
    waiting, seen = [MODEL], set(THEIRS)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        text = without_settings(_source(name).read_text(encoding="utf-8"))
        imported = [node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        waiting += [module for module in imported if module and module.startswith("mambarec.")]
        found[Path(*_theirs(name).split(".")).with_suffix(".py")] = _rewritten(text)
    return dict(sorted(found.items()))


def without_settings(text: str) -> str:
    """A module's text without its `Settings` classes, whose names end so, and without what is imported for them alone."""
    tree, lines = ast.parse(text), text.splitlines(keepends=True)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and _is_settings(node)]
    if not classes:
        return text
    kept = [node for node in tree.body if node not in classes]
    used = {one.id for node in kept for one in ast.walk(node) if isinstance(one, ast.Name)}
    for node in reversed(tree.body):
        span = slice(node.lineno - 1, node.end_lineno)
        if node in classes or (isinstance(node, ast.ImportFrom) and node.module in _FOR_SETTINGS):
            lines[span] = []
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            needed = [name for name in names if name in used and not name.endswith(_SETTINGS)]
            if needed != names:
                lines[span] = [f"from {node.module} import {', '.join(needed)}\n"] if needed else []
    return re.sub(r"\n{4,}", "\n\n\n", "".join(lines))


def _is_settings(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id.endswith(_SETTINGS) for base in node.bases)


def _source(name: str) -> Path:
    parts = name.split(".")[1:]
    place = CODE if parts[0] == "models" else PACKAGE
    return place.joinpath(*parts).with_suffix(".py")


def _theirs(name: str) -> str:
    room, _, module = name.rpartition(".")
    return f"{_ROOMS[room]}.{module}"


def _rewritten(text: str) -> str:
    """The text with MMRec's absolute imports in place of ours."""
    return re.sub(r"\bmambarec\.(?:models|nn|base)\.\w+", lambda match: _theirs(match[0]), text)


def export(checkout: Path, force: bool = False) -> list[Path]:
    """Write `files` into checkout/src and return their places; ConfigError, and nothing written, when other files are there."""
    src = checkout / "src"
    for needed in ("common/abstract_recommender.py", "models", "configs/model", "utils"):
        if not (src / needed).exists():
            raise ConfigError(f"{checkout} is no MMRec checkout: there is no src/{needed}. Name the folder above MMRec's src/")
    contents = {src / path: text for path, text in files().items()}
    others = [path for path, text in contents.items() if path.exists() and path.read_bytes() != text.encode()]
    if others and not force:
        names = ", ".join(str(path.relative_to(checkout)) for path in others)
        raise ConfigError(
            f"{checkout} has other files of these names: {names}. Nothing was copied; --force (make … FORCE=1) does"
        )
    for path, text in contents.items():
        write_text(path, text)
    return list(contents)


def command(checkout: Path) -> str:
    """What to run there: MMRec looks for src/configs from the folder it is started in, or for configs."""
    looks_up = checkout / "src" / "utils" / "configurator.py"
    from_root = looks_up.exists() and "src/configs" in looks_up.read_text(encoding="utf-8", errors="replace")
    return (
        f"cd {checkout if from_root else checkout / 'src'} && python {'src/' if from_root else ''}main.py -m MambaRec -d baby"
    )


def main(arguments: list[str]) -> int:
    """Exit status 0, or 2 for a mistake that the message explains."""
    parser = Parser(description="Copy MambaRec into an MMRec checkout.", allow_abbrev=False)
    parser.add_version()
    parser.add_argument("checkout", type=Path, help="the folder that holds MMRec's src/")
    parser.add_argument("--force", action="store_true", help="overwrite other files of the same names")
    options = parser.parse_args(arguments)

    def work() -> None:
        checkout = real(options.checkout)
        for path in export(checkout, options.force):
            show(path)
        show(f"\nTrain it there (Python 3.11, torch 2.4 or newer):\n  {command(checkout)}")

    return exit_status(work, "stopped")
