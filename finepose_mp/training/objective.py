"""What is minimised: the distance between predicted and true joints, over usable joints alone."""

import torch
from torch import Tensor, nn

from finepose_mp.config import DiffusionConfig, PromptConfig
from finepose_mp.diffusion import CosineSchedule, draw_noise, send_without_waiting, window_generators
from finepose_mp.prompts import training_texts


class Objective:
    """Distances of a model's predictions on a batch; noise and diffusion times follow from each window's seed.

    Every window gets one time t, uniform over the schedule, and noise for all its joints; the noisy pose is bounded
    like in sampling (D3DP, section 3). A deterministic lifter predicts from the keypoints alone.

    `prompt` is the configuration of a model that reads prompts, else None. It gets a text for every window, and which
    windows have theirs dropped follows from their seeds too.
    """

    def __init__(self, config: DiffusionConfig, is_denoiser: bool, prompt: PromptConfig | None = None) -> None:
        self._schedule = CosineSchedule(config.timesteps)
        self._clip = config.clip_m
        self._is_denoiser = is_denoiser
        self._prompt = prompt

    def __call__(self, model: nn.Module, batch: dict) -> Tensor:
        """(B,) distances in metres, summed over the usable target joints of each window.

        `batch` is that of `datasets.windows.collate`; its seeds may stay on the CPU.
        """
        prediction = self._predict(model, batch)
        distance = torch.linalg.vector_norm(prediction - batch["target_3d"], dim=-1)
        return (distance * usable_targets(batch)).sum(dim=(-2, -1))

    def _predict(self, model: nn.Module, batch: dict) -> Tensor:
        input_mask = batch["input_mask"] & batch["frame_mask"].unsqueeze(-1)
        if not self._is_denoiser:
            return model(batch["input_2d"], input_mask)
        noisy, t = self._corrupt(batch["target_3d"], batch["seed"])
        if self._prompt is None:
            return model(batch["input_2d"], noisy, t, input_mask)
        texts = training_texts(
            *(self._prompt.condition, batch["text"], batch["scene"]), self._prompt.text_dropout, batch["seed"].tolist()
        )
        return model(batch["input_2d"], noisy, t, input_mask, texts)

    def _corrupt(self, clean: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy poses and their diffusion times (B,)."""
        generators = window_generators(seeds.tolist())
        t = torch.tensor([int(generator.integers(self._schedule.timesteps)) for generator in generators])
        noise, sent_t = send_without_waiting([draw_noise(generators, clean.shape[1:]), t], clean.device)
        return self._schedule.add_noise(clean, t, noise).clamp(-self._clip, self._clip), sent_t


def usable_targets(batch: dict) -> Tensor:
    """(B, N, J) bool: target joints that count in the loss."""
    return batch["target_mask"] & batch["frame_mask"].unsqueeze(-1)
