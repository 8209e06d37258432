"""Typed configuration of a run: YAML files and `key=value` overrides; unknown keys are errors."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from finepose_mp.schema import CAMERA_KINDS
from finepose_mp.skeletons import JOINT_SETS

CONDITIONS = ("none", "scene", "action", "learned")  # of prompts; see finepose_mp.prompts


class Preset(NamedTuple):
    """Sampling settings that belong together."""

    hypotheses: int
    sampling_steps: int
    flip: bool

    @property
    def passes(self) -> int:
        """Poses that the network denoises for one pose of the result."""
        return self.hypotheses * self.sampling_steps * (2 if self.flip else 1)


PRESETS = {"fast": Preset(5, 2, True), "balanced": Preset(10, 5, True), "paper": Preset(20, 10, True)}


def sampling_asked_for(
    preset: str | None, hypotheses: int | None, sampling_steps: int | None, flip: bool | None
) -> dict[str, int | bool]:
    """The sampling settings that a caller gives by a preset's name or one by one; those that are None are left out.

    Raises:
        ValueError: an unknown preset, or a preset and single settings.
    """
    single = {"hypotheses": hypotheses, "sampling_steps": sampling_steps, "flip": flip}
    single = {name: value for name, value in single.items() if value is not None}
    if preset is None:
        return single
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    if single:
        raise ValueError("a preset stands for hypotheses, sampling steps and mirroring; give the one or the others")
    return PRESETS[preset]._asdict()


class ConfigError(ValueError):
    """A configuration file or override that cannot be used; the message says which key and why."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DataConfig(_Section):
    """Which windows of which files a model sees, and in which coordinates."""

    files: list[Path] = Field(min_length=1)
    # How often an epoch draws each training window of each file: 2 is twice, 0.5 half of them. None: each once.
    sampling_weights: list[Annotated[float, Field(gt=0)]] | None = None
    joint_set: Literal[tuple(JOINT_SETS)] = "coco17"
    split_scheme: Literal["official", "within_scene"] = "official"
    camera_kinds: list[Literal[CAMERA_KINDS]] = Field(default=["ego_rgb"], min_length=1)
    scenes: list[str] | None = None  # None: every scene of the files
    input_2d: Literal["detected", "projected"] = "detected"
    coordinates: Literal["rays", "screen"] = "rays"
    window: int = Field(default=27, ge=1)  # frames
    frame_rate: float | None = Field(default=None, gt=0)  # Hz that takes are read at; None: as they were recorded
    train_stride: int | None = Field(default=None, ge=1)  # frames between windows; None: windows do not overlap
    min_score: float = Field(default=0.3, ge=0, le=1)  # detections below count as missing
    min_joints_in_view: int = Field(default=5, ge=1)  # fewer: the person is out of view in that frame
    include_interpolated: bool = False  # joints that the dataset filled in, as targets
    missing: Literal["masked", "zeros"] = "masked"  # zeros: the papers' way, for comparison
    flip: bool = True  # mirror half of the training windows at random
    num_workers: int = Field(default=0, ge=0)  # processes that read windows, for each GPU; no more than processors
    cache_mb: int = Field(default=1536, ge=0)  # of decoded tracks, shared by workers: Human3.6M's training set fits

    @model_validator(mode="after")
    def _weigh_every_file(self) -> "DataConfig":
        weights = self.sampling_weights
        if weights is not None and len(weights) != len(self.files):
            raise ValueError(f"sampling_weights has {len(weights)} numbers for {len(self.files)} files; give one each")
        return self


class PromptConfig(_Section):
    """What a prompted model is conditioned on, and through which text tower."""

    condition: Literal[CONDITIONS] = "action"
    text_dropout: float = Field(default=0.3, ge=0, le=1)  # share of training windows under one of the other conditions
    compatibility: Literal["repaired", "paper", "released"] = "repaired"
    action_slot: bool = True  # False: the papers' layout for MPI-INF-3DHP, which has no actions
    # "random" (small, untrained, no download), a tag of open_clip's ViT-B-32 such as "openai", or a weights file.
    text_weights: str = "openai"
    text_activation: Literal["quick_gelu", "gelu"] = "quick_gelu"  # of a weights file that does not say it itself
    text_width: int = Field(default=64, ge=8)  # this and the next two: of a random tower
    text_depth: int = Field(default=2, ge=1)
    text_heads: int = Field(default=2, ge=1)


class ModelConfig(_Section):
    """The denoiser (finepose, or d3dp without prompts) or deterministic lifter (mixste); defaults are the papers'."""

    name: Literal["finepose", "d3dp", "mixste"] = "d3dp"
    width: int = Field(default=512, ge=8)
    depth: int = Field(default=8, ge=1)
    heads: int = Field(default=8, ge=1)
    mlp_ratio: float = Field(default=2.0, gt=0)
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    prompt: PromptConfig = PromptConfig()  # read by finepose alone


class DiffusionConfig(_Section):
    """The noising process; `clip_m` bounds every coordinate of a root-relative pose, in metres."""

    timesteps: int = Field(default=1000, ge=1)
    clip_m: float = Field(default=1.1, gt=0)


