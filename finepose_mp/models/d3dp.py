"""D3DP's denoiser: the clean 3D pose, predicted from a noisy one and the 2D keypoints.

Source: Shan et al., "Diffusion-Based 3D Human Pose Estimation with Multi-Hypothesis Aggregation", ICCV 2023, on the
backbone of MixSTE. The paper's layout and order of operations are kept, so its weights fit one to one.
"""

from torch import Tensor

from finepose_mp.models.blocks import RegressionHead, SpatialTemporal, Stem, TimeEmbedding
from finepose_mp.models.denoiser import Denoiser


class D3DP(Denoiser):
    """Predicts Y_0 from (x, Y_t, t), for one or several noisy poses Y_t per window.

    `mask_missing=False` ignores the input mask and lets every token be attended to, as the paper does.
    """

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
        self.embed = Stem(2 + 3, width)
        self.embed_time = TimeEmbedding(width)
        self.trunk = SpatialTemporal(joints, window, width, depth, heads, mlp_ratio, drop_path)
        self.head = RegressionHead(width)

    def forward(self, input_2d: Tensor, noisy_3d: Tensor, t: Tensor, input_mask: Tensor | None = None) -> Tensor:
        """Clean root-relative poses in metres, shaped like `noisy_3d`.

        Args:
            input_2d: (B, N, J, 2) normalised keypoints, 0 where missing.
            noisy_3d: (B, N, J, 3) or, with hypotheses, (B, H, N, J, 3): noised root-relative poses in metres.
            t: (B,) diffusion times.
            input_mask: (B, N, J), True where the keypoint may be attended to; None: everywhere.
        """
        return self.denoise(self.condition(input_2d, input_mask), noisy_3d, t)
