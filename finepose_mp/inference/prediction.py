"""Scene files: sequences of a file of the contract with what a run predicts for them beside what they hold."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
from pydantic import ValidationError
from torch import nn

from finepose_mp import runs, schema
from finepose_mp.config import Config, EvaluationConfig, load_config, sampling_asked_for
from finepose_mp.datasets.index import take_name
from finepose_mp.files import check_free
from finepose_mp.inference.scene import ScenePrediction, predict_scene
from finepose_mp.variables import INFERRED, NOT_PREDICTED, SEEN

WORLD, ROOT_RELATIVE = "world", "camera axes, root at origin"


class PredictionError(ValueError):
    """A file or options from which nothing can be predicted; the message says why and what to do."""


@dataclass(frozen=True)
class PredictionOptions:
    """How scenes are predicted; None is what the run, or the file, says.

    Attributes:
        which: checkpoint of the run, "best" or "last".
        preset: name of sampling settings; `hypotheses`, `sampling_steps` and `flip` say them one by one.
        sequences: group names; None: all of the file.
        cameras: names of those to look through; None: all.
        action: what people do, in words.
        assumed, decisions: what was assumed and decided on the way to the file, kept with the prediction.
    """

    which: str = "best"
    preset: str | None = None
    hypotheses: int | None = None
    sampling_steps: int | None = None
    flip: bool | None = None
    sequences: list[str] | None = None
    cameras: list[str] | None = None
    action: str | None = None
    assumed: list[str] = field(default_factory=list)
    decisions: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """What was predicted for one sequence: counts of people times frames, and the sentences of what was assumed."""

    sequence: str
    people: int
    frames: int
    seen: int
    inferred: int
    root_relative: list[str]
    assumed: list[str]


def is_contract(path: Path) -> bool:
    """Whether a file is HDF5, as those of the contract are; what is in it shows when it is opened."""
    return path.is_file() and h5py.is_hdf5(path)


def joint_set_of_run(run: Path) -> str:
    """The name of the joint set that a run's model reads and predicts."""
    return load_config(runs.existing(run, runs.CONFIG)).data.joint_set


def predict_file(
    run: Path, source: Path, out: Path, options: PredictionOptions | None = None, overwrite: bool = False
) -> list[Summary]:
    """Writes `out`, the sequences of `source` with their prediction, and says what is in it.

    Joints of the prediction are those of `source`, NaN where the model has none of that name. `out` appears when
    everything is written.

    Raises:
        FileExistsError: `out` exists and `overwrite` is false.
        FileNotFoundError, schema.SchemaError, runs.RunError: the file or the run cannot be read.
        PredictionError: nothing to predict, or names that the file does not know.
        ValueError: see `sampling_asked_for`.
    """
    options = options or PredictionOptions()
    check_free(out, overwrite=overwrite)
    model, config = runs.load_run(run, options.which)
    with schema.open_file(source) as file:
        attributes = {name: str(file.attrs[name]) for name in ("dataset", "joint_set", "licence", "citation")}
        names = _chosen(schema.sequence_names(file), options.sequences, source)
    predictor = _Predictor(model, config, run, source, attributes["joint_set"], options)
    summaries = []
    with schema.create(out, **attributes, overwrite=overwrite) as file:
        for name in names:
            sequence = predictor.predict(name)
            schema.write_sequence(file, sequence)
            summaries.append(_summary(sequence))
    return summaries


