"""Checkpoints of the released FinePOSE and D3DP code: read without running what is in them, and made runs of ours.

Sources: PKU-ICST-MIPL/FinePOSE_CVPR2024 and paTRICK-swk/D3DP, whose training scripts save dictionaries with the
network's state dict under "model_pos", beside the optimizer's state and NumPy's random state.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from finepose_mp import runs
from finepose_mp.config import Config
from finepose_mp.files import file_sha256
from finepose_mp.models.d3dp import D3DP
from finepose_mp.models.finepose import FinePOSE
from finepose_mp.models.text_tower import TextTower, text_weights_in
from finepose_mp.skeletons import joint_set

HEADS = 8  # of every released network; no tensor shows it

_TOWER = "clip_text."
_TOWER_HEADS = 8
_PUBLISHED_NAMES = (  # ours -> theirs, applied in this order
    ("trunk.spatial_position", "Spatial_pos_embed"),
    ("trunk.temporal_position", "Temporal_pos_embed"),
    ("trunk.spatial_blocks", "STEblocks"),
    ("trunk.temporal_blocks", "TTEblocks"),
    ("trunk.spatial_norm", "Spatial_norm"),
    ("trunk.temporal_norm", "Temporal_norm"),
    ("embed_time.mlp.expand", "time_mlp.1"),
    ("embed_time.mlp.contract", "time_mlp.3"),
    ("embed.", "Spatial_patch_to_embedding."),
    ("attention_norm", "norm1"),
    ("mlp_norm", "norm2"),
    ("attention.qkv", "attn.qkv"),
    ("attention.project", "attn.proj"),
    ("mlp.expand", "mlp.fc1"),
    ("mlp.contract", "mlp.fc2"),
    ("prompts.slots.action", "ctx_verb"),
    ("prompts.slots.", "ctx_"),
    ("prompts.refine", "textTransEncoder"),
    ("prompts.norm", "text_ln"),
    ("prompts.summarize", "text_proj.0"),
    ("communication.", "temporal_cross_attn."),
    ("stylization.norm", "temporal_cross_attn.proj_out.norm"),
    ("stylization.style", "temporal_cross_attn.proj_out.emb_layers.1"),
    ("stylization.project", "temporal_cross_attn.proj_out.out_layers.2"),
)
# What NumPy's random state is pickled with, by old and new versions of NumPy. None of it is called.
_RANDOM_STATE = (
    *(f"numpy.random._pickle.__{kind}_ctor" for kind in ("randomstate", "bit_generator", "generator")),
    *("numpy.random._mt19937.MT19937", "numpy.random.mtrand.RandomState", "numpy.ndarray", "numpy.dtype"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    "_codecs.encode",
)


class CheckpointError(ValueError):
    """A file that is not a checkpoint of the released code; the message says what it is instead."""


class Checkpoint(NamedTuple):
    """A released network.

    Attributes:
        weights: of the denoiser, by published names without prefixes; those of a text tower are not among them.
        tower: weights of the text tower, named as in open_clip's TextTransformer; empty for D3DP.
        facts: where it is from: file, sha256, and the epoch that the file states.
    """

    weights: dict[str, Tensor]
    tower: dict[str, Tensor]
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """ "finepose" or "d3dp"."""
        return "finepose" if "temporal_cross_attn.query.weight" in self.weights else "d3dp"

    @property
    def has_action_slot(self) -> bool:
        """Whether the prompts have a slot for the action (not those for MPI-INF-3DHP)."""
        return "ctx_verb" in self.weights

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes of the network, as keyword arguments of its class."""
        width = self.weights["Spatial_pos_embed"].shape[2]
        return {
            "joints": self.weights["Spatial_pos_embed"].shape[1],
            "window": self.weights["Temporal_pos_embed"].shape[1],
            "width": width,
            "depth": len({name.split(".")[1] for name in self.weights if name.startswith("STEblocks.")}),
            "heads": HEADS,
            "mlp_ratio": self.weights["STEblocks.0.mlp.fc1.bias"].shape[0] / width,
        }


def published_name(name: str) -> str:
    """The released networks' name of one of our parameters."""
    for ours, theirs in _PUBLISHED_NAMES:
        name = name.replace(ours, theirs)
    return name


