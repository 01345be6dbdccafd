"""Copy MambaRec into an MMRec checkout: `make plugin MMREC=/path/to/MMRec`, or `python export_plugin.py /path/to/MMRec`.

What it imports goes with it, in files that MMRec has none of; the base class is MMRec's own. It is a door of its own beside the
others, and not under benchmarks/ or tests/, because users run it and it reads src/ alone.
"""

import argparse
import ast
import sys
from pathlib import Path

from utils.configurator import SRC
from utils.console import show
from utils.errors import ConfigError, exit_status
from utils.files import replacing

MODEL = "models.mambarec"
THEIRS = frozenset({"common.abstract_recommender"})  # modules that MMRec has under the same name, with the same interface


def files() -> list[Path]:
    """What is copied, relative to src/: the model, all of the project that it imports, and its YAML."""
    found: dict[str, Path] = {}
    waiting = [MODEL]
    while waiting:
        name = waiting.pop()
        path = Path(*name.split(".")).with_suffix(".py")
        if name not in found and name not in THEIRS and (SRC / path).exists():
            found[name] = path
            tree = ast.parse((SRC / path).read_text(encoding="utf-8"))
            waiting += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [*sorted(found.values()), Path("configs", "model", "MambaRec.yaml")]


def export(checkout: Path, force: bool = False) -> list[Path]:
    """Copy `files` into checkout/src and return their places; ConfigError, and nothing copied, when other files are there."""
    src = checkout / "src"
    for needed in ("common/abstract_recommender.py", "models", "configs/model", "utils"):
        if not (src / needed).exists():
            raise ConfigError(f"{checkout} is no MMRec checkout: there is no src/{needed}. Name the folder above MMRec's src/")
    contents = {src / path: (SRC / path).read_bytes() for path in files()}
    others = [path for path, content in contents.items() if path.exists() and path.read_bytes() != content]
    if others and not force:
        names = ", ".join(str(path.relative_to(checkout)) for path in others)
        raise ConfigError(
            f"{checkout} has other files of these names: {names}. Nothing was copied; --force (make … FORCE=1) does"
        )
    for path, content in contents.items():
        with replacing(path) as file:
            file.write(content)
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
    parser = argparse.ArgumentParser(description="Copy MambaRec into an MMRec checkout.", allow_abbrev=False)
    parser.add_argument("checkout", type=Path, help="the folder that holds MMRec's src/")
    parser.add_argument("--force", action="store_true", help="overwrite other files of the same names")
    options = parser.parse_args(arguments)

    def work() -> None:
        checkout = options.checkout.resolve()
        for path in export(checkout, options.force):
            show(path)
        show(f"\nTrain it there (Python 3.11, torch 2.4 or newer):\n  {command(checkout)}")

    return exit_status(work, "stopped")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
