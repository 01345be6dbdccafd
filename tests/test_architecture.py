"""Who may import whom, read from the source: data walks one way."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
PROGRAMS = ("export_plugin", "main", "prepare", "recommend", "report")

# Each room with the rooms and modules of others that it may import. Within a room, and over all, no import leads in a circle.
ALLOWED = {
    "base": [],
    "config": ["base", "evaluation.metrics"],
    "data": ["base", "config"],
    "evaluation": ["base", "config", "data"],
    "nn": ["base"],
    "models": ["base.settings", "nn"],
    "training": ["base", "config", "data", "evaluation", "nn"],
    "mmrec": ["base", "config", "data", "evaluation", "nn"],
    "preparation": ["base", "config", "data", "evaluation", "running.sizes", "training.health"],
    "running": ["base", "config", "data", "evaluation", "mmrec", "nn", "preparation.demo", "training"],
    "experiments": ["base", "config", "data", "running"],
    "serving": ["base", "config", "data", "evaluation", "nn.new_items", "preparation.features.pictures", "running"],
    "analysis": [
        "base",
        "config",
        "data",
        "evaluation",
        "experiments",
        "nn.abstract_recommender",
        "nn.new_items",
        "running",
        "serving",
    ],
    "__main__": ["base.environment", "cli"],
    "api": ["analysis", "base", "cli", "config", "data", "experiments", "running", "serving"],
    "cli": ["analysis", "base", "config", "data", "experiments", "mmrec.export", "preparation", "running", "serving"],
}
FILES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path for path in sorted(SRC.rglob("*.py"))
}


def full_name(name: str) -> str:
    """The name by which a file is imported."""
    return f"mambarec.{name}" if name.split(".")[0] == "models" else name


def imports(name: str) -> set[str]:
    """Modules of the project that a file imports, by the files' names."""
    ours = {full_name(other): other for other in FILES}
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {module if module in ours else node.module or "" for module in modules}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {ours[module] for module in found if module in ours}


def room_of(name: str) -> str:
    return full_name(name).split(".")[1]


@pytest.mark.parametrize("name", [name for name in FILES if name not in (*PROGRAMS, "mambarec")])
def test_a_file_imports_only_what_its_room_may(name):
    room = room_of(name)
    assert room in ALLOWED, f"{name} is in no known room"
    allowed = [room, *ALLOWED[room]]
    others = [full_name(other).removeprefix("mambarec.") for other in imports(name) if other != "mambarec"]
    forbidden = [other for other in others if not any(f"{other}.".startswith(f"{one}.") for one in allowed)]
    assert not forbidden, f"{name} imports {sorted(forbidden)}; it may import {allowed}"


def test_no_import_leads_in_a_circle():
    TopologicalSorter({name: imports(name) for name in FILES}).prepare()


def test_a_program_only_starts_a_command():
    for name in PROGRAMS:
        assert imports(name) <= {
            "mambarec.base.environment",
            "mambarec.base.stopping",
            f"mambarec.cli.{name}",
            "mambarec.cli.train",
            "mambarec.mmrec.export",
        }


def test_lmdb_is_imported_by_preparation_only():
    users = [name for name, path in FILES.items() if "import lmdb" in path.read_text()]
    assert users and all(room_of(name) == "preparation" for name in users)


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_its_job_in_the_first_line(name):
    docstring = ast.get_docstring(ast.parse(FILES[name].read_text()))
    assert docstring and docstring.splitlines()[0].rstrip().endswith((".", ":", "`"))


def test_an_installed_package_has_every_room():
    lines = (SRC.parent / "setup.cfg").read_text().partition("packages =\n")[2].partition("install_requires")[0].split()
    rooms = {full_name(name) for name, path in FILES.items() if path.name == "__init__.py"}
    assert set(lines) == {*rooms, "mambarec.configs"}
