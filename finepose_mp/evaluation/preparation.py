"""What every protocol starts from: a trained model, the tracks it is to be scored on, and their lifted poses.

A protocol calls `prepare`, scores the tracks that `Prepared.lifted` gives to this process, brings the scores of all
processes together with `Prepared.gather`, and makes its own tables of them. Which choices change a number, whether the
model has seen a take, which joints count, how the work is shared: that is the same for all of them and stands here.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from torch import nn

from finepose_mp import runs
from finepose_mp.config import CONDITIONS, Config, DataConfig
from finepose_mp.datasets.index import Track, evaluation_windows, list_takes, takes_in_split, tracks_of
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.datasets.splits import DataError
from finepose_mp.datasets.windows import kinds_without_keypoints
from finepose_mp.evaluation import provenance
from finepose_mp.evaluation.comparability import Comparison, compare
from finepose_mp.evaluation.examples import Example
from finepose_mp.evaluation.moments import Moment
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.scoring import EvaluationError, LiftedTrack, aggregations_for
from finepose_mp.inference.lifting import lift_tracks
from finepose_mp.inference.views import view_of
from finepose_mp.skeletons import JointSet, joint_set

SPLITS = ("test", "val")

Lifted = tuple[Track, dict, np.ndarray, np.ndarray]  # what lift_tracks yields


@dataclass(frozen=True)
class Evaluation:
    """The contents of results.json, and for pictures each scene's fullest moment and each take's worst one."""

    results: dict
    examples: dict[str, Example]
    worst: dict[str, Moment] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A trained model about to be scored on a file, the same in every process.

    Attributes:
        run_dir, data_file: what is evaluated on what.
        options: with the protocol's defaults filled in.
        config: of the run, with the options in place of what it says for evaluation and data.
        model: on this process's device.
        tracks: all that are to be scored, on whichever process.
        rows: names of the aggregations that say something for this many hypotheses.
        training_mean_pose: (J, 3) root-relative metres, the baseline; None for an imported checkpoint.
        comparison: which joints can be compared, and at which frame rates.
        leak_check: how it is known that no evaluated take was trained on.
    """

    run_dir: Path
    data_file: Path
    options: Options
    config: Config
    model: nn.Module
    tracks: list[Track]
    rows: list[str]
    training_mean_pose: np.ndarray | None
    comparison: Comparison
    leak_check: str
    state: PartialState

    @property
    def joints(self) -> JointSet:
        """Joint set of the model, of the predictions and of everything they are compared with."""
        return joint_set(self.config.data.joint_set)

    @property
    def is_main_process(self) -> bool:
        """Whether this process makes the results."""
        return self.state.is_main_process

    def lift(self, legacy_overlap: bool | None = None) -> Iterator[Lifted]:
        """This process's share of the tracks with their data and predictions, as `lift_tracks` yields them.

        `legacy_overlap`: None as the options say.
        """
        mine = _share(self.tracks, self.state.process_index, self.state.num_processes)
        overlap = self.options.legacy_overlap if legacy_overlap is None else legacy_overlap
        return lift_tracks(self.model, self.config, mine, legacy_overlap=overlap)

    def lifted(self, legacy_overlap: bool | None = None) -> Iterator[LiftedTrack]:
        """The same, ready to be scored: joints that cannot be compared are masked."""
        with TrackReader(self.config.data) as reader:
            for each in self.lift(legacy_overlap):
                yield lifted_track(*each, self.config.data, reader, self.comparison.joints)

    def gather(self, mine: list) -> list:
        """The items of all processes in one list. Collective: every process calls it and gets the same."""
        return gather_object(mine)

    def choices(self) -> dict[str, object]:
        """Every choice that changes a number, for the results."""
        chosen = provenance.choices(
            self.run_dir, self.data_file, self.config, self.options, self.model, self.leak_check
        )
        return chosen | self.comparison.choices()


