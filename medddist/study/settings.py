"""Settings of the steps above the method: references, comparison, audit, leakage, hospitals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from medddist.base.settings import Settings
from medddist.baselines.architectures import ARCHITECTURES, ArchitectureSettings
from medddist.baselines.condensing import CondenseSettings
from medddist.baselines.pretraining import PretrainSettings
from medddist.method.augment import NO_AUGMENTATION, AugmentSettings
from medddist.method.training import Recipe

if TYPE_CHECKING:
    pass
if TYPE_CHECKING:
    pass
if TYPE_CHECKING:
    pass


class AttackRecipe(Recipe):
    """The attacker's own, the same for the released set and for the control: it wants to remember,
    so nothing is augmented.
    """

    epochs: int = Field(60, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(0.05, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Literal["constant", "halfway", "cosine"] = "cosine"
    augmentation: AugmentSettings = NO_AUGMENTATION


class AuditSettings(Settings):
    """How hard the attack tries."""

    networks: int = Field(
        8, ge=1
    )  # trained on the released set, and as many on the positive control
    references: int = Field(8, ge=1)  # networks on other real images, a set each
    recipe: AttackRecipe = AttackRecipe()
    false_positives: float = Field(0.01, gt=0, lt=1)
    others: int = Field(400, ge=1)  # training images that the set did not start from, at most
    shadows: int = Field(
        0, ge=0, multiple_of=2
    )  # distillations of random halves for LiRA, in pairs that have each image in one; 0 for none
    variance: Literal["moderated", "one"] = (
        "moderated"  # LiRA's: of each image, drawn towards all images'; or one for all
    )
    shadow_networks: int = Field(
        4, ge=1
    )  # trained on each shadow's set, and as many on real images of its half
    shadow_changes: dict[
        str, Any
        # of the profile for shadows alone, such as {"distill.iterations": 20}: cheaper, and a
        # weaker attack
    ] = {}
    seed: int = 0


class HospitalSettings(Settings):
    """changes: of the profile, for each hospital's own study, which has less data than all
    together.
    """

    networks: int = Field(3, ge=1)  # of every way to share; of federated averaging, whole runs
    rounds: int = Field(5, ge=1)  # of federated averaging
    local_epochs: int = Field(2, ge=1)  # that a hospital trains between two rounds
    changes: dict[str, Any] = {}
    seed: int = 0


class LeakageSettings(Settings):
    """The points that are measured, and what of the profile is changed for them, such as
    {"distill.iterations": 20}.
    """

    starts: tuple[Literal["real", "average", "noise"], ...] = Field(
        ("real", "average", "noise"), min_length=1
    )
    images_per_class: tuple[PositiveInt, ...] = Field((5, 20), min_length=1)
    changes: dict[str, Any] = {}  # for all points
    noise_multipliers: tuple[PositiveFloat, ...] = (
        1.0,
    )  # of DP-SGD: points from noise with a guarantee; () for none
    privacy_changes: dict[str, Any] = {}  # for those points


class ReferenceSettings(Settings):
    """What the distilled set is held against: random real images, and the full training part by two
    recipes.
    """

    draws: int = Field(5, ge=1)  # of random real images, balanced and in natural proportions each
    networks_per_draw: int = Field(1, ge=1)
    learning_rates: tuple[PositiveFloat, ...] = Field(
        (0.003, 0.01, 0.03, 0.1), min_length=1
    )  # tried on validation for the random real images
    tuning_networks: int = Field(2, ge=1)
    full_networks: int = Field(3, ge=1)
    good_recipe: Recipe = Recipe(
        epochs=30,
        batch_size=256,
        learning_rate=0.02,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        sampling="balanced",
    )


class CompareSettings(Settings):
    """How the comparison measures every method; see `compare`."""

    evaluation_seeds: int = Field(
        5, ge=2
    )  # each with a draw of labelled images of its own, and fresh networks
    epochs: int | None = Field(None, ge=1)  # of the evaluation's recipe; None: as many as it has
    batch_size: int | None = Field(
        None, ge=1
    )  # of that recipe; smaller batches take more steps for the same arithmetic
    learning_rates: tuple[PositiveFloat, ...] = Field(
        (0.01, 0.03, 0.1), min_length=1
    )  # of that recipe, tried on validation
    grid: tuple[PositiveFloat, ...] = Field(
        (0.3, 1.0), min_length=1
    )  # factors of a method's own learning rate, tried on validation
    tuning_networks: int = Field(1, ge=1)  # a point of the grid
    contrastive_networks: tuple[Literal["convnet", "resnet18", "vit"], ...] = (
        "convnet",
        "resnet18",
        "vit",
    )
    unseen_networks: tuple[Literal[tuple(ARCHITECTURES)], ...] = (
        "convnet_wide",
        "convnet_shallow",
        "resnet18",
        "vgg11",
        "alexnet",
        "vit",
        "mlp",
    )
    architectures: ArchitectureSettings = ArchitectureSettings()
    pretrain: PretrainSettings = PretrainSettings()
    condense: CondenseSettings = CondenseSettings()
    imagenet_weights: str | None = None  # torchvision's file for ResNet-18; None: its cache
    resamples: int = Field(2000, ge=100)  # of the test groups behind each paired difference
    phantom_images: int = Field(
        5000, ge=100
    )  # that transfer from the phantom to other data learns from
