"""MAE (He et al., CVPR 2022): remove most patches, and reconstruct their pixels from the others.

Masks are polarised as in the authors' code: 0 is keep, 1 is remove.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medddist.baselines.architectures import Attention, ViT, sine_positions
from medddist.baselines.pretraining import Method, PretrainSettings, embedded, seeded


class Decoder(nn.Module):
    """From the kept tokens' codes back to all patches' pixels; discarded after pretraining."""

    def __init__(self, inputs: int, width: int, heads: int, side: int, outputs: int):
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        # One token for all removed patches; a layer, so that it has a seed.
        self.missing = nn.Linear(1, width, bias=False)
        self.block, self.norm = Attention(width, heads), nn.LayerNorm(width)
        self.pixels = nn.Linear(width, outputs)
        self.register_buffer("positions", sine_positions(side, width), persistent=False)

    def forward(self, kept: Tensor, places: Tensor) -> Tensor:
        """Decode all patches.

        Args:
            kept: (N, k, D) codes of the kept tokens.
            places: (N, T) place of each token among kept and missing ones put together.

        Returns:
            (N, T, pixels of a patch).
        """
        x = self.embed(kept)
        missing = self.missing.weight.T.expand(len(x), places.shape[1] - x.shape[1], -1)
        x = rows(torch.cat([x, missing], 1), places) + self.positions
        return self.pixels(self.norm(self.block(x)))


class MAE(Method):
    """A ViT that sees the kept patches, and a decoder of one block."""

    def __init__(self, encoder: ViT, settings: PretrainSettings, seed: tuple[int | str, ...]):
        super().__init__()
        self.encoder, self.mask_ratio = encoder, settings.mask_ratio
        heads, side = encoder.blocks[0].heads, round(len(encoder.positions) ** 0.5)
        outputs = encoder.embed.in_channels * encoder.patch_px**2
        inputs, width = encoder.linear.in_features, settings.decoder_width
        decoder = Decoder(inputs, width, heads, side, outputs)
        self.decoder = seeded(decoder, *seed, "decoder")

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        """Reconstruct the removed patches of both views (N, C, H, W)."""
        images = torch.cat([first, second])
        tokens = self.encoder.tokens(images)
        masking = random_masking(*tokens.shape[:2], self.mask_ratio, random)
        kept, mask, places = (part.to(images.device) for part in masking)
        decoded = self.decoder(self.encoder.encoded(rows(tokens, kept)), places)
        return reconstruction_loss(decoded, patchify(images, self.encoder.patch_px), mask)

    def outputs(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) without removing patches: (N, D)."""
        return embedded(self.encoder, images)


def rows(tokens: Tensor, places: Tensor) -> Tensor:
    """Pick tokens (N, T, D) at places (N, k): (N, k, D)."""
    return tokens.take_along_dim(places[:, :, None], 1)


def random_masking(
    count: int, tokens: int, ratio: float, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw which tokens of each image are kept; at least one is kept, and one removed.

    Args:
        count: N images.
        tokens: T of each.
        ratio: of the tokens that are removed.
        random: of the draw.

    Returns:
        Places of the kept tokens (N, k); the mask (N, T), 0 is keep and 1 is remove; and places
        (N, T) of all tokens among kept and removed ones put together.
    """
    keep = min(max(1, round(tokens * (1 - ratio))), tokens - 1)
    shuffled = torch.rand(count, tokens, generator=random).argsort(1)
    places = shuffled.argsort(1)
    return shuffled[:, :keep], (places >= keep).float(), places


def patchify(images: Tensor, patch_px: int) -> Tensor:
    """Cut images (N, C, H, W) into patches (N, T, patch_px^2 C), row by row, channels last."""
    n, c, height, width = images.shape
    x = images.reshape(n, c, height // patch_px, patch_px, width // patch_px, patch_px)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, patch_px**2 * c)


def reconstruction_loss(predicted: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean squared error of (N, T, P) on the removed patches (MAE, section 3).

    Each patch's own mean and standard deviation are taken out of the target.
    """
    mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    target = (patches - mean) / (variance + 1e-6).sqrt()
    each = (predicted - target).square().mean(2)  # (N, T)
    return (each * mask).sum() / mask.sum()
