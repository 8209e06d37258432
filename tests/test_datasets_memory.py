"""Memory of reading windows: bounded by a setting, not by how much data there is."""

import subprocess
import sys

import pytest
from contract_file import write_contract_file

# Reads every third window in random order and prints by how many bytes the process grew from one file to the other.
_READ = """
import sys
import psutil
from finepose_mp.config import DataConfig
from finepose_mp.datasets.sampler import EpochSampler
from finepose_mp.datasets.windows import WindowDataset

def memory_after(path):
    data = DataConfig(files=[path], window=27, camera_kinds=["exo"])
    dataset = WindowDataset(data, "train", training=True, cache_bytes=int(sys.argv[1]))
    for index in list(EpochSampler(len(dataset), seed=0))[::3]:
        dataset[index]
    return psutil.Process().memory_info().rss

small = memory_after(sys.argv[2])
print(memory_after(sys.argv[3]) - small)
"""
_FRAMES, _PERSONS, _EXO = 2000, 2, 2
_BYTES_OF_A_FRAME = 17 * (3 * 2 * 4)  # of one person in one camera: the keypoints and poses alone


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file, and one with ten times as much in it."""
    folder = tmp_path_factory.mktemp("memory")
    options = {"scenes": ("Tennis",), "frames": _FRAMES, "persons": _PERSONS, "exo": _EXO}
    return [write_contract_file(folder / f"{n}.h5", takes_per_scene=n + 2, **options) for n in (1, 10)]


def _growth(files, cache_bytes: int) -> int:
    command = [sys.executable, "-c", _READ, str(cache_bytes), *map(str, files)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_ten_times_the_data_takes_no_more_memory(files):
    everything = 10 * _FRAMES * _PERSONS * _EXO * _BYTES_OF_A_FRAME
    limit = everything // 10
    assert _growth(files, limit) < everything / 2 < _growth(files, 100 * everything)
