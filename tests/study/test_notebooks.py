"""The notebooks: their parameters, their pairs, and how they are executed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from medddist.base.errors import InputError
from medddist.study.notebooks import artifacts_folder, declared_types, parameters
from workflow import notebook as workflow

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
DECLARATION = (
    'profile: str = "demo"  # help\nimages: int = 20\nrate: float = 0.5\nflip: bool = False'
)
ABSOLUTE = re.compile(
    r"(?<![\w.])(/(home|root|Users|tmp|work|mnt|opt|usr)/|[A-Z]:\\)|site-packages"
)

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def after_running(*cells: str) -> dict:
    """The namespace of a notebook in which these cells ran, with IPython's history of them."""
    namespace: dict = {"In": ["", *cells]}
    for cell in cells:
        exec(cell, namespace)
    return namespace


def test_defaults_are_the_parameters_cell():
    given = parameters(after_running(DECLARATION))
    assert given.model_dump() == {"profile": "demo", "images": 20, "rate": 0.5, "flip": False}


def test_what_papermill_injects_counts():
    given = parameters(
        after_running(DECLARATION, "# Parameters\nimages = 5\nrate = 1\nflip = True\n")
    )
    assert (given.images, given.rate, given.flip) == (5, 1.0, True)


def test_unknown_name_is_refused_and_the_known_are_named():
    with pytest.raises(InputError, match=r"imags is not a parameter; did you mean images\?"):
        parameters(after_running(DECLARATION, "# Parameters\nimags = 5\n"))


@pytest.mark.parametrize(
    "injected",
    [
        'images = "5"',
        "images = 2.5",
        'flip = "true"',
        "flip = 1",
        "profile = 3",
        'rate = "fast"',
        "images = None",
        "rate = float('nan')",
    ],
)
def test_value_of_another_type_is_refused(injected):
    name = injected.split(" ")[0]
    with pytest.raises(InputError, match=rf"^notebook parameters: {name}: .*, got .*$"):
        parameters(after_running(DECLARATION, f"# Parameters\n{injected}\n"))


def test_other_variables_and_magics_do_not_matter_when_the_cell_is_run_again():
    namespace = after_running(
        DECLARATION, "# Parameters\nimages = 5\n", "rows: list = []\nother = 'x'"
    )
    namespace["In"].append("%matplotlib inline")
    assert parameters(namespace).images == 5


def test_without_the_parameters_cell_it_says_so():
    with pytest.raises(InputError, match="run the cell tagged `parameters` first"):
        parameters(after_running("x: int = 3"))


def test_a_type_that_papermill_cannot_give_is_refused():
    with pytest.raises(InputError, match="sizes is declared as list"):
        declared_types(['profile: str = "demo"\nsizes: list = []'])


def test_a_script_run_by_python_has_parameters_too_and_checking_them_imports_no_torch(tmp_path):
    script = tmp_path / "one.py"
    script.write_text(
        f'# %% tags=["parameters"]\n{DECLARATION}\n# %%\nimport sys\n'
        "from medddist.study.notebooks import parameters\nprint(parameters(locals()).images, "
        "'torch' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "20 False\n"


def test_artifacts_lie_in_the_clone_or_where_asked(tmp_path):
    assert (
        artifacts_folder("", ROOT / "notebooks")
        == artifacts_folder("", ROOT)
        == ROOT / "build" / "artifacts"
    )
    assert artifacts_folder("", tmp_path) == tmp_path / "build" / "artifacts"
    assert artifacts_folder(str(tmp_path / "here"), ROOT) == tmp_path / "here"


def cells_of(script: Path) -> list:
    return workflow.from_script(script).cells


@every_script
def test_each_notebook_checks_its_parameters_first(script):
    code = [cell for cell in cells_of(script) if cell.cell_type == "code"]
    assert code[0].metadata.tags == ["parameters"]
    assert "parameters(locals())" in code[1].source
    for line in code[0].source.splitlines():
        assert re.fullmatch(r"\w+: (str|int|float|bool) = [^#]+  # [^=]+", line), (
            line
        )  # papermill reads no `=` in help


@every_script
@pytest.mark.parametrize("injected", ["profil = 'smoke'", "profile = 5", "data = None"])
def test_each_notebook_refuses_wrong_parameters(script, injected):
    declaration = next(cell.source for cell in cells_of(script) if cell.cell_type == "code")
    assert parameters(after_running(declaration)).profile == "demo"
    with pytest.raises(InputError):
        parameters(after_running(declaration, f"# Parameters\n{injected}\n"))


@pytest.mark.parametrize("name, value", [("profil", "smoke"), ("profile", "5")])
def test_papermill_stops_at_the_first_cell_with_one_line(tmp_path, name, value):
    asked, made = tmp_path / "asked.ipynb", tmp_path / "made.ipynb"
    nbformat.write(workflow.from_script(SCRIPTS[0]), asked)
    command = [
        sys.executable,
        "-m",
        "papermill",
        asked,
        made,
        "-p",
        name,
        value,
        "--no-progress-bar",
        "--cwd",
        ROOT,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert done.returncode == 1
    assert last.startswith(f"InputError: notebook parameters: {name}")
    outputs = [
        output for cell in nbformat.read(made, 4).cells for output in cell.get("outputs", [])
    ]
    assert [output.traceback for output in outputs if output.output_type == "error"] == [[last]]
    assert (
        sum(cell.get("execution_count") is not None for cell in nbformat.read(made, 4).cells) <= 4
    )


# --- pairs ----------------------------------------------------------------------------------------
# -----------------


def test_snakefile_scripts_and_contents_name_the_same_notebooks():
    names = [script.stem for script in SCRIPTS]
    described = re.findall(
        r'^    "(\d\d_\w+)":', (ROOT / "workflow" / "Snakefile").read_text(), re.MULTILINE
    )
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert (
        names
        == described
        == [file.split("/")[1] for file in listed if file.startswith("notebooks/")]
    )


@every_script
def test_twin_was_made_with_the_scripts_own_parameters(script):
    cells = nbformat.read(script.with_suffix(".ipynb"), 4).cells
    assert not [cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])]


