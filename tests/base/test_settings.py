"""Settings are frozen, named by a digest, and refused in one line that names what is wrong."""

from __future__ import annotations

import pydantic
import pytest
from pydantic import Field

from medddist.base.errors import InputError
from medddist.base.settings import Settings, parsed
from medddist.method.augment import AugmentSettings
from medddist.method.training import Recipe


class Inner(Settings):
    depth: int = Field(3, ge=1)


class Outer(Settings):
    rate: float = Field(0.1, gt=0)
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1,)


def refused(values) -> str:
    with pytest.raises(InputError) as error:
        parsed(Outer, values, "profile x")
    message = str(error.value)
    assert message.startswith("profile x: ") and "\n" not in message
    return message


def test_equal_settings_have_equal_digests_however_written():
    assert (
        Outer(rate=1).digest()
        == parsed(Outer, {"rate": "1.0", "inner": {"depth": 3}}, "x").digest()
    )
    assert Outer(rate=1).digest() != Outer(rate=2).digest()
    assert Outer(inner=Inner(depth=2)).digest() != Outer().digest()


def test_settings_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError):
        Outer().rate = 3.0


@pytest.mark.parametrize(
    "values, named",
    [
        ({"rote": 1}, ["rote", "rate"]),
        ({"inner": {"deep": 1}}, ["inner.deep", "depth"]),
        ({"rate": 0}, ["rate", "greater than 0", "got 0"]),
        ({"rate": float("nan")}, ["rate", "finite"]),
        ({"rate": "fast"}, ["rate", "'fast'"]),
        ({"rate": None}, ["rate", "None"]),
        ({"rate": "a\nb"}, ["rate"]),
        ({"inner": {"depth": 0}}, ["inner.depth", "got 0"]),
        ({"inner": {"depth": 2.5}}, ["inner.depth", "2.5"]),
        ({"inner": 5}, ["inner", "5"]),
        ({"inner": None}, ["inner", "None"]),
        ({"sizes": [1, "x"]}, ["sizes.1", "'x'"]),
        ({"sizes": 3}, ["sizes", "3"]),
        ({3: 4}, ["3"]),
        ({"inner": {3: 4}}, ["inner"]),
        ({None: 1}, ["None"]),
    ],
)
def test_a_mistake_is_one_line_that_names_it(values, named):
    message = refused(values)
    assert all(text in message for text in named), message


def test_the_packages_own_settings_refuse_nonsense():
    for kind, values in [
        (Recipe, {"momentum": 1}),
        (Recipe, {"schedule": "linear"}),
        (Recipe, {"augmentation": {"shift": -1}}),
        (Recipe, {"epochs": 0}),
        (AugmentSettings, {"contrast": 1}),
        (AugmentSettings, {"scale": float("inf")}),
    ]:
        with pytest.raises(InputError, match=next(iter(values))):
            parsed(kind, values, "x")
