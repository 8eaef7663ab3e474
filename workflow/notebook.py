"""Makes one notebook from its percent script: executed with papermill, complete or absent, and the
same bytes for the same results.

    python workflow/notebook.py execute notebooks/01_data.py OUTPUT.ipynb --set profile=demo
    python workflow/notebook.py publish build/demo/notebooks notebooks

`execute` exits with 2 and one line where the notebook refused its parameters or data, and with 1
and the traceback for any other failure.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from workflow import pace

REPOSITORY_TOKEN = "<repository>"  # in the scripts, in place of the address in _config.yml
NO_ADDRESS = "/OWNER/"  # in the address, until somebody sets it
REFUSED = 2
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def from_script(script: Path) -> nbformat.NotebookNode:
    """Read a percent script as a notebook without executing it; number its cells as IDs."""
    notebook = jupytext.read(script)
    notebook.metadata.update(nbformat.from_dict(KERNEL))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if NO_ADDRESS not in repository_url():
            cell.source = cell.source.replace(REPOSITORY_TOKEN, repository_url())
    return notebook


def repository_url() -> str:
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def execute(script: Path, output: Path, given: dict[str, str]) -> None:
    """Run `script` with the parameters that differ from its defaults.

    `output` appears once all of it has run.
    """
    notebook = from_script(script)
    declared = defaults(notebook)
    typed = {name: _like(declared.get(name, ""), text) for name, text in given.items()}
    changed = {name: value for name, value in typed.items() if value != declared.get(name)}
    unfinished = output.with_name(f".{output.stem}.part.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            executed = papermill.execute_notebook(
                notebook,
                str(unfinished),
                parameters=changed,
                kernel_name="python3",
                cwd=str(ROOT),
                start_timeout=300,
                progress_bar=False,
                stderr_file=sys.stderr,
            )
        except PapermillExecutionError as failed:
            if failed.ename != "NotApplicable":
                raise
            executed = left_out(nbformat.read(unfinished, as_version=4), failed.evalue)
        nbformat.write(without_volatile(executed, given), unfinished)
        os.replace(unfinished, output)
    finally:
        unfinished.unlink(missing_ok=True)


def left_out(notebook: nbformat.NotebookNode, reason: str) -> nbformat.NotebookNode:
    """Cut the notebook at the cell whose question does not apply to these data, and give the reason
    instead of the rest.
    """
    cells = [
        cell
        for cell in notebook.cells
        if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    failed = next(
        k
        for k, cell in enumerate(cells)
        if any(output.get("output_type") == "error" for output in cell.get("outputs", []))
    )
    notebook.cells = [
        *cells[:failed],
        nbformat.v4.new_markdown_cell(f"**Not applicable to these data**: {reason}."),
    ]
    return notebook


def defaults(notebook: nbformat.NotebookNode) -> dict[str, object]:
    """Read names and default values from the cell tagged `parameters`."""
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    nodes = (node for node in ast.parse(cell.source).body if isinstance(node, ast.AnnAssign))
    return {node.target.id: ast.literal_eval(node.value) for node in nodes}


def _like(default: object, text: str) -> object:
    """Read the text as a value of the default's type.

    Other text stays as it is, so that the notebook refuses it with its own message.
    """
    if isinstance(default, str):
        return text
    value = yaml.safe_load(text)
    return value if type(value) is type(default) else text


def without_volatile(
    notebook: nbformat.NotebookNode, given: dict[str, str]
) -> nbformat.NotebookNode:
    """Remove times, paths, versions and progress lines, and note the profile and the kind of data.

    Standard error was shown while the notebook ran.
    """
    shown = {"profile": given.get("profile"), "phantom": given.get("data") == "phantom"}
    notebook.metadata = nbformat.from_dict({**KERNEL, "medddist": shown})
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("metadata", {}).pop("filenames", None)
    return notebook


def publish(executed: Path, published: Path) -> int:
    """Copy the executed notebooks beside their scripts, if all show the default profile on the
    phantom; return the exit code.
    """
    scripts = sorted(published.glob("[0-9]*.py"))
    for script in scripts:
        made = executed / f"{script.stem}.ipynb"
        wrong = reason_against(script, made)
        if wrong:
            print(f"{made}: {wrong}; run make publish, which executes it again", file=sys.stderr)
            return REFUSED
    for script in scripts:
        shutil.copyfile(executed / f"{script.stem}.ipynb", published / f"{script.stem}.ipynb")
        print(f"published {published / script.stem}.ipynb", file=sys.stderr)
    return 0


def reason_against(script: Path, made: Path) -> str:
    """Say why an executed notebook must not be published; "" if it may be."""
    if not made.is_file():
        return "missing"
    notebook = nbformat.read(made, as_version=4)
    shown = notebook.metadata.get("medddist", {})
    if shown.get("profile") != "demo" or not shown.get("phantom"):
        return (
            "made with another profile or with other data than the phantom, whose pictures must "
            "not be shown"
        )
    same = sources(notebook) == sources(from_script(script))
    return "" if same else "made from another version of its script"


def sources(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """List type and text of each cell that the author wrote."""
    written = (
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    )
    return [(cell.cell_type, cell.source) for cell in written]


def _execute_and_tell(script: Path, output: Path, given: dict[str, str], place: str) -> int:
    """Execute a notebook; `place` is "3 of 9" in a book, or ""."""
    started, folder = time.monotonic(), output.parent
    kept = pace.read(pace.KEPT).get(given.get("profile"), {})
    noted = pace.note(folder, script.stem) if place else {}
    left = pace.seconds_left(kept, noted, script.stem)
    before = f"notebook {place}, " if place else ""
    print(f"{before}{script.name}: running{pace.told(left)}", file=sys.stderr, flush=True)
    try:
        execute(script, output, given)
    except PapermillExecutionError as failed:
        message = failed.evalue if failed.ename == "InputError" else failed
        print(f"{script.name}: {message}", file=sys.stderr)
        return REFUSED if failed.ename == "InputError" else 1
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"{script.name}: done in {minutes} min {seconds:02d} s", file=sys.stderr)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("execute")
    run.add_argument("script", type=Path)
    run.add_argument("output", type=Path)
    run.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, as text"
    )
    run.add_argument("--place", default="", help='in a book, such as "3 of 9"')
    copy = verbs.add_parser("publish")
    copy.add_argument("executed", type=Path)
    copy.add_argument("published", type=Path)
    asked = parser.parse_args()
    if asked.verb == "publish":
        return publish(asked.executed, asked.published)
    given = dict(pair.split("=", 1) for pair in asked.set)
    return _execute_and_tell(asked.script, asked.output, given, asked.place)


if __name__ == "__main__":
    sys.exit(main())
