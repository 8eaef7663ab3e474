"""The distilled set as a file: the sender's side and the receiver's."""

from __future__ import annotations

from typing import Any

import click

from medddist.base.errors import InputError
from medddist.base.progress import Bar
from medddist.cli.common import (
    DEBUG,
    JSON,
    opened_study,
    require_one_process,
    study_options,
    table_lines,
    tell,
    tell_of_a_phantom_here,
    written_by,
)


@click.command()
@study_options(profile="demo", artifacts="--artifacts")
@click.option(
    "--out",
    required=True,
    metavar="PACKAGE",
    help="The package to write: a .zip file, or a folder.",
)
@click.option(
    "--seed",
    type=int,
    help="Which of the study's sets; by default that of the profile's first seed.",
)
@click.option("--creator", help="Who made it, and how to reach them.")
@click.option("--licence", help="Under which licence it may be used.")
@click.option("--intended-use", help="What it was made for.")
@click.option("--description", help="Its title.")
@click.option(
    "--sign-with",
    metavar="KEYFILE",
    help="Sign it by this private key (of `medddist package-key`).",
)
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Measure, or find, what the set is worth on test.",
)
@click.option(
    "--audit/--no-audit",
    "with_audit",
    default=False,
    show_default=True,
    help="Measure, or find, what the set gives away.",
)
@click.option(
    "--allow-copies",
    is_flag=True,
    help="Write it even if images are real ones, unchanged or nearly so.",
)
def package(
    profile,
    data,
    artifacts,
    device,
    changes,
    as_json,
    out,
    seed,
    sign_with,
    measure,
    with_audit,
    allow_copies,
    **stated,
) -> None:
    """Write the distilled set as a package that can be sent: images, labels, step size, manifest
    and card.
    """
    from medddist.sharing.reading import open_package
    from medddist.sharing.writing import write_package

    require_one_process("package")
    seeds = () if seed is None else (f"seeds=[{seed}]",)
    with opened_study(profile, data, artifacts, device, changes + seeds) as study:
        with written_by("--out", out):
            write_package(
                study,
                out,
                {name: text for name, text in stated.items() if text is not None},
                sign_with,
                measure,
                with_audit,
                allow_copies,
            )
    result = _about(out, open_package(out))
    tell(result, as_json, _package_lines(result))


@click.command()
@click.argument("package")
@click.option(
    "--key", metavar="FILE", help="A public key: refuse a package that is not signed by it."
)
@click.option("--expect", metavar="ID", help="Refuse a package of another ID.")
@JSON
@DEBUG
def verify(package, key, expect, as_json) -> None:
    """Check a package throughout, and say what it is; exit code 2 and the reason for one that is
    not to be used.
    """
    from medddist.sharing.reading import open_package

    result = _about(package, open_package(package, key, expect))
    tell(result, as_json, _package_lines(result))


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
    signature = (
        f"by the key {about['signed_by']}"
        if about["signed_by"]
        else "not checked: give --key"
        if about["signed"]
        else "none"
    )
    counts = ", ".join(
        f"{name} {count}" for name, count in zip(about["class_names"], about["images"])
    )
    return [
        f"{about['package']}: whole; {about['description']}, by {about['creator']}, licence: "
        f"{about['licence']}",
        f"{sum(about['images'])} images of {about['image_size_px']} px ({counts}), "
        f"{about['labels']} labels, step size {about['step_size']:.4g}",
        f"ID {about['id']}",
        f"signature: {signature}",
    ]


@click.command("package-key")
@click.argument("folder")
@JSON
@DEBUG
def package_key(folder, as_json) -> None:
    """Make a pair of keys in FOLDER: private.pem, to sign packages with and to keep; public.pem,
    for their receivers.
    """
    from medddist.sharing.signature import PRIVATE, PUBLIC, make_keys

    result = {
        "private": f"{folder}/{PRIVATE}",
        "public": f"{folder}/{PUBLIC}",
        "fingerprint": make_keys(folder),
    }
    tell(
        result,
        as_json,
        [
            f"{result['private']}: keep it to yourself",
            f"{result['public']}: for receivers, fingerprint {result['fingerprint']}",
        ],
    )


@click.command()
@click.argument("package")
@click.option(
    "--data",
    required=True,
    help="Data of one's own, of the same classes; as in every other command.",
)
@click.option(
    "--out", default="build/trained", show_default=True, help="Folder where the networks are kept."
)
@click.option(
    "--key", metavar="FILE", help="A public key: refuse a package that is not signed by it."
)
@click.option("--expect", metavar="ID", help="Refuse a package of another ID.")
@click.option(
    "--networks",
    type=click.IntRange(1, 1000),
    help="How many; by default as many as the sender measured.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="How the data are read, as in data.images=500; may be repeated.",
)
@JSON
@DEBUG
def train(package, data, out, key, expect, networks, device, changes, as_json) -> None:
    """Train networks on a package by its own recipe, score them on the test part of one's own data,
    and keep them.
    """
    from medddist.base.compute import device_named, keep_freed_memory
    from medddist.sharing.reading import open_package
    from medddist.sharing.receiving import own_data

    require_one_process("train")
    tell_of_a_phantom_here(data)
    device_named(device)  # before data are read, which can take minutes
    keep_freed_memory()
    opened, progress = open_package(package, key, expect), Bar()
    try:
        mine = own_data(
            opened,
            data,
            _data_changes(changes),
            progress,
        )
        networks = opened.train(networks, device, progress)
    finally:
        progress.close()
    with written_by("--out", out):
        files = [str(path) for path in networks.save(out)]
    result = {
        "package": opened.id,
        "files": files,
        "networks": len(networks.parameters),
        **networks.scores(mine),
    }
    row = result | {"label": f"{len(mine.test)} test images of {mine.source}"}
    lines = [*table_lines([row]), f"networks: {out}"]
    if not any(name.endswith(".onnx") for name in files):
        lines.append("no ONNX was written: it needs pip install 'medddist[onnx]'")
    tell(result, as_json, lines)


def _data_changes(assignments: tuple[str, ...]) -> dict[str, Any]:
    from medddist.study.profile import changes_from

    changes = changes_from(assignments)
    for name in changes:
        if not name.startswith("data."):
            raise InputError(
                "set",
                f"{name}: only how the data are read can be set here, as in data.images=500",
                "the package has the rest",
            )
    return {name.removeprefix("data."): value for name, value in changes.items()}
