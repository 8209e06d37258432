"""The benchmark measures what it says: every arm does its work, and costs are counted, not guessed."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import run_tool
from lab_file import Clip, write_lab_file
from raw_take import RawTake
from torch.utils.flop_counter import FlopCounterMode
from training_runs import small_data

from finepose_mp import benchmark
from finepose_mp.benchmark import arms as all_arms
from finepose_mp.benchmark import measuring
from finepose_mp.benchmark.cost import Shape, denoiser_flops, text_flops, training_flops
from finepose_mp.benchmark.data import measure_conversion
from finepose_mp.benchmark.measuring import BenchmarkError, Measurement
from finepose_mp.benchmark.reference_style import ReferenceStyle
from finepose_mp.benchmark.work import build
from finepose_mp.config import DataConfig, PromptConfig
from finepose_mp.evaluation.mpi_inf_3dhp import reference
from finepose_mp.models.finepose import FinePOSE
from finepose_mp.models.text_tower import build_text_tower

SIZES = benchmark.Sizes(width=16, depth=2, heads=2, text_width=16, text_depth=1, text_heads=2)
TOWER = PromptConfig(text_weights="random", text_width=16, text_depth=1, text_heads=2)
CPU = torch.device("cpu")
TRAINING = benchmark.training_arms(SIZES, windows=[5, 7], batches=[1, 3], compiler=False)
INFERENCE = benchmark.inference_arms(SIZES, [5, 7], [1, 2], hypotheses=[3, 1], steps=[2, 1], compiler=False)
PRESETS = all_arms.preset_arms(SIZES, 5)


@pytest.fixture(scope="module", autouse=True)
def one_tower():
    """The arms build their own; made once here, because drawing its weights takes longer than everything else."""
    tower = build_text_tower(TOWER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finepose_mp.models.build_text_tower", lambda _config: tower)
        yield tower


@pytest.mark.parametrize("arm", TRAINING, ids=lambda arm: arm.name)
def test_training_arms_learn(arm):
    step = build(arm, CPU)
    losses = [step() for _ in range(2)]
    assert losses[0].shape == (arm.batch,) and torch.isfinite(torch.stack(losses)).all()
    assert not torch.equal(*losses), "the same noise again: only the weights have changed"


@pytest.mark.parametrize("arm", [*INFERENCE, *PRESETS], ids=lambda arm: arm.name)
def test_inference_arms_give_poses(arm):
    poses = build(arm, CPU)()
    assert poses.shape == (arm.batch, arm.hypotheses, arm.window, 17, 3)
    assert torch.isfinite(poses).all()


@pytest.mark.parametrize(
    "arm", [arm for arm in INFERENCE if arm.precision != "autocast"], ids=lambda arm: arm.name
)  # autocast knows no such device; training has a test of its own
def test_sampling_never_mixes_devices_nor_waits_for_numbers(arm, monkeypatch):
    """On a device that has shapes but no numbers: reading one back, and mixing devices, are errors there."""
    monkeypatch.setattr("finepose_mp.models.build_text_tower", lambda _config: build_text_tower(TOWER))
    poses = build(arm, torch.device("meta"))()
    assert poses.device.type == "meta" and poses.shape == (arm.batch, arm.hypotheses, arm.window, 17, 3)


def test_arms_of_a_task_have_names_of_their_own():
    for arms in (TRAINING, [*INFERENCE, *PRESETS]):
        assert len({arm.name for arm in arms}) == len(arms)
    compilable = benchmark.training_arms(SIZES, [5], [1], compiler=True)
    assert [arm.name for arm in compilable if arm.compiled] == ["N 5 compiled", "N 5 bf16 compiled"]


def test_arms_vary_from_the_first_batch():
    training = benchmark.training_arms(SIZES, [5, 7], [4, 2], compiler=True)
    sampling = benchmark.inference_arms(SIZES, [5, 7], [4, 2], [3, 1], [2, 1], compiler=True)
    for arms in (training, sampling):
        assert {arm.batch for arm in arms if f"N {arm.window} B 2" not in arm.name} == {4}
        assert all(f"B {arm.batch}" in arm.name for arm in arms)
        assert len({arm.name for arm in arms}) == len(arms)


def test_ways_of_doing_the_same_give_the_same():
    poses = {arm.name: build(arm, CPU)() for arm in INFERENCE[:10]}
    first = poses.pop("H 3 S 2 N 5")
    for name in ("explicit attention", "text in every pass", "chunks of 1", "chunks of 2"):
        assert torch.allclose(poses[f"H 3 S 2 N 5 {name}"], first, atol=1e-5), name
    for name in ("bf16", "bf16 autocast"):
        assert 0 < (poses[f"H 3 S 2 N 5 {name}"] - first).abs().max() < 0.03, name


def test_the_reference_style_computes_the_same_network(one_tower):
    torch.manual_seed(0)
    network = FinePOSE(17, 5, 16, 3, 2, tower=one_tower, compatibility="released").eval()
    torch.nn.init.normal_(network.stylization.project.weight)
    x, noisy, t = torch.randn(2, 5, 17, 2), torch.randn(2, 3, 5, 17, 3), torch.tensor([3, 700])
    with torch.inference_mode():
        found = ReferenceStyle(network)(x, noisy, t, "sitting down")
        assert torch.allclose(found, network(x, noisy, t, None, ["sitting down"]), atol=2e-5)


def test_operations_are_those_that_pytorch_counts(one_tower, monkeypatch):
    monkeypatch.setattr("finepose_mp.models.products.onednn_dtype", lambda _x: None)  # which PyTorch does not count
    shape = Shape(17, 5, 16, 3)
    network = FinePOSE(17, 5, 16, 3, 2, tower=one_tower).train()
    x, noisy, t = torch.randn(2, 5, 17, 2), torch.randn(2, 4, 5, 17, 3), torch.tensor([3, 700])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        prompt = network.encode_prompts(["fencing", "sitting"])
    assert counter.get_total_flops() == pytest.approx(2 * text_flops(shape, 1, 16), rel=0.03)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, noisy, t, None, prompt)
    assert counter.get_total_flops() == pytest.approx(2 * 4 * denoiser_flops(shape), rel=0.03)
    with FlopCounterMode(display=False) as counter:
        network(x, noisy[:, 0], t, None, prompt).sum().backward()
    assert counter.get_total_flops() == pytest.approx(
        2 * training_flops(shape._replace(reads_prompts=True), 0), rel=0.05
    )


_REPORT = measuring._report


def report_with_a_small_yardstick(*arguments) -> None:
    """What the process of an arm runs, the yardstick, which takes seconds, cut to a fraction."""
    measuring._SIDE = 64
    _REPORT(*arguments)


def test_an_arm_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(measuring, "_report", report_with_a_small_yardstick)
    found = benchmark.measure(INFERENCE[0], repeats=2)
    assert len(found.seconds) == 2 and len(found.yardsticks) == 3
    assert found.clock == "process" and 0 < found.libraries_mb < found.peak_mb
    assert found.ratio > 0 and found.spread >= 0 and found.bf16_rate > 0


def test_an_arm_that_fails_says_which_and_why(monkeypatch):
    """In this process, where it takes no time."""
    sent = []
    connection = SimpleNamespace(send=sent.append, recv=lambda: sent.pop(), close=lambda: None)
    context = SimpleNamespace(
        Pipe=lambda duplex: (connection, connection),
        Process=lambda target, args: SimpleNamespace(start=lambda: target(*args), join=lambda: None, exitcode=1),
    )
    monkeypatch.setattr("multiprocessing.get_context", lambda _method: context)
    impossible = INFERENCE[0].but("too many steps", steps=2000)
    with pytest.raises(
        BenchmarkError, match=r"(?s)'too many steps' failed.*allows 1 to 1000 sampling steps, asked for"
    ):
        benchmark.measure(impossible)


def measured(name: str, seconds: list[float], yardsticks: list[float]) -> Measurement:
    return Measurement(INFERENCE[0].but(name), seconds, yardsticks, "wall", 300.0, 100.0, 1.0, 1e12)


def test_costs_are_medians_in_yardsticks_of_their_moment():
    """The machine became twice as slow in the middle: work and yardstick alike."""
    found = measured("a", [4.0, 6.0, 8.0], [2.0, 2.0, 4.0, 4.0])
    assert found.ratios == [2.0, 2.0, 2.0] and found.ratio == 2.0 and found.spread == 0.0


def test_the_table_compares_with_the_first():
    lines = benchmark.table([measured("a", [4.0], [2.0, 2.0]), measured("b", [6.0], [2.0, 2.0])]).splitlines()
    assert lines[2].startswith("| infer a | 2.00 | 0.00 | 4 |") and lines[2].endswith("| 300 | 200 | 1.00 |")
    assert lines[3].endswith("| 1.50 |")


def test_loading_is_measured_in_windows_per_second(tmp_path):
    data = DataConfig(files=[small_data(tmp_path)], window=9)
    found = benchmark.measure_loading(data, batch_size=4, workers=0)
    assert found.windows == 24
    assert found.first_epoch_per_second > 0 and found.next_epoch_per_second > 0


def test_the_command_prints_a_table_and_writes_every_number(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "measure", lambda arm, *_: measured(arm.name, [4.0, 6.0], [2.0, 2.0, 2.0]))
    file = tmp_path / "numbers.json"
    command = ("infer", "--only", "autocast", "chunks", "--json", file, "--device", "cpu")
    status, said, _ = run_tool(monkeypatch, capsys, "benchmark.py", *command)
    assert status == 0 and "| infer H 5 S 5 N 27 bf16 autocast | 2.50 | 1.00 |" in said
    written = json.loads(file.read_text())
    assert [arm["arm"]["name"].removeprefix("H 5 S 5 N 27 ") for arm in written["arms"]] == [
        "bf16 autocast",
        "chunks of 1",
        "chunks of 2",
    ]
    assert written["arms"][0]["ratio"] == 2.5 and written["torch"] and written["threads"] == 1


def test_what_was_measured_before_something_failed_is_written(tmp_path, monkeypatch, capsys):
    def measure(arm, *_):
        if arm.precision != "fp32":
            raise BenchmarkError("out of memory")
        return measured(arm.name, [4.0, 6.0], [2.0, 2.0, 2.0])

    monkeypatch.setattr(benchmark, "measure", measure)
    status, _, errors = run_tool(monkeypatch, capsys, "benchmark.py", "train", "--json", tmp_path / "numbers.json")
    assert status == 2 and "out of memory" in errors
    assert [arm["arm"]["name"] for arm in json.loads((tmp_path / "numbers.json").read_text())["arms"]] == ["N 27"]


def test_loading_is_compared_with_what_training_takes_in(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "measure", lambda arm, *_: replace(measured("", [2.0], [1.0, 1.0]), arm=arm))
    command = ("load", "--data", small_data(tmp_path), "--windows", 9, "--batches", 4, "--workers", 0)
    command = (*command, "--json", tmp_path / "numbers.json", "--device", "cpu")
    status, said, _ = run_tool(monkeypatch, capsys, "benchmark.py", *command)
    assert status == 0
    [row] = json.loads((tmp_path / "numbers.json").read_text())["load"]
    assert row["training_per_second"] == 2.0, "four windows in two seconds"
    assert row["next_epoch_ratio"] == row["next_epoch_per_second"] / 2 and "next_epoch_ratio" in said


def test_the_command_loads_all_cameras_of_a_file_in_its_own_joints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "measure", lambda arm, *_: replace(measured("", [2.0], [1.0, 1.0]), arm=arm))
    clips = [Clip(f"S{n}/Walking", "Walking", frames=36, split="train") for n in (1, 5)]
    file = write_lab_file(tmp_path / "lab.h5", clips, views=2, joints="mpi17")
    options = ("--windows", 9, "--workers", 0, "--input-2d", "projected", "--json", tmp_path / "numbers.json")
    assert run_tool(monkeypatch, capsys, "benchmark.py", "load", "--data", file, *options)[0] == 0
    [row] = json.loads((tmp_path / "numbers.json").read_text())["load"]
    assert row["windows"] == 2 * 36 // 9 and row["workers"] == 0  # one of the two takes is held out


def test_the_command_compares_the_evaluation_with_loops(monkeypatch, capsys):
    monkeypatch.setattr(reference, "speed_ratio", lambda: {"frames": 2875, "ratio": 37.25})
    status, said, _ = run_tool(monkeypatch, capsys, "benchmark.py", "evaluate")
    assert status == 0 and "evaluate: frames 2875, ratio 37.25" in said


def test_the_command_says_what_is_missing(monkeypatch, capsys):
    for what, option in (("load", "--data"), ("convert", "--raw"), ("human36m", "--folder")):
        status, _, errors = run_tool(monkeypatch, capsys, "benchmark.py", what)
        assert status == 2 and f"{what} needs {option}" in errors
    status, _, errors = run_tool(monkeypatch, capsys, "benchmark.py", "train", "--only", "quantum")
    assert status == 2 and "no arm is called like" in errors


def test_a_conversion_is_measured_beside_reading_the_same_files(tmp_path):
    RawTake().write(tmp_path / "raw" / "01_tagging" / "001_tagging")
    measured = measure_conversion(tmp_path / "raw", repeats=1)
    assert (measured.takes, measured.frames) == (1, 6)
    assert measured.megabytes > 0 and measured.cpu_ratio > 1
    assert measured.disk_ratio == measured.disk_converting_seconds / measured.disk_reading_seconds
    assert measured.ratio == measured.converting_seconds / measured.reading_seconds
    assert measured.frames_per_second == measured.frames / measured.converting_seconds
    assert measured.speedup == 1 and measured.peak_mb > 10 and measured.point_by_point > 1
