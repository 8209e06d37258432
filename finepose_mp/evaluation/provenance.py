"""Every choice that changes a number, for the results file."""

from dataclasses import asdict
from pathlib import Path

from torch import nn

from finepose_mp import runs, schema
from finepose_mp.aggregation import KEYPOINT_NOISE
from finepose_mp.config import Config
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.scoring import MILLIMETRES
from finepose_mp.files import file_sha256
from finepose_mp.skeletons import joint_set


def choices(
    run_dir: Path, data_file: Path, config: Config, options: Options, model: nn.Module, leak_check: str
) -> dict[str, object]:
    """Names and values of all choices, ready for JSON.

    Args:
        run_dir, data_file: what was evaluated on what; both are identified by the SHA-256 of the files read.
        config: as used in this evaluation, options applied.
        options: as given by the caller.
        model: as loaded.
        leak_check: how it is known that no evaluated take was trained on.
    """
    joints = joint_set(config.data.joint_set)
    data, sampling = config.data, config.evaluation
    root = " and ".join(joints.joints[j] for j in joints.root_joints)
    root = root if len(joints.root_joints) == 1 else f"mean of {root}"
    return {
        "run": run_dir.name,
        "model": config.model.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "checkpoint": options.which,
        "checkpoint sha256": file_sha256(runs.checkpoint_folder(run_dir, options.which) / runs.WEIGHTS),
        "data file": data_file.name,
        "data sha256": file_sha256(data_file),
        "dataset": _dataset(data_file),
        "split scheme": data.split_scheme,
        "split": options.split,
        "training takes": leak_check,
        "camera kinds": data.camera_kinds,
        "joint set": joints.name,
        "poses": "root-relative, metric, in the frame of each camera; no alignment in MPJPE",
        "root": f"{root}; prediction and truth both have it at the origin",
        "root source": (
            "solved by least squares from the mean hypothesis and the 2D keypoints, weighted by their scores and "
            "smoothed over time in the world (camera poses are inputs); true in the row that says so"
        ),
        "soft J-Agg temperature": f"{MILLIMETRES * KEYPOINT_NOISE:g} mm at the person, fixed beforehand",
        "P-MPJPE and N-MPJPE": (
            "every hypothesis is aligned before the choice, as in the papers' code"
            if options.align_then_choose
            else "the composed pose is aligned"
        ),
        "joints scored": "observed and interpolated" if data.include_interpolated else "observed",
        "person in view": f"at least {data.min_joints_in_view} joints in view",
        "2D source": data.input_2d,
        "2D coordinates": data.coordinates,
        "lowest detection score": data.min_score if data.input_2d == "detected" else None,
        "missing keypoints": data.missing,
        "prompt condition": _prompt_condition(config.model.prompt.condition) if model.reads_prompts else "none",
        "hypotheses": sampling.hypotheses if model.is_denoiser else 1,
        "sampling steps": sampling.sampling_steps if model.is_denoiser else None,
        "mirrored input averaged": sampling.flip,
        "window": f"{data.window} frames, from the first frame on, without overlap",
        "frames": "the papers' overlap and padding counted again" if options.legacy_overlap else "each counted once",
        "mean within a scene": "over all scored joints of all people, cameras and frames",
        "mean of scenes": "unweighted",
        "seed": config.seed,
        "bootstrap samples": options.bootstrap_samples,
        "options": {name: value for name, value in asdict(options).items() if value is not None},
        "versions": runs.versions(),
    }


def _prompt_condition(condition: str) -> str:
    return f"{condition} (given label)" if condition in ("action", "scene") else condition


def _dataset(data_file: Path) -> str:
    with schema.open_file(data_file) as file:
        return str(file.attrs["dataset"])
