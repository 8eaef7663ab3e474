"""From a study to the values that packages and hospitals are made of.

The one module of this room that holds a study.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medddist.base.errors import InputError
from medddist.base.files import digest, file_names
from medddist.base.settings import parsed
from medddist.data import Data
from medddist.sharing.card import METRICS
from medddist.sharing.guarantees import Guarantee, Released
from medddist.sharing.hospitals import hospitals
from medddist.sharing.manifest import Made
from medddist.sharing.ways import Setup
from medddist.sharing.writing import Contents, write_package
from medddist.study.private import stated_guarantee
from medddist.study.study import Study

MEASURED = ("distilled", "random_balanced", "full_good", "majority")


def contents_of(study: Study) -> Contents:
    """Return what a package of the first seed's set is made of."""
    profile, guarantee = study.profile, None
    records = {"distillation": profile.distill.as_json(), "teachers": profile.teachers.as_json()}
    made = Made(network=profile.network, evaluation=profile.evaluate, **records)
    distillation = study.distillation()
    if profile.distill.method == "private":
        guarantee = parsed(Released, stated_guarantee(study), "privacy")
    elif profile.teachers.privacy:
        # They are the same in all teachers' files, but for the version of the accountant.
        stated = [teacher.about["privacy"] for teacher in study.teachers()]
        guarantee = parsed(Guarantee, max(stated, key=lambda each: each["epsilon"]), "privacy")
    return Contents(distillation, study.data, profile.seeds[0], made, guarantee)


def measured(study: Study) -> list[dict[str, Any]]:
    """Score the first seed's set and its references on the test part, a row each."""
    alone = study.with_(study.profile.model_copy(update={"seeds": study.profile.seeds[:1]}))
    rows = alone.table(MEASURED)
    return [{"label": row["label"]} | {metric: row[metric] for metric in METRICS} for row in rows]


# ---- hospitals -----------------------------------------------------------------------------------


def hospital_study(study: Study, data: Data) -> Study:
    """Derive one hospital's study, by the profile with its changes for hospitals.

    Raises InputError for changes that do not fit, or that take the guarantee away.
    """
    changed = study.profile.changed(study.profile.hospitals.changes)
    if study.profile.guarantees and not changed.guarantees:
        reason = "teachers.privacy or method is changed there, and packages would be without the"
        raise InputError("hospitals.changes", f"{reason} profile's guarantee", "take it out")
    return study.with_(changed, data)


def sent_packages(study: Study, folder: str | Path) -> dict[str, Path]:
    """Write each hospital's package, distilled from its own data alone, as a .zip in `folder`."""
    own, paths = hospitals(study.data), {}
    for name, file in file_names(own).items():
        paths[name] = Path(folder) / f"{file}.zip"
        stated = {"description": f"Distilled by {name}", "creator": name}
        write_package(paths[name], contents_of(hospital_study(study, own[name])), stated=stated)
    return paths


def inbox_folder(study: Study) -> Path:
    """Return the folder of a study's hospital packages: one for each profile and data."""
    name = study.profile.name
    depends_on = {"profile": study.profile.as_json(), "data": study.data.fingerprint}
    return study.out / "inbox" / f"{file_names([name])[name]}-{digest(depends_on)}"


def setup_of(study: Study) -> Setup:
    """Return what ways to share are compared with, for the hospitals of a study."""
    profile, recipe = study.profile, study.profile.references.good_recipe
    trained = study.data, hospitals(study.data), study.network(), recipe, profile.hospitals
    given = *trained, profile.resamples, study.store, study.device, study.progress
    return Setup(*given, federated="federated_averaging" not in profile.left_out)
