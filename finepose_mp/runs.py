"""The directory of a training run: what lies where, and how a trained model is read back from it.

    config.yaml               the complete configuration
    versions.json             software and device of the start and of every continuation
    metrics.jsonl             one line per epoch
    training_mean_pose.json   mean root-relative pose of the training targets, the baseline of evaluations
    training_data.json        what the training windows were made of: frame rates, joint sets, windows of each file, and
                              the takes that trained and validated
    text_tower.safetensors    of a prompted model: its frozen text encoder, which its weights leave out
    best/model.safetensors    averaged (EMA) weights at the lowest validation error
    last/model.safetensors    averaged weights of the last checkpoint
    last/state/               everything that continuing needs: Accelerate's own format, partly pickles
    step_00001000/            what was last/ before; with it, the newest `training.keep_checkpoints` are there
    imported.json             of a run made of a released checkpoint: what it came from; its training data is not known
    failed_step.json          of a run that stopped because its loss was not finite: which windows were in the batch

Checkpoints are folders that appear whole: they are written aside and renamed once they are on the disk.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from finepose_mp import files
from finepose_mp.config import Config, ModelConfig, dump_config, load_config
from finepose_mp.files import appearing
from finepose_mp.models import build_model
from finepose_mp.skeletons import joint_set

CONFIG, VERSIONS, METRICS, MEAN_POSE = "config.yaml", "versions.json", "metrics.jsonl", "training_mean_pose.json"
TRAINING_DATA = "training_data.json"
WEIGHTS, STATE, TEXT_TOWER = "model.safetensors", "state", "text_tower.safetensors"
FAILED_STEP, IMPORTED = "failed_step.json", "imported.json"
CHECKPOINTS = ("best", "last")
_OLDER = "step_"


class RunError(ValueError):
    """A run directory that cannot be used as asked; the message says why and what to do."""


def create_run(config: Config) -> None:
    """Makes the run directory with its configuration and versions in it."""
    config.run_dir.mkdir(parents=True, exist_ok=True)
    write_config(config)
    _write_text(config.run_dir / VERSIONS, json.dumps({**versions(), "continued": []}, indent=2))


def check_is_new(run_dir: Path) -> None:
    """Nothing when the directory is absent or empty. Raises FileExistsError otherwise."""
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise FileExistsError(
            f"{run_dir} exists; continue it with --resume, choose another run_dir (--set run_dir=...), or remove it"
        )


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Keeps a run directory, which is made if need be, from other trainings; removes it again when it stayed empty.

    Raises:
        BlockingIOError: another process is training into it.
    """
    taken = (
        f"another process is training into {run_dir}; wait until it ends and continue with --resume, or choose another "
        "run_dir (--set run_dir=...). Several processes share a run only when one command starts them "
        "(docs/TRAIN.md, Several processes)"
    )
    with files.held(run_dir, taken):
        try:
            yield
        finally:
            with suppress(OSError):  # it has something in it
                run_dir.rmdir()


def write_config(config: Config) -> None:
    """Writes the configuration into its run directory."""
    with appearing(config.run_dir / CONFIG, overwrite=True) as partial:
        dump_config(config, partial)


def note_continuation(run_dir: Path, step: int) -> None:
    """Adds the present software and device, and the step continued from, to the run's versions."""
    noted = json.loads((run_dir / VERSIONS).read_text())
    noted["continued"].append({"step": step, **versions()})
    _write_text(run_dir / VERSIONS, json.dumps(noted, indent=2))


