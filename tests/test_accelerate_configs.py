"""The shipped settings of Accelerate, read by Accelerate itself."""

import re

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from conftest import REPOSITORY

from finepose_mp.models import blocks

FILES = sorted((REPOSITORY / "configs" / "accelerate").glob("*.yaml"))


def launched(file, monkeypatch):
    """What `accelerate launch` would do with a file, on a machine with eight GPUs."""
    for kind in ("is_available", "is_bf16_supported"):
        monkeypatch.setattr(torch.cuda, kind, lambda *_: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(file), "x.py"]))
    return arguments


def test_there_is_a_file_for_every_size():
    assert {file.stem for file in FILES} == {"cpu", "one_gpu", "eight_gpus", "two_nodes", "fsdp"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_reads_it_whole(file):
    """Unknown keys are an error of Accelerate's own."""
    config = load_config_from_file(str(file))
    assert config.num_processes == {"cpu": 1, "one_gpu": 1, "eight_gpus": 8, "two_nodes": 16, "fsdp": 8}[file.stem]
    assert config.mixed_precision == "no", "the run's configuration says which precision"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_launching_means_what_the_name_says(file, monkeypatch):
    arguments = launched(file, monkeypatch)
    assert bool(arguments.use_cpu) == (file.stem == "cpu")
    assert bool(arguments.multi_gpu) == (file.stem in ("eight_gpus", "two_nodes"))
    assert bool(arguments.use_fsdp) == (file.stem == "fsdp")
    assert arguments.num_machines == (2 if file.stem == "two_nodes" else 1)


def test_sharding_wraps_the_blocks_that_there_are():
    config = load_config_from_file(str(REPOSITORY / "configs" / "accelerate" / "fsdp.yaml"))
    assert hasattr(blocks, config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_is_headed_by_the_command_that_uses_it(file):
    command = f"accelerate launch --config_file configs/accelerate/{file.name}"
    assert command in re.sub(r"\n#\s*", " ", file.read_text().split("compute_environment")[0])
