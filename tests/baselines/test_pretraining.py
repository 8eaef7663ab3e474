"""Self-supervised losses against numpy, what passes a gradient and what does not, and the loop that
all share.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from small import CLASSES, SIZE_PX, labelled
from torch import nn

from medddist.base.seeds import generator
from medddist.baselines import byol, mae, pretraining, simsiam, skd
from medddist.baselines.architectures import ArchitectureSettings, architecture
from medddist.baselines.pretraining import (
    Pretrained,
    PretrainSettings,
    batches,
    pretrain,
    rising_momentum,
    warm_cosine,
)
from medddist.method.augment import NO_AUGMENTATION
from medddist.method.networks import NetworkSettings, initial_parameters
from medddist.method.training import Diverged

METHODS = {"byol": byol.BYOL, "simsiam": simsiam.SimSiam, "skd": skd.SKD, "mae": mae.MAE}
TINY = PretrainSettings(batch_size=8, hidden_width=8, output_width=8, decoder_width=8)
every = pytest.mark.parametrize("name", METHODS)


def network_for(name: str):
    sizes = ArchitectureSettings(vit_width=8, vit_depth=1, vit_heads=2, vit_patches_per_side=4)
    kind, own = "vit" if name == "mae" else "convnet", NetworkSettings(width=4, depth=2)
    return architecture(kind, own, sizes, (1, CLASSES, SIZE_PX))


def method_of(name: str, seed: int = 0, settings: PretrainSettings = TINY):
    encoder = pretraining.seeded(network_for(name).module, seed, "encoder")
    return METHODS[name](encoder, settings, (seed,))


def views(count: int = 8):
    return labelled(count, 0)[0], labelled(count, 1)[0]


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator("normals", seed), dtype=torch.float64)


def rows_of_unit_length(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


# ---- losses --------------------------------------------------------------------------------------


def test_byols_loss_is_the_squared_distance_of_unit_vectors():
    p, z = normals(6, 5), normals(6, 5, seed=1)
    expected = (
        ((rows_of_unit_length(p.numpy()) - rows_of_unit_length(z.numpy())) ** 2).sum(1).mean()
    )
    assert byol.regression_loss(p, z).item() == pytest.approx(expected, rel=1e-12)


def test_simsiams_loss_against_numpy():
    p, z = normals(6, 5), normals(6, 5, seed=1)
    expected = -(rows_of_unit_length(p.numpy()) * rows_of_unit_length(z.numpy())).sum(1).mean()
    assert simsiam.negative_cosine(p, z).item() == pytest.approx(expected, rel=1e-12)


def test_what_is_predicted_passes_no_gradient():
    for loss in (byol.regression_loss, simsiam.negative_cosine):
        p, z = normals(4, 5).requires_grad_(), normals(4, 5, seed=1).requires_grad_()
        loss(p, z).backward()
        assert p.grad.abs().sum() > 0 and z.grad is None


def test_batch_knowledge_ensembling_against_its_infinite_sum():
    """Q = (1 - w) sum_t (w W)^t P, written out until nothing changes; rows are probabilities."""
    features, logits = normals(7, 5), normals(7, 4, seed=1)
    unit = rows_of_unit_length(features.numpy())
    similar = unit @ unit.T
    alike = np.zeros_like(similar)
    for i in range(7):
        others = [j for j in range(7) if j != i]
        alike[i, others] = softmax(similar[i, others][None])[0]
    said = softmax(logits.numpy() / 4.0)
    expected, term = np.zeros_like(said), 0.5 * said
    for _ in range(200):
        expected, term = expected + term, 0.5 * alike @ term
    found = skd.ensembled(features, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


def test_the_distillation_loss_is_a_divergence():
    logits, targets = normals(5, 4), normals(5, 4, seed=1).softmax(1)
    said = softmax(logits.numpy() / 4.0)
    expected = 16 * (targets.numpy() * np.log(targets.numpy() / said)).sum(1).mean()
    assert skd.distillation_loss(logits, targets).item() == pytest.approx(expected, rel=1e-10)
    assert skd.distillation_loss(logits, (logits / 4).softmax(1)).item() == pytest.approx(
        0, abs=1e-12
    )


def test_maes_loss_counts_removed_patches_alone_each_by_its_own_scale():
    predicted, patches = normals(2, 6, 9), 5 + 3 * normals(2, 6, 9, seed=1)
    mask = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]], dtype=torch.float64)
    each = []
    for n, t in [(0, 0), (0, 3), (1, 2), (1, 5)]:
        patch = patches[n, t].numpy()
        scaled = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
        each.append(((predicted[n, t].numpy() - scaled) ** 2).mean())
    assert mae.reconstruction_loss(predicted, patches, mask).item() == pytest.approx(
        np.mean(each), rel=1e-10
    )
    kept_changed = torch.where(mask[:, :, None] == 0, predicted + 7, predicted)
    assert mae.reconstruction_loss(kept_changed, patches, mask) == mae.reconstruction_loss(
        predicted, patches, mask
    )


# ---- patches and masks ---------------------------------------------------------------------------


def test_patches_are_row_by_row():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    places = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert mae.patchify(image, 2)[0].tolist() == places
    coloured = mae.patchify(torch.cat([image, image + 100], 1), 2)
    together = [[p + colour for p in patch for colour in (0, 100)] for patch in places]
    assert coloured[0].tolist() == together, "a pixel's channels stay together"


@pytest.mark.parametrize("ratio, removed", [(0.75, 12), (0.5, 8), (0.01, 1), (0.999, 15)])
def test_a_mask_is_one_where_a_token_is_removed(ratio, removed):
    kept, mask, places = mae.random_masking(5, 16, ratio, generator(0))
    assert mask.sum(1).tolist() == [removed] * 5 and kept.shape == (5, 16 - removed)
    for row, one, place in zip(kept, mask, places):
        assert one[row].sum() == 0 and set(one.unique().tolist()) == {0.0, 1.0}
        together = torch.cat([row, torch.tensor([-1] * removed)])
        assert torch.equal(together[place][one == 0], torch.arange(16)[one == 0]), (
            "a kept token comes back to its place"
        )


def test_mae_sees_no_removed_patch():
    """Pixels that are removed have no part in what the encoder makes of the kept ones."""
    method = method_of("mae")
    images = views()[0]
    tokens = method.encoder.tokens(images)
    kept, mask, _ = mae.random_masking(*tokens.shape[:2], 0.75, generator(0))
    px = method.encoder.patch_px
    removed = mask.view(-1, 1, images.shape[2] // px, images.shape[3] // px)
    changed = images + 9 * removed.repeat_interleave(px, 2).repeat_interleave(px, 3)
    codes = [
        method.encoder.encoded(mae.rows(method.encoder.tokens(x), kept)) for x in (images, changed)
    ]
    torch.testing.assert_close(*codes)


def test_the_decoder_is_told_where_the_kept_tokens_were():
    """With an encoder and a decoder that hand tokens through, every kept patch is at its place."""
    tokens = torch.arange(16.0).view(1, 16, 1).expand(3, 16, 1)
    kept, mask, places = mae.random_masking(3, 16, 0.75, generator(1))
    put_together = torch.cat([mae.rows(tokens, kept), torch.full((3, 12, 1), -1.0)], 1)
    back = mae.rows(put_together, places)
    assert torch.equal(back[mask == 0], tokens[mask == 0]) and (back[mask == 1] == -1).all()


# ---- target networks -----------------------------------------------------------------------------


def test_an_ema_step_against_arithmetic():
    target, online = nn.Linear(2, 1), nn.Linear(2, 1)
    before = [p.detach().clone() for p in target.parameters()]
    pretraining.ema_step(target, online, 0.9)
    for after, old, new in zip(target.parameters(), before, online.parameters()):
        torch.testing.assert_close(after, 0.9 * old + 0.1 * new)


def test_the_momentum_rises_from_its_base_to_one():
    assert rising_momentum(0.99, 0) == pytest.approx(0.99) and rising_momentum(0.99, 1) == 1
    assert rising_momentum(0.996, 0.5) == pytest.approx(1 - 0.004 / 2)


@pytest.mark.parametrize("name", ["byol", "skd"])
def test_a_target_network_follows_and_is_not_trained(name):
    method = method_of(name)
    target = [*method.target_encoder.parameters(), *method.target_projector.parameters()]
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(target, online)), "it starts as the online network"
    method.loss(*views(), generator(0)).backward()
    assert all(p.grad is None for p in target) and any(p.grad is not None for p in online)
    with torch.no_grad():
        for p in online:
            p.add_(1.0)
    before = [p.clone() for p in target]
    method.after_step(0.0)
    for after, old, new in zip(target, before, online):
        torch.testing.assert_close(after, 0.99 * old + 0.01 * new)


@pytest.mark.parametrize("name", ["byol", "simsiam", "skd"])
def test_the_loss_is_the_same_when_the_views_change_places(name):
    first, second = views()
    a, b = (copy.deepcopy(method_of(name)) for _ in range(2))
    torch.testing.assert_close(
        a.loss(first, second, generator(0)), b.loss(second, first, generator(0))
    )


# ---- the loop ------------------------------------------------------------------------------------


@every
def test_every_method_lowers_its_loss_and_the_features_change(name):
    network, settings = network_for(name), TINY.model_copy(update={"learning_rate": 3e-3})
    found = pretrain(network, METHODS[name], labelled(24)[0], settings, 40, (0,))
    assert np.mean(found.losses[-5:]) < np.mean(found.losses[:5]) and len(found.losses) == 40
    start = initial_parameters(network, 0, "encoder")
    ours, before = network.named(found.theta), network.named(start)
    moved = {part for part in ours if not torch.equal(ours[part], before[part])}
    assert moved and not any(part.startswith("linear") for part in moved), (
        "the last layer is not learned"
    )
    assert found.theta.isfinite().all() and not found.theta.requires_grad


@every
def test_a_seed_decides_a_pretraining_and_torchs_own_state_does_not(name):
    thetas = []
    for state in (1, 2):
        torch.manual_seed(state)
        thetas.append(
            pretrain(network_for(name), METHODS[name], labelled(12)[0], TINY, 3, (5,)).theta
        )
    assert torch.equal(*thetas)
    assert not torch.equal(
        thetas[0], pretrain(network_for(name), METHODS[name], labelled(12)[0], TINY, 3, (6,)).theta
    )


def test_a_network_that_is_pretrained_stays_as_it_was():
    network = network_for("byol")
    before = [p.clone() for p in network.module.parameters()]
    pretrain(network, byol.BYOL, labelled(12)[0], TINY, 2, (0,))
    assert all(torch.equal(a, b) for a, b in zip(before, network.module.parameters()))


def test_a_loss_that_is_not_finite_is_refused():
    with pytest.raises(Diverged, match="pretraining diverged in step"):
        images = labelled(12)[0]
        images[3] = torch.inf
        pretrain(
            network_for("byol"),
            byol.BYOL,
            images,
            TINY.model_copy(update={"views": NO_AUGMENTATION}),
            3,
            (0,),
        )


def test_batches_pass_over_all_images_and_drop_the_rest():
    found = list(batches(10, 4, 5, (0,)))
    assert [len(batch) for batch in found] == [4] * 5
    assert len(set(torch.cat(found[:2]).tolist())) == 8
    assert [len(batch) for batch in batches(3, 8, 2, (0,))] == [3, 3]


def test_the_learning_rate_warms_up_and_ends_near_zero():
    assert 0 < warm_cosine(0.0) < 0.2 and warm_cosine(0.1) == 1 and warm_cosine(0.999) < 1e-3


# ---- collapse ------------------------------------------------------------------------------------


class Fixed(pretraining.Method):
    """A method whose outputs are given."""

    def __init__(self, rows: torch.Tensor):
        super().__init__()
        self.rows = rows

    def outputs(self, images):
        return self.rows


def test_the_spread_is_one_for_random_directions_and_zero_for_one():
    assert pretraining.spread(Fixed(normals(2000, 16)), None) == pytest.approx(1, abs=0.02)
    assert pretraining.spread(Fixed(torch.ones(50, 16)), None) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "start, end, collapsed",
    [
        (0.4, 0.01, True),
        (0.4, 0.19, True),
        (0.4, 0.3, False),
        (0.1, 0.15, False),
        (0.18, 0.17, False),
    ],
)
def test_a_collapse_is_reported(start, end, collapsed):
    assert Pretrained(torch.zeros(1), [0.0], {"start": start, "end": end}).collapsed == collapsed


def test_without_the_stop_gradient_simsiam_collapses_and_with_it_does_not(monkeypatch):
    """A fault injected:

    what the watch is there for. Without normalisation at the projector's end nothing else prevents
    it.
    """
    images, settings = (
        labelled(32)[0],
        TINY.model_copy(update={"learning_rate": 2e-2, "batch_size": 32, "hidden_width": 32}),
    )

    class Bare(simsiam.SimSiam):
        def __init__(self, *given):
            super().__init__(*given)
            self.projector = nn.Sequential(*list(self.projector)[:-1])

    kept = pretrain(network_for("simsiam"), simsiam.SimSiam, images, settings, 40, (0,))
    monkeypatch.setattr(
        simsiam,
        "negative_cosine",
        lambda p, z: -nn.functional.cosine_similarity(p, z, dim=1).mean(),
    )
    fallen = pretrain(network_for("simsiam"), Bare, images, settings, 40, (0,))
    assert fallen.collapsed and not kept.collapsed


def test_pretrained_features_get_a_fresh_last_layer():
    network = network_for("byol")
    learned, fresh = initial_parameters(network, 1), initial_parameters(network, 2)
    found = network.named(pretraining.transplanted(network, learned, network, fresh))
    for name, value in found.items():
        source = fresh if name.startswith("linear.") else learned
        assert torch.equal(value, network.named(source)[name])
    assert math.isfinite(float(found["linear.weight"].sum()))