@every_script
def test_twin_has_the_scripts_cells(script):
    assert workflow.reason_against(script, script.with_suffix(".ipynb")) == ""


@every_script
def test_twin_was_executed_without_error_and_names_no_path(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    outputs = [output for cell in code for output in cell.outputs]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [
        output
        for output in outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert not [
        text
        for output in outputs
        for text in texts(output)
        if ABSOLUTE.search(text) or str(ROOT) in text
    ]
    assert not [text for output in outputs for text in texts(output) if " at 0x" in text], (
        "another one at each run"
    )


def texts(output) -> list[str]:
    """What an output says in letters; pictures are left out, whose base64 may hold anything."""
    bundle = {
        kind: text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")
    }
    shown = [re.sub(r"data:[\w/+]+;base64,[^\"')]*", "", str(text)) for text in bundle.values()]
    return [*shown, output.get("text", "")]


# --- execution ------------------------------------------------------------------------------------
# -----------------


def script_that(tmp_path: Path, *lines: str) -> Path:
    script = tmp_path / "01_tried.py"
    check = "from medddist.study.notebooks import parameters\ngiven = parameters(locals())"
    cells = [
        '# %% tags=["parameters"]',
        'profile: str = "demo"  # help',
        'data: str = "phantom"  # help',
        "# %%",
        check,
    ]
    script.write_text("\n".join([*cells, "# %%", *lines]) + "\n")
    return script


def run(script: Path, output: Path, *asked: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "workflow" / "notebook.py", "execute", script, output]
    return subprocess.run([*command, *asked], capture_output=True, text=True)


def test_a_notebook_whose_question_does_not_apply_is_kept_up_to_there_with_the_reason(tmp_path):
    raising = 'from medddist.base.errors import NotApplicable; raise NotApplicable("x: has one site; give origins")'
    script, output = (
        script_that(tmp_path, 'print("told")', "# %%", raising, "# %%", 'print("later")'),
        tmp_path / "made.ipynb",
    )
    done = run(script, output)
    assert done.returncode == 0 and list(tmp_path.glob(".*")) == [], done.stderr
    *cells, last = nbformat.read(output, 4).cells
    assert (
        last.cell_type == "markdown"
        and last.source == "**Not applicable to these data**: x: has one site; give origins."
    )
    assert cells[-1].outputs[0].text == "told\n" and not any(
        "later" in cell.source or "NotApplicable" in cell.source for cell in cells
    )


def test_two_runs_are_the_same_bytes_and_progress_is_shown_but_not_kept(tmp_path):
    script = script_that(
        tmp_path, "import sys", 'print("epoch 1", file=sys.stderr)', "print(given.profile)"
    )
    outputs = [tmp_path / folder / "01_tried.ipynb" for folder in ("one", "two")]
    for output in outputs:
        done = run(script, output, "--set", "profile=smoke")
        assert done.returncode == 0 and "epoch 1" in done.stderr, done.stderr
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert b"epoch 1\\n" not in outputs[0].read_bytes() and b"smoke\\n" in outputs[0].read_bytes()
    assert "made with another profile" in workflow.reason_against(script, outputs[0])


@pytest.mark.parametrize(
    "line, code, told",
    [
        (
            'from medddist.base.errors import InputError; raise InputError("x.npz: no test_labels; add them")',
            2,
            "01_tried.py: x.npz: no test_labels; add them",
        ),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_failed_notebook_leaves_what_was_there(tmp_path, line, code, told):
    output = tmp_path / "made" / "01_tried.ipynb"
    output.parent.mkdir()
    output.write_text("before")
    done = run(script_that(tmp_path, line), output)
    assert (done.returncode, output.read_text()) == (code, "before")
    assert [line for line in done.stderr.splitlines() if line.strip()][-1] == told
    assert [path.name for path in output.parent.iterdir()] == ["01_tried.ipynb"]


def notebook_shown(profile: str, phantom: bool, script: Path) -> nbformat.NotebookNode:
    notebook = workflow.from_script(script)
    notebook.metadata["medddist"] = {"profile": profile, "phantom": phantom}
    return notebook


@pytest.mark.parametrize(
    "profile, phantom, edit, wrong",
    [
        ("demo", True, "", ""),
        ("demo", False, "", "other data"),
        ("smoke", True, "", "another profile"),
        ("demo", True, "# %%\nlate = 1\n", "another version of its script"),
    ],
)
def test_only_current_phantom_notebooks_are_published(
    tmp_path, capsys, profile, phantom, edit, wrong
):
    script = script_that(tmp_path, "print(1)")
    made = tmp_path / "made"
    made.mkdir()
    nbformat.write(notebook_shown(profile, phantom, script), made / "01_tried.ipynb")
    script.write_text(script.read_text() + edit)
    assert workflow.publish(made, tmp_path) == (2 if wrong else 0)
    assert wrong in capsys.readouterr().err
    assert (tmp_path / "01_tried.ipynb").exists() == (not wrong)
