"""What a package says of itself, and the limits that a reader holds it to.

The models are the one description of the format: `manifest.schema.json` beside this file is
published from them.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

import pydantic
from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    model_validator,
)

from medddist.base.errors import InputError
from medddist.base.settings import Settings, refusal
from medddist.data import Scaling
from medddist.method.evaluate import EvaluateSettings
from medddist.method.networks import NetworkSettings
from medddist.method.private.dp_sgd import public_scaling
from medddist.sharing.guarantees import Privacy, Released, Text

FORMAT, VERSION = "medddist package", 2
STORAGE = {1: "float32", 2: "uint8"}  # of images, by the version of the format
MANIFEST, SIGNATURE, DATA, CARD = "manifest.json", "manifest.sig", "data.safetensors", "README.md"
MAX_MANIFEST_BYTES = 2**20
# of all files together, and of the images as networks see them, float32: 20,000 of 112 px
MAX_BYTES = 2**30
MAX_FILES = 64
MAX_CLASSES = 10_000
# a package may not make its receiver compute for years
MAX_WIDTH, MAX_EPOCHS, MAX_NETWORKS = 1024, 100_000, 1000
NOT_MEASURED, NOT_COMPARED, WITHHELD = "not measured", "not compared", "withheld"
# An image so near to a real one is a copy of it: nobody sees the difference.
COPY_LEVELS = 2  # of 255; root mean square over pixels


def _not_a_boolean(value: Any) -> Any:
    if isinstance(value, bool):  # which equals 0 or 1 where only some numbers are allowed
        raise ValueError("should be a number")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class File(Settings):
    """A file's size and digest."""

    bytes: int = Field(ge=0, le=MAX_BYTES)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Pixels(Settings):
    """How pixels in [0, 1] become what the network sees: (value - mean) / std, by channel."""

    image_size_px: int = Field(ge=8, le=1024)
    channels: Annotated[Literal[1, 3], BeforeValidator(_not_a_boolean)]
    mean: tuple[Share, ...]
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...]

    @model_validator(mode="after")
    def _has_values_for_each_channel(self):
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need {self.channels} values, one per channel")
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
    images: dict[Literal["train", "validation", "test"], tuple[Count, ...]]  # by class


class Score(Settings):
    """A metric with its spread over networks and its 95 % interval."""

    mean: float | None
    std: float | None
    low: float | None
    high: float | None


class Result(Settings):
    """Networks on the test part of the data that was distilled."""

    label: Text
    accuracy: Score
    balanced_accuracy: Score
    macro_f1: Score
    auroc: Score


class Copies(Settings):
    """How near the images are to those that they were distilled from, by their pixels.

    images: at most 2/255 from a training image, root mean square: unchanged or nearly so.
    nearer_to_training: than to any of an equal number of unseen images of the class; by chance,
    half of `compared`.
    """

    images: Count
    nearer_to_training: Count
    compared: Count


class Made(Settings):
    """The settings that the set was made with, and is to be trained with.

    The learning rate of `evaluation` is replaced by the package's step size. `distillation` and
    `teachers` are records for people: a reader of another version need not know their names.
    """

    network: NetworkSettings
    evaluation: EvaluateSettings
    distillation: dict[Text, Any]
    teachers: dict[Text, Any]


