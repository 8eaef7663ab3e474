"""The page "Train in your browser": its network is the library's, its training learns, its parts
can be used by everyone.

In headless Chromium where it is installed, from files and without a network; no book is built for
it. Screenshots for whoever wants to look: build/screenshots/train-*.png.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import test_browser
from medddist import open_package
from medddist.method.augment import AugmentSettings, Draws, augment
from medddist.method.fast.derivatives import gradient
from medddist.method.networks import NetworkSettings, convnet, initial_parameters
from test_browser import browser  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "book" / "assets" / "train"
SETTINGS = {"size_px": 32, "width": 4, "depth": 3, "classes": 4}
MOST_BYTES = 2 * 2**20  # of all that the page adds
SECONDS = 900  # a shortened training on a busy machine; a few on a quiet one

pytestmark = test_browser.pytestmark


def plain(tensor) -> list:
    return tensor.flatten().tolist()


@pytest.fixture(scope="module")
def bare(browser, tmp_path_factory):  # noqa: F811
    """A page with nothing but the network."""
    page = tmp_path_factory.mktemp("bare") / "bare.html"
    page.write_text(f'<!doctype html><script src="{(FILES / "network.js").as_uri()}"></script>')
    browser.get(page.as_uri())
    return browser


# ---- the network is the library's --------------------------------------------------------------

LOSS = """
const [settings, theta, images, labels] = arguments, nets = convNets();
const net = nets.createNetwork(settings);
net.theta.set(theta);
const loss = nets.lossAndSlopes(net, Float32Array.from(images), labels);
return [loss, [...net.slopes], [...nets.predict(net, Float32Array.from(images), labels.length)]];
"""


def test_loss_and_slopes_are_those_of_pytorch(bare):
    network = convnet(NetworkSettings(width=4, depth=3), 1, 4, 32)
    theta = initial_parameters(network, "browser test").double()
    theta += 0.1 * torch.randn(len(theta), generator=torch.manual_seed(0), dtype=torch.float64)
    images = torch.randn(6, 1, 32, 32, generator=torch.manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 1, 0])
    loss, slope = gradient(network, theta, images, labels)
    wanted = named_without_biases(network, slope)
    given = named_without_biases(network, theta)
    there = bare.execute_script(LOSS, SETTINGS, plain(given), plain(images), labels.tolist())
    assert there[0] == pytest.approx(float(loss), rel=1e-5)
    assert np.abs(np.array(there[1]) - wanted.numpy()).max() < 1e-5 * float(wanted.abs().max())
    assert there[2] == network(theta, images).argmax(1).tolist()


def named_without_biases(network, vector):
    """The parameters in the page's order, without the convolutions' biases, which the norm takes."""
    parts = network.named(vector)
    return torch.cat(
        [
            part.flatten()
            for name, part in parts.items()
            if not re.fullmatch(r"convolutions\.\d+\.bias", name)
        ]
    )


AUGMENT = """
const [images, draws, settings] = arguments;
return [...convNets().augment(Float32Array.from(images), 32, Float32Array.from(draws), settings)];
"""


def test_augmentation_is_that_of_the_library(bare):
    images = torch.randn(5, 1, 32, 32, generator=torch.manual_seed(2))
    draws = torch.rand(5, 9, generator=torch.manual_seed(3)) * 2 - 1
    settings = AugmentSettings()
    wanted = augment(images, Draws(draws), settings)
    there = bare.execute_script(AUGMENT, plain(images), plain(draws), settings.as_json())
    assert np.abs(np.array(there) - wanted.flatten().numpy()).max() < 1e-4
