"""Share the distilled set as a file: the sender's side and the receiver's."""

from __future__ import annotations

from typing import Any

import click

from medddist.base.errors import InputError
from medddist.base.progress import Bar
from medddist.cli import commands
from medddist.cli.commands import DATA_HELP, DEVICE, EXPECT, KEY, SEED, announce, command, step
from medddist.cli.output import Output, note, package_lines, score_lines

SIGN_HELP = "Sign it with this private key (see `medddist package-key`)."
MEASURE_HELP = "State scores on the test part; by default, unless there is a guarantee."
LEDGER_HELP = "Add the release to this ledger of one's data, and refuse it beyond the budget there."
AUDIT_HELP = "State what the set gives away; measured unless cached."
COPIES_HELP = "Write it even if images are real ones, unchanged or nearly so."
NETWORKS_HELP = "How many; by default the number that the sender measured."


@step(
    click.option("--out", required=True, metavar="FILE.zip", help="The package to write."),
    SEED,
    click.option("--creator", help="Who made it, and how to reach them."),
    click.option("--licence", help="The licence under which it may be used."),
    click.option("--intended-use", help="What it was made for."),
    click.option("--description", help="Its title."),
    click.option("--sign-with", metavar="KEYFILE", help=SIGN_HELP),
    click.option("--measure/--no-measure", default=None, help=MEASURE_HELP),
    click.option("--audit/--no-audit", default=False, help=AUDIT_HELP),
    click.option("--allow-copies", is_flag=True, help=COPIES_HELP),
    click.option("--ledger", metavar="FILE", help=LEDGER_HELP),
    artifacts="--artifacts",
    announced=False,
)
def package(study, out, sign_with, measure, audit, allow_copies, ledger, **stated) -> Output:
    """Write the distilled set as a file that can be shared.

    It holds images, labels, step size, manifest and card.
    """
    from medddist.leaks.audit import audit as audited
    from medddist.leaks.audit import broken
    from medddist.sharing.archive import require_zip_name
    from medddist.sharing.ledger import entered
    from medddist.sharing.studies import contents_of, measured
    from medddist.sharing.writing import require_no_copies, require_no_exact_figures, write_package

    require_zip_name(out)
    measure = not study.profile.guarantees if measure is None else measure
    require_no_exact_figures(study.profile.guarantees, measure, audit)
    announce(study, "package", "evaluate" if measure else "distill")
    contents = entered(contents_of(study), ledger) if ledger else contents_of(study)
    if not allow_copies:
        require_no_copies(contents)  # before minutes are spent on measuring
    figures: dict[str, Any] = {"measured": measured(study)} if measure else {}
    if audit:
        result = audited(study)
        figures["audit"] = result | {"broken": broken(result)}
    stated = {name: text for name, text in stated.items() if text is not None}
    given = {"stated": stated, "sign_with": sign_with, "allow_copies": allow_copies}
    write_package(out, contents, **given, **figures)
    return _verified(out, made_with=sign_with)


@command(click.argument("package"), KEY, EXPECT)
def verify(package, key, expect) -> Output:
    """Check a package completely and describe it.

    Exit code 2 and the reason for one that must not be used.
    """
    return _verified(package, key, expect)


def _verified(
    path: str, key: str | None = None, expect: str | None = None, made_with: str | None = None
) -> Output:
    from medddist.sharing.reading import open_package

    package = open_package(path, key, expect)
    manifest = package.manifest
    about = {
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
    return Output(about, package_lines(about, made_with))


@command(click.argument("package"), click.argument("folder"), KEY, EXPECT)
def export(package, folder, key, expect) -> Output:
    """Write a package's images as PNG files, for any other tool.

    FOLDER, a new one, gets a folder for each class, and metadata.csv with each image's class and,
    of soft labels, the probabilities.
    """
    from medddist.sharing.exporting import LABELS
    from medddist.sharing.reading import open_package

    opened = open_package(package, key, expect)
    files = [str(path) for path in opened.export(folder)]
    images, size = len(opened), opened.manifest.pixels.image_size_px
    what = f"{images} images of {size} px, one folder per class, and {LABELS}"
    return Output({"package": opened.id, "folder": folder, "files": files}, [f"{folder}: {what}"])


@command(click.argument("folder"))
def package_key(folder) -> Output:
    """Make a pair of keys, to sign packages and to check them.

    FOLDER gets private.pem, which signs and stays with you, and public.pem, for the receivers.
    """
    from medddist.sharing.signature import PRIVATE, PUBLIC, make_keys

    private, public = f"{folder}/{PRIVATE}", f"{folder}/{PUBLIC}"
    fingerprint = make_keys(folder)
    lines = [f"{private}: keep it secret", f"{public}: for receivers, fingerprint {fingerprint}"]
    return Output({"private": private, "public": public, "fingerprint": fingerprint}, lines)


@command(
    click.argument("package"),
    click.option("--data", required=True, help=f"Your own images of the same classes: {DATA_HELP}"),
    click.option("--out", default="build/trained", help="Folder for the networks."),
    KEY,
    EXPECT,
    click.option("--networks", type=click.IntRange(1, 1000), help=NETWORKS_HELP),
    DEVICE,
    commands.settings_option("Change how the data are read, as in data.images=500"),
)
def train(package, data, out, key, expect, networks, device, changes) -> Output:
    """Train networks on a package and score them on your own images.

    The recipe is the package's, the images are the test part of your data. The networks are kept.
    """
    from medddist.base.compute import device_named, keep_freed_memory
    from medddist.estimates import networks_announcement
    from medddist.sharing.reading import open_package
    from medddist.sharing.receiving import own_data

    commands.require_one_process("train")
    place = device_named(device)  # before data are read, which can take minutes
    keep_freed_memory()
    opened = open_package(package, key, expect)
    with Bar() as progress:
        mine = own_data(opened.manifest, data, _data_changes(changes), progress)
        count = networks or opened.manifest.settings.evaluation.networks
        given = opened.network(), (opened.images, opened.targets), opened.recipe
        if estimate := networks_announcement(*given, count, len(mine.test), place):
            note(f"train: {estimate}")
        trained = opened.train(networks, device, progress)
    files = [str(path) for path in trained.save(out)]
    about = {"package": opened.id, "files": files, "networks": len(trained.parameters)}
    result = about | trained.scores(mine)
    every = sum(len(part) for part in mine.parts().values())
    label = f"{len(mine.test)} test images, of {every} images of {mine.source}"
    lines = [*score_lines([result | {"label": label}]), f"networks: {out}"]
    if not any(name.endswith(".onnx") for name in files):
        lines.append("no ONNX file was written; it needs pip install onnx onnxruntime")
    return Output(result, lines)


def _data_changes(assignments: tuple[str, ...]) -> dict[str, Any]:
    from medddist.study.profile import changes_from

    changes = changes_from(assignments)
    for name in changes:
        if not name.startswith("data."):
            reason = f"{name} comes from the package"
            raise InputError("set", reason, "change only how the data are read: data.images=500")
    return {name.removeprefix("data."): value for name, value in changes.items()}
