"""D3DP's denoiser: the clean 3D pose, predicted from a noisy one and the 2D keypoints.

Source: Shan et al., "Diffusion-Based 3D Human Pose Estimation with Multi-Hypothesis Aggregation", ICCV 2023, on the
backbone of MixSTE. The paper's layout and order of operations are kept, so its weights fit one to one.
"""

import torch
from torch import Tensor, nn

from finepose_mp.models.blocks import SpatialTemporal, TimeEmbedding, regression_head


class D3DP(nn.Module):
    """Predicts Y_0 from (x, Y_t, t), for one or several noisy poses Y_t per window.

    `mask_missing=False` ignores the input mask and lets every token be attended to, as the paper does.
    """

    is_denoiser = True
    reads_prompts = False

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
        self.embed = nn.Linear(2 + 3, width)
        self.embed_time = TimeEmbedding(width)
        self.trunk = SpatialTemporal(joints, window, width, depth, heads, mlp_ratio, drop_path)
        self.head = regression_head(width)

    def forward(self, input_2d: Tensor, noisy_3d: Tensor, t: Tensor, input_mask: Tensor | None = None) -> Tensor:
        """Clean root-relative poses in metres, shaped like `noisy_3d`.

        Args:
            input_2d: (B, N, J, 2) normalised keypoints, 0 where missing.
            noisy_3d: (B, N, J, 3) or, with hypotheses, (B, H, N, J, 3): noised root-relative poses in metres.
            t: (B,) diffusion times.
            input_mask: (B, N, J), True where the keypoint may be attended to; None: everywhere.
        """
        shape = noisy_3d.shape
        if noisy_3d.dim() == 4:
            noisy_3d = noisy_3d.unsqueeze(1)
        windows = noisy_3d.shape[:-1]  # (B, H, N, J)
        keypoints = input_2d.unsqueeze(1).expand(*windows, 2)
        tokens = self.embed(torch.cat([keypoints, noisy_3d], dim=-1))
        tokens = tokens + self.embed_time(t)[:, None, None, None, :]

        mask = None
        if self.mask_missing and input_mask is not None:
            mask = input_mask.unsqueeze(1).expand(windows).flatten(0, 1)
        tokens = self.trunk(tokens.flatten(0, 1), mask)
        return self.head(tokens).view(shape)