def versions() -> dict[str, str | None]:
    """Versions of what the numbers depend on, the code's git revision (None outside a checkout) and the device."""
    found = {name: _version(name) for name in ("finepose_mp", "torch", "numpy", "accelerate")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {**found, "python": platform.python_version(), "git_revision": _git_revision(), "device": device}


def append_metrics(run_dir: Path, record: dict) -> None:
    """Adds one line to the run's metrics."""
    with open(run_dir / METRICS, "a") as file:
        file.write(json.dumps(record) + "\n")


def read_metrics(run_dir: Path) -> list[dict]:
    """The run's metrics, one dictionary per line; empty before the first epoch ended."""
    path = run_dir / METRICS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def forget_metrics_after(run_dir: Path, step: int) -> None:
    """Drops the lines that a run wrote after the checkpoint that it now continues from."""
    kept = [record for record in read_metrics(run_dir) if record["step"] <= step]
    _write_text(run_dir / METRICS, "".join(json.dumps(record) + "\n" for record in kept))


def write_mean_pose(run_dir: Path, mean_pose: np.ndarray, joint_set_name: str) -> None:
    """Writes the mean training pose (J, 3), root-relative, camera frame, metres; NaN is written as null."""
    content = {
        "joint_set": joint_set_name,
        "coordinate_frame": "camera, root-relative",
        "units": "m",
        "joints": {
            joint: position.tolist() if np.isfinite(position).all() else None
            for joint, position in zip(joint_set(joint_set_name).joints, mean_pose, strict=True)
        },
    }
    _write_text(run_dir / MEAN_POSE, json.dumps(content, indent=2))


def is_imported(run_dir: Path) -> bool:
    """Whether a run was made of a released checkpoint; see `released`."""
    return (Path(run_dir) / IMPORTED).is_file()


def read_mean_pose(run_dir: Path) -> np.ndarray | None:
    """The mean training pose (J, 3), root-relative, camera frame, metres, in the run's joint order.

    None for an imported run. Raises FileNotFoundError for another that has none.
    """
    if is_imported(run_dir):
        return None
    content = json.loads(existing(Path(run_dir), MEAN_POSE).read_text())
    unknown = [np.nan] * 3
    return np.array([content["joints"][joint] or unknown for joint in joint_set(content["joint_set"]).joints])


def write_training_data(run_dir: Path, summary: dict) -> None:
    """Writes what the training windows were made of: `datasets.windows.WindowDataset.summary`, and "takes"."""
    _write_text(run_dir / TRAINING_DATA, json.dumps(summary, indent=2))


def read_training_data(run_dir: Path) -> dict | None:
    """What the training windows were made of; None for a run that does not say."""
    path = Path(run_dir) / TRAINING_DATA
    return json.loads(path.read_text()) if path.is_file() else None


def read_takes(run_dir: Path) -> dict[str, list[str]] | None:
    """{"train": takes, "val": takes} of a run; None where it does not say: a checkpoint that was imported."""
    return (read_training_data(run_dir) or {}).get("takes")


def write_failed_step(run_dir: Path, content: dict) -> None:
    """Writes which windows a run stopped at."""
    _write_text(run_dir / FAILED_STEP, json.dumps(content, indent=2))


@contextmanager
def checkpoint(run_dir: Path, name: str, older: Path | None = None) -> Iterator[Path]:
    """A folder to write into, that takes the place of checkpoint `name` when the block ends without error.

    The checkpoint before moves to `older`, or is removed.

    Raises:
        OSError: it could not be written, for example because the disk is full; the one before stays.
    """
    partial, previous, final = partial_folder(run_dir, name), _previous_folder(run_dir, name), run_dir / name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _to_disk(partial)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)  # gives a full disk its room back
        if not _is_of_writing(error):
            raise
        kept = f"; the one before it is still in {final}" if final.exists() else ""
        raise OSError(f"checkpoint {name} of {run_dir} could not be written ({error}){kept}") from error
    shutil.rmtree(previous, ignore_errors=True)
    if final.exists():
        os.replace(final, previous)
    os.replace(partial, final)
    if older is not None and previous.exists():
        shutil.rmtree(older, ignore_errors=True)
        os.replace(previous, older)
    shutil.rmtree(previous, ignore_errors=True)


def _is_of_writing(error: Exception) -> bool:
    """Whether a file could not be written. Of PyTorch's writer only the name of its source file tells so."""
    return isinstance(error, (OSError, SafetensorError)) or "inline_container.cc" in str(error)


def older_checkpoint(run_dir: Path, step: int) -> Path:
    """Where the checkpoint of a training step moves when a newer one becomes "last"."""
    return run_dir / f"{_OLDER}{step:08d}"


def keep_newest(run_dir: Path, number: int) -> None:
    """Removes all older checkpoints but the `number` newest."""
    older = sorted(run_dir.glob(f"{_OLDER}*"))
    for folder in older[: max(0, len(older) - number)]:
        shutil.rmtree(folder)


