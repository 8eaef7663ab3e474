"""Import torchvision beside a torch of another build.

The package registry's torchvision is built for CUDA. Beside a CPU-only torch its compiled part
cannot be loaded, and then `import torchvision` fails while it describes operators that nobody
declared. Declaring the two it asks for first mends that: transforms, models, datasets and utils
work; `ops.nms` and the decoders of `torchvision.io` do not.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # a library that is collected takes its operators along


@functools.cache
def import_torchvision() -> ModuleType:
    """Import torchvision, whatever build it is, before others do; see above for what works."""
    if not _compiled_part_loads():
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
    import torchvision  # after it is mended

    return torchvision


def _compiled_part_loads() -> bool:
    """Whether torchvision's own extension can be loaded; where it can, it now is."""
    package = importlib.util.find_spec("torchvision")
    folders = package.submodule_search_locations or [] if package else []
    for library in sorted(path for folder in folders for path in Path(folder).glob("_C*.*")):
        try:
            torch.ops.load_library(str(library))
            return True
        except OSError:
            continue
    return False
