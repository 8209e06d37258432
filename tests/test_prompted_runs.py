"""A small FinePOSE beside an untrained text tower, from training to evaluation: prompts arrive where they should."""

import shutil

import contract_file
import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from training_runs import assert_same_state, run, small_config, small_data, state_of

from finepose_mp import evaluation, runs
from finepose_mp.config import CONDITIONS, Config, DiffusionConfig, PromptConfig
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.windows import WindowDataset, collate
from finepose_mp.evaluation import EvaluationError, Options, evaluate
from finepose_mp.evaluation.comparison import compare
from finepose_mp.inference.lifting import lift_tracks, lift_windows
from finepose_mp.models import build_model
from finepose_mp.prompts import PromptError
from finepose_mp.training.objective import Objective
from finepose_mp.training.validation import validation_mpjpe_mm

TOWER = {"text_weights": "random", "text_width": 16, "text_depth": 1, "text_heads": 2}
# Without weight decay, whatever moves was moved by a gradient.
TRAINING = {"epochs": 2, "learning_rate": 1e-2, "weight_decay": 0.0}


def prompted(data, run_dir, prompt=(), **training) -> Config:
    model = {"name": "finepose", "prompt": {**TOWER, "text_dropout": 0.5, **dict(prompt)}}
    return small_config(data, run_dir, model=model, training={**TRAINING, **training})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Config:
    """An uninterrupted run of two epochs of three steps."""
    return run(prompted(data, tmp_path_factory.mktemp("runs") / "whole"))


def test_training_moves_every_slot_and_keeps_the_tower(whole):
    set_seed(whole.seed)
    fresh = build_model(whole.model, 17, whole.data.window)
    trained, _ = runs.load_run(whole.run_dir, "last")
    for name, slot in fresh.prompts.slots.items():
        assert not torch.equal(trained.prompts.slots[name], slot), name
    assert trained.prompts.tower.checksum == fresh.prompts.tower.checksum
    assert not any("tower" in name and "checksum" not in name for name in state_of(whole))


def test_an_interrupted_run_continues_to_the_same_bits(whole, data, tmp_path):
    run(prompted(data, tmp_path / "run", max_steps=4))
    assert_same_state(whole, run(prompted(data, tmp_path / "run"), resume=True))


@pytest.mark.parametrize(("compatibility", "precision"), [("repaired", "bf16"), ("released", "no")])
def test_it_trains_in_half_precision_and_with_slots_that_never_learn(data, tmp_path, compatibility, precision):
    prompt = {"compatibility": compatibility}
    config = run(prompted(data, tmp_path / "run", prompt, max_steps=2, mixed_precision=precision))
    assert np.isfinite(runs.read_metrics(config.run_dir)[-1]["validation_mpjpe_mm"])
    assert not torch.is_autocast_enabled("cpu")


def test_a_run_keeps_its_tower_wherever_it_is_moved(whole, tmp_path):
    moved = shutil.copytree(whole.run_dir, tmp_path / "moved")
    model, config = runs.load_run(moved)
    assert config.model.prompt.text_weights == str(moved / runs.TEXT_TOWER)
    assert model.reads_prompts


def test_a_run_continues_without_the_text_weights_that_it_was_begun_with(whole, data, tmp_path):
    tower = shutil.copy(whole.run_dir / runs.TEXT_TOWER, tmp_path / "tower.safetensors")
    prompt = {"text_weights": str(tower)}
    run(prompted(data, tmp_path / "run", prompt, max_steps=4))
    tower.unlink()
    rest = run(prompted(data, tmp_path / "run", prompt), resume=True)
    assert_same_state(whole, rest)
    assert runs.load_config(rest.run_dir / runs.CONFIG) == rest


def test_validation_is_under_the_configured_condition(whole):
    model, config = runs.load_run(whole.run_dir, "last")
    noted = runs.read_metrics(whole.run_dir)[-1]["validation_mpjpe_mm"]
    found = {}
    for condition in CONDITIONS:
        config.model.prompt.condition = condition
        found[condition] = validation_mpjpe_mm(model, config, list_tracks(config.data, "val"))
    assert found["action"] == pytest.approx(noted, rel=1e-6)
    assert len(set(found.values())) == len(CONDITIONS)


def test_a_text_that_does_not_fit_stops_the_run_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(contract_file.ACTIONS, "Tennis", "playing " + "very " * 12 + "long tennis")
    config = prompted(small_data(tmp_path), tmp_path / "run", {"condition": "scene"})
    with pytest.raises(PromptError, match="its slot holds 12"):
        run(config)  # the action is drawn by text dropout alone
    assert not config.run_dir.exists()


def test_each_window_of_a_batch_is_trained_with_its_own_text(data):
    windows = WindowDataset(small_config(data, "unused").data, "train", training=True)
    batch = collate([windows[i] for i in range(0, len(windows), 3)])
    assert len(set(batch["text"])) == len(set(batch["scene"])) == 2
    given = []

    def watch(_input_2d, noisy, _t, _mask, texts):
        given.append(texts)
        return noisy

    Objective(DiffusionConfig(), True, PromptConfig(condition="action", text_dropout=0))(watch, batch)
    assert given.pop() == batch["text"]
    objective = Objective(DiffusionConfig(), True, PromptConfig(condition="action", text_dropout=0.5))
    objective(watch, batch)
    part = {name: value[2:5] for name, value in batch.items()}
    objective(watch, part)
    assert given[1] == given[0][2:5], "a window's dropout does not depend on its batch"
    assert 0 < sum(map(str.__eq__, map(str, given[0]), batch["text"])) < len(batch["text"])


