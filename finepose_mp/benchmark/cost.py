"""What the networks cost by calculation: floating-point operations, without running anything.

A product of matrices (m, k) and (k, n) counts 2 m k n operations; norms, activations and the softmax are left out, as
usual: they cost time on a memory bus, not in multipliers. D is the width, L the length that attention goes over.
"""

from typing import NamedTuple

from finepose_mp.prompts import PROMPT_LENGTH

_REFINING_LAYERS = 4  # of the prompt encoder, with hidden layers of 4 D
_CLIP_LAYERS = 12


class Shape(NamedTuple):
    """Sizes of a network and of the window it reads: J joints, N frames, width D."""

    joints: int = 17
    window: int = 243
    width: int = 512
    depth: int = 8
    mlp_ratio: float = 2.0
    reads_prompts: bool = True

    @property
    def tokens(self) -> int:
        """Of one pose sequence."""
        return self.joints * self.window


def denoiser_flops(shape: Shape) -> int:
    """Operations of one pass over one pose sequence (one hypothesis of one window), texts encoded before."""
    d, tokens = shape.width, shape.tokens
    per_token_and_block = 2 * d * d * (4 + 2 * shape.mlp_ratio)
    weights = 2 * shape.depth * per_token_and_block * tokens
    attention = shape.depth * 4 * d * tokens * (shape.joints + shape.window)
    ends = 2 * d * (3 + 3) * tokens
    prompt = (2 * d * d * 2 + 4 * d * PROMPT_LENGTH) * tokens if shape.reads_prompts else 0
    return int(weights + attention + ends + prompt)


def inference_flops(shape: Shape, hypotheses: int, steps: int, flip: bool) -> int:
    """Operations for one window of one person: H hypotheses, S steps, twice as many with the mirrored input."""
    return denoiser_flops(shape) * hypotheses * steps * (2 if flip else 1)


def text_flops(shape: Shape, tower_layers: int = _CLIP_LAYERS, tower_width: int = 512) -> int:
    """Operations to encode one text: a tower of transformer layers with hidden layers of four widths, and ours."""

    def layers(number: int, width: int) -> int:
        return number * PROMPT_LENGTH * (2 * 12 * width * width + 4 * width * PROMPT_LENGTH)

    return layers(tower_layers, tower_width) + layers(_REFINING_LAYERS, shape.width)


def training_flops(shape: Shape, texts: int = 1) -> int:
    """Operations of one training step on one window: forward, and twice as much backward.

    The frozen tower passes gradients on without having any of its own, so its backward pass costs as its forward.
    """
    flops = 3 * denoiser_flops(shape)
    if shape.reads_prompts:
        of_tower = text_flops(shape) - text_flops(shape, tower_layers=0)
        flops += texts * (2 * of_tower + 3 * (text_flops(shape) - of_tower))
    return flops
