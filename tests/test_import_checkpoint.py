"""Released checkpoints become runs: all of them comes over, other files are named, nothing in them is executed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, run_tool
from lab_file import Clip, make_clip, write_lab_file

from finepose_mp import runs, schema
from finepose_mp.config import PromptConfig
from finepose_mp.evaluation import Options, evaluate, render
from finepose_mp.evaluation.comparison import compare
from finepose_mp.models import D3DP
from finepose_mp.models.finepose import FinePOSE
from finepose_mp.models.text_tower import TextTower, build_text_tower
from finepose_mp.released import CheckpointError, import_checkpoint, published_name, read_checkpoint, restored
from finepose_mp.report.figures import charts
from finepose_mp.report.page import report_page

SIZES = {"joints": 17, "window": 9, "width": 32, "depth": 2}


@pytest.fixture(scope="module")
def tower() -> TextTower:
    config = PromptConfig(text_weights="random", text_width=32, text_depth=2, text_heads=8)
    return TextTower(build_text_tower(config)._network.state_dict(), 8, "quick_gelu")


@pytest.fixture(scope="module")
def d3dp() -> D3DP:
    torch.manual_seed(0)
    return D3DP(**SIZES, mask_missing=False).eval()


def finepose(tower: TextTower, action_slot: bool = True) -> FinePOSE:
    torch.manual_seed(0)
    network = FinePOSE(**SIZES, mask_missing=False, tower=tower, compatibility="released", action_slot=action_slot)
    torch.nn.init.normal_(network.stylization.project.weight)
    return network.eval()


def released_state(network: torch.nn.Module, tower: TextTower | None = None) -> dict[str, torch.Tensor]:
    """Weights as the released code names and shapes them, with all that it saves beside them."""
    state = {"betas": torch.zeros(1000, dtype=torch.float64)}
    for name, parameter in network.named_parameters():
        shape = parameter.shape
        if "position" in name:
            shape = (1, max(shape[1:3]), shape[3])
        state[f"pose_estimator.{published_name(name)}"] = parameter.detach().reshape(shape).clone()
    if tower is not None:
        clip = tower._network.state_dict() | {"visual.proj": torch.zeros(3), "logit_scale": torch.ones(())}
        state |= {f"pose_estimator.clip_text.{name}": tensor for name, tensor in clip.items()}
    return {f"module.{name}": tensor for name, tensor in state.items()}


def save(path, state: dict, **options) -> None:
    """A checkpoint as the released training scripts write it."""
    generator = np.random.RandomState(1234)
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 6e-5}]}
    content = {"epoch": 71, "lr": 6e-5, "random_state": generator, "optimizer": optimizer, "model_pos": state}
    torch.save({**content, "min_loss": np.float64(41.2)}, path, **options)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    draw = [0.4 * torch.randn(2, 9, 17, d, generator=generator) for d in (2, 3)]
    return *draw, torch.tensor([5, 700])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_d3dp_becomes_a_run(d3dp, tmp_path, zipped):
    save(tmp_path / "best.bin", released_state(d3dp), _use_new_zipfile_serialization=zipped)
    import_checkpoint(tmp_path / "best.bin", tmp_path / "run", tmp_path / "human36m.h5", None)
    network, config = runs.load_run(tmp_path / "run")
    with torch.inference_mode():
        assert torch.equal(network(*inputs()), d3dp(*inputs()))
    assert (config.model.name, config.data.joint_set, config.data.window) == ("d3dp", "h36m17", 9)
    assert (config.data.coordinates, config.data.missing, config.diffusion.clip_m) == ("screen", "zeros", 1.1)
    facts = (tmp_path / "run" / "imported.json").read_text()
    assert "best.bin" in facts and '"epoch": 71' in facts and "sha256" in facts


@pytest.mark.parametrize("action_slot", [True, False], ids=["human36m", "mpi_inf_3dhp"])
def test_finepose_comes_over_with_its_tower_and_its_mixing(tower, tmp_path, action_slot):
    network = finepose(tower, action_slot)
    save(tmp_path / "best.bin", released_state(network, tower))
    back = restored(read_checkpoint(tmp_path / "best.bin"))
    texts = ["Walking", "SittingDown"] if action_slot else ["", ""]
    with torch.inference_mode():
        expected = network(*inputs(), None, texts)
        assert torch.equal(back(*inputs(), None, texts), expected)
        as_in_the_paper = restored(read_checkpoint(tmp_path / "best.bin"), "paper")
        assert torch.equal(as_in_the_paper(*inputs(), None, texts), expected) != action_slot


@pytest.mark.parametrize(("action_slot", "joints"), [(True, "h36m17"), (False, "mpi17")])
def test_finepose_becomes_a_run(tower, tmp_path, action_slot, joints):
    network = finepose(tower, action_slot)
    save(tmp_path / "best.bin", released_state(network, tower))
    import_checkpoint(tmp_path / "best.bin", tmp_path / "run", tmp_path / "data.h5", None)
    back, config = runs.load_run(tmp_path / "run")
    texts = ["Walking", "SittingDown"] if action_slot else ["", ""]
    with torch.inference_mode():
        assert torch.equal(back(*inputs(), None, texts), network(*inputs(), None, texts))
    assert config.data.joint_set == joints
    assert config.model.prompt.compatibility == "released"


class OldRandomState:
    """NumPy's random state as old versions pickle it: by the name of its bit generator."""

    def __reduce__(self) -> tuple:
        state = np.random.RandomState(1).get_state(legacy=False)
        return (
            getattr(np.random._pickle, "__randomstate_ctor"),
            ("MT19937",),
            state,
        )  # as an attribute it would be mangled


