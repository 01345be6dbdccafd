"""Runs the cells of notebook.ipynb in a kernel, and writes what they show into it and into the page notebook.md.

    python docs/notebook.py --folder /tmp/notebook --write     with data and results in --folder
    python docs/notebook.py --page                             only the page, from what the notebook holds

This needs nbclient and ipykernel, of the extra notebook.
"""

import argparse
import base64
import os
import re
from pathlib import Path
from typing import Any

import nbformat

DOCS = Path(__file__).resolve().parent
NOTEBOOK, PAGE = DOCS / "notebook.ipynb", DOCS / "notebook.md"
PICTURES = DOCS / "notebook"
ABOUT = "<!-- python docs/notebook.py writes this page from notebook.ipynb. Do not edit it. -->\n"


def executed(folder: Path) -> Any:
    """The notebook after all its cells have run, with data and results in `folder`; CellExecutionError where one fails."""
    from nbclient import NotebookClient

    environment = {**os.environ, "MAMBAREC_HOME": str(folder), "PYTHONPATH": str(DOCS.parent / "src")}
    folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.output_type != "stream" and _shows(output)]
    return notebook


def _shows(output: Any) -> bool:
    """Whether an output is still there when the cell has ended; a progress bar is not."""
    return bool(output.data.get("text/html", "something").strip())


def page(notebook: Any) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, and the pictures that it shows, by file name."""
    parts, pictures = [ABOUT], dict[str, bytes]()
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source + "\n")
            continue
        parts.append(f"```python\n{cell.source}\n```\n")
        for output in cell.outputs:
            if "image/png" in output.data:
                name = f"cell-{number}.png"
                pictures[name] = base64.b64decode(output.data["image/png"])
                parts.append(f"![what the cell draws](notebook/{name})\n")
            elif "text/html" in output.data:
                table = re.sub(r"<style.*?</style>|\n\s*", "", output.data["text/html"], flags=re.DOTALL)
                parts.append(table + "\n")
            else:
                parts.append(f"```\n{output.data['text/plain']}\n```\n")
    return "\n".join(parts), pictures


def write(notebook: Any) -> None:
    """Write the notebook, its page and its pictures."""
    nbformat.write(notebook, NOTEBOOK)
    text, pictures = page(notebook)
    PAGE.write_text(text, encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    for name, content in pictures.items():
        (PICTURES / name).write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="for data and results")
    parser.add_argument("--write", action="store_true", help="write the notebook, the page and its pictures")
    parser.add_argument("--page", action="store_true", help="write the page from what the notebook holds")
    options = parser.parse_args()
    if options.page:
        write(nbformat.read(NOTEBOOK, as_version=4))
    elif options.folder:
        notebook = executed(options.folder.resolve())
        if options.write:
            write(notebook)
    else:
        parser.error("name a --folder, or give --page")


if __name__ == "__main__":
    main()
