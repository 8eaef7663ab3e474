"""Settings of the steps above the method: references, comparison, audit, leakage, hospitals."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from medddist.base.settings import Settings
from medddist.baselines.architectures import ARCHITECTURES, ArchitectureSettings
from medddist.baselines.condensing import CondenseSettings
from medddist.baselines.pretraining import PretrainSettings
from medddist.method.augment import NO_AUGMENTATION, AugmentSettings
from medddist.method.training import Recipe

Start = Literal["real", "herding", "kmeans", "average", "noise"]
Contrastive = Literal["convnet", "resnet18", "vit"]
Architecture = Literal[tuple(ARCHITECTURES)]
LeftOut = Literal[  # what tables can do without
    "random_natural", "full_teacher", "k_means", "gradient_matching", "distribution_matching",
    "self_supervision_on_released", "confounded_phantom", "federated_averaging",
]  # fmt: skip
UNSEEN = ("convnet_wide", "convnet_shallow", "resnet18", "vgg11", "alexnet", "vit", "mlp")
REGULAR = {"weight_decay": 5e-4, "schedule": "cosine", "sampling": "balanced"}
GOOD = Recipe(epochs=30, batch_size=256, learning_rate=0.02, momentum=0.9, **REGULAR)


class AttackRecipe(Recipe):
    """How the attacker trains networks; without augmentation, since they are meant to memorise."""

    epochs: int = Field(60, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(0.05, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Literal["constant", "halfway", "cosine"] = "cosine"
    augmentation: AugmentSettings = NO_AUGMENTATION


class AuditSettings(Settings):
    """The strength of the attacks.

    `shadows` are distillations of random halves for LiRA, in pairs that contain each image once.
    `variance` is that of an image's scores over shadows: moderated towards that of all images, or
    one for all. `shadow_changes` changes the profile for shadows alone, such as
    {"distill.iterations": 20}: cheaper, and a weaker attack.
    """

    networks: int = Field(8, ge=1)  # on the released set, and as many on the positive control
    references: int = Field(8, ge=1)  # networks, each on other real images
    recipe: AttackRecipe = AttackRecipe()
    # the share of unseen images that an attack may take for members
    false_positives: float = Field(0.01, gt=0, lt=1)
    others: int = Field(400, ge=1)  # at most; training images that the set did not start from
    shadows: int = Field(0, ge=0, multiple_of=2)
    variance: Literal["moderated", "one"] = "moderated"
    shadow_networks: int = Field(4, ge=1)  # on each shadow's set, and as many on real images
    shadow_changes: dict[str, Any] = {}
    seed: int = 0  # of draws and networks


class HospitalSettings(Settings):
    """Hospitals that share; `changes` of the profile are for each hospital's own study.

    Federated averaging ends where validation did not rise for `patience` rounds. Validation chooses
    its learning rate among `federated_rates`, factors of that of `references.good_recipe`.
    """

    networks: int = Field(3, ge=1)  # for each way of sharing; runs of federated averaging
    rounds: int = Field(40, ge=1)  # of federated averaging, at most
    patience: int = Field(5, ge=1)
    federated_rates: tuple[PositiveFloat, ...] = Field((1.0, 3.0), min_length=1)
    local_epochs: int = Field(1, ge=1)  # of a hospital's training between two rounds
    changes: dict[str, Any] = {}
    seed: int = 0  # of draws and networks


class LeakageSettings(Settings):
    """The points of accuracy against leakage; `changes` of the profile are for all points."""

    starts: tuple[Start, ...] = Field(("real", "average", "noise"), min_length=1)  # initial images
    # for each kind of initial images
    images_per_class: tuple[PositiveInt, ...] = Field((5, 20), min_length=1)
    changes: dict[str, Any] = {}
    noise_multipliers: tuple[PositiveFloat, ...] = (1.0,)  # of DP-SGD, from noise; [] for none
    privacy_changes: dict[str, Any] = {}  # for the points under DP-SGD


class ReferenceSettings(Settings):
    """References of the distilled set: random real images, and all images by two recipes.

    Of `learning_rates`, validation chooses the one for random real images. The networks of
    `good_recipe` also give soft labels, at the temperature among `label_temperatures` that
    validation chooses.
    """

    draws: int = Field(5, ge=1)  # of random real images, balanced and in natural proportions
    networks_per_draw: int = Field(1, ge=1)  # trained on each draw
    learning_rates: tuple[PositiveFloat, ...] = Field((0.003, 0.01, 0.03, 0.1), min_length=1)
    tuning_networks: int = Field(2, ge=1)  # for each learning rate
    full_networks: int = Field(3, ge=1)  # trained on all images, by each recipe
    good_recipe: Recipe = GOOD
    label_temperatures: tuple[PositiveFloat, ...] = Field((1.0, 2.0, 4.0), min_length=1)


class CompareSettings(Settings):
    """The comparison's effort, the same for every method.

    `epochs` and `batch_size` replace those of the evaluation's recipe; None keeps them. Validation
    chooses among `learning_rates` of that recipe, and among `grid`, factors of a method's own
    learning rate.
    """

    evaluation_seeds: int = Field(5, ge=2)  # each with its own labelled images and fresh networks
    epochs: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    learning_rates: tuple[PositiveFloat, ...] = Field((0.01, 0.03, 0.1), min_length=1)
    grid: tuple[PositiveFloat, ...] = Field((0.3, 1.0), min_length=1)
    tuning_networks: int = Field(1, ge=1)  # per point of the grid
    # networks that BYOL, SimSiam and SKD train
    contrastive_networks: tuple[Contrastive, ...] = ("convnet", "resnet18", "vit")
    unseen_networks: tuple[Architecture, ...] = UNSEEN  # in the table of other networks
    architectures: ArchitectureSettings = ArchitectureSettings()
    pretrain: PretrainSettings = PretrainSettings()
    condense: CondenseSettings = CondenseSettings()
    imagenet_weights: str | None = None  # file of torchvision's ResNet-18; null: its cache
    resamples: int = Field(2000, ge=100)  # of the test groups, for each paired difference
    phantom_images: int = Field(5000, ge=100)  # for transfer from the phantom to other data