def test_the_random_state_of_old_numpy_is_passed_over(d3dp, tmp_path):
    torch.save({"model_pos": released_state(d3dp), "random_state": OldRandomState()}, tmp_path / "old.bin")
    assert read_checkpoint(tmp_path / "old.bin").facts["epoch"] is None


class Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path, monkeypatch, d3dp):
    monkeypatch.chdir(tmp_path)
    torch.save({"model_pos": released_state(d3dp), "random_state": Hostile()}, "hostile.bin")
    with pytest.raises(CheckpointError, match=r"asks for \S*system, which is not run"):
        read_checkpoint("hostile.bin")
    assert not (tmp_path / "executed").exists()


def without(state: dict, *names: str) -> dict:
    return {name: tensor for name, tensor in state.items() if not name.endswith(names)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda state: b"weights", "not a PyTorch checkpoint"),
        (lambda state: [1, 2], "expected a dictionary with the network's weights under model_pos.*found list"),
        (lambda state: {"state_dict": state}, "found the keys state_dict"),
        (lambda state: {"model_pos": {"weight": 3}}, "expected a dictionary"),
        (lambda state: {"model_pos": {"conv.weight": torch.zeros(3)}}, "not those of FinePOSE or D3DP.*conv.weight"),
        (lambda state: {"model_pos": without(state, "head.1.bias")}, "taken for d3dp, it lacks weights: head.1.bias"),
        (lambda state: {"model_pos": state | {"module.pose_estimator.gcn": torch.zeros(3)}}, "unknown weights: gcn"),
        (lambda state: {"model_pos": state | {"module.pose_estimator.head.1.bias": torch.zeros(4)}}, "another size"),
    ],
)
def test_other_files_are_named_for_what_they_are(d3dp, tmp_path, content, message):
    content, path = content(released_state(d3dp)), tmp_path / "file.bin"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(path, tmp_path / "run", tmp_path / "data.h5", None)
    assert not (tmp_path / "run").exists()


def test_finepose_without_its_tower_is_refused(tower, tmp_path):
    save(tmp_path / "best.bin", released_state(finepose(tower)))
    with pytest.raises(CheckpointError, match="without its text tower"):
        restored(read_checkpoint(tmp_path / "best.bin"))


def test_a_run_directory_in_use_is_left_alone(d3dp, tmp_path):
    save(tmp_path / "best.bin", released_state(d3dp))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("mine")
    with pytest.raises(FileExistsError, match="exists"):
        import_checkpoint(tmp_path / "best.bin", tmp_path / "run", tmp_path / "data.h5", None)
    assert (tmp_path / "run" / "config.yaml").read_text() == "mine"


