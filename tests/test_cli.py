"""The command as people meet it: exit codes, one line an error, JSON alone on standard output."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_mistakes import pictures

from medddist import cli
from medddist.base.errors import NotWritable
from medddist.base.progress import COMPILING
from medddist.cli.commands import same_study
from medddist.cli.program import program as program_words
from medddist.study.profile import load_profile

TINY = [
    "data.images=240",
    "network.width=4",
    "teachers.teachers=1",
    "teachers.recipe.epochs=2",
    "teachers.kept_epochs=2",
    "distill.iterations=2",
    "distill.select_every=2",
    "distill.student_steps=2",
    "distill.max_start_epoch=2",
    "distill.images_per_class=2",
    "evaluate.recipe.epochs=2",
    "references.good_recipe.epochs=1",
    "compare.evaluation_seeds=2",
    "compare.epochs=1",
    "compare.learning_rates=[0.03]",
    "compare.unseen_networks=[mlp]",
    "compare.pretrain.inside_steps=2",
    "compare.pretrain.released_steps=1",
    "compare.resamples=100",
]


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def options(tmp_path) -> list[str]:
    return [
        "--profile",
        "smoke",
        "--out",
        str(tmp_path),
        *(word for change in TINY for word in ("--set", change)),
    ]


@pytest.mark.parametrize(
    "arguments, told",
    [
        (
            ["distill", "--profile", "smoke", "--set", "distill.iteration=3"],
            "distill.iteration is not a setting",
        ),
        (
            ["distill", "--profile", "smoke", "--set", "distill.iterations=many"],
            "distill.iterations",
        ),
        (["distill", "--profile", "smoke", "--set", "iterations"], "name=value"),
        (["teachers", "--profile", "none"], "'none' is not known"),
        (["prepare", "--profile", "smoke", "--data", "no/such/folder"], "no/such/folder"),
        (["prepare", "--profile", "smoke", "--device", "abacus"], "abacus"),
        (["prepare", "--no-such-option"], "--no-such-option"),
        (["juggle"], "juggle"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(capsys, arguments, told):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert told in err and err.count("\n") == 1 and err.startswith("medddist: error: ")


def test_a_folder_called_phantom_here_is_told_of(capsys, monkeypatch, tmp_path):
    (tmp_path / "phantom").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "prepare", *options(tmp_path / "out"))
    assert code == 0 and out.startswith("phantom: ")
    assert (
        err.startswith("medddist: data: phantom is the built-in phantom; ")
        and "give ./phantom" in err.splitlines()[0]
    )


@pytest.fixture
def nothing_is_writable(monkeypatch):
    """Every new folder and file is refused, as for a user without the right to write."""

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)


@pytest.mark.parametrize(
    "arguments, option",
    [
        (["prepare", "--profile", "smoke", "--out", "read/only"], "--out"),
        (
            ["package", "--profile", "smoke", "--artifacts", "read/only", "--out", "x.zip"],
            "--artifacts",
        ),
        (["init", "phantom", "--write", "read/only/p.yaml"], "--write"),
    ],
)
def test_a_place_that_is_read_only_is_named_with_the_option_that_gives_it(
    capsys, tmp_path, monkeypatch, nothing_is_writable, arguments, option
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "medddist.init.survey.surveyed", lambda *_: SimpleNamespace(source="phantom")
    )
    monkeypatch.setattr(
        "medddist.init.first_profile.fitting_profile",
        lambda *_: (load_profile("smoke"), {"chosen": [], "seconds": 1, "memory_bytes": 1}),
    )
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "read/only" in err and err.endswith(
        f"cannot be written (Permission denied); choose another {option} or make it writable\n"
    )


def test_a_package_whose_place_is_read_only_names_its_own_option(capsys, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise NotWritable(tmp_path / "x.zip", PermissionError(errno.EACCES, "Permission denied"))

    monkeypatch.setattr("medddist.sharing.studies.contents_of", lambda study: None)
    monkeypatch.setattr("medddist.sharing.writing.write_package", refuse)
    code, _, err = run(
        capsys,
        "package",
        "--profile",
        "smoke",
        "--artifacts",
        str(tmp_path / "a"),
        "--out",
        str(tmp_path / "x.zip"),
        "--no-measure",
        "--allow-copies",
    )
    assert code == 2 and err.endswith("; choose another --out or make it writable\n")


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_in_a_study_exits_130_with_one_line_on_what_is_kept_and_how_to_go_on(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("medddist.study.study.Study.train_teachers", interrupted)
    code, out, err = run(capsys, "teachers", *options(tmp_path))
    aside = ": about ", COMPILING
    (line,) = [line for line in err.splitlines() if line and not any(a in line for a in aside)]
    assert (code, out) == (130, "")
    assert line == (
        "medddist: interrupted; finished steps and the last checkpoint are kept under "
        f"{tmp_path}; run the same command again to continue"
    )


def test_ctrl_c_where_nothing_is_kept_says_so(capsys, monkeypatch):
    monkeypatch.setattr("medddist.init.survey.surveyed", interrupted)
    code, out, err = run(capsys, "init", "phantom")
    assert (code, out, err.strip()) == (
        130,
        "",
        "medddist: interrupted; no unfinished result is kept; run the same command again",
    )


def test_an_input_that_ends_early_is_no_interruption(capsys, monkeypatch):
    def ended(*_):
        raise EOFError("no more")

    monkeypatch.setattr("medddist.init.survey.surveyed", ended)
    code, _, err = run(capsys, "init", "phantom")
    assert code == 1 and "EOFError: no more" in err and "interrupted" not in err


def test_ctrl_c_from_a_terminal_is_one_line_without_a_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "medddist",
        "distill",
        *options(tmp_path),
        "--set",
        "distill.iterations=100000",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said = process.stderr.readline()  # how long it takes, or the first of the progress
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and "Traceback" not in err, said + err
    assert err.splitlines()[-1].startswith("medddist: interrupted; finished steps")


def test_debug_shows_the_traceback(capsys):
    code, _, err = run(capsys, "teachers", "--profile", "none", "--debug")
    assert code == 2 and "Traceback" in err


def test_a_fault_of_ours_is_one_line_and_exit_code_one(capsys, monkeypatch):
    monkeypatch.setattr("medddist.study.profile.load_profile", lambda *_: 1 / 0)
    code, out, err = run(capsys, "prepare", "--profile", "smoke")
    assert (code, out) == (1, "") and "ZeroDivisionError" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "called, words",
    [
        ("{here}/env/bin/medddist", ["env/bin/medddist"]),
        ("env/bin/medddist", ["env/bin/medddist"]),
        ("{here}/medddist", ["./medddist"]),
        ("/opt/elsewhere/bin/medddist", ["/opt/elsewhere/bin/medddist"]),
        ("{here}/on_path/medddist", ["medddist"]),
        ("{here}/lib/medddist/__main__.py", ["env/bin/python", "-m", "medddist"]),
        ("/opt/elsewhere/bin/pytest", ["medddist"]),
    ],
)
def test_the_program_is_named_as_it_was_called(capsys, tmp_path, monkeypatch, called, words):
    """In commands to run next, in help texts and in remedies: not every user has it on the path."""
    on_path = tmp_path / "on_path" / "medddist"
    on_path.parent.mkdir()
    on_path.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env/bin/python"))
    monkeypatch.setattr(sys, "argv", [called.format(here=tmp_path), "--help"])
    program, name = program_words(), " ".join(program_words())
    assert program == words
    given = {"profile": "smoke", "data": "d", "artifacts": "o", "changes": ()}
    assert same_study(given, "evaluate").startswith(f"{name} evaluate --profile smoke ")
    code, out, _ = run(capsys, "--help")
    assert code == 0 and f"\n    {name} evaluate --profile smoke\n" in out
    assert out.startswith(f"Usage: {name} ") and f"_MEDDDIST_COMPLETE=bash_source {name})" in out
    code, out, _ = run(capsys, "package", "--help")
    assert code == 0 and f"`{name}package-key`" in re.sub(r"\s*\n\s*", "", out)
    (tmp_path / "x.zip").write_bytes(b"x")
    code, _, err = run(capsys, "verify", "x.zip")
    assert code == 2 and f"as `{name} package` writes it" in err
    assert err.startswith("medddist: error: ")


def test_completion_is_for_the_name_whatever_the_program_was_called(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["env/bin/medddist"])
    monkeypatch.setenv("_MEDDDIST_COMPLETE", "bash_source")
    _, out, _ = run(capsys)
    assert "complete -o nosort -F _medddist_completion medddist\n" in out


@pytest.mark.parametrize(
    "command",
    ["prepare", "teachers", "distill", "evaluate", "compare", "results", "audit", "package"],
)
def test_help_is_there(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and "--profile" in out


def test_the_steps_from_the_command_line(capsys, tmp_path):
    code, out, _ = run(capsys, "prepare", *options(tmp_path), "--json")
    assert code == 0 and json.loads(out)["class_names"][2] == "Normal"
    code, out, _ = run(capsys, "distill", *options(tmp_path), "--json")
    (made,) = json.loads(out)
    assert code == 0 and made["images"] == 8 and made["step_size"] > 0
    code, out, _ = run(capsys, "evaluate", *options(tmp_path), "--json")
    rows = json.loads(out)
    assert code == 0 and [row["method"] for row in rows][0] == "distilled"
    assert {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "per_class", "confusion"} <= rows[
        0
    ].keys()
    assert all(
        row["accuracy"]["low"] <= row["accuracy"]["mean"] <= row["accuracy"]["high"] for row in rows
    )


@pytest.fixture(scope="module")
def images_of_ones_own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pictures(folder, a=30, b=30)
    return folder


def own_options(images, out) -> list[str]:
    changes = [change for change in TINY if not change.startswith("data.images")]
    return [
        "--profile",
        "smoke",
        "--data",
        str(images),
        "--out",
        str(out),
        *(word for change in changes for word in ("--set", change)),
    ]


@pytest.mark.parametrize("still", [True, False])
def test_unchanged_images_are_called_so_and_not_proposed_for_a_package(
    capsys, tmp_path, images_of_ones_own, still
):
    """Where no candidate is better on validation than the start; held still here by a rate of 0, or
    moved and the last one taken.
    """
    changes = (
        ["--set", "distill.learning_rate_images=0"]
        if still
        else ["--set", "distill.selection=last"]
    )
    words = own_options(images_of_ones_own, tmp_path) + changes
    code, out, _ = run(capsys, "distill", *words, "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["unchanged"] is still
    code, told, _ = run(capsys, "distill", *words)
    code, scored, _ = run(capsys, "evaluate", *words)
    for said in (told, scored):
        assert (
            code == 0
            and ("the selected images are unchanged real images (iteration" in said) == still
        )
        assert ("next: distil longer" in said) == still and (
            "--set distill.iterations=400" in said
        ) == still
    assert ("medddist package" in scored) != still


def test_the_longer_distillation_that_is_proposed_is_the_same_command_with_one_setting_changed():
    from medddist.cli.measuring import longer

    given = {"profile": "my images.yaml", "data": "d", "artifacts": "o"}
    words = longer("distill", {**given, "changes": ("distill.iterations=500", "seeds=[1, 2]")}, 500)
    assert words == (
        "medddist distill --profile 'my images.yaml' --data d --out o --set 'seeds=[1, "
        "2]' --set distill.iterations=2000"
    )


@pytest.mark.slow
def test_the_comparison_from_the_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "medddist.study.workers.workers_for", lambda study: 2
    )  # whatever threads this process has
    code, out, _ = run(
        capsys, "compare", *options(tmp_path / "out"), "--json", "--save", str(tmp_path)
    )
    rows, record = (
        json.loads(out),
        json.loads((tmp_path / "compare-smoke-phantom.json").read_text()),
    )
    assert code == 0 and record["rows"] == rows and record["about"]["packages"]["torch"]
    assert {row["table"] for row in rows} == {"released", "inside", "unseen", "probe"}
    missing = {row["method"] for row in rows if row["status"] == "unavailable"}
    assert (
        "transfer_phantom" in missing
        and "transfer_site" not in missing
        and all(row["reason"] for row in rows if row["method"] in missing)
    )
    assert all(
        {"accuracy", "balanced_accuracy", "per_class"} <= row.keys()
        for row in rows
        if row["status"] == "measured"
    )
    assert (
        record["origins"].keys() == {"by_origin", "probes", "class_from_origin", "confounding"}
        and len(record["origins"]["confounding"]) == 4
    )
    code, out, _ = run(capsys, "compare", *options(tmp_path / "out"))
    assert (
        code == 0 and "worse than" in out and "unavailable: the data is the phantom itself" in out
    )


def test_results_are_a_record_with_all_that_is_needed_to_measure_again(capsys, tmp_path):
    code, out, _ = run(
        capsys,
        "results",
        *options(tmp_path / "out"),
        "--folder",
        str(tmp_path / "results"),
        "--json",
    )
    record = json.loads(out)
    assert code == 0 and record == json.loads(
        (tmp_path / "results" / "smoke-phantom.json").read_text()
    )
    assert record["about"]["packages"]["torch"] and record["about"]["machine"]["threads"]
    (measured,) = record["variants"].values()
    assert (
        measured["settings"]["distill"]["iterations"] == 2
        and measured["summary"]["lead_over_it"]["low"] is not None
    )
