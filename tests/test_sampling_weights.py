"""How many windows an epoch draws from each of several files."""

from collections import Counter

import numpy as np
import pytest
import torch
from lab_file import Clip, write_lab_file
from training_runs import assert_same_state, run, small_config

from finepose_mp.config import Config, ConfigError, DataConfig, load_config
from finepose_mp.datasets.cache import TrackCache
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.datasets.sampler import EpochSampler
from finepose_mp.datasets.windows import WindowDataset
from finepose_mp.training.batches import GlobalBatches

WEIGHTS = [0.5, 2.25]
GROUPS = np.arange(50) % 5 > 2  # 30 windows of the first file and 20 of the second, in between


def order(epoch=0, seed=0, weights=WEIGHTS):
    sampler = EpochSampler(50, seed, groups=GROUPS.astype(int), weights=weights)
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert len(drawn) == len(sampler)
    return drawn


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eight and four training windows of 9 frames, and a validation take in each file."""
    folder = tmp_path_factory.mktemp("files")
    one = [Clip(f"S{n}/Walking", "Walking", frames=36, split="train") for n in (1, 5)]
    one += [Clip("S8/Walking", "Walking", frames=9, split="val")]
    two = [Clip("S6/Posing", "Posing", frames=36, split="train"), Clip("S7/Posing", "Posing", frames=9, split="val")]
    return [
        write_lab_file(folder / "one.h5", one, views=1),
        write_lab_file(folder / "two.h5", two, views=1, joints="mpi17", dataset="other"),
    ]


def training_config(files, run_dir, **training) -> Config:
    data = {"files": files, "joint_set": "h36m17", "camera_kinds": ["exo"], "sampling_weights": [0.5, 2.0]}
    config = small_config(files[0], run_dir, data=data, training={"batch_size": 4, **training})
    return config


def test_an_epoch_draws_each_file_as_often_as_its_weight_says():
    times = Counter(index % 50 for index in order())
    of_first = [times[index] for index in range(50) if not GROUPS[index]]
    of_second = [times[index] for index in range(50) if GROUPS[index]]
    assert sum(of_first) == 15 and set(of_first) == {0, 1}
    assert sum(of_second) == 45 and set(of_second) == {2, 3}


def test_further_draws_of_a_window_are_told_apart():
    drawn = order()
    assert len(set(drawn)) == len(drawn)
    assert max(drawn) < 3 * 50
    assert {index // 50 for index in drawn if not GROUPS[index % 50]} == {0}


def test_the_order_is_a_function_of_seed_and_epoch():
    assert order(epoch=3) == order(epoch=3)
    assert order(epoch=3) != order(epoch=4) and order(seed=1) != order(seed=0)
    chosen = [frozenset(i for i in order(epoch=e) if not GROUPS[i % 50]) for e in range(2)]
    assert chosen[0] != chosen[1], "every epoch draws another half"
    assert sorted(order(weights=[1, 1])) == list(range(50))


def test_weights_change_nothing_of_what_is_drawn_of_the_other_files():
    one, other = (order(weights=[0.5, weight]) for weight in (1, 3))
    assert {i for i in one if not GROUPS[i % 50]} == {i for i in other if not GROUPS[i % 50]}


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_draws(processes):
    def steps(count):
        shares = []
        for process in range(count):
            sampler = EpochSampler(50, 0, groups=GROUPS.astype(int), weights=WEIGHTS)
            batches = GlobalBatches(sampler, 7, process, count)
            batches.start_at(2)
            shares.append(list(batches))
        return [sorted(index for share in step for index in share) for step in zip(*shares, strict=True)]

    assert steps(processes) == steps(1)
    assert len(steps(1)) == 60 // 7


def test_windows_know_their_file_and_draw_new_random_bits_each_time(files):
    data = DataConfig(files=files, joint_set="h36m17", camera_kinds=["exo"], window=9, sampling_weights=[1, 3])
    windows = WindowDataset(data, "train", training=True)
    assert np.bincount(windows.files).tolist() == [8, 4]
    index = int(np.flatnonzero(windows.files == 1)[0])
    draws = [windows[index + d * len(windows)] for d in range(3)]
    assert len({draw["seed"] for draw in draws}) == 3
    for draw in draws:
        assert torch.equal(draw["frame"], draws[0]["frame"])
        assert draw["index"] % len(windows) == index
    with pytest.raises(IndexError):
        windows[3 * len(windows)]


def test_a_weighted_run_trains_on_the_mixture_and_resumes_exactly(files, tmp_path):
    whole = run(training_config(files, tmp_path / "whole", epochs=3))
    run(training_config(files, tmp_path / "part", epochs=3, max_steps=4))  # 4 + 8 draws are 3 batches an epoch
    rest = run(training_config(files, tmp_path / "part", epochs=3), resume=True)
    assert_same_state(whole, rest)
    with pytest.raises(ValueError, match=r"data\.sampling_weights: begun with"):
        other = training_config(files, tmp_path / "part", epochs=4)
        other.data.sampling_weights = [1.0, 1.0]
        run(other, resume=True)


@pytest.mark.parametrize(
    "weights, message",
    [("[1.0]", "sampling_weights has 1 numbers for 2 files"), ("[1.0, 0.0]", "should be greater than 0")],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, weights, message):
    path = tmp_path / "config.yaml"
    path.write_text(f"run_dir: runs/x\ndata: {{files: [a.h5, b.h5], sampling_weights: {weights}}}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_forked_workers_share_what_they_have_read(files, workers):
    data = DataConfig(files=files, joint_set="h36m17", camera_kinds=["exo"], window=9)
    windows = WindowDataset(data, "train", training=True)
    expected = [window["input_2d"] for window in WindowDataset(data, "train", training=True, cache_bytes=0)]
    loader = torch.utils.data.DataLoader(windows, num_workers=workers, multiprocessing_context="fork")
    assert all(torch.equal(batch["input_2d"][0], each) for batch, each in zip(loader, expected, strict=True))
    # Their memory is this process's too: nothing is left to read.
    windows._cache._reader.read = None
    assert all(torch.equal(window["input_2d"], each) for window, each in zip(windows, expected, strict=True))


def test_tracks_beyond_the_limit_are_read_from_the_file(files):
    data = DataConfig(files=files, joint_set="h36m17", camera_kinds=["exo"], window=9)
    tracks = list_tracks(data, "train")
    size = sum(a.nbytes for a in TrackReader(data).read(tracks[0]).values() if isinstance(a, np.ndarray))
    reader = TrackReader(data)
    cache = TrackCache(reader, tracks, size + 64)
    read = [{name: np.copy(a) for name, a in cache.read(track, 3, 7).items()} for track in tracks]
    asked = []
    reader.read = lambda track, *frames: asked.append(track) or TrackReader(data).read(track, *frames)
    for track, before in zip(tracks, read, strict=True):
        np.testing.assert_array_equal(cache.read(track, 3, 7)["target_3d"], before["target_3d"])
    assert asked == tracks[1:]
