"""The notebook runs from its first cell to its last in a kernel of Jupyter, and its page shows what it holds.

It is a kernel, and not exec of the cells. Some things break in a notebook alone: a progress bar that asks for widgets, a figure
that shows no picture.
"""

import importlib.util
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel, of the extra notebook")
pytest.importorskip("nbclient", reason="needs nbclient, of the extra notebook")
pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra notebook")

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def script():
    """docs/notebook.py as a module."""
    spec = importlib.util.spec_from_file_location("notebook_page", DOCS / "notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow  # a minute of training and drawing
def test_every_cell_runs_and_shows_what_the_page_shows(script, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra report")
    pytest.importorskip("duckdb", reason="needs the extra prepare")
    notebook = script.executed(tmp_path / "folder")
    stored = nbformat.read(script.NOTEBOOK, as_version=4)
    for cell, before in zip(notebook.cells, stored.cells, strict=True):
        if cell.cell_type == "code":
            kinds = [sorted(output.data) for output in cell.outputs]
            assert kinds == [sorted(output.data) for output in before.outputs], cell.source
    text = "\n".join(str(output.data) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    assert "<Run MambaRec on demo, seed 1: 5 epochs" in text and "image/png" in text and "product" in text
    assert (tmp_path / "folder" / "results" / "demo" / "MambaRec").is_dir()


def test_the_page_is_what_the_notebook_holds(script):
    text, pictures = script.page(nbformat.read(script.NOTEBOOK, as_version=4))
    assert script.PAGE.read_text(encoding="utf-8") == text
    assert {path.name: path.read_bytes() for path in script.PICTURES.iterdir()} == pictures and pictures


def test_the_outputs_of_the_notebook_are_small(script):
    assert script.NOTEBOOK.stat().st_size < 100_000
    assert all(len(line) < 5000 for line in script.PAGE.read_text(encoding="utf-8").splitlines())
