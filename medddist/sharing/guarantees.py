"""What a package may state of differential privacy, by the way it was made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, PositiveFloat, Tag, model_validator

from medddist.base.settings import Settings
from medddist.method.private.release import MECHANISM, MOST_DELTA, SENSITIVITY, epsilon_by_formula


def printable(text: str) -> str:
    """Return a text of one line. Raises ValueError for characters that do not print."""
    if not text.isprintable():
        raise ValueError("holds characters that do not print; write one line of plain text")
    return text


Text = Annotated[str, Field(max_length=2000), AfterValidator(printable)]


class Guarantee(Settings):
    """Differential privacy of everything in the package, with what its epsilon was composed of.

    See `medddist.method.private.dp_sgd`.
    """

    epsilon: PositiveFloat
    delta: float = Field(gt=0, lt=1)
    unit: Text
    composed: dict[Text, Annotated[int, Field(ge=1)]]
    noise_multiplier: PositiveFloat
    max_grad_norm: PositiveFloat
    sample_rate: float = Field(gt=0, lt=1)
    sampling: Text
    accountant: Text


class Released(Settings):
    """Differential privacy of everything in the package, by one noisy release of clipped sums.

    `neighbours` are data sets with one `unit` more or less, of any class: labels and numbers of
    images are covered too. Public is the recipe in `settings.distillation`, networks made of the
    phantom included, that a package could be made at all, and class names. Where the unit is a
    patient, an image without a patient's name counts as one. See `medddist.method.private.release`.
    """

    epsilon: PositiveFloat
    delta: float = Field(gt=0, le=MOST_DELTA)
    unit: Literal["image", "patient"]
    neighbours: Literal["one more or one less"]
    mechanism: Literal[MECHANISM]
    noise_scale: PositiveFloat  # standard deviation, in integer units
    sensitivity: Literal[SENSITIVITY]  # L2, in integer units
    numbers: int = Field(gt=0)  # that were released
    accountant: Text
    ledger: bool = False  # whether releases from the same data are added up by their owner

    @model_validator(mode="after")
    def _epsilon_follows(self):
        follows = epsilon_by_formula(self.noise_scale / self.sensitivity, self.delta)
        if not follows <= self.epsilon * (1 + 1e-6):
            stated = f"epsilon {self.epsilon:g} does not follow from noise_scale and sensitivity"
            raise ValueError(f"{stated}, which give {follows:g}")
        return self


def _way(stated: Any) -> str:
    """Which of the two a statement is: only a release names its mechanism."""
    is_value = isinstance(stated, dict)
    named = "mechanism" in stated if is_value else hasattr(stated, "mechanism")
    return "release" if named else "training"


Privacy = Annotated[
    Annotated[Guarantee, Tag("training")] | Annotated[Released, Tag("release")], Discriminator(_way)
]
