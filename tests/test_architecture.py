"""Who may import whom, read from the source: data walks one way."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"

# Each room with the rooms it may import; a room may import from itself only what stands before it here.
ALLOWED = {
    "mambarec.base.errors": [],
    "mambarec.base.words": [],
    "mambarec.base.equality": [],
    "mambarec.base.files": [],
    "mambarec.base.extras": ["mambarec.base.errors"],
    "mambarec.evaluation.metrics": [],
    "mambarec.nn.precision": [],
    "mambarec.base.memory": [],
    "mambarec.nn.neighbours": ["mambarec.base.extras", "mambarec.base.files"],
    "mambarec.nn.graph": ["mambarec.nn.neighbours", "mambarec.nn.precision"],
    "mambarec.data.sampling": [],
    "mambarec.base.logger": ["mambarec.base.files"],
    "mambarec.base.stopping": [],
    "mambarec.config.configurator": ["mambarec.base.errors", "mambarec.evaluation.metrics"],
    "mambarec.base.text": ["mambarec.base.errors"],
    "mambarec.data.id_maps": ["mambarec.base.errors", "mambarec.base.text"],
    "mambarec.data.interactions": ["mambarec.base.errors", "mambarec.base.text"],
    "mambarec.data.dataset": ["mambarec.base.errors", "mambarec.config.configurator", "mambarec.data.interactions"],
    "mambarec.data.dataloader": [
        "mambarec.base.errors",
        "mambarec.config.configurator",
        "mambarec.data.dataset",
        "mambarec.data.sampling",
    ],
    "mambarec.mmrec.contract": ["mambarec.base.errors"],
    "mambarec.evaluation.topk_evaluator": [
        "mambarec.mmrec.contract",
        "mambarec.base.errors",
        "mambarec.config.configurator",
        "mambarec.data.dataset",
        "mambarec.data.dataloader",
        "mambarec.evaluation.metrics",
    ],
    "mambarec.mmrec.dense_graphs": [],
    "mambarec.nn.loss": [],
    "mambarec.nn.init": [],
    "mambarec.nn.dream": [],
    "mambarec.nn.perturbation": [],
    "mambarec.nn.alignment": ["mambarec.nn.precision"],
    "mambarec.nn.multiview": ["mambarec.nn.graph"],
    "mambarec.nn.encoders": ["mambarec.nn.graph"],
    "mambarec.nn.abstract_recommender": [],
    "mambarec.nn.preference": ["mambarec.nn.abstract_recommender", "mambarec.nn.loss", "mambarec.nn.graph"],
    "mambarec.nn.user_graph": ["mambarec.nn.abstract_recommender", "mambarec.nn.graph"],
    "mambarec.training.generators": [],
    "mambarec.training.recording": ["mambarec.training.generators", "mambarec.base.equality", "mambarec.base.errors"],
    "mambarec.training.trainer": [
        "mambarec.nn.abstract_recommender",
        "mambarec.training.generators",
        "mambarec.training.recording",
        "utils",
    ],
    "models": ["common", "mambarec.nn.graph", "mambarec.nn.neighbours", "mambarec.nn.precision", "mambarec.mmrec.dense_graphs"],
    "mambarec.preparation.engine": ["utils"],
    "mambarec.preparation.readers.lines": ["utils"],
    "mambarec.preparation.options": ["utils"],
    "mambarec.preparation.report": ["utils"],
    "mambarec.preparation.folder": ["mambarec.preparation.engine", "mambarec.preparation.report", "utils"],
    "preparation": ["preparation", "utils"],
    "experiments": ["common", "models", "preparation", "utils", "experiments"],
    "mambarec.analysis.breakdown": ["experiments", "utils"],
    "mambarec.analysis.missing": ["mambarec.nn.abstract_recommender", "experiments", "utils"],
    "mambarec.serving.identifiers": ["utils"],
    "mambarec.serving.writers": ["utils"],
    "serving": ["experiments", "serving", "utils"],
    "recommend": ["experiments", "serving", "utils"],
    "prepare": ["preparation", "utils"],
    "mambarec.analysis.records": ["mambarec.runs.directory", "utils"],
    "mambarec.analysis.significance": [],
    "mambarec.analysis.fairness": ["mambarec.analysis.records", "utils"],
    "mambarec.analysis.comparison": [
        "mambarec.analysis.fairness",
        "mambarec.analysis.records",
        "mambarec.analysis.significance",
        "utils",
    ],
    "mambarec.analysis.tables": ["mambarec.analysis.comparison", "mambarec.analysis.fairness", "utils"],
    "mambarec.analysis.selection": [
        "mambarec.analysis.records",
        "mambarec.experiments.experiment",
        "mambarec.runs.lookup",
        "utils",
    ],
    "mambarec.analysis.listing": [
        "mambarec.analysis.fairness",
        "mambarec.experiments.experiment",
        "mambarec.runs.lookup",
        "utils",
    ],
    "mambarec.analysis.figures": ["utils"],
    "mambarec.analysis.embedding": ["experiments", "serving", "utils"],
    "mambarec.analysis.studies": ["mambarec.analysis.figures", "mambarec.analysis.records", "experiments", "utils"],
    "mambarec.analysis.findings": [
        "mambarec.analysis.comparison",
        "mambarec.analysis.embedding",
        "mambarec.analysis.figures",
        "mambarec.analysis.records",
        "mambarec.analysis.studies",
        "utils",
    ],
    "mambarec.analysis.beyond": [
        "mambarec.analysis.breakdown",
        "mambarec.analysis.comparison",
        "mambarec.analysis.figures",
        "mambarec.analysis.missing",
        "mambarec.analysis.records",
        "utils",
    ],
    "mambarec.analysis.verdict": [
        "mambarec.analysis.comparison",
        "mambarec.analysis.figures",
        "mambarec.analysis.significance",
        "utils",
    ],
    "mambarec.analysis.ranking": [
        "mambarec.analysis.comparison",
        "mambarec.analysis.figures",
        "mambarec.analysis.significance",
        "mambarec.analysis.verdict",
    ],
    "mambarec.analysis.ranks": [
        "mambarec.analysis.comparison",
        "mambarec.analysis.figures",
        "mambarec.analysis.tables",
        "utils",
    ],
    "mambarec.analysis.live": ["mambarec.analysis.records", "mambarec.runs.directory", "utils"],
    "report": ["analysis", "experiments", "utils"],
    "mambarec.analysis.html": [
        "mambarec.analysis.comparison",
        "mambarec.analysis.figures",
        "mambarec.analysis.live",
        "mambarec.analysis.ranking",
        "mambarec.analysis.ranks",
        "mambarec.analysis.records",
        "mambarec.analysis.tables",
        "mambarec.analysis.verdict",
        "mambarec.runs.summary",
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
