"""The parts of training: which windows a step sees, what its loss counts, what validation counts."""

import pytest
import torch
from training_runs import small_config, small_data

from finepose_mp.config import DataConfig, DiffusionConfig
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.sampler import EpochSampler
from finepose_mp.datasets.windows import WindowDataset, collate
from finepose_mp.models import D3DP, MixSTE
from finepose_mp.training.batches import GlobalBatches
from finepose_mp.training.objective import Objective, usable_targets
from finepose_mp.training.validation import validation_mpjpe_mm

JOINTS, WINDOW = 17, 9


def epoch_of(windows: int, batch_size: int, processes: int, epoch: int = 0, batch: int = 0) -> list[set[int]]:
    """The windows of every step, all processes together."""
    shares = []
    for process in range(processes):
        batches = GlobalBatches(EpochSampler(windows, 0), batch_size, process, processes)
        batches.start_at(epoch, batch)
        shares.append(list(batches))
    assert len({len(share) for share in shares}) == 1, "every process takes the same number of steps"
    return [set().union(*step) for step in zip(*shares, strict=True)]


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_every_number_of_processes_sees_the_same_windows_in_each_step(processes):
    assert epoch_of(50, 7, processes) == epoch_of(50, 7, 1)


def test_an_epoch_sees_windows_once_and_other_orders_come_later():
    first, second = epoch_of(50, 7, 1, epoch=0), epoch_of(50, 7, 1, epoch=1)
    assert len(set().union(*first)) == 49 == sum(map(len, first))
    assert first != second


def test_an_epoch_can_be_entered_in_the_middle():
    assert epoch_of(50, 7, 2, epoch=3, batch=4) == epoch_of(50, 7, 2, epoch=3)[4:]


def test_a_batch_larger_than_the_data_holds_all_of_it():
    assert epoch_of(5, 64, 2) == [{0, 1, 2, 3, 4}]


def test_more_processes_than_windows_in_a_batch_are_refused():
    with pytest.raises(ValueError, match="50 training windows in batches of 2 are too few for 3 processes"):
        GlobalBatches(EpochSampler(50, 0), 2, 0, 3)


@pytest.mark.parametrize(
    ("batch_size", "processes", "micro_batch", "expected"),
    [(7, 2, 2, {2}), (7, 3, 2, {1, 2}), (6, 3, 1, {2}), (7, 3, None, {1}), (64, 3, 5, {4}), (64, 4, 12, {1, 2})],
)
def test_passes_of_a_batch_are_counted_for_the_largest_and_the_smallest_share(
    batch_size, processes, micro_batch, expected
):
    batches = GlobalBatches(EpochSampler(50, 0), batch_size, 0, processes)
    assert batches.passes(micro_batch) == expected


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataConfig:
    file = small_data(tmp_path_factory.mktemp("data"))
    return DataConfig(files=[file], window=WINDOW)


@pytest.fixture(scope="module")
def batch(data) -> dict:
    windows = WindowDataset(data, "train", training=True)
    return collate([windows[i] for i in range(8)])


@pytest.fixture(scope="module")
def denoiser() -> D3DP:
    torch.manual_seed(0)
    return D3DP(JOINTS, WINDOW, width=16, depth=2, heads=2, drop_path=0).eval()


OBJECTIVE = Objective(DiffusionConfig(), is_denoiser=True)


def test_the_batch_has_what_the_following_tests_are_about(batch):
    usable = usable_targets(batch)
    assert not batch["frame_mask"].all(), "padding"
    assert (~usable & batch["frame_mask"].unsqueeze(-1)).any(), "missing targets"
    assert (~batch["input_mask"] & usable).any(), "targets without a keypoint"


def test_the_loss_counts_usable_targets_alone(batch, denoiser):
    usable = usable_targets(batch).unsqueeze(-1)
    elsewhere = torch.where(usable, batch["target_3d"], torch.tensor(7.0))
    # The noisy pose is made from the target, so the same prediction is compared with both.
    predicted = torch.zeros_like(elsewhere)
    for target in (batch["target_3d"], elsewhere):
        found = OBJECTIVE(lambda *_: predicted, {**batch, "target_3d": target})
        expected = (batch["target_3d"] * usable).norm(dim=-1).sum((1, 2))
        assert torch.allclose(found, expected, atol=1e-5)


def test_a_windows_loss_does_not_depend_on_its_batch(batch, denoiser):
    with torch.inference_mode():
        together = OBJECTIVE(denoiser, batch)
        second = {name: value[1:2] for name, value in batch.items()}
        assert torch.allclose(together[1:2], OBJECTIVE(denoiser, second), rtol=1e-5)


def test_another_seed_draws_other_noise(batch, denoiser):
    with torch.inference_mode():
        first, second = (OBJECTIVE(denoiser, {**batch, "seed": batch["seed"] + n}) for n in (0, 1))
    assert not torch.allclose(first, second, rtol=1e-3)


def test_the_network_sees_bounded_poses_at_times_of_the_whole_schedule(batch):
    seen = {}

    def watch(_input_2d, noisy, t, _mask):
        seen.update(noisy=noisy, t=t)
        return noisy

    seeds = torch.arange(8 * 200).view(200, 8)
    objective = Objective(DiffusionConfig(timesteps=10, clip_m=0.9), is_denoiser=True)
    times = []
    for row in seeds:
        objective(watch, {**batch, "seed": row})
        times += seen["t"].tolist()
        assert seen["noisy"].abs().max() <= 0.9
    assert set(times) == set(range(10))


def test_padding_is_not_attended_to(batch):
    def watch(_input_2d, mask):
        assert torch.equal(mask, batch["input_mask"] & batch["frame_mask"].unsqueeze(-1))
        return batch["target_3d"]

    assert Objective(DiffusionConfig(), is_denoiser=False)(watch, {**batch}).sum() == 0


def test_validation_counts_every_usable_joint_once(data, tmp_path):
    """A model that predicts the root everywhere: its error is the targets' mean length, whatever the windows."""
    torch.manual_seed(0)
    lifter = MixSTE(JOINTS, WINDOW, width=16, depth=1, heads=2).eval()
    torch.nn.init.zeros_(lifter.head[1].weight)
    torch.nn.init.zeros_(lifter.head[1].bias)
    config = small_config(data.files[0], tmp_path, evaluation={"batch_size": 3})
    total, joints = 0.0, 0
    for window in WindowDataset(config.data, "val", training=False):
        usable = window["target_mask"] & window["score_mask"].unsqueeze(-1)
        total += window["target_3d"][usable].norm(dim=-1).double().sum().item()
        joints += int(usable.sum())
    found = validation_mpjpe_mm(lifter, config, list_tracks(config.data, "val"))
    assert found == pytest.approx(1000 * total / joints, rel=1e-6)


def test_validation_without_any_target_says_so(data, tmp_path):
    config = small_config(data.files[0], tmp_path, data={"min_joints_in_view": 17 + 1})
    lifter = MixSTE(JOINTS, WINDOW, width=16, depth=1, heads=2).eval()
    with pytest.raises(ValueError, match="none of 2 validation tracks has a usable target joint"):
        validation_mpjpe_mm(lifter, config, list_tracks(config.data, "val"))