def prepare(
    run_dir: Path,
    data_file: Path,
    options: Options,
    *,
    keep: Callable[[Track], bool] | None = None,
    **data_defaults: object,
) -> Prepared:
    """A model and the tracks of one file's split to score it on. Every process must call this.

    Args:
        run_dir: of a training run. Its configuration says how tracks are read and which split scheme applies.
        data_file: of the contract.
        options: see `Options`.
        keep: whether a track is to be scored; None: all are.
        data_defaults: values of `DataConfig` that the protocol sets in place of the run's, unless an option says
            otherwise.

    Raises:
        EvaluationError: an option does not fit the run, or there is no track to score.
        DataError: a joint set that has not the model's root, no keypoint, or a take that the model has seen.
        FileNotFoundError, RunError, SchemaError: the run or the file cannot be read.
    """
    run_dir, data_file = Path(run_dir), Path(data_file)
    state = _processes()
    model, config = runs.load_run(run_dir, options.which)
    _check_options(options, model)
    config = _for_evaluation(config, data_file, options, data_defaults)
    takes = runs.read_takes(run_dir)
    tracks = _tracks(takes, config.data, options.split)
    without = kinds_without_keypoints(config.data, tracks)
    if without == {track.camera_kind for track in tracks}:
        raise EvaluationError(
            f"{data_file}: no keypoint in any camera of kind {', '.join(sorted(without))} ({config.data.input_2d}, "
            f"data.min_score={config.data.min_score:g}); choose other cameras with --camera-kinds"
        )
    leak_check = check_takes_are_new(takes, tracks, options.split)
    kept = [track for track in tracks if keep is None or keep(track)]
    if not kept:
        raise EvaluationError(f"{data_file}: the protocol keeps none of {len(tracks)} tracks of split {options.split}")
    mean_pose = runs.read_mean_pose(run_dir)
    hypotheses = config.evaluation.hypotheses if model.is_denoiser else 1
    return Prepared(
        run_dir=run_dir,
        data_file=data_file,
        options=options,
        config=config,
        model=model.to(state.device),
        tracks=kept,
        rows=aggregations_for(hypotheses, baseline=mean_pose is not None),
        training_mean_pose=mean_pose,
        comparison=compare(kept, config.data, mean_pose, runs.read_training_data(run_dir), options.frame_rate),
        leak_check=leak_check,
        state=state,
    )


def check_takes_are_new(takes: dict[str, list[str]] | None, tracks: list[Track], split: str) -> str:
    """A sentence for the results on how it is known that the model never saw the evaluated takes.

    Args:
        takes: of `runs.read_takes`.
        tracks, split: what is evaluated.

    Raises:
        DataError: a take was seen in training or, when testing, in validation; the message names it.
    """
    if takes is None:
        return "not known: the run does not say which takes trained it (an imported checkpoint, for example)"
    seen = {*takes["train"], *(takes["val"] if split == "test" else ())}  # validation takes chose the checkpoint
    common = sorted({track.take for track in tracks} & seen)
    if common:
        where = "train or val" if split == "test" else "train"
        raise DataError(
            f"{tracks[0].file}: {len(common)} takes of split {split} ({', '.join(common[:3])}, ...) were in split "
            f"{where} when this model was trained ({runs.TRAINING_DATA}); evaluate on takes that are new to the model"
        )
    return "no evaluated take is among the takes that trained or, for a test, selected this model"


def _tracks(takes_of_run: dict[str, list[str]] | None, data: DataConfig, split: str) -> list[Track]:
    """The tracks of a split of the evaluated file, the only one of `data`.

    Validation takes of a file that the run knows are those that the run held out, of all its files together.

    Raises EvaluationError, that says what the file has, where there are none.
    """
    (path,), takes = data.files, list_takes(data)
    known = takes_of_run or {"train": [], "val": []}
    if split == "val" and {take.take for take in takes} & {*known["train"], *known["val"]}:
        in_split = [take for take in takes if take.take in known["val"]]
    else:
        in_split = takes_in_split(takes, data, split)
    tracks = tracks_of(in_split, data.camera_kinds)
    if tracks:
        return tracks
    if in_split:
        kinds = ", ".join(sorted({track.camera_kind for take in in_split for track in take.tracks})) or "no kind"
        raise EvaluationError(
            f"{path}: nobody to score; its {len(in_split)} take(s) of split {split} have cameras of kind {kinds}, not "
            f"{', '.join(data.camera_kinds)}; choose others with --camera-kinds"
        )
    found = " and ".join(f"{n} take(s) are in split {name}" for name, n in Counter(t.split for t in takes).items())
    raise EvaluationError(
        f"{path}: no take of split {split}; {found or 'no take is there'} of this run ({data.split_scheme} scheme), "
        f"and only {' or '.join(SPLITS)} is scored; choose with --split"
    )


