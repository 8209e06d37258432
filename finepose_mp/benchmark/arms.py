"""The arms of the benchmark: each is one way of doing one thing, described by plain values."""

from dataclasses import dataclass, field, replace
from typing import Literal

from finepose_mp.config import PRESETS

JOINT_SET = "h36m17"


@dataclass(frozen=True)
class Sizes:
    """Sizes of FinePOSE and of its text tower; the defaults are the papers' network with CLIP ViT-B/32's tower."""

    width: int = 512
    depth: int = 8
    heads: int = 8
    text_width: int = 512
    text_depth: int = 12
    text_heads: int = 8


@dataclass(frozen=True)
class Arm:
    """One way of training or sampling.

    Attributes:
        name: for the table; tells it from the other arms of its task.
        task: "train" (one optimiser step) or "infer" (one call of the sampler).
        style: "ours", or "reference" for what the released code does.
        window, batch: N frames, B windows.
        hypotheses, steps, flip: of the sampler.
        precision: "fp32"; "bf16": weights cast once, matrix products in bfloat16; "autocast": cast in every call.
        compiled: with torch.compile.
        kernel: of the attention: "fused", or "explicit" for matrix products with a softmax between them.
        text: encoded "once" and kept, or in "every pass" through the network.
        at_once: hypotheses denoised at a time; None: all.
        masked: one keypoint in ten is missing.
        checkpointing, micro_batch, averaging: of training.
    """

    name: str
    task: Literal["train", "infer"]
    style: Literal["ours", "reference"] = "ours"
    window: int = 27
    batch: int = 1
    hypotheses: int = 5
    steps: int = 5
    flip: bool = True
    precision: Literal["fp32", "bf16", "autocast"] = "fp32"
    compiled: bool = False
    kernel: Literal["fused", "explicit"] = "fused"
    text: Literal["once", "every pass"] = "once"
    at_once: int | None = None
    masked: bool = False
    checkpointing: bool = False
    micro_batch: int | None = None
    averaging: bool = False
    sizes: Sizes = field(default=Sizes())

    def but(self, name: str, **changes: object) -> "Arm":
        """The same arm, with another name and some values changed."""
        return replace(self, name=name, **changes)


def training_arms(sizes: Sizes, windows: list[int], batches: list[int], compiler: bool) -> list[Arm]:
    """Ways of taking a training step, with the first of `batches`; the first of each window length is our float32."""
    arms, size = [], "" if batches[0] == 1 else f" B {batches[0]}"
    for window in windows:
        base = Arm(f"N {window}{size}", "train", window=window, batch=batches[0], sizes=sizes)
        arms += [base, base.but(f"{base.name} bf16", precision="autocast"), _reference(base)]
    base, window, most = arms[0], windows[0], max(batches)
    arms += [
        base.but(f"{base.name} masked", masked=True),
        base.but(f"{base.name} explicit attention", kernel="explicit"),
        base.but(f"{base.name} checkpointing", checkpointing=True),
        base.but(f"{base.name} averaged weights", averaging=True),
    ]
    arms += [base.but(f"N {window} B {batch}", batch=batch) for batch in batches[1:]]
    if most > 1:
        arms.append(base.but(f"N {window} B {most} one at a time", batch=most, micro_batch=1))
    return arms + (_compiled(base) if compiler else [])


def inference_arms(
    sizes: Sizes, windows: list[int], batches: list[int], hypotheses: list[int], steps: list[int], compiler: bool
) -> list[Arm]:
    """Ways of sampling; the first is ours in float32, of the first of all windows, batches, hypotheses and steps."""
    h, s, n, b = hypotheses[0], steps[0], windows[0], batches[0]
    size = "" if b == 1 else f" B {b}"
    base = Arm(f"H {h} S {s} N {n}{size}", "infer", window=n, batch=b, hypotheses=h, steps=s, sizes=sizes)
    name = base.name
    arms = [
        base,
        base.but(f"{name} bf16", precision="bf16"),
        base.but(f"{name} bf16 autocast", precision="autocast"),
        _reference(base),
        base.but(f"{name} masked", masked=True),
        base.but(f"{name} explicit attention", kernel="explicit"),
        base.but(f"{name} text in every pass", text="every pass"),
        base.but(f"{name} without flip", flip=False),
        *(base.but(f"{name} chunks of {size}", at_once=size) for size in (1, 2) if size < h),
        *(base.but(f"H {h} S {s} N {n} B {batch}", batch=batch) for batch in batches[1:]),
        *(base.but(f"H {h} S {s} N {window}{size}", window=window) for window in windows[1:]),
        *(base.but(f"H {other} S {s} N {n}{size}", hypotheses=other) for other in hypotheses[1:]),
        *(base.but(f"H {h} S {other} N {n}{size}", steps=other) for other in steps[1:]),
    ]
    return arms + (_compiled(base) if compiler else [])


def hungriest_arm(sizes: Sizes, window: int, batch: int) -> Arm:
    """The fastest way of training there is here: what a loader has to keep up with."""
    return Arm(f"N {window} B {batch} bf16", "train", window=window, batch=batch, precision="autocast", sizes=sizes)


def preset_arms(sizes: Sizes, window: int) -> list[Arm]:
    """The presets of sampling, side by side."""
    return [
        Arm(
            f"preset {name}",
            "infer",
            window=window,
            hypotheses=preset.hypotheses,
            steps=preset.sampling_steps,
            flip=preset.flip,
            sizes=sizes,
        )
        for name, preset in PRESETS.items()
    ]


def _compiled(base: Arm) -> list[Arm]:
    return [
        base.but(f"{base.name} compiled", compiled=True),
        base.but(f"{base.name} bf16 compiled", compiled=True, precision="autocast"),
    ]


def _reference(base: Arm) -> Arm:
    return base.but(f"{base.name} reference-style", style="reference", text="every pass")
