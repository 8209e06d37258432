"""Training with Accelerate: one process or many, interrupted or not, the same run gives the same weights."""

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device, set_seed
from torch.utils.data import DataLoader
from tqdm import tqdm

from finepose_mp import runs
from finepose_mp.config import Config, load_config
from finepose_mp.datasets.index import Track, list_tracks
from finepose_mp.datasets.sampler import EpochSampler
from finepose_mp.datasets.windows import WindowDataset, collate
from finepose_mp.models import build_model, compiled
from finepose_mp.prompts import possible_texts
from finepose_mp.skeletons import joint_set
from finepose_mp.training.averaging import MovingAverage
from finepose_mp.training.batches import GlobalBatches, micro_batches
from finepose_mp.training.launching import held, load_state, make_accelerator
from finepose_mp.training.ledger import Entry, Ledger
from finepose_mp.training.objective import Objective, usable_targets
from finepose_mp.training.progress import Progress, check_continues, flat_config
from finepose_mp.training.validation import mean_training_pose, validation_mpjpe_mm

logger = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says where it stopped and what to look at."""


def train(config: Config, resume: bool = False, progress_bar: bool = False) -> None:
    """Trains a model into `config.run_dir` (see `runs` for what lies there), until its epochs or steps are done.

    Run it in every process that Accelerate launches. A run that was interrupted and is resumed ends with the same
    weights as one that was not, given the same number of processes.

    Args:
        config: the run.
        resume: continue the run in `config.run_dir` from its last checkpoint.
        progress_bar: show one on the main process.

    Raises:
        FileExistsError: the run directory exists and `resume` is false.
        BlockingIOError: another process is training into it.
        FileNotFoundError: there is nothing to resume, or a data file is missing.
        runs.RunError: the run cannot continue with this configuration or data.
        TrainingError: the loss is not finite.
    """
    if resume:
        check_continues(load_config(runs.existing(config.run_dir, runs.CONFIG)), config)
        runs.checkpoint_folder(config.run_dir, "last")
    accelerator = make_accelerator(config)
    with held(config.run_dir, accelerator):
        if not resume:
            runs.check_is_new(config.run_dir)
        training_set = WindowDataset(config.data, "train", training=True, seed=config.seed)
        validation_tracks = list_tracks(config.data, "val")
        if accelerator.is_main_process:
            logger.info(
                "training on %d windows of %d tracks, validating on %d tracks, on %d process(es)",
                *(len(training_set), len(training_set.tracks), len(validation_tracks), accelerator.num_processes),
            )
        trainer = Trainer(config, accelerator, training_set, validation_tracks, progress_bar)
        trainer.restore() if resume else trainer.start()
        accelerator.init_trackers("finepose_mp", config=flat_config(config))
        while not trainer.is_done:
            trainer.run_epoch()
        accelerator.end_training()


class Trainer:
    """A run in progress: the model with its optimiser and averaged weights, and the position in the data."""

    def __init__(
        self,
        config: Config,
        accelerator: Accelerator,
        training_set: WindowDataset,
        validation_tracks: list[Track],
        progress_bar: bool = False,
    ) -> None:
        self._config, self._accelerator, self._progress_bar = config, accelerator, progress_bar
        self._windows, self._validation_tracks = training_set, validation_tracks
        self._loader, self._batches = _loader(config, accelerator, training_set)
        self._progress = Progress(windows=len(training_set))
        self._saved_step: int | None = None
        self._ledger = Ledger(self._settle)

        set_seed(config.seed)
        joints = len(joint_set(config.data.joint_set))
        model = runs.with_own_text_tower(config.model, config.run_dir)
        network = build_model(model, joints, config.data.window, config.data.missing)
        prompt = config.model.prompt if network.reads_prompts else None
        self._objective = Objective(config.diffusion, network.is_denoiser, prompt)
        # Copied before `prepare`, which ties the network's forward to the network itself.
        self._averaged = MovingAverage(network, config.training.ema_decay, accelerator.device)
        network.trunk.checkpointing = config.training.activation_checkpointing
        if config.training.compile:
            compiled(network)
        if accelerator.is_fsdp2:  # its policy would cast coordinates too; under autocast, as in `_step`, they stay
            accelerator.state.fsdp_plugin.mixed_precision_policy = None
        self._model, self._optimizer = accelerator.prepare(
            network,
            torch.optim.AdamW(
                [parameter for parameter in network.parameters() if parameter.requires_grad],
                lr=config.training.learning_rate,
                weight_decay=config.training.weight_decay,
                # A fused step skips itself on the device where fp16 overflowed, and nobody learns that it did.
                fused=config.training.mixed_precision != "fp16",
            ),
        )
        accelerator.register_for_checkpointing(self._averaged, self._progress)
        set_seed(config.seed, device_specific=True)  # from here on random numbers only drop paths

    @property
    def is_done(self) -> bool:
        """Whether the configured epochs or steps are done."""
        return self._progress.epoch >= self._config.training.epochs or self._reached_max_steps

    def start(self) -> None:
        """Makes the run directory, with the training set's mean pose and the text tower in it."""
        self._check_texts()
        place = self._accelerator.process_index, self._accelerator.num_processes
        mean_pose = mean_training_pose(self._config, self._windows.tracks, *place)
        if self._accelerator.is_main_process:
            runs.create_run(self._config)
            runs.write_mean_pose(self._config.run_dir, mean_pose, self._config.data.joint_set)
            runs.write_text_tower(self._config.run_dir, self._averaged.module)
            runs.write_training_data(self._config.run_dir, {**self._windows.summary(), "takes": self._takes()})
        self._accelerator.wait_for_everyone()

    def restore(self) -> None:
        """Takes over the state of the run's last checkpoint."""
        run_dir = self._config.run_dir
        if runs.read_takes(run_dir) not in (None, self._takes()):
            raise runs.RunError(
                f"{run_dir}: the takes of data.files that train or validate are not those that this run began with "
                f"({runs.TRAINING_DATA}); give it the same files, or train anew in another run_dir"
            )
        load_state(self._accelerator, runs.checkpoint_folder(run_dir, "last") / runs.STATE)
        self._saved_step = self._progress.step
        if self._accelerator.is_main_process:
            runs.write_config(self._config)
            runs.note_continuation(run_dir, self._progress.step)
            runs.forget_metrics_after(run_dir, self._progress.step)
            logger.info("continuing %s at epoch %d, step %d", run_dir, self._progress.epoch + 1, self._progress.step)

    def _takes(self) -> dict[str, list[str]]:
        """Names of the takes that train and that validate."""
        tracks = {"train": self._windows.tracks, "val": self._validation_tracks}
        return {split: sorted({track.take for track in of_split}) for split, of_split in tracks.items()}

    def run_epoch(self) -> None:
        """Trains to the end of the epoch in progress, or to the last step; then validates, notes and saves."""
        started, progress, training = time.monotonic(), self._progress, self._config.training
        learning_rate = training.learning_rate * training.lr_decay**progress.epoch
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._train_to_end_of_epoch()
        record = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "learning_rate": learning_rate,
            "loss_mm": 1000 * progress.distance_m / max(1, progress.joints),
        }
        if progress.batch >= len(self._batches):
            progress.end_epoch()
        is_best = False
        if self.is_done or progress.epoch % training.validate_every == 0:
            record["validation_mpjpe_mm"] = mpjpe_mm = self._validate()
            is_best = mpjpe_mm < progress.best_mpjpe_mm
            progress.best_mpjpe_mm = min(mpjpe_mm, progress.best_mpjpe_mm)
        self._note({**record, "seconds": round(time.monotonic() - started, 3)})
        self._save(is_best)

    @torch.no_grad()
    def _check_texts(self) -> None:
        """Raises PromptError when a prompt has no room for a text: before the run begins, not where it first comes."""
        if self._averaged.module.reads_prompts:
            tracks, prompt = [*self._windows.tracks, *self._validation_tracks], self._config.model.prompt
            actions, scenes = [track.action for track in tracks], [track.scene for track in tracks]
            texts = possible_texts(prompt.condition, actions, scenes, prompt.text_dropout)
            self._averaged.module.encode_prompts(texts)

    @property
    def _reached_max_steps(self) -> bool:
        limit = self._config.training.max_steps
        return limit is not None and self._progress.step >= limit

    def _train_to_end_of_epoch(self) -> None:
        progress = self._progress
        self._model.train()
        self._windows.set_epoch(progress.epoch)
        self._batches.start_at(progress.epoch, progress.batch)
        title = f"epoch {progress.epoch + 1}/{self._config.training.epochs}"
        is_shown = self._progress_bar and self._accelerator.is_main_process
        hidden = None if is_shown else True  # None hides it where there is no terminal
        with tqdm(desc=title, total=len(self._batches), initial=progress.batch, disable=hidden, leave=False) as bar:
            for batches in _grouped(self._loader, self._config.training.gradient_accumulation):
                if self._reached_max_steps:
                    break
                self._step([self._on_device(batch) for batch in batches])
                progress.batch += len(batches)
                progress.step += 1
                bar.update(len(batches))
                self._save_between_epochs()
        self._ledger.close()

    def _save_between_epochs(self) -> None:
        every, ends = self._config.training.checkpoint_every, self._progress.batch >= len(self._batches)
        if every is not None and self._progress.step % every == 0 and not ends and not self._reached_max_steps:
            self._ledger.close()
            self._save(is_best=False)

    def _step(self, batches: list[dict]) -> None:
        """One optimiser step on the mean distance over the usable joints of all batches and all processes."""
        accelerator = self._accelerator
        joints = accelerator.reduce(torch.stack([usable_targets(batch).sum() for batch in batches]).sum(), "sum")
        # Accelerate averages gradients over the processes; their sum over all joints' number is wanted.
        scale = accelerator.num_processes / joints.clamp(min=1)
        passes = [part for batch in batches for part in micro_batches(batch, self._config.training.micro_batch)]
        distances = []
        for number, part in enumerate(passes, start=1):
            last = number == len(passes)
            # Gradients are summed over the processes once, but for sharded ones, of which none is to hold the whole.
            with nullcontext() if last or accelerator.is_fsdp2 else accelerator.no_sync(self._model):
                with accelerator.autocast():
                    distance = self._objective(self._model, part)
                accelerator.backward(distance.sum() * scale)
            distances.append(distance.detach())
        if self._config.training.grad_clip is not None:
            accelerator.clip_grad_norm_(self._model.parameters(), self._config.training.grad_clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if not accelerator.optimizer_step_was_skipped:  # fp16 skips steps whose gradients overflowed
            self._averaged.update(accelerator.unwrap_model(self._model))
        distances = torch.cat(distances)
        indices = torch.cat([batch["index"] for batch in batches])
        total = accelerator.reduce(distances.sum(), "sum")
        self._ledger.book(self._progress.step + 1, total, joints, distances, indices)

    def _settle(self, entry: Entry) -> None:
        """Counts a step in. Raises TrainingError, in all processes, when its loss is not finite."""
        total, joints = entry.sums.tolist()
        if math.isfinite(total):
            self._progress.distance_m += total
            self._progress.joints += int(joints)
            return
        bad = sorted(gather_object(entry.indices[~entry.distances.isfinite().cpu()].tolist()))
        batch = sorted(gather_object(entry.indices.tolist()))
        if self._accelerator.is_main_process:
            windows = [{**_identity(self._windows, index), "is_finite": index not in bad} for index in batch]
            where = {"epoch": self._progress.epoch + 1, "step": entry.step, "loss": str(total)}
            runs.write_failed_step(self._config.run_dir, {**where, "windows": windows})
        raise TrainingError(
            f"loss is {total} in epoch {self._progress.epoch + 1}, step {entry.step}, from training "
            f"windows {', '.join(map(str, bad[:20]))}{' ...' if len(bad) > 20 else ''} ({len(bad)} of {len(batch)} in "
            f"the batch; {self._config.run_dir / runs.FAILED_STEP} says whose they are). No weights of this step were "
            "saved. If most windows of the batch are listed, lower training.learning_rate; if few, check the data with "
            "tools/validate.py"
        )

    def _on_device(self, batch: dict) -> dict:
        """What a step needs of a batch; texts, seeds and indices stay on the CPU, where they are used."""
        arrays = {name: batch[name] for name in ("input_2d", "input_mask", "target_3d", "target_mask", "frame_mask")}
        arrays = send_to_device(arrays, self._accelerator.device, non_blocking=True)
        return {**arrays, **{name: batch[name] for name in ("text", "scene", "seed", "index")}}

    def _validate(self) -> float:
        place = self._accelerator.process_index, self._accelerator.num_processes
        return validation_mpjpe_mm(self._averaged.module, self._config, self._validation_tracks, *place)

    def _note(self, record: dict) -> None:
        self._accelerator.log({k: v for k, v in record.items() if k != "step"}, step=record["step"])
        if self._accelerator.is_main_process:
            runs.append_metrics(self._config.run_dir, record)
            logger.info(", ".join(f"{k} {v:.6g}" for k, v in record.items()))

    def _save(self, is_best: bool) -> None:
        """Writes checkpoint "last", and "best" when the validation error was the lowest so far."""
        run_dir, model = self._config.run_dir, self._averaged.module
        if is_best and self._accelerator.is_main_process:
            with runs.checkpoint(run_dir, "best") as folder:
                runs.save_weights(folder, model, self._config)
        with ExitStack() as stack:
            if self._accelerator.is_main_process:
                folder = stack.enter_context(runs.checkpoint(run_dir, "last", self._place_of_previous()))
                runs.save_weights(folder, model, self._config)
            self._accelerator.wait_for_everyone()
            self._accelerator.save_state(runs.partial_folder(run_dir, "last") / runs.STATE)
            self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            runs.keep_newest(run_dir, self._config.training.keep_checkpoints - 1)
        self._saved_step = self._progress.step
        self._accelerator.wait_for_everyone()

    def _place_of_previous(self) -> Path | None:
        if self._saved_step is None or self._config.training.keep_checkpoints == 1:
            return None
        return runs.older_checkpoint(self._config.run_dir, self._saved_step)


def _loader(config: Config, accelerator: Accelerator, windows: WindowDataset) -> tuple[DataLoader, GlobalBatches]:
    """A loader of this process's share of the batches. Its own generator leaves the global one to the model."""
    place = accelerator.process_index, accelerator.num_processes
    weights = config.data.sampling_weights
    order = EpochSampler(len(windows), config.seed, groups=windows.files, weights=weights)
    batches = GlobalBatches(order, config.training.batch_size, *place)
    if accelerator.is_fsdp2 and len(batches.passes(config.training.micro_batch)) > 1:
        raise ValueError(
            "some processes would pass through the network more often than others, which wait for their shares of its "
            "weights; choose a training.batch_size that divides by the number of processes"
        )
    workers = min(config.data.num_workers, os.cpu_count())
    loader = DataLoader(
        windows,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,  # workers keep the tracks that they have read
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),
    )
    return loader, batches


def _identity(windows: WindowDataset, index: int) -> dict:
    """Which person, frames and text a training window of this epoch is, as plain values."""
    track, sample = windows.tracks[windows.track_number(index)], windows[index]
    frames = sample["frame"][sample["frame_mask"]]
    return {
        **{"window": index, "file": str(track.file), "sequence": track.sequence, "camera": track.camera},
        **{"person": track.person, "first_frame": int(frames[0]), "last_frame": int(frames[-1])},
        **{name: sample[name] for name in ("mirrored", "text", "seed")},
    }


def _grouped(loader: Iterable[dict], size: int) -> Iterator[list[dict]]:
    """The loader's batches in lists of `size`, the last list possibly shorter."""
    batches = iter(loader)
    while group := list(islice(batches, size)):
        yield group
