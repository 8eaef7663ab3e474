"""Settings: frozen, typed, refused in one line when wrong, and named by a digest."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic

from medddist.base.errors import InputError
from medddist.base.files import digest


class Settings(pydantic.BaseModel):
    """Base of every step's settings.

    Equal settings have equal digests; an unknown name is an error.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def digest(self) -> str:
        return digest(self.model_dump(mode="json"))

    def as_json(self) -> dict[str, Any]:
        """Return all settings as values for JSON."""
        return self.model_dump(mode="json")


S = TypeVar("S", bound=pydantic.BaseModel)


def parsed(kind: type[S], values: dict[str, Any], where: str) -> S:
    """`kind(**values)`; the first mistake becomes an `InputError` of one line that starts with
    `where`.
    """
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as invalid:
        raise refusal(kind, invalid, where) from None


def refusal(
    kind: type[pydantic.BaseModel], invalid: pydantic.ValidationError, where: str
) -> InputError:
    """The first mistake in one line."""
    first = invalid.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return InputError(
            where,
            f"{name} is not a setting",
            f"known here: {', '.join(_siblings(kind, first['loc']))}",
        )
    given = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r}"
    return InputError(where, f"{name or 'settings'}: {_plain(first['msg'])}{given}")


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _siblings(kind, location) -> list[str]:
    """The field names known beside an unknown one, however deep."""
    for part in location[:-1]:
        field = kind.model_fields.get(part) if hasattr(kind, "model_fields") else None
        kind = field.annotation if field else None
    return sorted(kind.model_fields) if hasattr(kind, "model_fields") else []
