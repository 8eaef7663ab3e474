"""The page "Train in your browser": its network is the library's, its training learns, its parts
can be used by everyone.

In headless Chromium where it is installed, from files and without a network; no book is built for
it. test_browser.py looks at the page in the book.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import test_browser
import torch
from test_browser import browser  # noqa: F401

from medddist.method.augment import AugmentSettings, Draws, augment
from medddist.method.fast.derivatives import gradient
from medddist.method.networks import NetworkSettings, convnet, initial_parameters

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "book" / "assets" / "train"
SETTINGS = {"size_px": 32, "width": 4, "depth": 3, "classes": 4}
MOST_BYTES = 2 * 2**20  # of all that the page adds
SECONDS = 900  # for a training of 50 steps on a busy machine; a quiet one needs 10 to 20
REACHED = 0.4  # of the test images after these; chance is 0.25, five standard errors below


def in_browser(test):
    for mark in test_browser.pytestmark:
        test = mark(test)
    return test


def plain(tensor) -> list:
    return tensor.flatten().tolist()


@pytest.fixture(scope="module")
def bare(browser, tmp_path_factory):  # noqa: F811
    """A page with nothing but the network."""
    page = tmp_path_factory.mktemp("bare") / "bare.html"
    page.write_text(f'<!doctype html><script src="{(FILES / "network.js").as_uri()}"></script>')
    browser.get(page.as_uri())
    return browser


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):  # noqa: F811
    """The page's own part of it, without the book around."""
    text = (ROOT / "book" / "train.md").read_text(encoding="utf-8")
    block = re.search(r"```\{raw\} html\n(.*?)```", text, re.DOTALL)[1]
    block = block.replace("_static/", f"{FILES.parent.as_uri()}/")
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(f"<!doctype html><html lang=en><title>Train</title>{block}", encoding="utf-8")
    loaded = test_browser.load(browser, file)
    assert not loaded["console"] and all(url.startswith("file:") for url in loaded["asked"])
    return browser


# ---- the network is the library's --------------------------------------------------------------

LOSS = """
const [settings, theta, images, labels] = arguments, nets = convNets();
const net = nets.createNetwork(settings);
net.theta.set(theta);
const loss = nets.lossAndSlopes(net, Float32Array.from(images), labels);
return [loss, [...net.slopes], [...nets.predict(net, Float32Array.from(images), labels.length)]];
"""


@in_browser
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
    """The parameters in the page's order, without biases of convolutions, which the norm takes."""
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


@in_browser
def test_augmentation_is_that_of_the_library(bare):
    images = torch.randn(5, 1, 32, 32, generator=torch.manual_seed(2))
    draws = torch.rand(5, 9, generator=torch.manual_seed(3)) * 2 - 1
    settings = AugmentSettings()
    wanted = augment(images, Draws(draws), settings)
    there = bare.execute_script(AUGMENT, plain(images), plain(draws), settings.as_json())
    assert np.abs(np.array(there) - wanted.flatten().numpy()).max() < 1e-4


# ---- the page ----------------------------------------------------------------------------------


def until(browser, done) -> None:  # noqa: F811
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, SECONDS, poll_frequency=1).until(done)


def text(browser, name: str) -> str:  # noqa: F811
    return browser.find_element("id", f"train-{name}").text


def press(browser, *keys: str) -> None:  # noqa: F811
    browser.switch_to.active_element.send_keys(*keys)


@in_browser
def test_a_shortened_training_by_keyboard_learns_and_is_told(page):
    from selenium.webdriver.common.keys import Keys

    page.find_element("css selector", "input[value=distilled]").send_keys(Keys.TAB)
    press(page, Keys.HOME)  # the fewest steps
    press(page, Keys.TAB)
    press(page, Keys.ENTER)
    until(page, lambda _: text(page, "status").startswith(("Finished", "Training failed")))
    assert text(page, "step").startswith("Step 50 of 50")
    reached = int(text(page, "all-distilled").split()[0]) / 100
    by_class = [int(text(page, f"class-{k}-distilled").split()[0]) for k in range(4)]
    tested = 4 * stated()["test_images_per_class"]
    assert reached > REACHED, text(page, "status")
    assert reached == pytest.approx(sum(by_class) / tested, abs=0.0051)
    curve = page.find_element("css selector", "#train-curve svg").get_attribute("aria-label")
    assert f"{round(100 * reached)}\u00a0% after 50 steps" in curve and "not trained yet" in curve
    assert not [line for line in page.get_log("browser") if line["level"] == "SEVERE"]


@in_browser
def test_stopping_gives_the_keyboard_back_to_the_start(page):
    from selenium.webdriver.common.keys import Keys

    start = page.find_element("id", "train-start")
    start.send_keys(Keys.ENTER)
    page.find_element("id", "train-stop").send_keys(Keys.ENTER)
    assert text(page, "status") == "Stopped."
    assert page.switch_to.active_element == start and start.is_enabled()


@in_browser
def test_the_other_images_are_shown_on_demand(page):
    first = page.execute_script("return document.querySelector('#train-images canvas').toDataURL()")
    page.find_element("css selector", "input[value=random]").click()
    then = page.execute_script("return document.querySelector('#train-images canvas').toDataURL()")
    assert first != then and text(page, "caption") == "The 80 random images"
    described = page.execute_script(
        "return [...document.querySelectorAll('#train-images canvas')].map(c => c.ariaLabel)"
    )
    assert len(described) == 4 and described[0] == "20 random images of the class COVID"


# ---- its files ---------------------------------------------------------------------------------


def stated() -> dict:
    return json.loads((FILES / "about.json").read_text(encoding="utf-8"))


def pixels(name: str) -> np.ndarray:
    line = re.search(rf"^  {name}: (.*),$", (FILES / "data.js").read_text(), re.MULTILINE)[1]
    levels = np.frombuffer(base64.b64decode(json.loads(line)["pixels"]), np.uint8)
    return levels.reshape(-1, 32, 32)


def test_the_files_are_small_and_agree():
    assert sum(file.stat().st_size for file in FILES.iterdir()) < MOST_BYTES
    script = (FILES / "data.js").read_text(encoding="utf-8")
    assert json.loads(re.search(r"TRAINING_ABOUT = (.*);", script)[1]) == stated()
    assert stated()["source"] == "phantom"
    assert len(pixels("distilled")) == len(pixels("random")) == 80
    assert len(pixels("test")) == 4 * stated()["test_images_per_class"] == 200  # as the page says


@pytest.mark.slow
def test_the_five_lines_open_the_package_of_the_images_shown(monkeypatch):
    page = (ROOT / "book" / "train.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line]) == 5
    monkeypatch.chdir(FILES)
    ran: dict = {}
    exec(lines, ran)
    package = ran["package"]
    assert package.manifest.simulated and len(ran["trained"].parameters) == 1
    levels = package.manifest.pixels.scaling.levels(package.images)[:, 0].numpy()
    order = np.argsort(package.targets.numpy(), kind="stable")
    assert np.array_equal(levels[order], pixels("distilled"))