def lifted_track(
    track: Track,
    sample: dict,
    hypotheses: np.ndarray,
    times_scored: np.ndarray,
    data: DataConfig,
    reader: TrackReader,
    comparable: np.ndarray | None = None,
) -> LiftedTrack:
    """A track and its prediction in the form that scoring takes.

    Args:
        track, sample, hypotheses, times_scored: as `lift_tracks` yields them.
        data: how the track was read.
        reader: for what predictions do not need of the file.
        comparable: (J,) bool, False for joints that are not to be scored; None: all are.
    """
    windows = evaluation_windows(track.length, data.window)
    window = np.zeros(track.length, dtype=np.int64)
    for number, (frames, is_new) in enumerate(zip(windows.frames, windows.score_mask, strict=True)):
        window[frames[is_new]] = number
    scene = reader.read_scene(track)
    of_sample = {name: sample[name] for name in ("target_3d", "target_mask", "input_mask", "in_view", "frame")}
    if comparable is not None:
        of_sample["target_mask"] = of_sample["target_mask"] & comparable
    return LiftedTrack(
        track,
        hypotheses,
        times_scored,
        window,
        joint_status=scene["joint_status"],
        view=view_of(sample, scene["world_to_camera"], track.fps, data.coordinates),
        true_root_camera=sample["root_camera"],
        comparable=comparable,
        **of_sample,
    )


def place(score: object) -> tuple[str, str, str]:
    """Sorts scores of tracks, whichever processes they come from, as `list_tracks` sorts the tracks."""
    return score.track.take, score.track.camera, score.track.person


def _check_options(options: Options, model: nn.Module) -> None:
    if options.split not in SPLITS:
        raise EvaluationError(f"split {options.split!r}: expected one of {', '.join(SPLITS)}")
    sampling = {"hypotheses": options.hypotheses, "sampling_steps": options.sampling_steps}
    for name, value in sampling.items():
        if value is not None and value < 1:
            raise EvaluationError(f"{name}: expected at least 1, found {value}")
        if value not in (None, 1) and not model.is_denoiser:
            raise EvaluationError(f"{name} {value}: this run's model is deterministic and gives one pose; leave it out")
    condition = options.prompt_condition
    if condition is not None and condition not in CONDITIONS:
        raise EvaluationError(f"prompt_condition {condition!r}: expected one of {', '.join(CONDITIONS)}")
    if condition is not None and not model.reads_prompts:
        raise EvaluationError(f"prompt_condition {condition}: this run's model reads no prompts; leave it out")


def _for_evaluation(config: Config, data_file: Path, options: Options, defaults: dict) -> Config:
    """The run's configuration with the options in place of what it says for evaluation and data."""
    asked = {"camera_kinds": options.camera_kinds and list(options.camera_kinds)}
    asked |= {"include_interpolated": options.include_interpolated, "frame_rate": options.frame_rate}
    sampling = {name: getattr(options, name) for name in ("hypotheses", "sampling_steps", "flip")}
    if (options.sampling_steps or 0) > config.diffusion.timesteps:
        raise EvaluationError(
            f"sampling_steps {options.sampling_steps}: this run's diffusion has {config.diffusion.timesteps} times; "
            "ask for at most as many steps"
        )
    values = config.model_dump()
    # All scenes: which of them were trained on does not matter here.
    values["data"] |= {"files": [data_file], "scenes": None, "sampling_weights": None} | defaults | _given(asked)
    values["evaluation"] |= _given(sampling)
    values["model"]["prompt"]["condition"] = options.prompt_condition or config.model.prompt.condition
    return Config.model_validate(values)


def _given(options: dict) -> dict:
    return {name: value for name, value in options.items() if value is not None}


def _processes() -> PartialState:
    # PartialState by itself neither reads accelerate's CPU switch nor notices that there is nothing but CPUs: it would
    # then let every process evaluate everything and write the same files.
    only_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=only_cpu)


def _share(tracks: list[Track], process: int, processes: int) -> list[Track]:
    """The tracks of every n-th take, person by person: one process sees all cameras of a person, and all people."""
    takes = [list(group) for _, group in groupby(tracks, key=lambda track: track.take)]
    return [track for take in takes[process::processes] for track in sorted(take, key=lambda track: track.person)]