def _to_disk(folder: Path) -> None:
    """Waits until everything in a folder is on the disk: a rename may otherwise get there before what it names."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def partial_folder(run_dir: Path, name: str) -> Path:
    """Where a checkpoint is while it is being written."""
    return run_dir / f".{name}.partial"


def _previous_folder(run_dir: Path, name: str) -> Path:
    return run_dir / f".{name}.previous"


def checkpoint_folder(run_dir: Path, name: str) -> Path:
    """The folder of checkpoint "best" or "last".

    Raises:
        RunError: no such name.
        FileNotFoundError: the run has none; the message says what the directory holds.
    """
    if name not in CHECKPOINTS:
        raise RunError(f"unknown checkpoint {name!r}; a run has {' and '.join(CHECKPOINTS)}")
    previous = _previous_folder(run_dir, name)  # left when a process was killed between two renames
    if not (run_dir / name).is_dir() and previous.is_dir():
        return previous
    return existing(run_dir, name)


def save_weights(folder: Path, model: nn.Module, config: Config) -> None:
    """Writes model.safetensors, with what the weights are for in its metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata=_purpose(config))


def write_text_tower(run_dir: Path, model: nn.Module) -> None:
    """Keeps a prompted model's text tower with the run, which then needs no network and no cache to be read."""
    if model.reads_prompts:
        model.prompts.tower.save(run_dir / TEXT_TOWER)


def with_own_text_tower(model: ModelConfig, run_dir: Path) -> ModelConfig:
    """The model's configuration, with the text tower that the run keeps by now, if it does."""
    if not (run_dir / TEXT_TOWER).is_file():
        return model
    prompt = model.prompt.model_copy(update={"text_weights": str(run_dir / TEXT_TOWER)})
    return model.model_copy(update={"prompt": prompt})


def load_run(run_dir: Path, which: str = "best") -> tuple[nn.Module, Config]:
    """The trained model, in evaluation mode on the CPU, with the averaged weights, and its configuration.

    Args:
        run_dir: of a training run.
        which: "best" (lowest validation error) or "last".

    Raises:
        FileNotFoundError: the directory or a part of it is absent.
        RunError: the weights are damaged, or belong to another model, joint set or window than config.yaml says.
    """
    run_dir = Path(run_dir)
    config = load_config(existing(run_dir, CONFIG))
    config.model = with_own_text_tower(config.model, run_dir)  # here also where the run was moved
    weights = existing(checkpoint_folder(run_dir, which), WEIGHTS)
    model = build_model(config.model, len(joint_set(config.data.joint_set)), config.data.window, config.data.missing)
    _load_weights(model, weights, config)
    return model.eval(), config


def _load_weights(model: nn.Module, path: Path, config: Config) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            stored = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise RunError(f"{path}: not a readable weights file ({error}); it may be truncated, train again") from error
    differing = [
        f"{key}: weights {stored.get(key)}, configuration {expected}"
        for key, expected in _purpose(config).items()
        if stored.get(key) != expected
    ]
    if differing:
        raise RunError(f"{path}: trained for something else than its config.yaml says ({'; '.join(differing)})")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path}: does not fit model {config.model.name}: {error}") from error


def _purpose(config: Config) -> dict[str, str]:
    """What weights are tied to, as text: safetensors metadata holds nothing else."""
    tied = {
        "model": config.model.name,
        "joint_set": config.data.joint_set,
        "window": config.data.window,
        "coordinates": config.data.coordinates,
        "missing": config.data.missing,
    }
    return {key: str(value) for key, value in tied.items()}


def existing(folder: Path, name: str) -> Path:
    """A part of a run directory that must be there. Raises FileNotFoundError saying what there is instead."""
    path = folder / name
    if path.exists():
        return path
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory; train first with `accelerate launch train.py`")
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    found = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"
    raise FileNotFoundError(
        f"{folder}: {name} is missing (found {found}); this is no run directory, or the run has not come that far "
        "or is damaged"
    )


def _write_text(path: Path, text: str) -> None:
    with appearing(path, overwrite=True) as partial:
        partial.write_text(text)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
