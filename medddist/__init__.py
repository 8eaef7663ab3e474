"""Dataset distillation for medical dataset sharing: a study that can be re-run, and the small
library under it.

The public names are those of `__all__`; they keep their meaning as CONTRIBUTING.md says. All else
may change in any release.

A study, whose steps are cached:

    from medddist import Study, load_profile
    study = Study(load_profile("demo", {"distill.iterations": 50}), "phantom")
    released = study.distillation().distilled        # images (N, C, H, W), labels, step size
    rows = study.table()                             # what they are worth, beside their references

The engine, for a loop of your own, is `segment` and `matching_gradient`, with `load_data`,
`convnet`, `initial_parameters`, `train` and their settings. `open_package` reads what was sent. The
page "Use it from Python" has all of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medddist.base.errors import InputError
    from medddist.data import load_data
    from medddist.method.augment import AugmentSettings
    from medddist.method.distilled import Distilled
    from medddist.method.matching import matching_gradient, segment
    from medddist.method.networks import NetworkSettings, convnet, initial_parameters
    from medddist.method.training import Recipe, train
    from medddist.sharing.reading import open_package
    from medddist.study.profile import load_profile
    from medddist.study.study import Study

__version__ = "0.1.0"

_WHERE = {
    "AugmentSettings": "method.augment",
    "Distilled": "method.distilled",
    "InputError": "base.errors",
    "NetworkSettings": "method.networks",
    "Recipe": "method.training",
    "Study": "study.study",
    "convnet": "method.networks",
    "initial_parameters": "method.networks",
    "load_data": "data",
    "load_profile": "study.profile",
    "matching_gradient": "method.matching",
    "open_package": "sharing.reading",
    "segment": "method.matching",
    "train": "method.training",
}
__all__ = [
    "AugmentSettings",
    "Distilled",
    "InputError",
    "NetworkSettings",
    "Recipe",
    "Study",
    "__version__",
    "convnet",
    "initial_parameters",
    "load_data",
    "load_profile",
    "matching_gradient",
    "open_package",
    "segment",
    "train",
]


def __getattr__(name: str) -> Any:
    """A public name is imported when it is first asked for: `medddist --help` need not wait for
    torch.
    """
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
