"""MAE (He et al., CVPR 2022): remove most patches, and reconstruct their pixels from the others.

Masks are polarised as in the authors' code: 0 is keep, 1 is remove.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medddist.baselines.architectures import Attention, ViT, sine_positions
from medddist.baselines.pretraining import Method, PretrainSettings, embedded, feature_width, seeded


class Decoder(nn.Module):
    """From the kept tokens' codes back to all patches' pixels; learned with the encoder and then
    thrown away.
    """

    def __init__(self, inputs: int, width: int, heads: int, side: int, outputs: int):
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.missing = nn.Linear(
            1, width, bias=False
        )  # one token for all removed patches; a layer, so that it has a seed
        self.block, self.norm = Attention(width, heads), nn.LayerNorm(width)
        self.pixels = nn.Linear(width, outputs)
        self.register_buffer("positions", sine_positions(side, width), persistent=False)

    def forward(self, kept: Tensor, places: Tensor) -> Tensor:
        """Kept (N, k, D) codes, places (N, T): where each token comes in (kept, then missing) ->
        (N, T, outputs).
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
        decoder = Decoder(feature_width(encoder), settings.decoder_width, heads, side, outputs)
        self.decoder = seeded(decoder, *seed, "decoder")

    def loss(self, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
        images = torch.cat([first, second])
        tokens = self.encoder.tokens(images)
        kept, mask, places = random_masking(*tokens.shape[:2], self.mask_ratio, random)
        kept, mask, places = (one.to(images.device) for one in (kept, mask, places))
        codes = self.encoder.encoded(rows(tokens, kept))
        return reconstruction_loss(
            self.decoder(codes, places), patchify(images, self.encoder.patch_px), mask
        )

    def outputs(self, images: Tensor) -> Tensor:
        return embedded(self.encoder, images)


def rows(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens (N, T, D), places (N, k) -> (N, k, D)."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def random_masking(
    count: int, tokens: int, ratio: float, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """(kept (N, k) places of the kept tokens, mask (N, T) 0 is keep and 1 is remove, places (N, T)
    of all tokens among kept and removed put together). At least one token is kept, and one removed.
    """
    keep = min(max(1, round(tokens * (1 - ratio))), tokens - 1)
    shuffled = torch.rand(count, tokens, generator=random).argsort(1)
    places = shuffled.argsort(1)
    return shuffled[:, :keep], (places >= keep).float(), places


def patchify(images: Tensor, patch_px: int) -> Tensor:
    """(N, C, H, W) -> (N, T, patch_px^2 C), patches row by row, a pixel's channels together."""
    n, c, height, width = images.shape
    x = images.reshape(n, c, height // patch_px, patch_px, width // patch_px, patch_px)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, patch_px**2 * c)


def unpatchify(patches: Tensor, patch_px: int, channels: int) -> Tensor:
    """The way back, of square images."""
    n, side = len(patches), round(patches.shape[1] ** 0.5)
    x = patches.reshape(n, side, side, patch_px, patch_px, channels)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(n, channels, side * patch_px, side * patch_px)


def reconstruction_loss(predicted: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error (N, T, P) on the removed patches, each patch's own mean and deviation
    taken out (MAE, section 3).
    """
    mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    target = (patches - mean) / (variance + 1e-6).sqrt()
    each = (predicted - target).square().mean(2)  # (N, T)
    return (each * mask).sum() / mask.sum()
