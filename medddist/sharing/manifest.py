"""What a package says of itself: its manifest, and the limits that a reader holds it to.

The models are the one description of the format: `manifest.schema.json` beside this file is
    published from them.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from medddist.base.errors import InputError, shown
from medddist.base.settings import Settings, refusal
from medddist.data import Scaling
from medddist.method.evaluate import EvaluateSettings
from medddist.method.networks import NetworkSettings
from medddist.method.private.dp_sgd import public_scaling

FORMAT, VERSION = "medddist package", 1
MANIFEST, SIGNATURE, DATA, CARD = "manifest.json", "manifest.sig", "data.safetensors", "README.md"
MAX_MANIFEST_BYTES = 2**20
MAX_BYTES = 2**30  # of all files together: 20,000 images of 112 px, a thousand times what is sent
MAX_FILES = 64
MAX_CLASSES = 10_000
MAX_WIDTH, MAX_EPOCHS, MAX_NETWORKS = (
    1024,
    100_000,
    1000,
)  # a package may not make its receiver compute for years
MAX_MESSAGE = 300  # of a reason, in characters: part of it may be what the package wrote
NOT_MEASURED, NOT_COMPARED, WITHHELD = "not measured", "not compared", "withheld"
# of 255: a root mean square over pixels that nobody sees; an image that near to a real one is a
# copy of it
COPY_LEVELS = 2


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that do not print; write one line of plain text")
    return text


Text = Annotated[str, Field(max_length=2000), AfterValidator(_printable)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class File(Settings):
    bytes: int = Field(ge=0, le=MAX_BYTES)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Pixels(Settings):
    """How pixels in [0, 1] become what the network sees: (value - mean) / std, by channel."""

    image_size_px: int = Field(ge=8, le=1024)
    channels: Literal[1, 3]
    mean: tuple[Share, ...]
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...]

    @model_validator(mode="after")
    def _one_of_each_channel(self):
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need {self.channels} values, one a channel")
        return self

    @property
    def scaling(self) -> Scaling:
        """Mean and standard deviation as the value that applies and inverts them."""
        return Scaling(self.mean, self.std)


class Source(Settings):
    """The data that was distilled.

    The fingerprint is a SHA-256 over all pixels, labels and parts: there is no way back from it to
    an image, and one image cannot be tried against it without all others. It is not salted, so
    whoever has the whole data set, a public one, can tell that it was this; the card says so. Both
    are exact, and withheld where a guarantee is stated.
    """

    fingerprint: str = Field(pattern="^([0-9a-f]{32}|withheld)$")
    images: dict[
        Literal["train", "validation", "test"], tuple[Annotated[int, Field(ge=0)], ...]
    ]  # by part, then by class


class Score(Settings):
    mean: float | None
    std: float | None
    low: float | None  # of a 95 % interval
    high: float | None


class Result(Settings):
    """Networks on the test part of the data that was distilled."""

    label: Text
    accuracy: Score
    balanced_accuracy: Score
    macro_f1: Score
    auroc: Score


class Guarantee(Settings):
    """Differential privacy of everything in the package, with what its epsilon was composed of; see
    `medddist.method.private.dp_sgd`.
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


class Copies(Settings):
    """How near the images are to those that they were distilled from, by their pixels: recorded
    when the package was written.
    """

    images: int = Field(
        ge=0
    )  # at most 2/255 from a training image, root mean square: unchanged or nearly so
    nearer_to_training: int = Field(
        ge=0
    )  # than to any of as many unseen images of the class; by chance, half of `compared`
    compared: int = Field(ge=0)


class Made(Settings):
    """The settings that the set was made with, and is to be trained on with."""

    network: NetworkSettings
    evaluation: (
        EvaluateSettings  # the receiver's recipe; its learning rate is the package's step size
    )
    distillation: dict[
        Text, Any
    ]  # a record, read by people: a reader of another version need not know its names
    teachers: dict[Text, Any]


