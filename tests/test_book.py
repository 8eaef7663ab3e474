"""The book, the files that say what is installed, and the smoke study from `make`."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_mistakes import pictures

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "medddist" / "profiles"
PINS = dict(
    line.split("==") for line in (ROOT / "requirements.lock").read_text().split() if "==" in line
)


def make(*arguments: str, **options) -> subprocess.CompletedProcess:
    """`make` as a person calls it: not as a part of a running make, nor with a test worker's one
    thread.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    environment = {
        name: value for name, value in environment.items() if not name.endswith("_NUM_THREADS")
    }
    for name in ("DATA", "PROFILE", "OUT", "WORKERS", "CORES"):
        environment.pop(name, None)
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        text=True,
        **options,
    )


def test_the_committed_book_builds_without_a_warning(strict):
    done, html = strict
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert (html / "index.html").is_file()
    assert {page.stem for page in (html / "notebooks").glob("*.html")} == {
        script.stem for script in (ROOT / "notebooks").glob("[0-9]*.py")
    }


def test_pages_load_nothing_from_a_network(strict):
    _, html = strict
    loaded = r"""<(?:script|img|iframe)[^>]*\ssrc=["'](?:https?:)?//|<link[^>]*stylesheet[^>]*href=["'](?:https?:)?//"""
    pages = list(html.rglob("*.html"))
    assert pages and not [
        page.name for page in pages if re.search(loaded, page.read_text(encoding="utf-8"))
    ]
    assert (html / "_static" / "tex-svg.js").stat().st_size > 2_000_000
    assert "_static/tex-svg.js" in (html / "method.html").read_text(encoding="utf-8")


def test_every_address_in_the_repository_is_a_file_of_it(strict):
    _, html = strict
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    place, branch = (
        re.escape(text)
        for text in (repository["url"].removeprefix("https://github.com/"), repository["branch"])
    )
    if "/OWNER/" in repository["url"]:
        pytest.skip("_config.yml has no address yet; see test_address.py")
    pages = "\n".join(page.read_text(encoding="utf-8") for page in html.rglob("*.html"))
    in_github = rf"/{place}/(?:blob|edit|tree)/{branch}/([^\"?#]+)"
    named = set(re.findall(in_github, pages)) | set(
        re.findall(rf"/v2/gh/{place}/{branch}\?urlpath=lab/tree/([^\"&#]+)", pages)
    )
    assert len(named) >= len(list((ROOT / "notebooks").glob("[0-9]*.py"))) and not [
        path for path in named if not (ROOT / path).is_file()
    ]


def installing_cells() -> list[str]:
    """The cell of each notebook that sees to the library, up to its first import from it."""
    sources = [
        script.read_text(encoding="utf-8").split("# %%")
        for script in (ROOT / "notebooks").glob("[0-9]*.py")
    ]
    return [
        next(cell for cell in cells if "find_spec" in cell)
        .partition("\n")[2]
        .partition("from medddist")[0]
        for cells in sources
    ]


@pytest.mark.parametrize("found, installs", [(None, 1), (object(), 0)])
def test_a_notebook_installs_the_library_where_it_is_missing_and_only_there(
    monkeypatch, found, installs
):
    for cell in installing_cells():
        ran = []
        with monkeypatch.context() as patched:
            patched.setattr("importlib.util.find_spec", lambda name: found)
            patched.setattr("subprocess.run", lambda command, check, ran=ran: ran.append(command))
            exec(cell.replace("<repository>", "https://github.com/somebody/medddist"), {})
        assert [command[-1] for command in ran] == [
            "git+https://github.com/somebody/medddist"
        ] * installs


