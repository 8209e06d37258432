"""The networks, by the name that a configuration gives them."""

from torch import nn

from finepose_mp.config import ModelConfig
from finepose_mp.models.d3dp import D3DP
from finepose_mp.models.mixste import MixSTE

MODELS = {"d3dp": D3DP, "mixste": MixSTE}


def build_model(config: ModelConfig, joints: int, window: int, missing: str = "masked") -> nn.Module:
    """The network of a configuration, with fresh weights from PyTorch's global generator.

    Args:
        config: name and sizes.
        joints: J, of the joint set.
        window: N, frames per window.
        missing: "masked" leaves missing keypoints out of the attention, "zeros" feeds them as zeros (the papers' way).
    """
    sizes = config.model_dump(exclude={"name"})
    return MODELS[config.name](joints, window, **sizes, mask_missing=missing == "masked")
