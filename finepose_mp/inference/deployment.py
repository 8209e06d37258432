"""A denoiser as one program that runs without this library, in the format of torch.export."""

from pathlib import Path

import torch
from torch import Tensor, nn

from finepose_mp.files import appearing
from finepose_mp.models.finepose import Prompt


class ExportError(ValueError):
    """A model that cannot be exported; the message says why."""


class _Program(nn.Module):
    """What is exported: tensors in, tensor out, no text."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_2d: Tensor, noisy_3d: Tensor, t: Tensor, input_mask: Tensor, *prompt: Tensor) -> Tensor:
        """Clean poses (B, H, N, J, 3)."""
        encoded = [Prompt(*prompt, torch.zeros(1, dtype=torch.int64, device=t.device))] if prompt else []
        return self.model.denoise(self.model.condition(input_2d, input_mask, *encoded), noisy_3d, t)


def exported(model: nn.Module) -> torch.export.ExportedProgram:
    """A denoiser's single step as a program for any number of windows and hypotheses.

    It takes, in order: keypoints (B, N, J, 2), noisy poses (B, H, N, J, 3) within the run's bounds, times (B,) int64,
    mask (B, N, J) bool; a prompted model also keys (1, heads, 77, d), values (1, heads, 77, d) and summary (1, D) of
    one text for all windows, from `encode_prompts`: text is encoded before, once. It gives the clean poses
    (B, H, N, J, 3) that `model.denoise` gives. Sampling and averaging with the mirrored input stay with the caller.

    Raises:
        ExportError: the model is no denoiser.
    """
    if not model.is_denoiser:
        raise ExportError("only a denoiser (model.name finepose or d3dp) is exported; this model lifts in one pass")
    _, window, _, _ = model.trunk.temporal_position.shape
    joints, device = model.trunk.spatial_position.shape[2], model.trunk.spatial_position.device
    windows, hypotheses = torch.export.Dim("windows"), torch.export.Dim("hypotheses")
    example = [
        torch.zeros(2, window, joints, 2, device=device),
        torch.zeros(2, 3, window, joints, 3, device=device),
        torch.zeros(2, dtype=torch.int64, device=device),
        torch.ones(2, window, joints, dtype=torch.bool, device=device),
    ]
    sizes = [{0: windows}, {0: windows, 1: hypotheses}, {0: windows}, {0: windows}]
    prompt = []
    if model.reads_prompts:
        with torch.no_grad():
            prompt = list(model.encode_prompts([None])[:3])
        sizes.append(tuple({} for _ in prompt))
    program = _Program(model.eval())
    with torch.no_grad():
        return torch.export.export(program, (*example, *prompt), dynamic_shapes=sizes)


def write_exported(model: nn.Module, path: Path) -> None:
    """Writes `exported(model)` as a .pt2 file. Raises FileExistsError when it is there already."""
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another name or remove it")
    with appearing(path) as partial:
        torch.export.save(exported(model), partial)