class Manifest(Settings):
    """Everything about a package but its pixels.

    storage: what data.safetensors holds of each pixel: 255 times its value in [0, 1] (`uint8`), or
        in version 1, which does not state it, (value - mean) / std (`float32`).
    """

    format: Literal["medddist package"]
    version: Literal[1, 2]
    description: Text
    creator: Text
    licence: Text
    intended_use: Text
    class_names: tuple[Text, ...] = Field(min_length=2, max_length=MAX_CLASSES)
    images: tuple[Count, ...]  # by class; of soft labels, by the likeliest
    storage: Literal["uint8", "float32"] = "float32"
    labels: Literal["hard", "soft"]
    step_size: PositiveFloat
    seed: int
    selected_iteration: Count  # of the distillation; 0 is what it started from
    pixels: Pixels
    settings: Made
    source: Source
    measured: tuple[Result, ...] | Literal["not measured"]
    audit: dict[Text, Any] | Literal["not measured"]
    privacy: Privacy | None = None  # None: nothing is guaranteed
    # Packages with a guarantee, and older ones, are not compared.
    copies: Copies | Literal["not compared"] = NOT_COMPARED
    simulated: bool = False  # the images it was distilled from are of no patient
    made_with: dict[Text, Text | None]  # package to version
    files: dict[Name, File] = Field(max_length=MAX_FILES - 2)

    @model_validator(mode="after")
    def _holds_together(self):
        classes, count = len(self.class_names), sum(self.images)
        if len(set(self.class_names)) < classes:
            raise ValueError("class_names: a name is there twice")
        if any(len(counts) != classes for counts in (self.images, *self.source.images.values())):
            raise ValueError(f"images: each of the {classes} classes needs one number")
        most = MAX_BYTES // (4 * self.pixels.channels * self.pixels.image_size_px**2)
        if not 1 <= count <= most:
            raise ValueError(f"images: {count} are not between 1 and {most}")
        if self.storage != STORAGE[self.version]:
            fault = f"version {self.version} has {STORAGE[self.version]}, not {self.storage}"
            raise ValueError(f"storage: {fault}")
        if not {DATA, CARD} <= self.files.keys() or {MANIFEST, SIGNATURE} & self.files.keys():
            raise ValueError(f"files: {DATA} and {CARD} must be listed, {MANIFEST} must not")
        if sum(file.bytes for file in self.files.values()) > MAX_BYTES:
            raise ValueError(f"files: more than {MAX_BYTES} bytes together")
        if isinstance(self.copies, Copies):
            nearer, compared = self.copies.nearer_to_training, self.copies.compared
            if not nearer <= compared <= count or self.copies.images > count:
                raise ValueError("copies: counts more images than there are")
        return self

    @model_validator(mode="after")
    def _guarantee_holds(self):
        """Check that nothing beside a guarantee depends on real images in another way."""
        if not self.privacy:
            return self
        source, made = self.source, self.settings.distillation
        public = public_scaling(self.pixels.channels)
        figures = source.fingerprint, source.images, self.measured, self.audit, self.copies
        if figures != (WITHHELD, {}, NOT_MEASURED, NOT_MEASURED, NOT_COMPARED):
            fault = "beside exact figures of the real images, which it does not cover"
        elif isinstance(self.privacy, Released):
            return self._released_by(made, public)
        elif (made.get("initial_images"), made.get("selection")) != ("noise", "last"):
            fault = "of a set that did not start from noise, or was chosen by real images"
        elif made.get("iterations") != self.selected_iteration:
            fault = "of a set that is not that of the last iteration, and was chosen by real images"
        elif self.pixels.scaling != public:
            needed = f"pixels.mean has to be {public.mean[0]:g} and pixels.std {public.std[0]:g}"
            fault = f"beside statistics of real pixels, which it does not cover; {needed}"
        else:
            return self
        raise ValueError(f"privacy: is stated {fault}")

    def _released_by(self, made: dict[str, Any], public: Scaling):
        privacy = self.privacy
        if self.pixels.scaling != public:
            fault = f"pixels.mean has to be {public.mean[0]:g} and pixels.std {public.std[0]:g}"
        elif made.get("method") != "private":
            fault = "settings.distillation.method has to be private"
        elif not (made.get("epsilon") == privacy.epsilon and made.get("delta") == privacy.delta):
            fault = "epsilon and delta are not those of settings.distillation"
        else:
            return self
        raise ValueError(f"privacy: {fault}")

    @model_validator(mode="after")
    def _can_be_trained_on(self):
        network, evaluation = self.settings.network, self.settings.evaluation
        size_px = self.pixels.image_size_px
        if network.width > MAX_WIDTH or size_px < 2**network.depth:
            fault = f"wider than {MAX_WIDTH}, or too deep for {size_px} px"
            raise ValueError(f"settings.network: {fault}")
        if evaluation.recipe.epochs > MAX_EPOCHS or evaluation.networks > MAX_NETWORKS:
            limit = f"more than {MAX_EPOCHS} epochs or {MAX_NETWORKS} networks"
            raise ValueError(f"settings.evaluation: {limit}")
        return self

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, S, S) of the images."""
        size_px = self.pixels.image_size_px
        return sum(self.images), self.pixels.channels, size_px, size_px

    @property
    def training_seed(self) -> tuple[int | str, ...]:
        """The name under which the sender drew its own networks: a receiver's are the same ones."""
        return self.settings.evaluation.seed, "distilled", self.seed

    def to_bytes(self) -> bytes:
        """Return the content of manifest.json; its SHA-256 is the package's ID."""
        text = json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()


def manifest_from(content: bytes) -> Manifest:
    """Read the manifest in these bytes. Raises InputError for anything else."""
    # UTF-8 without repeated names, NaN or infinite numbers
    hooks = {"object_pairs_hook": _once, "parse_constant": _finite, "parse_float": _finite}
    try:
        values = json.loads(content.decode("utf-8"), **hooks)
    except (ValueError, RecursionError) as problem:
        raise InputError(MANIFEST, f"is not plain JSON ({problem})") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(MANIFEST, f"is not the manifest of a {FORMAT}")
    version = values.get("version")
    if version not in list(STORAGE) or isinstance(version, bool):
        known = " and ".join(map(str, STORAGE))
        reason = f"has version {version!r:.20}, and only {known} are known"
        raise InputError(MANIFEST, reason, "install a newer medddist")
    try:  # strict: what the schema says and no more; "5" is not a number
        return Manifest.model_validate_json(content, strict=True)
    except pydantic.ValidationError as invalid:
        raise refusal(Manifest, invalid, MANIFEST) from None


def _once(pairs: list[tuple[str, Any]]) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is there twice")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def schema() -> dict:
    """Return the JSON Schema (2020-12) of manifest.json."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | Manifest.model_json_schema()
