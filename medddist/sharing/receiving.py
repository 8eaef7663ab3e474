"""The receiver's side: networks trained on a package, scored on data of one's own, and kept."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from medddist.base.compute import device_named, use_full_precision
from medddist.base.errors import InputError, shown
from medddist.base.files import replaced_atomically, write_bytes, write_json
from medddist.base.progress import Progress, silent
from medddist.base.settings import parsed
from medddist.data import Data, DataSettings, Scaling, load_data
from medddist.measure import metrics
from medddist.method.evaluate import probabilities, trained_networks
from medddist.method.networks import Network
from medddist.method.training import Diverged
from medddist.sharing.reading import Package

OPSET = 17  # of ONNX: what runtimes of 2022 and later know


def trained(package: Package, networks: int | None, device: str, progress: Progress) -> Trained:
    """As the sender trained its own to measure the set: on one kind of machine, to the same bits."""
    use_full_precision()
    place, network = device_named(device), package.network()
    network.module.to(place)
    evaluation = package.manifest.settings.evaluation
    sets = package.images.to(place), package.targets.to(place)
    count = networks or evaluation.networks
    try:
        found = trained_networks(
            network, *sets, package.recipe, count, package.manifest.training_seed, progress
        )
    except Diverged:
        raise InputError(
            f"package {package.id[:12]}",
            f"training on it diverges at its step size {package.step_size:.3g}",
            "ask the sender",
        ) from None
    return Trained(package, network, found)


@dataclass(frozen=True)
class Trained:
    """Networks trained on a package."""

    package: Package
    network: Network
    parameters: list[Tensor]  # (P,) each

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """(R, N, K) class probabilities of R networks for images (N, C, S, S) uint8."""
        images = torch.from_numpy(self.package.manifest.pixels.scaling.apply(pixels))
        return probabilities(self.network, self.parameters, images.to(self.parameters[0].device))

    def scores(self, data: Data, resamples: int = 1000) -> dict[str, Any]:
        """`metrics.score` on the test part of data made by `own_data`."""
        test = data.test
        return metrics.score(
            self.probabilities(test.images),
            test.labels,
            test.groups,
            data.class_names,
            resamples=resamples,
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Each network as network_K.safetensors, and network_K.onnx where the package onnx is
        installed; about.json beside.
        """
        folder, paths = Path(folder), []
        about = {
            "package": self.package.id,
            "class_names": list(self.package.class_names),
            "network": self._settings(),
            "pixels": self.package.manifest.pixels.model_dump(mode="json"),
        }
        write_json(folder / "about.json", about)
        for k, theta in enumerate(self.parameters):
            named = {
                name: value.cpu().contiguous() for name, value in self.network.named(theta).items()
            }
            paths.append(folder / f"network_{k}.safetensors")
            write_bytes(paths[-1], save(named, metadata={"package": self.package.id}))
            if importlib.util.find_spec("onnx"):
                paths.append(folder / f"network_{k}.onnx")
                self._export(theta, paths[-1])
        return [*paths, folder / "about.json"]

    def _settings(self) -> dict[str, Any]:
        return self.package.manifest.settings.network.model_dump(mode="json")

    def _export(self, theta: Tensor, path: Path) -> None:
        """Pixels (N, C, S, S) float32 in [0, 1] -> probabilities (N, K): the scaling is in it, so
        that nobody forgets it.
        """
        pixel = self.package.manifest.pixels
        module = _FromPixels(self.network.loaded(theta), pixel.scaling).cpu().eval()
        example = torch.zeros(1, pixel.channels, pixel.image_size_px, pixel.image_size_px)
        with replaced_atomically(path) as temporary, warnings.catch_warnings():
            # The exporter by tracing is the small one: the other needs two packages more, and
            # seconds a network.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (example,),
                str(temporary),
                dynamo=False,
                opset_version=OPSET,
                input_names=["pixels"],
                output_names=["probabilities"],
                dynamic_axes={"pixels": {0: "images"}, "probabilities": {0: "images"}},
            )
        self.network.module.to(theta.device)


class _FromPixels(nn.Module):
    def __init__(self, network: nn.Module, scaling: Scaling):
        super().__init__()
        self.network, self.scaling = network, scaling

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(self.scaling.apply(pixels)).softmax(1)


def own_data(
    package: Package,
    source: str | Path,
    changes: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Data:
    """A receiver's data at the package's size and channels, its classes in the package's order.

    Raises InputError for data that `load_data` refuses, and unless its classes are the package's.
    """
    pixels = package.manifest.pixels
    for name in sorted({"image_size_px", "channels"} & (changes or {}).keys()):
        raise InputError(
            f"data.{name}", f"is the package's, {getattr(pixels, name)}", "leave it out"
        )
    values = dict(changes or {}) | {
        "image_size_px": pixels.image_size_px,
        "channels": pixels.channels,
    }
    data = load_data(source, parsed(DataSettings, values, "data"), progress=progress)
    if set(data.class_names) != set(package.class_names):
        theirs, mine = (
            shown(", ".join(names))[:200] for names in (package.class_names, data.class_names)
        )
        raise InputError(
            shown(source), f"its classes are {mine}, the package's are {theirs}", "name them alike"
        )
    order = np.array([package.class_names.index(name) for name in data.class_names])
    parts = {name: replace(part, labels=order[part.labels]) for name, part in data.parts().items()}
    return replace(data, **parts, class_names=package.class_names)
