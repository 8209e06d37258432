"""Fine-grained part-aware prompts (FPP): texts and learnable tokens, encoded to a prompt matrix.

Source: Xu et al., "FinePOSE: Fine-Grained Prompt-Driven 3D Human Pose Estimation via Diffusion Models", CVPR 2024,
section 3.2, and its released code for the encoder after the text tower, which the paper does not describe.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from finepose_mp.models.text_tower import TextTower, tokenize
from finepose_mp.prompts import PromptLayout

_SLOT_STD = 0.02
_REFINING_LAYERS = 4


class PromptEncoder(nn.Module):
    """Prompt matrices of texts: learnable slots around fixed words, through a frozen text tower and a trained encoder.

    The tower's checksum is saved with the weights; loading them beside another tower is an error.

    Attributes:
        tower: the text tower, not a part of the module: see `TextTower`.
        slots: the learnable rows (n, W) of each slot, in the width W of the tower.
    """

    def __init__(self, tower: TextTower, width: int, heads: int, compatibility: str, action_slot: bool) -> None:
        super().__init__()
        self.tower = tower
        self._layout = PromptLayout(compatibility, action_slot, tokenize)
        self._trains_slots = compatibility != "released"
        self.slots = nn.ParameterDict(
            {
                # Frozen where they get no gradient, as data-parallel training wants to know.
                name: nn.Parameter(torch.randn(rows, tower.width) * _SLOT_STD, requires_grad=self._trains_slots)
                for name, rows in self._layout.learnable.items()
            }
        )
        self.adapt = nn.Identity() if tower.width == width else nn.Linear(tower.width, width)
        self.refine = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True),
            _REFINING_LAYERS,
            enable_nested_tensor=False,
        )
        self.norm = nn.LayerNorm(width)
        self.summarize = nn.Linear(width, width)
        self.register_buffer("tower_checksum", torch.tensor(tower.checksum))
        self.register_load_state_dict_pre_hook(_check_same_tower)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompt matrices P (U, 77, D) and the vectors (U, D) that stand for whole prompts, one for each text.

        Raises:
            PromptError: a text is longer than its slot.
        """
        device = self.summarize.weight.device
        tokens, rows, summaries = (
            sent(column, device) for column in zip(*map(self._layout.arrange, texts), strict=True)
        )
        # On a processor, PyTorch's fused attention in bfloat16 takes twice as long for 77 tokens as its parts.
        is_slow = device.type == "cpu" and torch.is_autocast_enabled("cpu")
        with sdpa_kernel(SDPBackend.MATH) if is_slow else nullcontext():
            with nullcontext() if self._trains_slots else torch.no_grad():
                encoded = self.tower.encode(self._embed(tokens, rows))
            matrix = self.norm(self.refine(self.adapt(encoded)))
        return matrix, self.summarize(matrix[torch.arange(len(texts), device=device), summaries])

    def _embed(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Embeddings (U, 77, W) of an arrangement: tokens (U, 77), rows (U, 77)."""
        learned = torch.cat([self.slots[name] for name in self._layout.learnable])[rows.clamp(min=0)]
        return torch.where((rows >= 0).unsqueeze(-1), learned, self.tower.embed(tokens.clamp(min=0)))


def sent(numbers: Sequence, device: torch.device) -> Tensor:
    """A tensor of numbers, on a device that goes on computing meanwhile: made there, it would be waited for."""
    return torch.tensor(numbers).to(device, non_blocking=True)


def _check_same_tower(module: PromptEncoder, state_dict: dict, prefix: str, *_other: object) -> None:
    stored = state_dict.get(f"{prefix}tower_checksum")
    if stored is not None and stored != module.tower_checksum:
        raise RuntimeError(
            "the weights were trained beside another text tower (checksum "
            f"{int(stored):08x}, this one {int(module.tower_checksum):08x}); set model.prompt.text_weights to theirs"
        )
