"""What an arm does: built once, then called again and again."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from finepose_mp.benchmark.arms import JOINT_SET, Arm
from finepose_mp.benchmark.reference_style import ReferenceStyle, separately_mirrored
from finepose_mp.config import Config
from finepose_mp.diffusion import CosineSchedule, ddim_sample, draw_noise, window_generators
from finepose_mp.inference.lifting import lift_windows
from finepose_mp.inference.memory import in_precision, sequence_bytes
from finepose_mp.models import build_model, compiled
from finepose_mp.skeletons import joint_set
from finepose_mp.training.averaging import MovingAverage
from finepose_mp.training.batches import micro_batches
from finepose_mp.training.objective import Objective

TEXT = "walking the dog"
_UNBOUNDED_MB = 2**20


def build(arm: Arm, device: torch.device) -> Callable[[], Tensor]:
    """What an arm repeats: returns the loss (B,) of a training step, or the sampled poses (B, H, N, J, 3)."""
    torch.manual_seed(0)
    config = _config(arm)
    joints = len(joint_set(JOINT_SET))
    model = build_model(config.model, joints, arm.window, config.data.missing).to(device)
    made = {"train": _training, "infer": _inference}[arm.task](arm, config, model, device)

    def work() -> Tensor:
        with _kernel(arm):
            return made()

    return work


def _config(arm: Arm) -> Config:
    """The configuration of an arm; its files are not read."""
    sizes = arm.sizes
    return Config.model_validate(
        {
            "run_dir": Path("benchmark"),
            "data": {"files": [Path("benchmark.h5")], "joint_set": JOINT_SET, "window": arm.window},
            "model": {
                **{"name": "finepose", "width": sizes.width, "depth": sizes.depth, "heads": sizes.heads},
                "prompt": {
                    **{"text_weights": "random", "text_width": sizes.text_width, "text_depth": sizes.text_depth},
                    **{"text_heads": sizes.text_heads, "text_dropout": 0, "condition": "action"},
                    "compatibility": "released" if arm.style == "reference" else "repaired",
                },
            },
            "evaluation": {"memory_mb": _UNBOUNDED_MB},
        }
    )


def _training(arm: Arm, config: Config, model: nn.Module, device: torch.device) -> Callable[[], Tensor]:
    model.train()
    model.trunk.checkpointing = arm.checkpointing
    average = MovingAverage(model, config.training.ema_decay, device) if arm.averaging else None
    if arm.compiled:
        compiled(model)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=config.training.learning_rate,
        weight_decay=config.training.weight_decay,
        fused=arm.style == "ours" or None,  # the released code leaves it to PyTorch
    )
    objective = Objective(config.diffusion, is_denoiser=True, prompt=config.model.prompt)
    network = _in_reference_style(model) if arm.style == "reference" else model
    batch = _batch(arm, device)

    def step() -> Tensor:
        losses = []
        for part in micro_batches(batch, arm.micro_batch):
            with _precision(arm, device):  # as in the trainer: not around the backward pass, which needs no casts
                losses.append(objective(network, part))
            losses[-1].mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.update(model)
        return torch.cat(losses).detach()

    return step


def _inference(arm: Arm, config: Config, model: nn.Module, device: torch.device) -> Callable[[], Tensor]:
    model.eval()
    keypoints, mask = _keypoints(arm, device)
    seeds = torch.arange(arm.batch)
    if arm.style == "reference":
        return _reference_sampling(arm, config, ReferenceStyle(model), keypoints)
    with torch.inference_mode():
        prompt = model.encode_prompts([TEXT])
    if arm.precision != "autocast" and not arm.compiled:
        model = in_precision(model, arm.precision)
    if arm.at_once is not None:
        sequences = arm.at_once * arm.batch * (2 if arm.flip else 1)
        memory_mb = -(-sequences * sequence_bytes(model) // 2**20)
        config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"memory_mb": memory_mb})})
    if arm.text == "every pass":
        _encode_in_every_pass(model)
    if arm.compiled:
        compiled(model)

    def sample() -> Tensor:
        with _precision(arm, device):
            return lift_windows(model, config, keypoints, mask, seeds, arm.hypotheses, arm.steps, arm.flip, prompt)

    return sample


def _in_reference_style(model: nn.Module) -> Callable[..., Tensor]:
    """The call that the objective makes, answered in the reference's way. The mask is not honoured, as there."""
    reference = ReferenceStyle(model)

    def network(input_2d: Tensor, noisy: Tensor, t: Tensor, _mask: Tensor, texts: list[str]) -> Tensor:
        return reference(input_2d, noisy.unsqueeze(1), t, texts[0]).squeeze(1)

    return network


def _reference_sampling(arm: Arm, config: Config, network: ReferenceStyle, keypoints: Tensor) -> Callable[[], Tensor]:
    def sample() -> Tensor:
        generators = window_generators(range(arm.batch))
        shape = (arm.hypotheses, *keypoints.shape[1:-1], 3)
        denoise = separately_mirrored(network, keypoints, TEXT, joint_set(JOINT_SET), arm.flip)
        noise = lambda _draw: draw_noise(generators, shape).to(keypoints.device)  # noqa: E731
        return ddim_sample(denoise, noise, CosineSchedule(), arm.steps, config.diffusion.clip_m)[-1]

    return sample


def _encode_in_every_pass(model: nn.Module) -> None:
    denoise = model.denoise
    model.denoise = lambda conditions, *rest: denoise(conditions._replace(prompt=model.encode_prompts([TEXT])), *rest)


def _keypoints(arm: Arm, device: torch.device) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    shape = (arm.batch, arm.window, len(joint_set(JOINT_SET)))
    keypoints = 0.3 * torch.randn(*shape, 2, generator=generator)
    mask = torch.rand(shape, generator=generator) > 0.1 if arm.masked else None
    return keypoints.to(device), None if mask is None else mask.to(device)


def _batch(arm: Arm, device: torch.device) -> dict:
    """A batch as the trainer's: texts, seeds and indices on the CPU."""
    keypoints, mask = _keypoints(arm, device)
    shape = keypoints.shape[:-1]
    everywhere = torch.ones(shape, dtype=torch.bool, device=device)
    return {
        "input_2d": keypoints,
        "input_mask": everywhere if mask is None else mask,
        "target_3d": (0.3 * torch.randn(*shape, 3, generator=torch.Generator().manual_seed(1))).to(device),
        "target_mask": everywhere,
        "frame_mask": torch.ones(shape[:2], dtype=torch.bool, device=device),
        "text": [TEXT] * arm.batch,
        "scene": [""] * arm.batch,
        "seed": torch.arange(arm.batch),
        "index": torch.arange(arm.batch),
    }


def _precision(arm: Arm, device: torch.device) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16) if arm.precision == "autocast" else nullcontext()


def _kernel(arm: Arm) -> AbstractContextManager:
    return sdpa_kernel(SDPBackend.MATH) if arm.kernel == "explicit" else nullcontext()