class Manifest(Settings):
    """Everything about a package but its pixels."""

    format: Literal["medddist package"]
    version: Literal[1]
    description: Text
    creator: Text
    licence: Text
    intended_use: Text
    class_names: tuple[Text, ...] = Field(min_length=2, max_length=MAX_CLASSES)
    images: tuple[Annotated[int, Field(ge=0)], ...]  # by class; of soft labels, by the likeliest
    labels: Literal["hard", "soft"]
    step_size: PositiveFloat
    seed: int
    selected_iteration: int = Field(ge=0)  # of the distillation; 0 is what it started from
    pixels: Pixels
    settings: Made
    source: Source
    measured: tuple[Result, ...] | Literal["not measured"]
    audit: dict[Text, Any] | Literal["not measured"]
    privacy: Guarantee | None = None  # None: nothing is guaranteed
    copies: Copies | Literal["not compared"] = (
        NOT_COMPARED  # as in packages with a guarantee, and in older ones
    )
    simulated: bool = False  # the images it was distilled from are of no patient
    made_with: dict[Text, Text | None]  # package to version
    files: dict[Name, File] = Field(max_length=MAX_FILES - 2)

    @model_validator(mode="after")
    def _holds_together(self):
        classes = len(self.class_names)
        if len(set(self.class_names)) < classes:
            raise ValueError("class_names: a name is there twice")
        if len(self.images) != classes or any(
            len(counts) != classes for counts in self.source.images.values()
        ):
            raise ValueError(f"images: one number for each of the {classes} classes is needed")
        if not 1 <= sum(self.images) <= MAX_BYTES:
            raise ValueError(f"images: {sum(self.images)} are not between 1 and {MAX_BYTES}")
        if not {DATA, CARD} <= self.files.keys() or {MANIFEST, SIGNATURE} & self.files.keys():
            raise ValueError(
                f"files: {DATA} and {CARD} have to be listed, {MANIFEST} and {SIGNATURE} cannot be"
            )
        if sum(file.bytes for file in self.files.values()) > MAX_BYTES:
            raise ValueError(f"files: more than {MAX_BYTES} bytes together")
        if isinstance(self.copies, Copies):
            counted = (self.copies.nearer_to_training, self.copies.compared, sum(self.images))
            if list(counted) != sorted(counted) or self.copies.images > sum(self.images):
                raise ValueError("copies: counts more images than there are")
        return self

    @model_validator(mode="after")
    def _guarantee_holds(self):
        """Exact figures of the real images would be outside of it, and so would a choice by them or
        a start from them.
        """
        told = (self.source.fingerprint, self.source.images, self.measured, self.audit, self.copies)
        made = self.settings.distillation
        if self.privacy and told != (WITHHELD, {}, NOT_MEASURED, NOT_MEASURED, NOT_COMPARED):
            raise ValueError(
                "privacy: is stated beside exact figures of the real images, which it does "
                "not cover"
            )
        if self.privacy and (made.get("initial_images"), made.get("selection")) != (
            "noise",
            "last",
        ):
            raise ValueError(
                "privacy: is stated of a set that did not start from noise, or was chosen by "
                "real images"
            )
        if self.privacy and made.get("iterations") != self.selected_iteration:
            raise ValueError(
                "privacy: is stated of a set that is not that of the last iteration, and was "
                "chosen by real images"
            )
        public = public_scaling(self.pixels.channels)
        if self.privacy and self.pixels.scaling != public:
            raise ValueError(
                "privacy: is stated beside a mean and spread of real pixels, which it does "
                "not cover; pixels.mean has to be"
                f" {public.mean[0]:g} and pixels.std {public.std[0]:g}"
            )
        return self

    @model_validator(mode="after")
    def _can_be_trained_on(self):
        network, evaluation = self.settings.network, self.settings.evaluation
        if network.width > MAX_WIDTH or self.pixels.image_size_px < 2**network.depth:
            raise ValueError(
                f"settings.network: wider than {MAX_WIDTH}, or too deep for "
                f"{self.pixels.image_size_px} px"
            )
        if evaluation.recipe.epochs > MAX_EPOCHS or evaluation.networks > MAX_NETWORKS:
            raise ValueError(
                f"settings.evaluation: more than {MAX_EPOCHS} epochs or {MAX_NETWORKS} networks"
            )
        return self

    @property
    def copies_real_images(self) -> bool:
        """Whether any image is a patient's, unchanged or nearly so: as recorded from pixels.

        Of an older package, which has no such record, whether it is what a start from real images
        left.
        """
        if isinstance(self.copies, Copies):
            return self.copies.images > 0 and not self.simulated
        return self.unchanged and self.settings.distillation.get("initial_images") not in (
            "noise",
            "average",
        )

    @property
    def unchanged(self) -> bool:
        """Whether the images are still those that distillation started from, by its settings."""
        return (
            self.selected_iteration == 0
            or self.settings.distillation.get("learning_rate_images") == 0
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, S, S) of the images."""
        return (
            sum(self.images),
            self.pixels.channels,
            self.pixels.image_size_px,
            self.pixels.image_size_px,
        )

    @property
    def training_seed(self) -> tuple[int | str, ...]:
        """The name under which the sender drew its own networks: a receiver's are the same ones."""
        return self.settings.evaluation.seed, "distilled", self.seed

    def to_bytes(self) -> bytes:
        """The file; its SHA-256 is the package's ID."""
        return (
            json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
            + "\n"
        ).encode()


def manifest_from(content: bytes) -> Manifest:
    """The manifest in these bytes. Raises InputError, in one line, for anything else."""
    values = strict_json(content, MANIFEST)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(
            MANIFEST, f"is not the manifest of a {FORMAT}", "ask the sender for the package"
        )
    if values.get("version") != VERSION or isinstance(values["version"], bool):
        version = repr(values.get("version"))[:20]
        raise InputError(
            MANIFEST,
            f"has version {shown(version)}, and {VERSION} is known here",
            "install a newer medddist",
        )
    try:
        return Manifest.model_validate_json(
            content, strict=True
        )  # what the schema says and no more: "5" is no number
    except pydantic.ValidationError as invalid:
        raise InputError(shortened(str(refusal(Manifest, invalid, MANIFEST)))) from None


def strict_json(content: bytes, where: str) -> Any:
    """JSON in UTF-8 without repeated names, NaN or infinite numbers; InputError otherwise."""
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_refused,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as problem:
        raise InputError(shortened(f"{where}: is not plain JSON ({problem})")) from None


def _once(pairs: list[tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refused(constant: str):
    raise ValueError(f"{constant} is no number")


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits[:20]} is no finite number")
    return number


def shortened(message: str) -> str:
    """One line that prints, whatever a package wrote into it."""
    line = shown(message)
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 3] + "..."


def schema() -> dict:
    """The JSON Schema (2020-12) of manifest.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    } | Manifest.model_json_schema()