def test_the_tool_reports(d3dp, tmp_path):
    save(tmp_path / "best.bin", released_state(d3dp))
    command = [sys.executable, REPOSITORY / "tools" / "import_checkpoint.py", tmp_path / "best.bin", "--run"]
    first, second = (subprocess.run([*command, tmp_path / "run"], capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "d3dp, h36m17, window 9, width 32, depth 2" in first.stdout
    assert second.returncode == 1
    assert "exists" in second.stderr
    assert "Traceback" not in second.stderr


TEST_TAKES = [Clip("S9/Walking", "Walking"), Clip("S11/Eating", "Eating")]
TRAINING_TAKES = [Clip(f"S{n}/Walking", "Walking", split="train") for n in (1, 5)]


@pytest.fixture
def imported(d3dp, tmp_path):
    """A function that imports the checkpoint for a file, as the tool does."""

    def run_for(data, joints: str | None = None):
        save(tmp_path / "best.bin", released_state(d3dp))
        import_checkpoint(tmp_path / "best.bin", tmp_path / "run", data, joints)
        return tmp_path / "run"

    return run_for


def evaluated(monkeypatch, capsys, run, data, *arguments) -> tuple[dict, str, str]:
    """The results of tools/evaluate.py, its report in Markdown and the page, of a small sampling."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    small = ("--hypotheses", 2, "--steps", 1, "--no-flip")
    status, _, errors = run_tool(monkeypatch, capsys, "evaluate.py", "--run", run, "--data", data, *small, *arguments)
    assert status == 0, errors
    (results,) = run.glob("results_*.json")
    page = results.with_suffix("") / "report.html"
    return json.loads(results.read_text()), results.with_suffix(".md").read_text(), page.read_text()


@pytest.mark.parametrize("training", [TRAINING_TAKES, []], ids=["with training takes", "test takes alone"])
def test_an_imported_run_is_evaluated_without_a_baseline(imported, tmp_path, monkeypatch, capsys, training):
    data = write_lab_file(tmp_path / "human36m.h5", [*TEST_TAKES, *training])
    results, report, _ = evaluated(monkeypatch, capsys, imported(data), data)
    assert results["protocol"] == "human36m"
    assert "training_mean_pose" not in results["aggregations"] and "Training mean pose" not in report
    assert results["scenes"]["mean of actions"]["mpjpe"]["p_agg"] > 0
    assert results["choices"]["training takes"].startswith("not known: the run does not say which takes")
    assert results["choices"]["joints left out"] == "none"
    assert results["breakdowns"]["distance_to_camera"]["kinds"]["all"][0]["baseline"] is None


def test_an_imported_run_is_scored_by_scenes_and_compared(imported, tmp_path):
    data = write_lab_file(tmp_path / "people.h5", TEST_TAKES)
    options = Options(hypotheses=2, sampling_steps=1, flip=False)
    results = evaluate(imported(data), data, options, "egohumans").results
    report = render(results)
    assert "There is no baseline" in report and "First row against the baseline" not in report
    assert results["breakdowns"]["calibration"]["joints"] > 0
    page = report_page(results, {}, {}, "results")
    assert "Worst takes" in page and "predicts the mean pose" not in page
    legends = [legend for chart in charts(results).values() for legend in chart.figure.legends]
    assert not any("mean pose" in text.get_text() for legend in legends for text in legend.get_texts())
    assert "deployable" in compare({"one": results, "other": results})


def test_an_imported_run_is_scored_on_mpi_inf_3dhp(imported, tmp_path, monkeypatch, capsys):
    sequence = make_clip(Clip("TS1", "TS1"), "mpi17", fps=50.0, views=1)
    sequence.valid_frame = np.ones(20, np.uint8)
    data = tmp_path / "mpi.h5"
    with schema.create(data, dataset="MPI-INF-3DHP", joint_set="mpi17", licence="none", citation="none") as file:
        schema.write_sequence(file, sequence)
    results, _, page = evaluated(monkeypatch, capsys, imported(data, "mpi17"), data)
    assert results["protocol"] == "mpi-inf-3dhp"
    assert "training_mean_pose" not in results["aggregations"]
    assert results["scenes"]["all frames"]["mpjpe"]["p_agg"] > 0
    assert "not known: the run does not say which takes" in page
