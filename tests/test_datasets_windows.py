"""The torch dataset: samples, augmentation, order, and independence of worker processes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from contract_file import Oddities, write_contract_file
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils.data import DataLoader

from finepose_mp import cameras
from finepose_mp.config import DataConfig
from finepose_mp.datasets.augmentation import mirror
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.reader import read_track
from finepose_mp.datasets.sampler import EpochSampler
from finepose_mp.datasets.splits import DataError
from finepose_mp.datasets.windows import WindowDataset, collate, sample_bits
from finepose_mp.skeletons import COCO17, H36M17

FRAMES, WINDOW = 40, 9


@pytest.fixture(scope="module")
def contract(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("windows") / "made_up.h5"
    return write_contract_file(path, frames=FRAMES, scenes=("Tennis", "Tagging"), takes_per_scene=2, slam=True)


def _config(path: Path, **values) -> DataConfig:
    return DataConfig(files=[path], **{"window": WINDOW, **values})


def _assert_same(one: dict, two: dict) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, two[name], rtol=0, atol=0, equal_nan=True, msg=name)
        else:
            assert value == two[name], name


def _batches(dataset: WindowDataset, epoch: int = 0, **options) -> list[dict]:
    sampler = EpochSampler(len(dataset), seed=3)
    sampler.set_epoch(epoch)
    dataset.set_epoch(epoch)
    return list(DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=collate, **options))


# --- samples -----------------------------------------------------------------------------------------------------


def test_batch_has_the_promised_shapes_and_types(contract):
    batch = _batches(WindowDataset(_config(contract), "train", training=True))[0]
    b, n, j = 4, WINDOW, len(COCO17)
    shapes = {
        **{"input_2d": (b, n, j, 2), "input_px": (b, n, j, 2), "input_score": (b, n, j), "input_mask": (b, n, j)},
        **{"target_3d": (b, n, j, 3), "target_mask": (b, n, j), "in_view": (b, n, j), "root_camera": (b, n, 3)},
        **{"camera_params": (b, n, 15), "image_size": (b, 2), "frame": (b, n), "frame_mask": (b, n)},
        **{"score_mask": (b, n), "mirrored": (b,), "seed": (b,), "index": (b,)},
    }
    assert {name: tuple(v.shape) for name, v in batch.items() if isinstance(v, torch.Tensor)} == shapes
    floats = {name for name, v in batch.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}
    assert {batch[name].dtype for name in floats} == {torch.float32}
    masks = {name for name in shapes if name.endswith("mask")} | {"in_view", "mirrored"}
    assert {batch[name].dtype for name in masks} == {torch.bool}
    assert batch["seed"].dtype == torch.int64
    assert batch["text"] == ["playing tennis"] * b
    assert batch["scene"] == ["Tennis"] * b
    assert batch["camera_model"] == ["aria_fisheye624"] * b


def test_windows_are_the_frames_of_their_track(contract):
    data = _config(contract, flip=False)
    dataset = WindowDataset(data, "test", training=False)
    track = next(track for track in dataset.tracks if (track.camera, track.person) == ("aria02/rgb", "aria01"))
    whole, first = read_track(track, data), dataset.tracks.index(track)
    samples = [dataset[i] for i in range(len(dataset)) if dataset.track_number(i) == first]
    assert [sample["frame"][0].item() for sample in samples] == [1, 10, 19, 28, 32]
    for sample in samples:
        rows = sample["frame"].numpy() - 1
        for name in ("input_2d", "input_mask", "target_3d", "target_mask", "root_camera"):
            np.testing.assert_array_equal(sample[name], whole[name][rows], err_msg=name)


def test_padding_repeats_edge_frames_under_false_masks(contract):
    dataset = WindowDataset(_config(contract, flip=False, camera_kinds=["exo"]), "train", training=True)
    sample = dataset[0]  # 5 windows of 9 frames over 40: 2 frames of padding in front
    assert sample["frame_mask"].tolist() == [False] * 2 + [True] * 7
    assert sample["frame"].tolist() == [1, 1, 1, 2, 3, 4, 5, 6, 7]
    torch.testing.assert_close(sample["target_3d"][0], sample["target_3d"][2])
    for name in ("input_mask", "target_mask", "in_view"):
        assert not sample[name][:2].any() and sample[name][2:].any(), name


def test_every_frame_is_scored_once_by_evaluation_windows(contract):
    data = _config(contract, camera_kinds=["exo"])
    dataset = WindowDataset(data, "test", training=False)
    count = {number: np.zeros(FRAMES, int) for number in range(len(dataset.tracks))}
    for i in range(len(dataset)):
        sample = dataset[i]
        np.add.at(count[dataset.track_number(i)], sample["frame"][sample["score_mask"]].numpy() - 1, 1)
    assert all((frames == 1).all() for frames in count.values())


def test_windows_without_a_visible_person_are_left_out_and_counted(contract):
    data = _config(contract, window=2)
    dataset = WindowDataset(data, "test", training=False)
    visible, hidden = 0, 0
    for track in list_tracks(data, "test"):
        seen = read_track(track, data)["in_view"].sum(axis=1).reshape(-1, 2, 1) >= data.min_joints_in_view
        visible, hidden = visible + seen.any(axis=1).sum(), hidden + (~seen.any(axis=1)).sum()
    assert hidden >= Oddities(FRAMES).turned_away.stop - Oddities(FRAMES).turned_away.start - 2
    assert (len(dataset), dataset.windows_without_person) == (visible, hidden)


def test_nobody_in_view_anywhere_is_an_error(contract):
    with pytest.raises(DataError, match=r"in none of 60 windows are data.min_joints_in_view = 18"):
        WindowDataset(_config(contract, min_joints_in_view=18), "test", training=False)


def test_window_longer_than_every_training_take_is_an_error(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", scenes=("Tennis",), takes_per_scene=3, frames=(20, 25, 30))
    data = _config(path, window=31, split_scheme="within_scene")
    with pytest.raises(DataError, match=r"data.window is 31 frames, but the longest take of split train has 20"):
        WindowDataset(data, "train", training=True)
    assert not WindowDataset(data, "test", training=False)[0]["frame_mask"].all()


def test_short_takes_among_longer_ones_are_padded(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", scenes=("Tennis",), takes_per_scene=4, frames=(5, 20, 5, 5))
    dataset = WindowDataset(_config(path, window=9, split_scheme="within_scene"), "train", training=True)
    frames = sorted({int(dataset[i]["frame_mask"].sum()) for i in range(len(dataset))})
    assert frames[0] == 5 and frames[-1] == 9


def test_index_beyond_the_end(contract):
    dataset = WindowDataset(_config(contract), "test", training=False)
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError):
            dataset[index]


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_bytes", [0, 100_000])
def test_samples_do_not_depend_on_what_is_kept_in_memory(contract, cache_bytes):
    options = (_config(contract), "train", True)
    kept, read = WindowDataset(*options), WindowDataset(*options, cache_bytes=cache_bytes)
    for index in (0, 7, len(kept) - 1, 0):
        _assert_same(kept[index], read[index])


def test_writing_to_a_sample_changes_no_other(contract):
    dataset = WindowDataset(_config(contract), "train", training=True)
    expected = pickle.loads(pickle.dumps(dataset[1]))
    for value in dataset[1].values():
        if isinstance(value, torch.Tensor):
            value.zero_()
    _assert_same(dataset[1], expected)


# --- randomness --------------------------------------------------------------------------------------------------


def test_seed_is_a_function_of_seed_epoch_and_index(contract):
    dataset = WindowDataset(_config(contract), "train", training=True, seed=5)
    seeds = {}
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        for index in range(6):
            seed = dataset[index]["seed"]
            assert seeds.setdefault((epoch, index), seed) == seed == sample_bits(5, epoch, index)[0]
    assert len(set(seeds.values())) == 12
    assert all(0 <= seed < 2**63 for seed in seeds.values())
    assert WindowDataset(_config(contract), "train", training=True, seed=6)[0]["seed"] != seeds[0, 0]


def test_half_of_the_training_windows_are_mirrored_and_no_others(contract):
    data = _config(contract, train_stride=1)
    dataset = WindowDataset(data, "train", training=True)
    share = np.mean([dataset[i]["mirrored"] for i in range(len(dataset))])
    assert 0.4 < share < 0.6 and len(dataset) > 100
    for other in (
        WindowDataset(data, "train", training=False),
        WindowDataset(_config(contract, flip=False), "train", training=True),
    ):
        assert not any(other[i]["mirrored"] for i in range(len(other)))


def test_mirrored_sample_is_the_plain_one_mirrored(contract):
    plain = WindowDataset(_config(contract, flip=False), "train", training=True)
    flipped = WindowDataset(_config(contract), "train", training=True)
    index = next(i for i in range(len(flipped)) if flipped[i]["mirrored"])
    _assert_same({**mirror(plain[index], COCO17), "mirrored": True}, flipped[index])


@pytest.mark.parametrize("shuffle", [True, False])
def test_sampler_visits_every_index_once_in_an_order_of_seed_and_epoch(shuffle):
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(50, seed, shuffle)
        sampler.set_epoch(epoch)
        torch.rand(epoch + 1), np.random.default_rng().random()  # other random numbers do not matter
        return list(sampler)

    assert sorted(order(0, 0)) == list(range(50)) and len(EpochSampler(50, 0)) == 50
    assert order(0, 1) == order(0, 1)
    assert (order(0, 0) != order(0, 1)) == shuffle
    assert (order(0, 0) != order(1, 0)) == shuffle


# --- worker processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_two_workers_give_the_same_batches_as_none(contract, context):
    if context not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {context}")
    dataset = WindowDataset(_config(contract), "train", training=True)
    expected = _batches(dataset, epoch=2)  # opens the file in this process before the workers start
    found = _batches(dataset, epoch=2, num_workers=2, multiprocessing_context=context)
    assert len(found) == len(expected) > 4
    for one, two in zip(found, expected, strict=True):
        _assert_same(one, two)


def test_persistent_workers_follow_the_epoch(contract):
    dataset = WindowDataset(_config(contract), "train", training=True)
    sampler = EpochSampler(len(dataset), seed=3)
    loader = DataLoader(
        dataset, batch_size=4, sampler=sampler, collate_fn=collate, num_workers=1, persistent_workers=True
    )
    found = {}
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        dataset.set_epoch(epoch)
        found[epoch] = list(loader)
    for epoch, batches in found.items():
        for one, two in zip(batches, _batches(dataset, epoch), strict=True):
            _assert_same(one, two)


def test_a_copied_dataset_gives_the_same_samples(contract):
    dataset = WindowDataset(_config(contract), "train", training=True)
    dataset.set_epoch(4)
    _assert_same(pickle.loads(pickle.dumps(dataset))[5], dataset[5])


# --- mirroring ---------------------------------------------------------------------------------------------------


def _floats(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, shape, elements=st.floats(0, 100, width=32))


def _masks(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(bool, shape)


@st.composite
def _samples(draw) -> dict:
    n, j = 2, len(COCO17)
    mask = draw(_masks(n, j))
    return {
        "input_2d": draw(_floats(n, j, 2)) * mask[..., None],
        "input_px": draw(_floats(n, j, 2)) * mask[..., None],
        "input_score": draw(_floats(n, j)),
        "input_mask": mask,
        "target_3d": draw(_floats(n, j, 3)),
        "target_mask": draw(_masks(n, j)),
        "in_view": draw(_masks(n, j)),
        "root_camera": draw(_floats(n, 3)),
        "image_size": np.array([100, 80]),
        "text": "playing tag",
    }


@given(sample=_samples())
def test_mirroring_twice_is_the_identity(sample):
    before = {name: np.copy(value) for name, value in sample.items()}
    again = mirror(mirror(sample, COCO17), COCO17)
    for name, value in before.items():
        np.testing.assert_array_equal(sample[name], value, err_msg=f"{name} was changed in place")
        if name == "input_px":
            np.testing.assert_allclose(again[name], value, atol=1e-5)
        else:
            np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_mirroring_equals_the_published_flip(shared):
    golden = np.load(shared / "golden/metrics/golden_metrics.npz")
    (plain_2d, flipped_2d), (plain_3d, flipped_3d) = golden["flip/2d"], golden["flip/3d"]
    joints = np.ones(plain_2d.shape[:-1], bool)
    sample = {
        **{"input_2d": plain_2d, "target_3d": plain_3d, "input_px": plain_2d.copy(), "image_size": np.array([2, 2])},
        **{"input_score": joints, "input_mask": joints, "target_mask": joints, "in_view": joints},
        "root_camera": np.zeros((len(plain_2d), 3)),
    }
    mirrored = mirror(sample, H36M17)
    np.testing.assert_array_equal(mirrored["input_2d"], flipped_2d)
    np.testing.assert_array_equal(mirrored["target_3d"], flipped_3d)


@pytest.mark.parametrize("coordinates", ["rays", "screen"])
def test_mirrored_masks_and_coordinates_belong_to_the_other_side(contract, coordinates):
    data = _config(contract, coordinates=coordinates, camera_kinds=["exo"])
    sample = read_track(list_tracks(data, "test")[0], data)
    mirrored = mirror(sample, COCO17)
    left, right = COCO17.index("left_wrist"), COCO17.index("right_wrist")
    assert (sample["input_mask"][:, left] != sample["input_mask"][:, right]).any()
    for name in ("input_mask", "input_score", "target_mask", "in_view"):
        np.testing.assert_array_equal(mirrored[name][:, left], sample[name][:, right])
    for name, sign in (("input_2d", [-1, 1]), ("target_3d", [-1, 1, 1])):
        np.testing.assert_array_equal(mirrored[name][:, left], sample[name][:, right] * np.array(sign, np.float32))
    if coordinates == "screen":  # both are pictures of the same mirrored person
        use = mirrored["input_mask"]
        again = cameras.normalize_screen(mirrored["input_px"], mirrored["image_size"])
        np.testing.assert_allclose(again[use], mirrored["input_2d"][use], atol=1e-6)


def test_batches_of_tensors_mirror_like_single_samples(contract):
    dataset = WindowDataset(_config(contract, flip=False), "train", training=True)
    samples = [dataset[i] for i in range(3)]
    _assert_same(mirror(collate(samples), COCO17), collate([mirror(sample, COCO17) for sample in samples]))