@dataclass(frozen=True)
class _Predictor:
    """A run, and the file whose sequences it predicts; `joint_set` is that of the file."""

    model: nn.Module
    config: Config
    run: Path
    source: Path
    joint_set: str
    options: PredictionOptions

    def predict(self, name: str) -> schema.Sequence:
        """The sequence with its prediction."""
        options = self.options
        with schema.open_file(self.source) as file:
            sequence = schema.read_sequence(file, name)
        unknown = sorted(set(options.cameras or ()) - set(sequence.camera))
        if unknown:
            raise PredictionError(
                f"{self.source}: {name} has no camera {', '.join(unknown)}; it has {', '.join(sequence.camera)}"
            )
        sequence.action = options.action or sequence.action
        assumed = [*options.assumed, *_about_rates(self.run, sequence.fps, self.config)]
        assumed += _about_training(self.run, take_name(name, sequence.simulated))
        config = _deployed(self.config, self.model, options, sequence.action, assumed)
        predicted = predict_scene(
            self.model, config, self.source, name, options.cameras, options.action, self.joint_set
        )
        if predicted.root_relative:
            assumed.append(
                f"{', '.join(predicted.root_relative)}: no camera of known pose sees them, so their poses are relative "
                "to their own root, along the camera's axes"
            )
        return replace(
            sequence,
            predicted_3d_world=predicted.joints_3d_world,
            predicted_hypotheses_3d_world=predicted.hypotheses_3d_world,
            predicted_spread=predicted.spread,
            predicted_status=predicted.status,
            prediction=self._about(sequence, predicted, config, assumed),
        )

    def _about(self, sequence: schema.Sequence, predicted: ScenePrediction, config: Config, assumed: list[str]) -> dict:
        """What is kept with the prediction, as plain values."""
        predicted_people = np.flatnonzero((predicted.status != NOT_PREDICTED).any(axis=0))
        nobody_is_placed = {sequence.person[p] for p in predicted_people} == set(predicted.root_relative) != set()
        return {
            "model": str(self.run),
            "checkpoint": self.options.which,
            "frame": ROOT_RELATIVE if nobody_is_placed else WORLD,
            "root_relative": predicted.root_relative,
            "preset": self.options.preset,
            "hypotheses": len(predicted.hypotheses_3d_world),
            "sampling_steps": config.evaluation.sampling_steps if self.model.is_denoiser else 1,
            "flip": config.evaluation.flip,
            "prompt": config.model.prompt.condition if self.model.reads_prompts else None,
            "action": sequence.action,
            "cameras": self.options.cameras or sequence.camera,
            "seed": config.seed,
            "versions": runs.versions(),
            "assumed": assumed,
            "decisions": self.options.decisions,
        }


def _summary(sequence: schema.Sequence) -> Summary:
    return Summary(
        sequence=sequence.name,
        people=len(sequence.person),
        frames=len(sequence.frame),
        seen=int((sequence.predicted_status == SEEN).sum()),
        inferred=int((sequence.predicted_status == INFERRED).sum()),
        root_relative=sequence.prediction["root_relative"],
        assumed=sequence.prediction["assumed"],
    )


def _deployed(config: Config, model: nn.Module, options: PredictionOptions, action: str, assumed: list[str]) -> Config:
    """The run's configuration for prediction: detected keypoints, sampling as asked, a prompt that can be given."""
    sampling = sampling_asked_for(options.preset, options.hypotheses, options.sampling_steps, options.flip)
    if config.data.input_2d != "detected":
        assumed.append("detected keypoints are lifted by a model that was trained on exact projections")
    condition = config.model.prompt.condition
    if model.reads_prompts:
        if options.action:
            condition = "action"
        elif not action and condition in ("action", "scene"):
            condition = "learned"
            assumed.append("the model is told nothing about what people do; --action says it")
    elif options.action:
        assumed.append(f"the model reads no text: {options.action!r} is kept, and has no influence")
    prompt = config.model.prompt.model_copy(update={"condition": condition})
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"input_2d": "detected"}),
            "evaluation": _sampled(config, sampling),
            "model": config.model.model_copy(update={"prompt": prompt}),
        }
    )


def _sampled(config: Config, sampling: dict) -> EvaluationConfig:
    try:
        return EvaluationConfig.model_validate(config.evaluation.model_dump() | sampling)
    except ValidationError as error:
        said = "; ".join(f"{item['loc'][0]} {item['input']}: {item['msg']}" for item in error.errors())
        raise PredictionError(said) from error


def _about_rates(run: Path, fps: float, config: Config) -> Iterator[str]:
    trained = (runs.read_training_data(run) or {}).get("frame_rates_hz", [])
    rates = [config.data.frame_rate] if config.data.frame_rate else trained
    if rates and min(abs(fps / rate - 1) for rate in rates) > 0.2:
        said = ", ".join(f"{rate:g}" for rate in rates)
        yield f"{fps:g} frames a second meet a model that was trained at {said}: its sense of speed is off by the ratio"


def _about_training(run: Path, take: str) -> Iterator[str]:
    known = runs.read_takes(run) or {}
    for split, what in (("train", "trained"), ("val", "chosen")):
        if take in known.get(split, ()):
            yield f"the model was {what} on this take ({runs.TRAINING_DATA}): others will come out worse"


def _chosen(names: list[str], wanted: list[str] | None, source: Path) -> list[str]:
    if not names:
        raise PredictionError(f"{source} holds no sequence")
    unknown = sorted(set(wanted or ()) - set(names))
    if unknown:
        raise PredictionError(
            f"{source}: no sequence {', '.join(unknown)}; it has {', '.join(names[:10])} ({len(names)} in all)"
        )
    return wanted or names
