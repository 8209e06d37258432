"""The networks, by the name that a configuration gives them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from finepose_mp.config import ModelConfig
from finepose_mp.models.d3dp import D3DP
from finepose_mp.models.finepose import FinePOSE
from finepose_mp.models.mixste import MixSTE
from finepose_mp.models.text_tower import build_text_tower

MODELS = {"finepose": FinePOSE, "d3dp": D3DP, "mixste": MixSTE}


def build_model(config: ModelConfig, joints: int, window: int, missing: str = "masked") -> nn.Module:
    """The network of a configuration, with fresh weights from PyTorch's global generator.

    Args:
        config: name and sizes.
        joints: J, of the joint set.
        window: N, frames per window.
        missing: "masked" leaves missing keypoints out of the attention, "zeros" feeds them as zeros (the papers' way).
    """
    settings = config.model_dump(exclude={"name", "prompt"}) | {"mask_missing": missing == "masked"}
    if config.name == "finepose":
        prompt = config.prompt
        settings["tower"] = build_text_tower(prompt)
        settings |= {"compatibility": prompt.compatibility, "action_slot": prompt.action_slot}
    return MODELS[config.name](joints, window, **settings)


def compiled(model: nn.Module, backend: str = "inductor") -> nn.Module:
    """The same model, with everything but the encoding of texts compiled; names and weights stay as they are.

    Compiled once, for any number of windows, hypotheses and texts; once more where one of them is a single one. Texts
    are tokenised in plain Python and stay outside.
    """
    name = "denoise" if model.is_denoiser else "forward"
    run = torch.compile(getattr(model, name), backend=backend)

    def run_any_size(*inputs: Any) -> Tensor:
        for x in tree_leaves(inputs):
            if isinstance(x, Tensor):
                torch._dynamo.maybe_mark_dynamic(x, 0)
        return run(*inputs)

    setattr(model, name, run_any_size)
    return model
