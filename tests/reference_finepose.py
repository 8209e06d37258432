"""FinePOSE with weights that follow from the published names: the text tower of CLIP's size included."""

from functools import cache

import numpy as np
import torch
from reference_network import fill, normal, weight

from finepose_mp.models.finepose import FinePOSE
from finepose_mp.models.text_tower import TextTower

JOINTS, WINDOW, DEPTH = 17, 9, 2
T = torch.tensor([123, 777])
ACTIONS = ["Walking", "SittingDown"]


@cache
def published_tower() -> TextTower:
    """CLIP ViT-B/32's text tower, 12 layers of 512 channels."""
    shapes = {
        "token_embedding.weight": (49408, 512),
        "positional_embedding": (77, 512),
        "ln_final.weight": (512,),
        "ln_final.bias": (512,),
    }
    block = {
        "attn.in_proj_weight": (1536, 512),
        "attn.in_proj_bias": (1536,),
        "attn.out_proj.weight": (512, 512),
        "attn.out_proj.bias": (512,),
        "ln_1.weight": (512,),
        "ln_1.bias": (512,),
        "mlp.c_fc.weight": (2048, 512),
        "mlp.c_fc.bias": (2048,),
        "mlp.c_proj.weight": (512, 2048),
        "mlp.c_proj.bias": (512,),
        "ln_2.weight": (512,),
        "ln_2.bias": (512,),
    }
    for layer in range(12):
        shapes |= {f"transformer.resblocks.{layer}.{name}": shape for name, shape in block.items()}
    return TextTower(
        {name: published_weight(f"clip_text.{name}", shape) for name, shape in shapes.items()}, 8, "quick_gelu"
    )


def published_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight of a parameter, by its published name and shape."""
    last = name.split(".")[-1]
    if name.endswith("token_embedding.weight") or last == "positional_embedding" or last.startswith("ctx_"):
        return normal(name, shape, 0.02)
    if last in ("in_proj_bias",):
        return normal(name, shape, 0.05)
    if last == "in_proj_weight":
        return normal(name, shape, 1 / np.sqrt(shape[1]))
    return weight(name, shape)


def published_finepose(compatibility: str, action_slot: bool = True) -> FinePOSE:
    """FinePOSE in evaluation mode, 17 joints, 9 frames, depth 2, as in the published outputs."""
    network = FinePOSE(
        JOINTS, WINDOW, depth=DEPTH, tower=published_tower(), compatibility=compatibility, action_slot=action_slot
    )
    return fill(network, published_weight)