@pytest.mark.parametrize("address", ["https://github.com/OWNER/medddist", "<repository>"])
def test_no_notebook_installs_from_an_address_that_is_not_set_and_each_says_what_to_do_instead(
    monkeypatch, address
):
    """As of a notebook made while _config.yml has no address, and of a script opened as it is."""
    for cell in installing_cells():
        with monkeypatch.context() as patched:
            patched.setattr("importlib.util.find_spec", lambda name: None)
            patched.setattr("subprocess.run", lambda command, **_: pytest.fail(f"ran {command}"))
            with pytest.raises(
                ModuleNotFoundError,
                match="not set in _config.yml; install .* pip install path/to/medddist",
            ) as refused:
                exec(cell.replace("<repository>", address), {})
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["book", "newest"])
def test_workflows_call_what_is_there(name):
    jobs = yaml.safe_load(
        (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    )["jobs"]
    ran = " ".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    assert jobs and all(
        (ROOT / path).exists() for path in re.findall(r"(?:^| )(\.ci/\w+|tests/\w+\.py)", ran)
    )
    assert ("make test" in ran) == (name == "newest") and (".ci/run" in ran) == (name == "book")


def test_the_repositorys_address_stands_in_one_place():
    place = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    written = [
        *ROOT.glob("book/*.md"),
        *ROOT.glob("notebooks/*.py"),
        *ROOT.glob("medddist/**/*.py"),
        ROOT / "pyproject.toml",
    ]
    assert not [path.name for path in written if place in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", ["_config.yml", "_toc.yml", "notebooks"])
def test_the_books_links_are_relative(name):
    assert os.readlink(ROOT / "book" / name) == f"../{name}"


# --- what is installed
# ---------------------------------------------------------------------------------------------


def test_the_lock_has_exact_public_versions_and_no_address():
    lines = [
        line
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*", line)]
    assert PINS["torch"] == "2.13.0" and PINS["torchvision"] == "0.28.0"


def test_the_lock_satisfies_every_declared_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][extra] for extra in ("book", "test", "dicom")]
    locked = {canonicalize_name(name): version for name, version in PINS.items()}
    for text in [*project["dependencies"], *sum(extras, [])]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), text


@pytest.mark.parametrize("path", ["environment.yml", ".binder/environment.yml"])
def test_environments_pin_what_the_lock_pins(path):
    packages = yaml.safe_load((ROOT / path).read_text())["dependencies"]
    installed = next(package["pip"] for package in packages if isinstance(package, dict))
    pins = dict(line.split("==") for line in installed if "==" in line)
    assert installed and pins.items() <= PINS.items()


