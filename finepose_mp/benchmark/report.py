"""Measurements as a table for people and as plain values for programs."""

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from finepose_mp import runs
from finepose_mp.benchmark.arms import JOINT_SET
from finepose_mp.benchmark.cost import Shape, inference_flops, training_flops
from finepose_mp.benchmark.measuring import YARDSTICK, Measurement
from finepose_mp.skeletons import joint_set

_HEADINGS = (
    "arm",
    "yardsticks",
    "spread",
    "seconds",
    "TFLOP/s",
    "of bf16 rate",
    "peak MB",
    "without libraries",
    "to first",
)


def table(measurements: list[Measurement]) -> str:
    """A table in Markdown.

    "of bf16 rate" compares operations per second with large bfloat16 products on this device; "to first" compares costs
    with the first arm of the same task and window length.
    """
    rows = []
    for found in measurements:
        first = next(m for m in measurements if (m.arm.task, m.arm.window) == (found.arm.task, found.arm.window))
        seconds = sorted(found.seconds)[len(found.seconds) // 2]
        rows.append(
            (
                f"{found.arm.task} {found.arm.name}",
                f"{found.ratio:.2f}",
                f"{found.spread:.2f}",
                f"{seconds:.3g}",
                f"{flops(found) / seconds / 1e12:.3g}",
                f"{flops(found) / seconds / found.bf16_rate:.0%}",
                f"{found.peak_mb:.0f}",
                f"{found.peak_mb - found.libraries_mb:.0f}",
                f"{found.ratio / first.ratio:.2f}",
            )
        )
    lines = [_HEADINGS, ("---",) * len(_HEADINGS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def flops(found: Measurement) -> int:
    """Operations that our network needs for the arm's work, whatever the arm spends."""
    arm = found.arm
    shape = Shape(len(joint_set(JOINT_SET)), arm.window, arm.sizes.width, arm.sizes.depth)
    if arm.task == "train":
        return arm.batch * training_flops(shape, texts=0)
    return arm.batch * inference_flops(shape, arm.hypotheses, arm.steps, arm.flip)


def surroundings(device: str, threads: int) -> dict[str, Any]:
    """Where the numbers come from: device, threads, versions."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else _processor()
    return {**runs.versions(), "device": name, "threads": threads, "yardstick": YARDSTICK}


def as_json(found: Measurement) -> dict[str, Any]:
    """Plain values of everything about an arm: its settings, repeats, median, spread, memory."""
    return {
        **asdict(found),
        **{"ratio": found.ratio, "spread": found.spread, "windows_per_second": found.windows_per_second},
        **{"network_mb": found.peak_mb - found.libraries_mb, "flops": flops(found)},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()