def read_checkpoint(path: Path) -> Checkpoint:
    """The network in a checkpoint file of the released code.

    Nothing in the file is executed: PyTorch's weights-only loader reads it, and NumPy's random state, which that
    refuses, is passed over.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is not such a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a checkpoint (*.bin) of the released FinePOSE or D3DP")
    content = _load(path)
    state = content.get("model_pos") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        found = (
            f"the keys {', '.join(map(str, content))[:200]}" if isinstance(content, Mapping) else type(content).__name__
        )
        raise CheckpointError(
            f"{path}: expected a dictionary with the network's weights under model_pos, as the released code saves, "
            f"found {found}"
        )
    weights = _without_prefixes(state)
    missing = {"Spatial_pos_embed", "Temporal_pos_embed", "STEblocks.0.mlp.fc1.bias", "time_mlp.1.weight"} - set(
        weights
    )
    if missing:
        raise CheckpointError(
            f"{path}: its {len(weights)} weights are not those of FinePOSE or D3DP: {', '.join(sorted(missing))} "
            f"missing, found {', '.join(list(weights)[:5])}"
        )
    own = {name: tensor.float() for name, tensor in weights.items() if not name.startswith(_TOWER)}
    tower = {name.removeprefix(_TOWER): t for name, t in weights.items() if name.startswith(_TOWER)}
    epoch = content.get("epoch")
    facts = {"file": path.name, "sha256": file_sha256(path), "epoch": epoch if isinstance(epoch, int) else None}
    return Checkpoint(own, text_weights_in(tower), facts)


def restored(checkpoint: Checkpoint, compatibility: str = "released") -> D3DP | FinePOSE:
    """The network of a checkpoint, in evaluation mode.

    Args:
        checkpoint: of either network.
        compatibility: "released" or "paper", for FinePOSE; the weights fit both.

    Raises:
        CheckpointError: weights are missing, too many or of the wrong shape.
    """
    if checkpoint.name == "d3dp":
        network = D3DP(**checkpoint.sizes, mask_missing=False)
    else:
        network = FinePOSE(
            **checkpoint.sizes,
            mask_missing=False,
            tower=_tower(checkpoint),
            compatibility=compatibility,
            action_slot=checkpoint.has_action_slot,
        )
    _fill(network, checkpoint)
    return network.eval()


def import_checkpoint(
    path: Path, run_dir: Path, data: Path, joints: str | None, compatibility: str = "released"
) -> Config:
    """Makes a run directory of a released checkpoint, which `load_run`, evaluation and prediction read like any run.

    It has the checkpoint "best" and no "last", no metrics and no mean pose; beside the usual files it holds the text
    tower's weights and imported.json with what they came from.

    Args:
        path: checkpoint file of the released FinePOSE or D3DP.
        run_dir: new directory.
        data: converted file that the run is to be evaluated on; it may be made later. It stands under data.files,
            though nobody knows what the checkpoint was trained on.
        joints: name of the joint set. None: that of MPI-INF-3DHP for prompts without an action, else Human3.6M's.
        compatibility: "released" or "paper".

    Returns:
        The run's configuration: the papers' settings, 20 hypotheses and 10 steps.

    Raises:
        FileNotFoundError, CheckpointError: the file is absent or not such a checkpoint.
        FileExistsError: the directory is not empty.
    """
    runs.check_is_new(run_dir)
    checkpoint = read_checkpoint(path)
    network = restored(checkpoint, compatibility)
    config = _config(checkpoint, run_dir, data, joints, compatibility)
    runs.create_run(config)
    runs.write_text_tower(run_dir, network)
    (run_dir / runs.IMPORTED).write_text(json.dumps(checkpoint.facts, indent=2))
    with runs.checkpoint(run_dir, "best") as folder:
        runs.save_weights(folder, network, config)
    return config


class _Ignored:
    """Stands in for anything of NumPy's random state: takes whatever it is given and keeps nothing."""

    def __init__(self, *_args: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _load(path: Path) -> object:
    stand_ins = [(_Ignored, name) for name in _RANDOM_STATE]
    try:
        with torch.serialization.safe_globals(stand_ins):
            # Mapped, the optimizer's state (twice the network) stays on disk.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch.load raises almost anything on files that are none
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {asked[1]}, which is not run" if asked else "it is something else, or damaged"
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint of weights ({reason}); give the .bin file that the authors published, "
            "unpacked and whole"
        ) from error


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The denoiser's weights alone: without the diffusion's buffers and without the names of what wrapped it."""
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    inner = {name.removeprefix("pose_estimator."): t for name, t in named.items() if name.startswith("pose_estimator.")}
    return inner or named


def _tower(checkpoint: Checkpoint) -> TextTower:
    if not checkpoint.tower:
        raise CheckpointError(f"{checkpoint.facts['file']}: holds a FinePOSE without its text tower ({_TOWER}*)")
    try:
        return TextTower(checkpoint.tower, _TOWER_HEADS, "quick_gelu")
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.facts['file']}: its text tower is incomplete: {error}") from error


def _fill(network: nn.Module, checkpoint: Checkpoint) -> None:
    parameters = {published_name(name): parameter for name, parameter in network.named_parameters()}
    for problem, names in {
        "lacks": parameters.keys() - checkpoint.weights.keys(),
        "has unknown": checkpoint.weights.keys() - parameters.keys(),
        "has of another size": {
            name
            for name, p in parameters.items()
            if name in checkpoint.weights and p.numel() != checkpoint.weights[name].numel()
        },
    }.items():
        if names:
            raise CheckpointError(
                f"{checkpoint.facts['file']}: taken for {checkpoint.name}, it {problem} weights: "
                f"{', '.join(sorted(names)[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checkpoint.weights[name].view(parameter.shape))  # positions: an axis of length one moves


def _config(checkpoint: Checkpoint, run_dir: Path, data: Path, joints: str | None, compatibility: str) -> Config:
    sizes = checkpoint.sizes
    if joints is None:
        joints = "mpi17" if checkpoint.name == "finepose" and not checkpoint.has_action_slot else "h36m17"
    if len(joint_set(joints)) != sizes["joints"]:
        raise CheckpointError(
            f"{checkpoint.facts['file']}: has {sizes['joints']} joints, joint set {joints} has {len(joint_set(joints))}"
        )
    model = {"name": checkpoint.name, **{k: sizes[k] for k in ("width", "depth", "heads", "mlp_ratio")}}
    if checkpoint.name == "finepose":
        model["prompt"] = {
            "condition": "action" if checkpoint.has_action_slot else "learned",
            "text_dropout": 0.0,
            "compatibility": compatibility,
            "action_slot": checkpoint.has_action_slot,
            "text_weights": str(run_dir / runs.TEXT_TOWER),
        }
    return Config.model_validate(
        {
            "run_dir": run_dir,
            "data": {
                **{"files": [data], "joint_set": joints, "window": sizes["window"], "coordinates": "screen"},
                **{"camera_kinds": ["exo"], "missing": "zeros", "min_score": 0.0},
                "input_2d": "projected" if joints == "mpi17" else "detected",
            },
            "model": model,
            "diffusion": {"clip_m": 1.1},
            "evaluation": {"hypotheses": 20, "sampling_steps": 10},
        }
    )
