"""Where transfer comes from: a weights file that is there, missing or another's; the site that it
learns at; the budget.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medddist.base.errors import InputError, NotApplicable
from medddist.base.seeds import generator
from medddist.baselines.transfer import (
    IMAGENET_FILE,
    ImageNetResNet18,
    imagenet_network,
    imagenet_weights,
    recipe_of_budget,
    source_site,
)
from medddist.baselines.vision import import_torchvision
from medddist.data.parts import Data, Part
from medddist.method.training import Recipe


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in torchvision's form, with made-up values."""
    torchvision = import_torchvision()
    module = torchvision.models.resnet18(weights=None)
    for number, (name, value) in enumerate(module.state_dict().items()):
        if value.is_floating_point() and "running_var" not in name:
            value.copy_(0.05 * torch.randn(value.shape, generator=generator("weights", number)))
    path = tmp_path_factory.mktemp("weights") / IMAGENET_FILE
    torch.save(module.state_dict(), path)
    return path, module.eval()


def test_features_are_torchvisions(weights):
    path, theirs = weights
    theirs.fc = nn.Identity()
    ours = imagenet_network(path, 4)
    grey = torch.randn(2, 1, 64, 64, generator=generator("grey"))
    with torch.no_grad():
        torch.testing.assert_close(ours.module.features(grey), theirs(grey.repeat(1, 3, 1, 1)))


def test_the_batch_has_no_say_and_its_statistics_stay(weights):
    network = imagenet_network(weights[0], 3)
    theta = torch.cat([p.detach().flatten() for p in network.module.parameters()])
    x = torch.randn(3, 1, 32, 32, generator=generator("grey"))
    before = {name: value.clone() for name, value in network.module.named_buffers()}
    torch.testing.assert_close(network(theta, x)[:1], network(theta, x[:1]), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.module.named_buffers())


def test_missing_weights_are_unavailable_and_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(NotApplicable, match=f"{IMAGENET_FILE} is not in torchvision's cache"):
        imagenet_weights(None)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / IMAGENET_FILE).touch()
    assert imagenet_weights(None).name == IMAGENET_FILE


def test_a_given_file_that_is_not_there_is_a_mistake_not_a_gap(tmp_path):
    with pytest.raises(InputError, match="^compare.imagenet_weights: "):
        imagenet_weights(str(tmp_path / "nothing.pth"))


@pytest.mark.parametrize("content", ["empty", "text", "other", "object"])
def test_a_file_that_holds_something_else_is_named(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content in ("empty", "text"):
        path.write_bytes(b"" if content == "empty" else b"not weights")
    else:
        torch.save({"a": torch.zeros(1)} if content == "other" else {"a": Recipe}, path)
    with pytest.raises(InputError, match="weights.pth: holds ") as refused:
        imagenet_network(path, 4)
    assert "\n" not in str(refused.value)


def data_with(origins, labels) -> Data:
    part = Part(
        np.zeros((len(labels), 1, 8, 8), np.uint8),
        np.array(labels),
        np.arange(len(labels)),
        None if origins is None else np.array(origins),
    )
    return Data(part, part, part, ("a", "b", "c"), "f", "s", ("north", "south", "west"))


def test_the_source_is_the_largest_site_with_several_classes():
    indices, labels, name = source_site(
        data_with([0, 0, 0, 0, 1, 1, 1, 2], [1, 1, 1, 1, 0, 2, 2, 0])
    )
    assert (indices.tolist(), labels.tolist(), name) == ([4, 5, 6], [0, 1, 1], "south")


@pytest.mark.parametrize(
    "origins, told", [(None, "does not say which site"), ([0, 0, 1, 1], "one class alone")]
)
def test_without_such_a_site_it_is_unavailable(origins, told):
    with pytest.raises(NotApplicable, match=told):
        source_site(data_with(origins, [0, 0, 1, 1]))


@pytest.mark.parametrize(
    "images, processed, epochs", [(100, 1000, 10), (100, 40, 1), (300, 1000, 3)]
)
def test_the_budget_decides_the_epochs(images, processed, epochs):
    recipe = recipe_of_budget(Recipe(), 0.5, images, processed)
    assert (recipe.epochs, recipe.learning_rate) == (epochs, 0.5)


def test_the_module_takes_colour_as_it_is():
    assert ImageNetResNet18(2)(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