@pytest.mark.parametrize("flip", [True, False])
def test_windows_of_one_batch_are_lifted_each_by_its_own_prompt(whole, flip):
    model, config = runs.load_run(whole.run_dir)
    generator, seeds, texts = torch.Generator().manual_seed(0), torch.tensor([1, 2]), ["playing tennis", "fencing"]
    keypoints = 0.3 * torch.randn(2, 9, 17, 2, generator=generator)

    def lift(rows, texts):
        prompt = None if texts is None else model.encode_prompts(texts)
        return lift_windows(model, config, keypoints[rows], None, seeds[rows], 2, 2, flip, prompt)

    both = lift([0, 1], texts)
    for i in range(2):
        assert torch.allclose(both[i], lift([i], texts[i : i + 1])[0], atol=2e-6)
        assert (both[i] - lift([i], texts[1 - i :][:1])[0]).abs().max() > 1e-5
    assert torch.allclose(lift([0, 1], None), lift([0, 1], [None]))


def test_tracks_encode_each_distinct_text_once(whole, monkeypatch):
    model, config = runs.load_run(whole.run_dir)
    encoded, encode = [], model.encode_prompts
    monkeypatch.setattr(model, "encode_prompts", lambda texts: encoded.append(texts) or encode(texts))
    tracks = list_tracks(config.data, "train")
    lifted = list(lift_tracks(model, config, tracks, hypotheses=2, steps=2, batch_size=1))
    assert len(lifted) == len(tracks) > 2
    assert encoded == [["playing basketball"], ["playing tennis"]]


@pytest.fixture(scope="module")
def by_condition(whole, data) -> dict[str | None, dict]:
    options = {"split": "val", "hypotheses": 2, "sampling_steps": 1, "bootstrap_samples": 10}
    return {
        condition: evaluate(whole.run_dir, data, Options(**options, prompt_condition=condition)).results
        for condition in (None, *CONDITIONS)
    }


def test_one_model_is_evaluated_under_every_condition(by_condition):
    errors = {c: results["scenes"]["mean of scenes"]["mpjpe"]["p_agg"] for c, results in by_condition.items()}
    assert errors[None] == errors["action"]
    assert len(set(errors.values())) == len(CONDITIONS)


def test_the_conditions_of_one_checkpoint_stand_in_one_table(by_condition):
    results = {condition: by_condition[condition] for condition in CONDITIONS}
    table = compare(results)
    for condition, each in results.items():
        line = next(line for line in table.splitlines() if line.startswith(f"| {condition} "))
        assert "deployable" in line and f"{each['scenes']['mean of scenes']['mpjpe']['p_agg']:,.1f}" in line
    assert "J-Best): oracle" in table
    difference = next(line for line in table.splitlines() if line.startswith("| prompt condition"))
    assert "action (given label)" in difference and "learned" in difference


def test_results_on_other_takes_are_not_compared(by_condition):
    first, second = by_condition["none"], by_condition["action"]
    other = second | {"choices": second["choices"] | {"data sha256": "0"}}
    with pytest.raises(EvaluationError, match=r"data sha256 of b is 0, of a .*: their numbers do not compare"):
        compare({"a": first, "b": other})
    with pytest.raises(EvaluationError, match="a has no metric 'speed'; it has mpjpe"):
        compare({"a": first}, metric="speed")


def test_results_say_the_condition_and_whether_it_is_a_given_label(by_condition):
    said = {c: results["choices"]["prompt condition"] for c, results in by_condition.items()}
    labels = {"action": "action (given label)", "scene": "scene (given label)", "learned": "learned", "none": "none"}
    assert said == {None: labels["action"], **labels}
    assert "prompt condition: scene (given label)" in evaluation.render(by_condition["scene"])


def test_results_under_an_asked_condition_have_a_name_of_their_own(tmp_path):
    plain, asked = (evaluation.results_paths(tmp_path, "test", "people.h5", c)[0].name for c in (None, "learned"))
    assert (plain, asked) == ("results_test_people.json", "results_test_people_prompt-learned.json")


def test_conditions_that_cannot_be_had_are_refused(whole, data, tmp_path):
    with pytest.raises(EvaluationError, match="prompt_condition 'loud': expected one of none, scene, action, learned"):
        evaluate(whole.run_dir, data, Options(split="val", prompt_condition="loud"))
    with pytest.raises(EvaluationError, match="sampling_steps 1001: this run's diffusion has 1000 times"):
        evaluate(whole.run_dir, data, Options(split="val", sampling_steps=1001))
    unprompted = run(small_config(data, tmp_path / "d3dp", training={"max_steps": 1}))
    with pytest.raises(EvaluationError, match="this run's model reads no prompts"):
        evaluate(unprompted.run_dir, data, Options(split="val", prompt_condition="action"))


def test_a_model_without_an_action_slot_takes_no_label(data, tmp_path):
    config = run(prompted(data, tmp_path / "run", {"action_slot": False, "condition": "learned"}, max_steps=1))
    with pytest.raises(PromptError, match="use prompt condition learned or none"):
        evaluate(config.run_dir, data, Options(split="val", prompt_condition="action"))
    with pytest.raises(PromptError, match="has no slot for it"):
        run(prompted(data, tmp_path / "other", {"action_slot": False}))
