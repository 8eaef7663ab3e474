"""Dataset distillation for medical dataset sharing: a study that can be re-run, and the small
library under it.

The public names are those of `__all__`; they keep their meaning as CONTRIBUTING.md says. All else
may change in any release.

    from medddist import Study, load_profile
    study = Study(load_profile("demo", {"distill.iterations": 50}), "phantom")
    released = study.distillation().distilled        # images (N, C, H, W), labels, step size
    rows = study.table()                             # what they are worth, beside their references
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medddist.base.errors import InputError
    from medddist.data import load_data
    from medddist.sharing.reading import open_package
    from medddist.study.profile import load_profile
    from medddist.study.study import Study

__version__ = "0.1.0"
__all__ = ["InputError", "Study", "__version__", "load_data", "load_profile", "open_package"]

_WHERE = {
    "InputError": "base.errors",
    "Study": "study.study",
    "load_data": "data",
    "load_profile": "study.profile",
    "open_package": "sharing.reading",
}


def __getattr__(name: str) -> Any:
    """A public name is imported when it is first asked for: `medddist --help` need not wait for
    torch.
    """
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
