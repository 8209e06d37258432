"""The diffusion process over poses: cosine schedule, noising, and DDIM sampling of several hypotheses.

Poses are root-relative, in metres. Symbols as in the papers: Y_0 clean, Y_t noised, abar_t the product of 1 - beta up
to time t. The networks predict Y_0. Sources: Nichol & Dhariwal 2021 (schedule), Song et al. 2021 (DDIM, eq. 12 and
16), D3DP (Shan et al., ICCV 2023) for the bounds on poses.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

Denoiser = Callable[[Tensor, int], Tensor]  # (noisy poses (B, H, N, J, 3), t) -> clean poses, same shape
NoiseSource = Callable[[int], Tensor]  # draw number -> standard normal (B, H, N, J, 3)


class CosineSchedule:
    """abar_t = cos^2(((t/T + s) / (1 + s)) pi/2) in float64, with beta_t at most 0.999."""

    def __init__(self, timesteps: int = 1000, offset: float = 0.008) -> None:
        self.timesteps = timesteps
        grid = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
        level = torch.cos((grid + offset) / (1 + offset) * torch.pi / 2) ** 2
        self.betas = (1 - level[1:] / level[:-1]).clamp(0, 0.999)
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)

    def add_noise(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Y_t = sqrt(abar_t) Y_0 + sqrt(1 - abar_t) noise, unbounded; t is (B,) on the CPU, the poses are (B, ...)."""
        abar = self.alphas_cumprod[t].view(-1, *(1,) * (clean.dim() - 1))
        weights = [weight.to(clean.dtype) for weight in (abar.sqrt(), (1 - abar).sqrt())]
        keep, mix = send_without_waiting(weights, clean.device)
        return keep * clean + mix * noise

    def noise_in(self, noisy: Tensor, t: int, clean: Tensor) -> Tensor:
        """The noise that turns `clean` into `noisy` at time t: (Y_t / sqrt(abar_t) - Y_0) / sqrt(1/abar_t - 1)."""
        abar = self.alphas_cumprod[t].item()
        return (noisy / abar**0.5 - clean) / (1 / abar - 1) ** 0.5

    def ddim_coefficients(self, t: int, t_next: int) -> tuple[float, float, float]:
        """Weights of Y_0, of the noise in Y_t and of fresh noise, for the step from t down to t_next >= 0 (eta = 1)."""
        abar, abar_next = self.alphas_cumprod[t].item(), self.alphas_cumprod[t_next].item()
        sigma = ((1 - abar / abar_next) * (1 - abar_next) / (1 - abar)) ** 0.5
        of_noise = max(0.0, 1 - abar_next - sigma**2) ** 0.5  # of nearly equal numbers: rounding may go below 0
        return abar_next**0.5, of_noise, sigma


def send_without_waiting(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the CPU on a device, copied while it computes: only from pinned memory does no one wait."""
    if device.type == "cuda":
        tensors = [tensor.pin_memory() for tensor in tensors]
    return [tensor.to(device, non_blocking=True) for tensor in tensors]


def sampling_times(timesteps: int, steps: int) -> list[int]:
    """Times visited by a sampler of `steps` steps, from timesteps - 1 down to -1 (which stands for the clean pose).

    Raises ValueError when there are more steps than times.
    """
    if not 1 <= steps <= timesteps:
        raise ValueError(f"a schedule of {timesteps} times allows 1 to {timesteps} sampling steps, asked for {steps}")
    return np.linspace(-1, timesteps - 1, steps + 1).astype(int)[::-1].tolist()


@torch.no_grad()
def ddim_sample(denoise: Denoiser, noise: NoiseSource, schedule: CosineSchedule, steps: int, clip: float) -> Tensor:
    """Clean poses (S, B, H, N, J, 3) in metres: the prediction after every step, the last one being the result.

    Args:
        denoise: the network, given a noisy pose within +-clip and its time.
        noise: standard normal draws; number 0 starts the sampling, number s is mixed in after step s.
        schedule: of the process that the network was trained on.
        steps: S.
        clip: bound on every coordinate, in metres, of what the network sees and of what it predicts.
    """
    times = sampling_times(schedule.timesteps, steps)
    noisy = noise(0)
    predictions = []
    for step, (t, t_next) in enumerate(pairwise(times), start=1):
        clean = denoise(noisy.clamp(-clip, clip), t).clamp(-clip, clip)
        predictions.append(clean)
        if t_next < 0:
            break
        # D3DP takes the noise from the unbounded sample: the bounds shape only what the network sees.
        of_clean, of_noise, of_fresh = schedule.ddim_coefficients(t, t_next)
        noisy = of_clean * clean + of_noise * schedule.noise_in(noisy, t, clean) + of_fresh * noise(step)
    return torch.stack(predictions)


def window_generators(seeds: Sequence[int] | Tensor) -> list[np.random.Generator]:
    """One generator per window, from the window's own seed (64 bits).

    A window's noise therefore does not depend on the batch, the process or the device that it lands on. NumPy's
    generators take all 64 bits; PyTorch's CPU generator keeps 32 of them.
    """
    return [np.random.default_rng(int(seed) % 2**64) for seed in seeds]


def draw_noise(generators: list[np.random.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal (B, *shape) float32 on the CPU, row b from generator b."""
    return torch.from_numpy(np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators]))
