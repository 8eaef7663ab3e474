"""Work that is counted from settings against the work that the comparison really does."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from test_compare import tiny
from test_work import Done

from medddist.comparison import contenders
from medddist.comparison.contenders import CONDENSED, SELF_SUPERVISED
from medddist.comparison.shared import network_named
from medddist.comparison.tables import measured, missing
from medddist.comparison.work import row_work
from medddist.study import labels
from medddist.study.work import shape_of

CHANGES = {
    "compare.contrastive_networks": ["convnet"],
    "compare.unseen_networks": ["mlp"],
    "compare.evaluation_seeds": 3,
    "compare.tuning_networks": 2,
}


@pytest.fixture
def done(monkeypatch) -> Done:
    """Counts the calls of networks, pretraining steps and condensing iterations from now on."""
    done = Done(monkeypatch)
    names = {loop: name for name, loop in (SELF_SUPERVISED | CONDENSED).items()}
    done.count(
        contenders,
        "pretrain",
        lambda network, method, images, settings, steps, *_: (names[method], network, steps),
    )
    done.count(
        contenders,
        "condense",
        lambda loss, network, real, initial, settings, iterations, *_: (
            names[loss],
            network,
            iterations,
        ),
    )
    return done


def test_rows_do_the_work_that_is_counted(tmp_path, done):
    study = tiny(tmp_path, **CHANGES)
    profile, shape = study.profile, shape_of(study.data)
    study.distillation()
    labels.well_trained(study)  # whose features choose images
    rows = missing(study)
    assert {row.method for row in rows} == {
        *("distilled", "random_real", "random_natural", "herding", "k_means"),
        *(*CONDENSED, *SELF_SUPERVISED),
    }
    for row in rows:
        done.take()
        measured(study, row)
        counted = Counter()
        for unit, amount in row_work(profile, shape, row).items():
            network = network_named(unit.network, profile, shape[3:], torch.device("cpu"))
            counted[unit.what, type(network.module).__name__] += amount
        assert done.take() == counted, row
    assert missing(study) == []


def test_naming_a_row_creates_no_folder(tmp_path):
    assert missing(tiny(tmp_path)) and not list(tmp_path.iterdir())
