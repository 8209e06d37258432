"""MixSTE: one 3D pose sequence from a 2D one, without diffusion.

Source: Zhang et al., "MixSTE: Seq2seq Mixed Spatio-Temporal Encoder for 3D Human Pose Estimation in Video", CVPR 2022.
"""

from typing import ClassVar

from torch import Tensor, nn

from finepose_mp.models.blocks import RegressionHead, SpatialTemporal, Stem


class MixSTE(nn.Module):
    """Lifts a window of 2D keypoints; the same blocks as the denoisers', so the two can be compared.

    `mask_missing=False` ignores the input mask and lets every token be attended to, as the paper does.
    """

    is_denoiser = False
    reads_prompts = False
    matrix_modules: ClassVar[tuple[str, ...]] = ("trunk",)

    def __init__(
        self,
        joints: int,
        window: int,
        width: int = 512,
        depth: int = 8,
        heads: int = 8,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.1,
        mask_missing: bool = True,
    ) -> None:
        super().__init__()
        self.mask_missing = mask_missing
        self.embed = Stem(2, width)
        self.trunk = SpatialTemporal(joints, window, width, depth, heads, mlp_ratio, drop_path)
        self.head = RegressionHead(width)

    def forward(self, input_2d: Tensor, input_mask: Tensor | None = None) -> Tensor:
        """Root-relative poses (B, N, J, 3) in metres.

        Args:
            input_2d: (B, N, J, 2) normalised keypoints, 0 where missing.
            input_mask: (B, N, J), True where the keypoint may be attended to; None: everywhere.
        """
        tokens = (self.embed.part(input_2d) + self.trunk.spatial_position).to(self.trunk.dtype)
        return self.head(self.trunk(tokens, input_mask if self.mask_missing else None))
