"""The receiver's side: networks trained on a package, scored on your own data, and kept."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from medddist.base.errors import InputError, require, shown
from medddist.base.files import write_bytes, write_json
from medddist.base.names import closest, did_you_mean
from medddist.base.progress import Progress, silent
from medddist.base.settings import parsed
from medddist.data import Data, DataSettings, Scaling, load_data
from medddist.measure import metrics
from medddist.method.evaluate import probabilities
from medddist.method.networks import Network
from medddist.sharing.manifest import Manifest

OURS = re.compile(r"network_\d+\.(safetensors|onnx)")  # what `save` writes
OPSET = 17  # of ONNX: what runtimes of 2022 and later know


@dataclass(frozen=True)
class Trained:
    """Networks trained on a package."""

    manifest: Manifest = field(repr=False)
    package_id: str
    network: Network = field(repr=False)
    parameters: list[Tensor] = field(repr=False)  # (P,) each

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return (R, N, K) class probabilities of R networks for images (N, C, S, S) uint8."""
        images = torch.from_numpy(self.manifest.pixels.scaling.apply(pixels))
        return probabilities(self.network, self.parameters, images.to(self.parameters[0].device))

    def scores(self, data: Data, resamples: int = 1000) -> dict[str, Any]:
        """Score on the test part of data made by `own_data`, by `metrics.score`."""
        test, names, answers = data.test, data.class_names, self.probabilities(data.test.images)
        return metrics.score(answers, test.labels, test.groups, names, resamples=resamples)

    def save(self, folder: str | Path) -> list[Path]:
        """Write each network as network_K.safetensors, with about.json beside; return the files.

        Where the package onnx is installed, each network is also written as network_K.onnx.
        Networks of an earlier training in this folder are removed.
        """
        folder, paths = Path(folder), []
        about = {"package": self.package_id, "class_names": list(self.manifest.class_names)}
        parts = {"network": self.manifest.settings.network, "pixels": self.manifest.pixels}
        about |= {name: part.as_json() for name, part in parts.items()}
        write_json(folder / "about.json", about)
        for k, theta in enumerate(self.parameters):
            named = self.network.named(theta).items()
            weights = {name: value.cpu().contiguous() for name, value in named}
            paths.append(folder / f"network_{k}.safetensors")
            write_bytes(paths[-1], save(weights, metadata={"package": self.package_id}))
            if importlib.util.find_spec("onnx"):
                paths.append(folder / f"network_{k}.onnx")
                write_bytes(paths[-1], self._as_onnx(theta))
        for place in folder.glob("network_*.*"):
            if place not in paths and OURS.fullmatch(place.name):
                place.unlink()
        return [*paths, folder / "about.json"]

    def _as_onnx(self, theta: Tensor) -> bytes:
        """Pixels (N, C, S, S) float32 in [0, 1] -> probabilities (N, K), scaling included.

        The metadata names the classes, a JSON list in the order of the probabilities.
        """
        import onnx  # an optional extra

        scaling, exported = self.manifest.pixels.scaling, io.BytesIO()
        module = _FromPixels(self.network.loaded(theta), scaling).cpu().eval()
        example = torch.zeros(1, *self.manifest.shape[1:])
        names = {"input_names": ["pixels"], "output_names": ["probabilities"]}
        axes = {name: {0: "images"} for name in ("pixels", "probabilities")}
        how = {**names, "dynamic_axes": axes, "opset_version": OPSET, "dynamo": False}
        with warnings.catch_warnings():
            # The exporter by tracing is deprecated; the new one needs two more packages, and
            # seconds per network.
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (example,), exported, **how)
        self.network.module.to(theta.device)
        model = onnx.load_model_from_string(exported.getvalue())
        class_names = json.dumps(self.manifest.class_names, ensure_ascii=False)
        about = {"package": self.package_id, "class_names": class_names}
        onnx.helper.set_model_props(model, about)
        return model.SerializeToString()


class _FromPixels(nn.Module):
    def __init__(self, network: nn.Module, scaling: Scaling):
        super().__init__()
        self.network, self.scaling = network, scaling

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(self.scaling.apply(pixels)).softmax(1)


def own_data(
    manifest: Manifest,
    source: str | Path,
    changes: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Data:
    """Read a receiver's data at the package's size and channels, with its order of classes.

    Args:
        manifest: the package's.
        source: the data, as `load_data` takes it.
        changes: further settings of how the data are read, by name.
        progress: called while images are read.

    Raises:
        InputError: for data that `load_data` refuses, and unless the classes are the package's.
    """
    package = manifest.pixels.model_dump(include={"image_size_px", "channels"})
    for name in sorted(package.keys() & (changes or {}).keys()):
        raise InputError(f"data.{name}", f"is the package's, {package[name]}", "leave it out")
    settings = parsed(DataSettings, {**(changes or {}), **package}, "data")
    data = load_data(source, settings, progress=progress)
    require_classes(data.class_names, manifest.class_names, shown(source))
    order = np.array([manifest.class_names.index(name) for name in data.class_names])
    parts = {name: replace(part, labels=order[part.labels]) for name, part in data.parts().items()}
    return replace(data, **parts, class_names=manifest.class_names)


def require_classes(own: Sequence[str], theirs: Sequence[str], source: str) -> None:
    """Require a receiver's classes to be the package's, in any order.

    Raises:
        InputError: they differ; it proposes the package's name for one that is spelt like it.
    """
    listed = lambda names: shown(", ".join(names))[:200]
    reason = f"its classes are {listed(own)}, the package's are {listed(theirs)}"
    missing = [name for name in theirs if name not in own]
    meant = {name: closest(name, missing) for name in own if name not in theirs}
    name = next((name for name, close in meant.items() if close), "")
    hint = f": for {shown(name)!r}, {did_you_mean(shown(meant[name]))}" if name else ""
    require(set(own) == set(theirs), source, reason, f"give both the same names{hint}")
