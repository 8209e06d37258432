"""What the denoisers have in common: the way from a noisy pose to a clean one, and what of it needs doing only once."""

from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from finepose_mp.models.blocks import RegressionHead, SpatialTemporal, Stem, TimeEmbedding


class Conditions(NamedTuple):
    """What a denoiser knows about B windows, whatever their noisy poses and diffusion times.

    Made by `Denoiser.condition`, once for all hypotheses and sampling steps.

    Attributes:
        stem: (B, N, J, D), the 2D keypoints' part of the embedding, with the joints' positions.
        mask: (B, N, J), True where a token may be attended to; None: everywhere.
        prompt: what the texts were encoded to; None in networks that read none.
    """

    stem: Tensor
    mask: Tensor | None
    prompt: Any = None


class Denoiser(nn.Module):
    """Predicts Y_0 from (x, Y_t, t), for one or several noisy poses Y_t per window.

    A network of this kind has `embed`, `embed_time`, `trunk` and `head`. `mask_missing=False` ignores the input mask
    and lets every token be attended to, as the papers do.
    """

    is_denoiser = True
    reads_prompts = False
    matrix_modules: ClassVar[tuple[str, ...]] = ("trunk",)  # where the time goes; what lower precision is for

    embed: Stem
    embed_time: TimeEmbedding
    trunk: SpatialTemporal
    head: RegressionHead
    mask_missing: bool

    def condition(self, input_2d: Tensor, input_mask: Tensor | None = None) -> Conditions:
        """What is the same for all noisy poses of B windows.

        Args:
            input_2d: (B, N, J, 2) normalised keypoints, 0 where missing.
            input_mask: (B, N, J), True where the keypoint may be attended to; None: everywhere.
        """
        stem = self.embed.part(input_2d) + self.trunk.spatial_position
        return Conditions(stem, input_mask if self.mask_missing else None)

    def denoise(self, conditions: Conditions, noisy_3d: Tensor, t: Tensor) -> Tensor:
        """Clean root-relative poses in metres, shaped like `noisy_3d`.

        Args:
            conditions: of the B windows.
            noisy_3d: (B, N, J, 3) or, with hypotheses, (B, H, N, J, 3): noised root-relative poses in metres.
            t: (B,) diffusion times.
        """
        poses = noisy_3d.unsqueeze(1) if noisy_3d.dim() == 4 else noisy_3d
        v = self._modulation(conditions, t)
        of_window = conditions.stem + v[:, None, None, :]
        tokens = self.embed.part(poses, first=2) + of_window.unsqueeze(1)
        mask = conditions.mask
        if mask is not None:
            mask = mask.unsqueeze(1).expand(poses.shape[:-1]).flatten(0, 1)
        # Seen as hypotheses before the head: FSDP does not want a view of something to be given back.
        return self.head(self._run_trunk(tokens, mask, v, conditions).view(*noisy_3d.shape[:-1], -1))

    def _modulation(self, conditions: Conditions, t: Tensor) -> Tensor:
        """The vectors (B, D) that are added to every token of a window."""
        return self.embed_time(t)

    def _run_trunk(self, tokens: Tensor, mask: Tensor | None, v: Tensor, conditions: Conditions) -> Tensor:
        """Tokens (B*H, N, J, D) after all blocks, from those of (B, H, N, J, D); mask (B*H, N, J)."""
        return self.trunk(tokens.flatten(0, 1).to(self.trunk.dtype), mask)