def test_everything_imported_is_declared():
    """A fresh install has what the library names, and nothing else is counted on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    optional = {"pydicom", "kagglehub", "ipython"}
    named = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml", "IPython": "ipython"}
    imported = set()
    for path in ROOT.glob("medddist/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
    imported = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    missing = {named.get(name, name) for name in imported} - declared - optional - {"medddist"}
    assert not missing - {"onnx", "onnxruntime", "opacus"}  # extras, refused in one line without


def test_a_changed_workflow_is_what_runs(tmp_path):
    """snakemake reads its own copy of a Snakefile again, if make leaves one."""
    for name in ("Makefile", "medddist", "pyproject.toml", "requirements.lock", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)  # a clone of its own: a book may be in the making
    stale = tmp_path / "build" / "smoke" / ".snakemake" / "sources" / "file" / "Snakefile"
    stale.parent.mkdir(parents=True)
    stale.write_text("raise SystemExit('stale')\n")
    done = make("-n", "-C", str(tmp_path), "book", "PROFILE=smoke", capture_output=True)
    removed = next(line for line in done.stdout.splitlines() if line.startswith("rm -rf"))
    subprocess.run(removed, shell=True, cwd=tmp_path, check=True)
    assert not stale.exists()


def test_notebooks_may_use_all_cores_together():
    """snakemake tells a step's libraries to use as many threads as the rule says: one, where it
    says nothing. Two notebooks share the cores; the comparison has them all.
    """
    for name in ("Snakefile", "sweep.smk"):
        rules = re.split(
            r"^rule ", (ROOT / "workflow" / name).read_text(encoding="utf-8"), flags=re.MULTILINE
        )[1:]
        heavy = [rule for rule in rules if rule.startswith(("notebook", "point", "teachers"))]
        assert heavy and all(
            re.search(
                r"^    threads: (lambda wanted: )?(workflow.cores|THREADS)", rule, re.MULTILINE
            )
            for rule in heavy
        )
    assert "--cores all" in make("-n", "book", "PROFILE=smoke", capture_output=True).stdout


# --- make ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked, told",
    [
        ("DATA=no such/folder", "DATA=no such/folder: there is no such file or folder"),
        ("PROFILE=nosuch", "PROFILE=nosuch: there is no such profile; choose one of demo"),
        ("PROFILE=no such/p.yaml", "PROFILE=no such/p.yaml: there is no such file; give an"),
    ],
)
def test_make_refuses_at_once_in_one_line(asked, told):
    done = make("book", asked, capture_output=True, timeout=20)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and told in line and not done.stdout


def test_a_profiles_path_names_the_run_by_its_stem(tmp_path):
    profile = tmp_path / "it's" / "my images.yaml"
    profile.parent.mkdir()
    profile.write_text("name: mine\n")
    done = make("-n", "-o", ".venv/.installed", "book", f"PROFILE={profile}", capture_output=True)
    assert done.returncode == 0, done.stderr
    (given,) = re.findall(r"PROFILE=('.*') DATA=", done.stdout)
    assert shlex.split(given) == [str(profile)]
    assert "--directory build/my_images " in done.stdout
    assert done.stdout.endswith("build/my_images/html/index.html'\n")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_profiles_path_and_your_own_images_make_the_same_book(tmp_path):
    """No hospital is known of these images, so what asks about hospitals is left out."""
    pictures(tmp_path / "images", healthy=160, ill=120)
    profile = tmp_path / "own_images.yaml"
    profile.write_text(f"name: own_images\n{(PROFILES / 'smoke.yaml').read_text()}")
    built = ROOT / "build" / profile.stem
    try:
        given = f"DATA={tmp_path / 'images'}", f"PROFILE={profile}", f"OUT={tmp_path / 'out'}"
        done = make("book", *given, capture_output=True)
        assert done.returncode == 0, done.stderr[-3000:]
        pages = {page.stem: page for page in (built / "html" / "notebooks").glob("*.html")}
        assert pages.keys() == {script.stem for script in (ROOT / "notebooks").glob("[0-9]*.py")}
        of_hospitals = pages["08_hospitals"].read_text(encoding="utf-8")
        assert "Not applicable to these data" in of_hospitals and "name each image" in of_hospitals
    finally:
        shutil.rmtree(built, ignore_errors=True)


@pytest.fixture(scope="session")
def smoke_book(once, pytestconfig) -> Path:
    """The smoke study's `build/smoke`, made by `make book`."""

    def build(_) -> int:
        cores = ["CORES=1"] if os.environ.get("PYTEST_XDIST_WORKER") else []  # the others have work
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():  # minutes: what it says is for whoever waits
            return make("book", "PROFILE=smoke", *cores).returncode

    assert once("smoke-book", build) == 0
    return ROOT / "build" / "smoke"


@pytest.mark.study
@pytest.mark.timeout(1200)
def test_the_smoke_study_makes_its_book(smoke_book):
    page = smoke_book / "html" / "index.html"
    assert page.is_file()
    made = page.parent / "notebooks"
    assert len(list(made.glob("*.html"))) == len(list((ROOT / "notebooks").glob("[0-9]*.py")))
    assert '>"smoke"<' in (made / "01_data.html").read_text(encoding="utf-8")


@pytest.mark.study
@pytest.mark.timeout(1200)
def test_a_second_make_has_nothing_to_do(smoke_book):
    done = make("book", "PROFILE=smoke", capture_output=True)
    assert done.returncode == 0 and "running" not in done.stdout + done.stderr