class TrainingConfig(_Section):
    """The optimisation; `batch_size` counts windows over all processes together."""

    epochs: int = Field(default=100, ge=1)
    max_steps: int | None = Field(default=None, ge=1)  # optimiser steps; None: as many as the epochs have
    batch_size: int = Field(default=4, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=6e-5, gt=0)
    lr_decay: float = Field(default=0.993, gt=0, le=1)  # factor per epoch
    weight_decay: float = Field(default=0.1, ge=0)
    grad_clip: float | None = Field(default=1.0, gt=0)  # L2 norm; None: no clipping
    ema_decay: float = Field(default=0.999, ge=0, lt=1)  # 0: no averaging
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    micro_batch: int | None = Field(default=None, ge=1)  # windows per pass and process; None: a batch in one pass
    activation_checkpointing: bool = False  # compute blocks twice instead of keeping what happened inside them
    compile: bool = False  # with torch.compile
    validate_every: int = Field(default=1, ge=1)  # epochs
    checkpoint_every: int | None = Field(default=None, ge=1)  # steps, beside the end of every epoch
    keep_checkpoints: int = Field(default=1, ge=1)  # the newest ones, apart from the best
    trackers: list[str] = []  # names that Accelerate knows, beside metrics.jsonl


class EvaluationConfig(_Section):
    """Sampling at test time. `preset`, a name of PRESETS, may stand for hypotheses, sampling_steps and flip."""

    hypotheses: int = Field(default=5, ge=1)
    sampling_steps: int = Field(default=3, ge=1)
    flip: bool = True  # average with the mirrored input inside every step
    batch_size: int = Field(default=16, ge=1)  # windows at once, on each process
    memory_mb: int = Field(default=1024, ge=1)  # for activations: windows and hypotheses are taken in chunks that fit
    precision: Literal["fp32", "bf16"] = "fp32"  # of the matrix products; coordinates stay in float32

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("preset") is None:
            return {k: v for k, v in values.items() if k != "preset"} if isinstance(values, dict) else values
        values = dict(values)
        name = values.pop("preset")
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        preset = PRESETS[name]._asdict()
        if differing := [key for key in preset if values.get(key, preset[key]) != preset[key]]:
            said = ", ".join(f"{key} {values[key]}" for key in differing)
            raise ValueError(f"preset {name} says otherwise than {said}; leave out the one or the other")
        return values | preset


class Config(_Section):
    """Everything that a run is a function of, beside the data."""

    seed: int = 0
    run_dir: Path
    data: DataConfig
    model: ModelConfig = ModelConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def model_post_init(self, _context: Any) -> None:
        if self.model.width % self.model.heads:
            raise ValueError(f"model.width {self.model.width} is not a multiple of model.heads {self.model.heads}")
        if self.model.width % 2:
            raise ValueError(f"model.width {self.model.width} is odd; choose an even number, a multiple of model.heads")
        if self.evaluation.sampling_steps > self.diffusion.timesteps:
            raise ValueError(
                f"evaluation.sampling_steps {self.evaluation.sampling_steps} exceeds "
                f"diffusion.timesteps {self.diffusion.timesteps}"
            )


def load_config(path: Path, overrides: list[str] = ()) -> Config:
    """The configuration in a YAML file, with overrides such as "training.epochs=5" applied.

    A file may name another one, relative to itself, as its `base` and say only what differs.

    Raises ConfigError naming the file and every key that is unknown, missing or out of range.
    """
    path = Path(path)
    values = _read(path)
    for override in overrides:
        _apply_override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from error


def dump_config(config: Config, path: Path) -> None:
    """Writes the complete configuration, defaults included, as YAML that `load_config` reads back equal."""
    Path(path).write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _read(path: Path, on_top: tuple[Path, ...] = ()) -> dict:
    """The values of a file over those of its base; `on_top` are the files that led here."""
    if path.resolve() in on_top:
        raise ConfigError(f"{path}: is its own base, through {', '.join(map(str, on_top))}")
    if not path.is_file():
        named = f" (base of {on_top[-1]})" if on_top else ""
        raise ConfigError(f"{path}: no such configuration file{named}; the shipped ones are in configs/")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text; expected a YAML configuration, as those in configs/") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    if "base" not in values:
        return values
    base = values.pop("base")
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: expected the name of a file, found {base!r}")
    return _merged(_read(path.parent / base, (*on_top, path.resolve())), values)


def _merged(below: dict, above: dict) -> dict:
    """Both mappings, the second's values first, sections merged key by key."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = _merged(below[key], value) if both else value
    return merged


def _apply_override(values: dict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}: expected key=value, for example training.epochs=5")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: {section} is a value, not a section")
    values[last] = _parse_value(text)


def _parse_value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override value {text!r}: not valid YAML: {error}") from error
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "configuration"
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {key}; known here: {', '.join(_known_keys(item['loc'][:-1]))}")
        elif item["type"] == "list_type":
            lines.append(f"{key}: expected a list, such as [{item['input']}], found {item['input']!r}")
        elif isinstance(item["input"], dict):  # of a whole section, whose message says what is wrong
            lines.append(f"{key}: {item['msg']}")
        else:
            lines.append(f"{key}: {item['msg']}, found {item['input']!r}")
    return "; ".join(lines)


def _known_keys(location: tuple) -> list[str]:
    section: Any = Config
    for part in location:
        section = section.model_fields[part].annotation
    return list(section.model_fields)
