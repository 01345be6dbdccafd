"""Who may import whom, read from the source: data walks one way."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"

# Each room with the rooms it may import; a room may import from itself only what stands before it here.
ALLOWED = {
    "utils.console": [],
    "utils.errors": ["utils.console"],
    "utils.bounded": [],
    "utils.words": [],
    "utils.equality": [],
    "utils.files": [],
    "utils.extras": ["utils.errors"],
    "utils.metrics": [],
    "utils.precision": [],
    "utils.memory": [],
    "utils.neighbours": ["utils.bounded", "utils.extras", "utils.files"],
    "utils.graph": ["utils.neighbours", "utils.precision"],
    "utils.sampling": [],
    "utils.logger": ["utils.console", "utils.files"],
    "utils.stopping": [],
    "utils.configurator": ["utils.bounded", "utils.errors", "utils.metrics"],
    "utils.text": ["utils.bounded", "utils.errors"],
    "utils.id_maps": ["utils.errors", "utils.text"],
    "utils.interactions": ["utils.errors", "utils.text"],
    "utils.dataset": ["utils.bounded", "utils.errors", "utils.configurator", "utils.interactions"],
    "utils.dataloader": ["utils.errors", "utils.configurator", "utils.dataset", "utils.sampling"],
    "utils.contract": ["utils.errors"],
    "utils.topk_evaluator": [
        "utils.contract",
        "utils.errors",
        "utils.configurator",
        "utils.dataset",
        "utils.dataloader",
        "utils.metrics",
    ],
    "utils.utils": [],
    "common.loss": [],
    "common.init": [],
    "common.dream": [],
    "common.perturbation": [],
    "common.alignment": ["utils.precision"],
    "common.multiview": ["utils.graph"],
    "common.encoders": ["utils.graph"],
    "common.abstract_recommender": [],
    "common.preference": ["common.abstract_recommender", "common.loss", "utils.graph"],
    "common.user_graph": ["common.abstract_recommender", "utils.graph"],
    "common.generators": [],
    "common.recording": ["common.generators", "utils.equality", "utils.errors"],
    "common.saved": [],
    "common.health": [],
    "common.trainer": ["common.abstract_recommender", "common.generators", "common.recording", "common.saved", "utils"],
    "models": ["common", "utils.graph", "utils.neighbours", "utils.precision", "utils.utils"],
    "preparation.engine": ["utils"],
    "preparation.lines": ["utils"],
    "preparation.options": ["utils"],
    "preparation.report": ["utils"],
    "preparation.folder": ["preparation.engine", "preparation.report", "utils"],
    "preparation": ["preparation", "utils"],
    "experiments": ["common", "models", "preparation", "utils", "experiments"],
    "analysis.breakdown": ["experiments", "utils"],
    "analysis.missing": ["common.abstract_recommender", "experiments", "utils"],
    "serving.identifiers": ["utils"],
    "serving.writers": ["utils"],
    "serving": ["experiments", "serving", "utils"],
    "recommend": ["experiments", "serving", "utils"],
    "prepare": ["preparation", "utils"],
    "analysis.records": ["experiments.directory", "experiments.schema", "utils"],
    "analysis.significance": [],
    "analysis.fairness": ["analysis.records", "utils"],
    "analysis.comparison": ["analysis.fairness", "analysis.records", "analysis.significance", "utils"],
    "analysis.tables": ["analysis.comparison", "analysis.fairness", "utils"],
    "analysis.selection": ["analysis.records", "experiments.experiment", "experiments.lookup", "utils"],
    "analysis.listing": ["analysis.fairness", "experiments.experiment", "experiments.lookup", "utils"],
    "analysis.figures": ["utils"],
    "analysis.embedding": ["experiments", "serving", "utils"],
    "analysis.studies": ["analysis.figures", "analysis.records", "experiments", "utils"],
    "analysis.findings": [
        "analysis.comparison",
        "analysis.embedding",
        "analysis.figures",
        "analysis.records",
        "analysis.studies",
        "utils",
    ],
    "analysis.beyond": [
        "analysis.breakdown",
        "analysis.comparison",
        "analysis.figures",
        "analysis.missing",
        "analysis.records",
        "utils",
    ],
    "analysis.verdict": ["analysis.comparison", "analysis.figures", "analysis.significance", "utils"],
    "analysis.ranking": [
        "analysis.comparison",
        "analysis.figures",
        "analysis.significance",
        "analysis.verdict",
    ],
    "analysis.ranks": ["analysis.comparison", "analysis.figures", "analysis.tables", "utils"],
    "analysis.live": ["analysis.records", "experiments.directory", "utils"],
    "report": ["analysis", "experiments", "utils"],
    "analysis.html": [
        "analysis.comparison",
        "analysis.figures",
        "analysis.live",
        "analysis.ranking",
        "analysis.ranks",
        "analysis.records",
        "analysis.tables",
        "analysis.verdict",
        "experiments.summary",
        "utils",
    ],
    "export_plugin": ["utils"],
    "main": ["analysis", "experiments", "utils"],
}
FILES = sorted(path for path in SRC.rglob("*.py") if path.read_text())


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts)


def imports(path: Path) -> set[str]:
    """Modules of the project that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    rooms = {child.name.removesuffix(".py") for child in SRC.iterdir()}
    return {name for name in found if name.split(".")[0] in rooms}


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_imports_only_what_its_room_may(path):
    name = module_name(path)
    room = next((room for room in ALLOWED if within(name, room)), None)
    assert room, f"{name} is in no known room"
    forbidden = {imported for imported in imports(path) if not any(within(imported, allowed) for allowed in ALLOWED[room])}
    assert not forbidden, f"{name} imports {sorted(forbidden)}; it may import {ALLOWED[room]}"


def test_lmdb_is_imported_by_preparation_only():
    users = [module_name(path) for path in FILES if "import lmdb" in path.read_text()]
    assert all(within(name, "preparation") for name in users)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_every_file_says_its_job_in_the_first_line(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and docstring.splitlines()[0].rstrip().endswith((".", ":", "`"))
