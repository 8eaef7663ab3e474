"""Command line of the benchmarks: `python -m benchmarks QUESTION`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import torch

from benchmarks import budget, growth, paper, real_loss, teachers, worth
from benchmarks import epsilon as bounds
from benchmarks import gradient as gradients
from medddist.base.compute import device_named
from medddist.base.errors import InputError
from medddist.base.files import write_json
from medddist.base.progress import Bar
from medddist.base.version import about
from medddist.study.profile import changes_from, load_profile
from medddist.study.study import Study

JSON = click.option("--json", "as_json", is_flag=True, help="Print the rows alone, as JSON.")
SAVE = click.option(
    "--save", metavar="FOLDER", help="Also write the rows, with versions and machine, as JSON."
)
DEVICE = click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")


def pairs_option(default: int) -> Callable:
    """Return the option that says how often ours and the reference are timed."""
    return click.option(
        "--pairs",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help="Measurements of each, taken alternately.",
    )


class _Questions(click.Group):
    """A group whose refused inputs are one line and exit code 2, as the library's own."""

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except InputError as mistake:
            refused = click.ClickException(str(mistake))
            refused.exit_code = 2
            raise refused from None


@click.group(cls=_Questions, context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """Measure speed, memory and worth of the library, as ratios to a reference of the same run."""


@app.command()
@pairs_option(5)
@DEVICE
@SAVE
@JSON
def gradient(pairs: int, device: str, save: str | None, as_json: bool) -> None:
    """Compare the matching gradient with one graph of all student steps, and with TESLA."""
    answer("bench-gradient", gradients.measure, device, save, as_json, pairs=pairs)


@app.command("real-loss")
@pairs_option(5)
@DEVICE
@SAVE
@JSON
def real_loss_(pairs: int, device: str, save: str | None, as_json: bool) -> None:
    """Compare an iteration of the loss on real images with one graph of its window."""
    answer("bench-real-loss", real_loss.measure, device, save, as_json, pairs=pairs)


@app.command("epsilon")
@click.option("--releases", type=click.IntRange(1000), default=1_000_000, show_default=True)
@SAVE
def epsilon_(releases: int, save: str | None) -> None:
    """Bound epsilon of a private release from below, also with too little noise."""
    rows = bounds.measure(releases)
    if save:
        write_json(Path(save) / "epsilon-bound.json", {"rows": rows, "about": about("cpu")})
    click.echo(json.dumps(rows, indent=1))


@app.command("teachers")
@pairs_option(5)
@DEVICE
@SAVE
@JSON
def teachers_(pairs: int, device: str, save: str | None, as_json: bool) -> None:
    """Compare teacher training with a plain PyTorch loop."""
    answer("bench-teachers", teachers.measure, device, save, as_json, pairs=pairs)


@app.command("paper")
@DEVICE
@SAVE
@JSON
def paper_(device: str, save: str | None, as_json: bool) -> None:
    """Measure one exact iteration of the paper's shape."""
    answer("bench-paper", paper.measure, device, save, as_json)


@app.command("growth")
@pairs_option(3)
@DEVICE
@SAVE
@JSON
def growth_(pairs: int, device: str, save: str | None, as_json: bool) -> None:
    """Measure how an iteration grows with each setting."""
    answer("bench-scaling", growth.measure, device, save, as_json, pairs=pairs)


def of_a_study(command: Callable) -> Callable:
    """Add the options that say which study is measured."""
    text = {"show_default": True}
    out = {"default": "build/artifacts", "help": "Folder of cached results."}
    for option in (
        JSON,
        SAVE,
        click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A setting."),
        click.option("--device", default="auto", help="auto, cpu or cuda.", **text),
        click.option("--out", **out, **text),
        click.option("--data", default="phantom", help="As for `medddist distill`.", **text),
        click.option("--profile", default="demo", help="Name or path of a profile.", **text),
    ):
        command = option(command)
    return command


@app.command("budget")
@of_a_study
def budget_(profile, data, out, device, changes, save, as_json) -> None:
    """Compare the methods' best sets after so many minutes, on validation."""
    with Bar() as progress:
        study = Study(load_profile(profile, changes_from(changes)), data, out, device, progress)
        rows = budget.measure(study, budget.BUDGETS_MINUTES)
    if save:
        about_it = {"rows": rows, "about": about(device)} | worth.about_study(study)
        write_json(Path(save) / "bench-budget.json", about_it)
    show(rows, as_json)


@app.command("worth")
@of_a_study
def worth_(profile, data, out, device, changes, save, as_json) -> None:
    """Compare whole distillations by finite differences with exact ones, on test."""
    progress = Bar()
    try:
        both = worth.studies(profile, changes_from(changes), data, out, device, progress)
        rows = worth.measure(*both)
    finally:
        progress.close()
    if save:
        name, content = worth.record(both[-1], rows, device)
        write_json(Path(save) / name, content)
    show(rows, as_json)


def answer(
    name: str, measure: Callable, device: str, save: str | None, as_json: bool, **options
) -> None:
    """Measure with progress on standard error, show the rows, and write them where asked to."""
    where, progress = device_named(device), Bar()
    if where.type == "cuda":
        torch.cuda.set_device(where)  # the device that `synchronize` waits for
    try:
        rows = measure(**options, report=progress, device=where)
    finally:
        progress.close()
    if save:
        file = f"{name}.json" if where.type == "cpu" else f"{name}-{where.type}.json"
        write_json(Path(save) / file, {"rows": rows, "about": about(str(where))})
    show(rows, as_json)


def show(rows: list[dict], as_json: bool) -> None:
    """Print rows on standard output, as JSON or one line each."""
    text = json.dumps(rows, indent=1) if as_json else "\n".join(map(line, rows))
    click.echo(text)


def line(row: dict) -> str:
    """Return a row as people read it."""
    setting = ", ".join(
        f"{name} {value}" for name, value in row["setting"].items() if value is not None
    )
    text = f"{row['what']}: {row['ours']:.3g}"
    if row["reference"] is not None:
        text += f", reference {row['reference']:.3g}, ratio {row['ratio']:.2f}"
        if row["ratio_low"] != row["ratio_high"]:
            text += f" [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    return f"{text} ({setting})"


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
