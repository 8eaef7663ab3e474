"""The command `medddist`: the study's steps, one after another or each alone."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medddist import processes
from medddist.errors import InputError
from medddist.progress import Progress

if TYPE_CHECKING:
    from medddist.study import Study

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result alone, as JSON, on standard output.")
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.", expose_value=False)


def study_options(profile: str, artifacts: str = "--out") -> Callable[[Callable], Callable]:
    """What every step of a study takes; `artifacts` is what the folder of its results is called."""
    options = [
        click.option(
            "--profile",
            default=profile,
            show_default=True,
            help="smoke, demo, real, paper, or the path of a .yaml file.",
        ),
        click.option(
            "--data",
            default="phantom",
            show_default=True,
            help="phantom, an .npz in MedMNIST's layout, the radiography database's folder, or a folder of class folders.",
        ),
        click.option(
            artifacts, default="build/artifacts", show_default=True, help="Folder where results are kept and found again."
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="NAME=VALUE",
            help="Change a setting, as in distill.iterations=100; may be repeated.",
        ),
        JSON,
        DEBUG,
    ]

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


SECTIONS = {  # headings of `medddist --help`, and what each command is for in a few words
    "Start": {
        "init": "look at a folder of images, write a profile that fits",
        "new-study": "a folder with these notebooks, set to your data",
        "prepare": "read the data, deal them into parts, say what is there",
        "estimate": "time, memory and disk of each step, before it starts",
    },
    "Distil and measure": {
        "teachers": "train networks on the real images, keep their paths",
        "distill": "make a few images that train a network alike",
        "evaluate": "score them on test beside random real images",
        "compare": "and beside other ways to learn from few labels",
        "audit": "what they give away: nearest images, membership",
    },
    "Send and receive": {
        "package": "write the distilled set as a file to send",
        "verify": "check such a file throughout",
        "train": "train networks on it, score them on your own images",
        "package-key": "make a pair of keys, to sign and to check",
    },
    "Figures of record": {
        "results": "measure a profile in all its variants, as JSON",
        "bench": "speed and memory, as ratios to a reference",
        "gradients": "what distillations by a fast gradient are worth",
    },
}


class _InSections(click.Group):
    """Commands under headings, in the order in which they are used; one without a heading comes last, under another."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        listed = {name for section in SECTIONS.values() for name in section}
        others = {name: self.commands[name].get_short_help_str(60) for name in sorted(set(self.commands) - listed)}
        for title, section in (SECTIONS | {"More": others}).items():
            rows = [(name, told) for name, told in section.items() if name in self.commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_spacing=3)


@click.group(cls=_InSections, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="medddist")
def app() -> None:
    """Dataset distillation for sharing medical images.

    Distil a data set into a few synthetic images, and measure what they are worth and what they give away. Each command computes
    what it needs, says before how long that takes, keeps it under --out, and reads it when asked again; one that was stopped goes on.

    \b
    With images of your own, one folder a class:
      medddist init my_images                              what is there; writes my_images.yaml
      medddist evaluate --profile my_images.yaml --data my_images
      medddist package --profile my_images.yaml --data my_images --out set.zip

    \b
    Without images, on a phantom that is calculated:
      medddist evaluate --profile smoke

    Exit codes: 0 done; 2 a mistake in what was given, in one line that says what to do; 1 anything else, --debug shows where.

    \b
    Completion of commands and options:
      bash   eval "$(_MEDDDIST_COMPLETE=bash_source medddist)"    in ~/.bashrc
      zsh    eval "$(_MEDDDIST_COMPLETE=zsh_source medddist)"     in ~/.zshrc
      fish   _MEDDDIST_COMPLETE=fish_source medddist | source     in config.fish
    """


@contextlib.contextmanager
def _opened_study(profile: str, data: str, out: str, device: str, changes: tuple[str, ...], about_to: str | None = None) -> Iterator[Study]:
    """A study with progress on standard error, its bar closed whatever happens; what it is `about_to` do is told before."""
    from medddist.profile import changes_from, load_profile  # not above: --help need not wait for torch
    from medddist.study import Study

    progress = Progress()
    try:
        study = Study(load_profile(profile, changes_from(changes)), data, out, device, progress)
        if about_to and not processes.rank():
            _announce(study, about_to)
        yield study
    finally:
        progress.close()


