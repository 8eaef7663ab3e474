"""Settings: frozen, typed, refused in one line when wrong."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic

from medddist.base.errors import InputError
from medddist.base.files import digest
from medddist.base.names import closest, did_you_mean

MOST_PROPOSED = 3  # settings of the same name in other sections


class Settings(pydantic.BaseModel):
    """Base of all settings. Equal settings have equal digests; unknown names are errors."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def digest(self) -> str:
        """Return sixteen hexadecimal digits that name these settings."""
        return digest(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return all settings as values for JSON."""
        return self.model_dump(mode="json")


S = TypeVar("S", bound=pydantic.BaseModel)


def parsed(kind: type[S], values: dict[str, Any], where: str) -> S:
    """Return `kind(**values)`.

    Raises:
        InputError: about `where`, for the first mistake.
    """
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as invalid:
        raise refusal(kind, invalid, where) from None


def refusal(
    kind: type[pydantic.BaseModel], invalid: pydantic.ValidationError, where: str
) -> InputError:
    """Turn the first mistake of a validation into an error of one line."""
    first = invalid.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        remedy = _remedy(kind, first["loc"])
        return InputError(where, f"{name} is not a setting", remedy)
    given = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ")
    return InputError(where, f"{name or 'settings'}: {message[0].lower()}{message[1:]}{given}")


def _remedy(kind: Any, location: tuple[int | str, ...]) -> str:
    """What to do about an unknown name: one beside it was meant, or one of another section."""
    section, last = ".".join(map(str, location[:-1])), str(location[-1])
    siblings = _siblings(kind, location)
    if meant := closest(last, siblings):
        return did_you_mean(f"{section}.{meant}" if section else meant)
    elsewhere = [name for name in _dotted(kind) if name.rpartition(".")[2] == last]
    if 0 < len(elsewhere) <= MOST_PROPOSED:
        return did_you_mean(" or ".join(elsewhere))
    return f"known here: {', '.join(siblings)}"


def _dotted(kind: Any, prefix: str = "") -> list[str]:
    """The full names of all settings."""
    names = []
    for name, field in kind.model_fields.items():
        inner = hasattr(field.annotation, "model_fields")
        names += _dotted(field.annotation, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return names


def _siblings(kind: Any, location: tuple[int | str, ...]) -> list[str]:
    """The names of the settings beside an unknown one, however deep."""
    for part in location[:-1]:
        field = kind.model_fields.get(part) if hasattr(kind, "model_fields") else None
        kind = field.annotation if field else None
    return sorted(kind.model_fields) if hasattr(kind, "model_fields") else []
