"""Records of results: the commit that they name is medddist's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from medddist.base import version
from medddist.base.files import read_json
from medddist.study import results
from medddist.study.profile import load_profile
from medddist.study.study import Study


def git(folder: Path, *words: str) -> str:
    own = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", folder, *own, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def committed(folder: Path) -> str:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "--short=12", "HEAD")


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The folder that the library is imported from, without a repository."""
    folder = tmp_path / "clone"
    module = folder / "medddist" / "base" / "version.py"
    module.parent.mkdir(parents=True)
    shutil.copy(version.__file__, module)
    monkeypatch.setattr(version, "__file__", str(module))
    return folder


def test_a_clone_names_its_commit_and_whether_the_library_differs_from_it(library):
    commit = committed(library)
    assert version.commit() == commit
    (library / "medddist" / "more.py").write_text("")
    assert version.commit() == commit + "+"


def test_a_repository_that_medddist_is_only_installed_in_is_not_medddists(library):
    (library.parent / ".gitignore").write_text("clone/\n")
    committed(library.parent)
    assert version.commit() is None
    git(library.parent, "add", "-f", "clone")
    git(library.parent, "commit", "-q", "-m", "kept with the repository")
    assert version.commit() is None, "that repository's commits are of much else"


def test_a_repository_that_lies_where_medddist_is_but_does_not_hold_it_is_not_medddists(library):
    (library / ".gitignore").write_text("medddist/\n")
    committed(library)
    assert version.commit() is None


def test_a_repository_that_the_environment_names_is_not_medddists(
    library, tmp_path_factory, monkeypatch
):
    """As git does for a hook that runs a study."""
    other = tmp_path_factory.mktemp("other")
    committed(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert version.commit() is None


@pytest.mark.parametrize("kind", ["compare", "audit", "leakage"])
def test_records_of_two_profiles_on_the_same_data_do_not_overwrite_one_another(kind, tmp_path):
    measured = {
        "compare": {"rows": [], "origins": {}},
        "audit": {"audit": {"settings": {"false_positives": 0.01}}, "broken": []},
        "leakage": {"rows": []},
    }[kind]
    paths = set()
    for name in ("smoke", "demo"):
        study = Study(load_profile(name), "phantom", tmp_path, "cpu")
        study.data = SimpleNamespace(fingerprint="f")
        paths.add(results.write_record(kind, study, "cpu", tmp_path, **measured))
    assert len(paths) == 2 and all(path.exists() for path in paths)


@pytest.mark.parametrize(
    "given, name",
    [
        ("phantom", "phantom"),
        ("./phantom", "own_phantom"),
        (Path("phantom"), "own_phantom"),
        ("images/phantom.npz", "own_phantom.npz"),
        ("Phantom/", "own_Phantom"),
        ("images/cxr64.npz", "cxr64.npz"),
        (".", "here"),
    ],
)
def test_only_the_built_in_phantom_gives_a_record_its_name(tmp_path, monkeypatch, given, name):
    """A folder of that name holds someone's images: its record must not replace the phantom's."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    study = Study(load_profile("smoke"), given, tmp_path, "cpu")
    study.data = SimpleNamespace(fingerprint="f")
    path = results.write_record("compare", study, "cpu", tmp_path, rows=[], origins={})
    assert read_json(path)["source"] == name
    assert path.name == f"compare-smoke-{Path(name).stem}.json"


def test_the_committed_records_are_named_as_they_would_be_today(root):
    for path in (root / "results").glob("leakage-*.json"):
        record = read_json(path)
        assert path.stem == f"leakage-{record['profile']}-{Path(record['source']).stem}"