def _announce(study: Study, command: str) -> None:
    """Time, memory and disk in one line on standard error; refused where memory or disk are clearly short."""
    from medddist.estimates import told_before

    line = told_before(study, command)
    if line:
        print(f"medddist: {command}: {line}", file=sys.stderr)


def _alone(step: str) -> None:
    if processes.count() > 1:
        raise InputError(f"{step}: deals nothing out to several processes; run `teachers` and `distill` under torchrun, then this without")


def _tell(result: Any, as_json: bool, lines: list[str]) -> None:
    if processes.rank():
        return  # the first process speaks
    print(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(lines))


@app.command()
@click.argument("folder")
@click.option("--write", metavar="FILE", help="The profile to write; by default FOLDER's name with .yaml, here.")
@click.option("--minutes", type=click.FloatRange(min=1), default=60, show_default=True, help="How long teachers, distill and evaluate may take together.")
@click.option("--report", metavar="FILE", help="Also write what was found as an HTML page with pictures.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@JSON
@DEBUG
def init(folder, write, minutes, report, device, as_json) -> None:
    """Look at FOLDER, say what is in it, and write a profile that fits its images and this machine.

    FOLDER is whatever --data takes elsewhere. Says classes, counts, sizes, copies, files that cannot be read, and what but a disease
    may give the class away; and how long a run will take. Trains nothing.
    """
    from medddist.compute import device_named
    from medddist.machine import told_bytes, told_time
    from medddist.report import write_report
    from medddist.starting import fitting_profile, name_of, write_profile
    from medddist.survey import survey_lines, surveyed

    progress, name = Progress(), name_of(folder)
    path = Path(write or f"{name}.yaml")
    if path.exists():
        raise InputError(f"{path}: is there already; remove it, or name another file with --write")
    try:
        found = surveyed(folder, progress)
    finally:
        progress.close()
    made, about = fitting_profile(found, name, device_named(device), minutes)
    write_profile(made, path, found.source, about)
    takes = f"a run takes about {told_time(about['seconds'])} and {told_bytes(about['memory_bytes'])} of memory here"
    lines = [*survey_lines(found), *about["chosen"], f"written to {path}: {takes}", f"next: medddist evaluate --profile {shlex.quote(str(path))} --data {shlex.quote(folder)}"]
    if report:
        write_report(found, Path(report), [takes])
        lines.append(f"the page with pictures: {report}")
    _tell({"found": found.as_json(), "profile": str(path), **about}, as_json, lines)


@app.command("new-study")
@click.argument("folder")
@click.option("--data", required=True, help="Data of one's own, as in every other command.")
@click.option("--profile", help="smoke, demo, real, paper, or a .yaml file; by default one made to fit, as by `init`.")
@click.option("--minutes", type=click.FloatRange(min=1), default=60, show_default=True, help="As in `init`.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@DEBUG
def new_study(folder, data, profile, minutes, device) -> None:
    """Start a study of one's own in FOLDER: these notebooks with one's data, and a book that `make book` builds there."""
    from medddist.compute import device_named
    from medddist.new_study import PROFILE, require_room_for, write_study
    from medddist.profile import load_profile
    from medddist.starting import fitting_profile, name_of, write_profile
    from medddist.survey import surveyed

    target, progress = Path(folder), Progress()
    require_room_for(target)
    if data != "phantom" and not Path(data).exists():
        raise InputError(f"{data}: no such folder or .npz file; give 'phantom', a folder of images or an .npz")
    source = data if data == "phantom" else str(Path(data).resolve())
    try:
        found = None if profile and data == "phantom" else surveyed(data, progress)
        made, about = (load_profile(profile), {}) if profile else fitting_profile(found, name_of(data), device_named(device), minutes)
        if found and found.unreadable:
            made = made.changed({"data.skip_unreadable": True})
    finally:
        progress.close()
    write_profile(made, target / PROFILE, source, about)
    write_study(target, source, f"Dataset distillation of {name_of(data)}")
    _tell({}, False, [f"{folder}: a study of {source}", f"next: make -C {shlex.quote(folder)} book"])


@app.command()
@study_options(profile="demo")
@click.option("--report", is_flag=False, flag_value="", metavar="[FILE]", help="Also look at the files as `init` does, and write a page with pictures; by default below --out.")
def prepare(profile, data, out, device, changes, as_json, report) -> None:
    """Read the data, split it, and say what is there."""
    with _opened_study(profile, data, out, device, changes) as study:
        counts = {name: part.class_counts(study.data.classes).tolist() for name, part in study.data.parts().items()}
    result = {
        "source": study.data.source,
        "fingerprint": study.data.fingerprint,
        "image_size_px": study.data.image_size_px,
        "channels": study.data.channels,
        "class_names": list(study.data.class_names),
        "counts": counts,
        "notes": list(study.data.notes),
    }
    lines = [f"{study.data.source}: {study.data.image_size_px} px, fingerprint {study.data.fingerprint}"]
    lines += [
        f"{name}: {sum(row)} images, " + ", ".join(f"{c} {n}" for c, n in zip(study.data.class_names, row))
        for name, row in counts.items()
    ]
    lines += [f"note: {note}" for note in study.data.notes]
    if report is not None:
        result["report"] = _reported(data, report or f"{out}/report/{study.data.source}.html")
        lines.append(f"the page with pictures: {result['report']}")
    _tell(result, as_json, lines)


def _reported(data: str, path: str) -> str:
    from medddist.report import write_report
    from medddist.survey import surveyed

    progress = Progress()
    try:
        write_report(surveyed(data, progress), Path(path))
    finally:
        progress.close()
    return path


@app.command()
@study_options(profile="demo")
def estimate(profile, data, out, device, changes, as_json) -> None:
    """Say how long each step will take, and how much memory and disk, by a few steps measured on this machine.

    What is kept already counts as nothing. Every command says the same in a line before it starts.
    """
    from medddist.estimates import as_rows, estimate_lines, estimates

    _alone("estimate")
    with _opened_study(profile, data, out, device, changes) as study:
        found = estimates(study)
        result = as_rows(study, found)
        lines = estimate_lines(study, found)
    _tell(result, as_json, lines)


@app.command()
@study_options(profile="demo")
def teachers(profile, data, out, device, changes, as_json) -> None:
    """Train the teachers and keep their trajectories; under torchrun, each process trains, and the first tells, its share."""
    with _opened_study(profile, data, out, device, changes, "teachers") as study:
        found = [(seed, one) for seed in study.profile.seeds for one in study.train_teachers(seed)]
    result = [
        {
            "file": str(one.path),
            "seed": seed,
            "snapshots": one.snapshots,
            "parameters": one.parameter_count,
            "validation": one.about["validation"],
        }
        for seed, one in found
    ]
    lines = [
        f"{row['file']}: {row['snapshots']} snapshots, validation balanced accuracy {row['validation'][-1]['balanced_accuracy']:.3f}"
        for row in result
    ]
    _tell(result, as_json, lines)


@app.command()
@study_options(profile="demo")
def distill(profile, data, out, device, changes, as_json) -> None:
    """Distil the training images, with teachers where there are none yet; under torchrun, segments are dealt out."""
    with _opened_study(profile, data, out, device, changes, "distill") as study:
        found = [(seed, study.distillation(seed), study.distillation_path(seed)) for seed in study.profile.seeds]
    result = [
        {
            "file": str(path),
            "seed": seed,
            "images": len(one.distilled.images),
            "step_size": one.distilled.step_size.item(),
            "selected_iteration": one.selected_iteration,
            "candidates": list(one.candidates),
        }
        for seed, one, path in found
    ]
    lines = [
        f"{row['file']}: {row['images']} images, step size {row['step_size']:.4g}, released as it was at iteration {row['selected_iteration']}"
        for row in result
    ]
    _tell(result, as_json, lines)


@app.command()
@study_options(profile="demo")
def evaluate(profile, data, out, device, changes, as_json) -> None:
    """Score the distilled images and their references on the test part."""
    from medddist.results import summary, summary_line

    _alone("evaluate")
    with _opened_study(profile, data, out, device, changes, "evaluate") as study:
        rows = study.table()
    same = ["--profile", profile, "--data", data, "--artifacts", out, *(word for change in changes for word in ("--set", change))]
    following = f"next: {shlex.join(['medddist', 'package', *same, '--out', 'set.zip'])}"
    _tell(rows, as_json, [*_table_lines(rows), summary_line(study.profile.name, summary(rows, study.profile.distill.selection_metric)), following])


def _table_lines(rows: list[dict]) -> list[str]:
    shown = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
    lines = [f"{'':40}" + "".join(f"{name:>24}" for name in shown)]
    for row in rows:
        cells = (f"{row[m]['mean']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in shown)
        lines.append(f"{row['label']:40}" + "".join(f"{cell:>24}" for cell in cells))
    return lines


@app.command()
@study_options(profile="demo")
@click.option("--save", metavar="FOLDER", help="Also write the rows, with settings, versions and machine, to FOLDER/compare-PROFILE-DATA.json.")
def compare(profile, data, out, device, changes, as_json, save) -> None:
    """Compare the distilled images with other ways to learn from few labels.

    Rows of two tables (only released images may be used; all may be seen, unlabelled), of networks that never saw the
    distillation, and of linear probes on features learned without labels. --save adds what origins give away.
    """
    from medddist.compare import Comparison, verdict_lines
    from medddist.origins import of_origins
    from medddist.parallel import workers_for
    from medddist.probes import probe_rows
    from medddist.results import compare_record

    _alone("compare")
    with _opened_study(profile, data, out, device, changes, "compare") as study:
        comparison = Comparison(study)
        workers = workers_for(study)
        rows = comparison.rows(workers=workers) + probe_rows(comparison, workers)
        written = [f"written to {compare_record(study, rows, of_origins(comparison), device, save)}"] if save else []
    _tell(rows, as_json, [*_comparison_lines(rows), *verdict_lines(rows), *written])


def _comparison_lines(rows: list[dict]) -> list[str]:
    lines = []
    for row in rows:
        if not lines or row["table"] != before:
            lines += ["", row["table"]] if lines else [row["table"]]
        before = row["table"]
        lines.append(f"  {row['label']:42}{row['network']:18}" + _comparison_cells(row))
    return lines


def _comparison_cells(row: dict) -> str:
    if row["status"] != "measured":
        return f"unavailable: {row['reason']}"
    cells = (f"{row[m]['mean']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in ("accuracy", "balanced_accuracy"))
    told = f"{row['bytes_released']:>12,} bytes" if "bytes_released" in row else ""
    for what in ("distilled_lead", "lead_over_random"):
        if what in row:
            lead = row[what]["balanced_accuracy"]
            told += f"  {what.replace('_', ' ')} {lead['difference']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}] {lead.get('verdict', '')}"
    return "".join(f"{cell:>24}" for cell in cells) + told


@app.command()
@study_options(profile="demo")
@click.option("--seed", type=int, help="Which of the study's sets; by default that of the profile's first seed.")
@click.option("--save", metavar="FOLDER", help="Also write it, with settings, versions and machine, to FOLDER/audit-PROFILE-DATA-RATE.json.")
def audit(profile, data, out, device, changes, as_json, seed, save) -> int:
    """Measure what the distilled set gives away: nearest neighbours, and membership with both controls.

    The profile `lira` is the long one: 32 shadow distillations, and one false positive in a thousand.
    Exit code 1 where a control is not as it has to be: then the attack is broken, and its figures show nothing.
    """
    from medddist.audit import audit as audited
    from medddist.audit import broken
    from medddist.results import audit_record

    _alone("audit")
    with _opened_study(profile, data, out, device, changes, "audit") as study:
        result = audited(study, seed)
    reasons = broken(result)
    saved = [f"written to {audit_record(study, result, reasons, device, save)}"] if save else []
    _tell(result, as_json, [*_audit_lines(result), *saved])
    return _say("; ".join(reasons), 1, debug=False) if reasons else 0


def _audit_lines(result: dict) -> list[str]:
    lines = []
    for space, told in result["neighbours"].items():
        nearer = told["training_is_nearer"]
        line = f"nearest in {space}: training {told['to_training']:.3f}, unseen {told['to_unseen']:.3f} (training is nearer for {_share(nearer)})"
        if "start_is_nearest" in told:
            line += f"; start {told['to_start']:.3f}, the nearest of all for {_share(told['start_is_nearest'])}"
        lines.append(line)
    for attack, of in result["membership"].items():
        rows = {"positive control": of["positive_control"]["control"], "negative control": of["released"]["unseen"]}
        rows |= {f"{name} images": of["released"][name] for name in ("starting", "others") if name in of["released"]}
        lines += [
            f"{attack} attack, {name}: found {_share(row['true_positives'])}, by chance {row['by_chance'][0]} to {row['by_chance'][1]};"
            f" AUC {row['auc']['auc']:.3f} [{row['auc']['low']:.3f}, {row['auc']['high']:.3f}]"
            for name, row in rows.items()
        ]
    return lines


def _share(told: dict) -> str:
    return f"{told['count']} of {told['of']} [{told['low']:.3f}, {told['high']:.3f}]"


@app.command()
@study_options(profile="demo")
@click.option("--save", metavar="FOLDER", help="Also write the rows, with settings, versions and machine, to FOLDER/leakage-DATA.json.")
def leakage(profile, data, out, device, changes, as_json, save) -> None:
    """Measure accuracy against leakage: starts from real images, averages and noise, and DP-SGD, with few and many images.

    Each point is a study of its own, kept and gone on with; which there are, and how small they are, is in the profile's
    `leakage`.
    """
    from medddist.leakage import leakage as measured
    from medddist.leakage import lines
    from medddist.results import leakage_record

    _alone("leakage")
    with _opened_study(profile, data, out, device, changes) as study:
        rows = measured(study)
        written = [f"written to {leakage_record(study, rows, device, save)}"] if save else []
    _tell(rows, as_json, [*lines(rows), *written])


@app.command()
@study_options(profile="demo", artifacts="--artifacts")
@click.option("--out", required=True, metavar="PACKAGE", help="The package to write: a .zip file, or a folder.")
@click.option("--seed", type=int, help="Which of the study's sets; by default that of the profile's first seed.")
@click.option("--creator", help="Who made it, and how to reach them.")
@click.option("--licence", help="Under which licence it may be used.")
@click.option("--intended-use", help="What it was made for.")
@click.option("--description", help="Its title.")
@click.option("--sign-with", metavar="KEYFILE", help="Sign it by this private key (of `medddist package-key`).")
@click.option("--measure/--no-measure", default=True, show_default=True, help="Measure, or find, what the set is worth on test.")
@click.option("--audit/--no-audit", "with_audit", default=False, show_default=True, help="Measure, or find, what the set gives away.")
@click.option("--allow-copies", is_flag=True, help="Write it even if the images are still the real ones it started from.")
def package(profile, data, artifacts, device, changes, as_json, out, seed, sign_with, measure, with_audit, allow_copies, **stated) -> None:
    """Write the distilled set as a package that can be sent: images, labels, step size, manifest and card."""
    from medddist.package import open_package, write_package

    _alone("package")
    seeds = () if seed is None else (f"seeds=[{seed}]",)
    with _opened_study(profile, data, artifacts, device, changes + seeds) as study:
        write_package(study, out, {name: text for name, text in stated.items() if text is not None}, sign_with, measure, with_audit, allow_copies)
    result = _about(out, open_package(out))
    _tell(result, as_json, _package_lines(result))


@app.command()
@click.argument("package")
@click.option("--key", metavar="FILE", help="A public key: refuse a package that is not signed by it.")
@click.option("--expect", metavar="ID", help="Refuse a package of another ID.")
@JSON
@DEBUG
def verify(package, key, expect, as_json) -> None:
    """Check a package throughout, and say what it is; exit code 2 and the reason for one that is not to be used."""
    from medddist.package import open_package

    result = _about(package, open_package(package, key, expect))
    _tell(result, as_json, _package_lines(result))


def _about(path: str, package) -> dict:
    manifest = package.manifest
    return {
        "package": path,
        "id": package.id,
        "signed": package.signed,
        "signed_by": package.signed_by,
        "description": manifest.description,
        "creator": manifest.creator,
        "licence": manifest.licence,
        "class_names": list(manifest.class_names),
        "images": list(manifest.images),
        "labels": manifest.labels,
        "image_size_px": manifest.pixels.image_size_px,
        "step_size": package.step_size,
    }


def _package_lines(about: dict) -> list[str]:
    signature = f"by the key {about['signed_by']}" if about["signed_by"] else "not checked: give --key" if about["signed"] else "none"
    counts = ", ".join(f"{name} {count}" for name, count in zip(about["class_names"], about["images"]))
    return [
        f"{about['package']}: whole; {about['description']}, by {about['creator']}, licence: {about['licence']}",
        f"{sum(about['images'])} images of {about['image_size_px']} px ({counts}), {about['labels']} labels, step size {about['step_size']:.4g}",
        f"ID {about['id']}",
        f"signature: {signature}",
    ]


@app.command("package-key")
@click.argument("folder")
@JSON
@DEBUG
def package_key(folder, as_json) -> None:
    """Make a pair of keys in FOLDER: private.pem, to sign packages with and to keep; public.pem, for their receivers."""
    from medddist.package.signature import PRIVATE, PUBLIC, make_keys

    result = {"private": f"{folder}/{PRIVATE}", "public": f"{folder}/{PUBLIC}", "fingerprint": make_keys(folder)}
    _tell(result, as_json, [f"{result['private']}: keep it to yourself", f"{result['public']}: for receivers, fingerprint {result['fingerprint']}"])


@app.command()
@click.argument("package")
@click.option("--data", required=True, help="Data of one's own, of the same classes; as in every other command.")
@click.option("--out", default="build/trained", show_default=True, help="Folder where the networks are kept.")
@click.option("--key", metavar="FILE", help="A public key: refuse a package that is not signed by it.")
@click.option("--expect", metavar="ID", help="Refuse a package of another ID.")
@click.option("--networks", type=click.IntRange(1, 1000), help="How many; by default as many as the sender measured.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="How the data are read, as in data.images=500; may be repeated.")
@JSON
@DEBUG
def train(package, data, out, key, expect, networks, device, changes, as_json) -> None:
    """Train networks on a package by its own recipe, score them on the test part of one's own data, and keep them."""
    from medddist.compute import device_named
    from medddist.package import open_package
    from medddist.package.receiving import own_data

    _alone("train")
    device_named(device)  # before data are read, which can take minutes
    opened, progress = open_package(package, key, expect), Progress()
    try:
        mine = own_data(opened, data, _data_changes(changes), lambda done, total, what: progress(what, done, total))
        networks = opened.train(networks, device, lambda done, total: progress("training networks", done, total))
    finally:
        progress.close()
    files = [str(path) for path in networks.save(out)]
    result = {"package": opened.id, "files": files, "networks": len(networks.parameters), **networks.scores(mine)}
    row = result | {"label": f"{len(mine.test)} test images of {mine.source}"}
    lines = [*_table_lines([row]), f"networks: {out}"]
    if not any(name.endswith(".onnx") for name in files):
        lines.append("no ONNX was written: it needs pip install 'medddist[onnx]'")
    _tell(result, as_json, lines)


def _data_changes(assignments: tuple[str, ...]) -> dict[str, Any]:
    from medddist.profile import changes_from

    changes = changes_from(assignments)
    for name in changes:
        if not name.startswith("data."):
            raise InputError(f"set: {name}: only how the data are read can be set here, as in data.images=500; the package has the rest")
    return {name.removeprefix("data."): value for name, value in changes.items()}


@app.command()
@study_options(profile="real")
@click.option("--folder", default="results", show_default=True, help="Where the figures of record are written.")
def results(profile, data, out, device, changes, as_json, folder) -> None:
    """Measure the figures of record: every variant of the profile, with settings, versions, machine and commit, as JSON."""
    from medddist.profile import changes_from
    from medddist.results import measure, summary_lines

    _alone("results")
    progress = Progress()
    try:
        record, path = measure(profile, changes_from(changes), data, out, device, folder, progress)
    finally:
        progress.close()
    _tell(record, as_json, [*summary_lines(record), f"written to {path}"])


@app.command()
@study_options(profile="demo")
@click.option("--way", type=click.Choice(["difference", "bfloat16", "tesla"]), default="difference", show_default=True, help="To the matching gradient.")
@click.option("--save", metavar="FOLDER", help="Also write them, with settings, versions and machine, to FOLDER/gradients-PROFILE-DATA.json.")
def gradients(profile, data, out, device, changes, as_json, way, save) -> None:
    """Measure what whole distillations by a fast gradient are worth beside exact ones, from the same teachers."""
    from medddist.gradients import by_gradient, lines, worth
    from medddist.results import gradients_record

    _alone("gradients")
    with _opened_study(profile, data, out, device, changes) as study:
        for kind in ("exact", way):
            _announce(by_gradient(study, kind), "distill")
        rows = worth(study, way)
    saved = [f"written to {gradients_record(study, rows, device, save)}"] if save else []
    _tell(rows, as_json, [*lines(rows), *saved])


@app.command()
@click.argument("what", type=click.Choice(["gradient", "ways", "teachers", "scaling", "paper"]))
@click.option("--pairs", type=click.IntRange(1), help="Measurements of each kind, taken in turn.")
@click.option("--save", metavar="FOLDER", help="Also write them, with versions and machine, to FOLDER/bench-WHAT.json.")
@JSON
@DEBUG
def bench(what, pairs, save, as_json) -> None:
    """Measure speed and memory, each as a ratio to a reference in the same run.

    gradient: the sweep against the unrolled graph. ways: every way to the gradient. teachers: against plain PyTorch.
    scaling: how cost grows. paper: one iteration of the paper's shape.
    """
    from medddist import benchmarks
    from medddist.files import write_json
    from medddist.results import about

    if what == "paper" and pairs:
        raise InputError("pairs: bench paper is one iteration without a reference; leave --pairs out")
    progress = Progress()
    try:
        rows = benchmarks.BENCHMARKS[what](**({"pairs": pairs} if pairs else {}), progress=progress)
    finally:
        progress.close()
    if save:
        write_json(f"{save}/bench-{what}.json", {"rows": rows, "about": about("cpu")})
    _tell(rows, as_json, [_bench_line(row) for row in rows])


def _bench_line(row: dict) -> str:
    setting = ", ".join(f"{name} {value}" for name, value in row["setting"].items() if value is not None)
    told = f"{row['what']}: {row['ours']:.3g}"
    if row["reference"] is not None:
        told += f", reference {row['reference']:.3g}, ratio {row['ratio']:.2f}"
    if "pairs" in row:
        told += f" [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    return f"{told} ({setting})"


def main(arguments: list[str] | None = None) -> None:
    """Run the command; exit 0 when done, 2 for a mistake of the caller's or a refused input, 1 for anything else."""
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else arguments))


def _exit_code(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        return _run(arguments, debug)
    finally:
        processes.leave()


def _run(arguments: list[str], debug: bool) -> int:
    try:
        return app(arguments, standalone_mode=False, prog_name="medddist") or 0
    except click.exceptions.NoArgsIsHelpError as asked:
        print(asked.ctx.get_help())
        return 0
    except click.ClickException as mistake:
        return _say(mistake.format_message(), 2, debug)
    except InputError as mistake:
        return _say(str(mistake), 2, debug)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; the same command goes on from what was kept", 1, debug)
    except Exception as fault:  # the last resort: whatever it is, the user gets one line
        return _say(f"{type(fault).__name__}: {fault}; run it again with --debug for the traceback", 1, debug)


def _say(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print("medddist: error: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
