"""Settings of training that change its cost and not its result."""

import pytest
import torch
from test_training import assert_same_weights, fresh_accelerate  # noqa: F401
from training_runs import run, small_config, small_data, state_of

from finepose_mp.config import DiffusionConfig, PromptConfig
from finepose_mp.models import D3DP, MixSTE, build_model, compiled
from finepose_mp.models.blocks import Attention
from finepose_mp.training.averaging import MovingAverage
from finepose_mp.training.ledger import Ledger
from finepose_mp.training.objective import Objective

JOINTS, WINDOW = 17, 9
PLAIN = {"epochs": 1, "batch_size": 8, "grad_clip": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "plain"
    return run(small_config(data, folder, model={"drop_path": 0.0}, training=PLAIN))


@pytest.mark.parametrize("setting", [{"micro_batch": 3}, {"micro_batch": 100}, {"activation_checkpointing": True}])
def test_less_memory_trains_the_same_weights(data, plain, tmp_path, setting):
    config = small_config(data, tmp_path / "run", model={"drop_path": 0.0}, training={**PLAIN, **setting})
    assert_same_weights(run(config), plain, atol=1e-5)


def test_checkpointing_drops_the_same_paths_again(data, tmp_path):
    """With paths dropped at random, what is computed a second time must be what was computed first."""
    runs = [
        run(small_config(data, tmp_path / name, model={"drop_path": 0.5}, training={**PLAIN, **setting}))
        for name, setting in (("kept", {}), ("computed again", {"activation_checkpointing": True}))
    ]
    first, second = (state_of(config) for config in runs)
    assert all(torch.allclose(first[k], second[k], atol=1e-6) for k in first if k.startswith("raw"))


def test_micro_batches_bound_how_many_windows_pass_at_once(data, tmp_path, monkeypatch):
    seen, call = [], Objective.__call__
    monkeypatch.setattr(Objective, "__call__", lambda o, m, b: seen.append(len(b["index"])) or call(o, m, b))
    run(small_config(data, tmp_path / "run", training={**PLAIN, "micro_batch": 3}))
    assert seen == [3, 3, 2] * 3


def test_checkpointing_keeps_less(monkeypatch):
    """Bytes that autograd holds on to for the backward pass."""

    def kept(checkpointing: bool) -> int:
        network = D3DP(JOINTS, WINDOW, width=64, depth=4, heads=4).train()
        network.trunk.checkpointing = checkpointing
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
            network(torch.randn(2, WINDOW, JOINTS, 2), torch.randn(2, WINDOW, JOINTS, 3), torch.tensor([1, 2]))
        return sum(sizes)

    assert kept(True) < 0.4 * kept(False)


@pytest.mark.parametrize("name", ["d3dp", "finepose", "mixste"])
def test_compiled_models_survive_other_batches(name):
    """Batches of one, several and the last of an epoch; keypoints missing or not; same numbers, same names.

    Sizes are no reason to compile again: one program with keypoints missing, one without, one for a single window.
    """
    torch.manual_seed(0)
    prompt = PromptConfig(text_weights="random", text_width=16, text_depth=1, text_heads=2)
    settings = small_config("data.h5", "run").model.model_copy(update={"name": name, "prompt": prompt, "depth": 1})
    network = build_model(settings, JOINTS, WINDOW).eval()
    names = list(network.state_dict())
    cases = []
    for windows, missing in ((4, False), (4, True), (3, True), (1, True)):
        mask = torch.rand(windows, WINDOW, JOINTS) > 0.2 if missing else None
        x, noisy = torch.randn(windows, WINDOW, JOINTS, 2), torch.randn(windows, WINDOW, JOINTS, 3)
        inputs = (x, mask) if name == "mixste" else (x, noisy, torch.arange(windows), mask)
        texts = [["fencing", "", None, "eating"][:windows]] if name == "finepose" else []
        cases.append((*inputs, *texts))
    plain = [network(*case) for case in cases]
    programs = []  # captured and run as they are: code generation takes a minute
    compiled(network, backend=lambda program, _: programs.append(program) or program)
    for case, expected in zip(cases, plain, strict=True):
        found = network(*case)
        found.sum().backward()
        assert torch.allclose(found, expected, atol=1e-5)
    assert len(programs) == 3
    assert list(network.state_dict()) == names


def test_a_run_trains_compiled(data, plain, tmp_path, monkeypatch):
    monkeypatch.setattr("finepose_mp.training.loop.compiled", lambda network: compiled(network, backend="aot_eager"))
    config = small_config(data, tmp_path / "run", model={"drop_path": 0.0}, training={**PLAIN, "compile": True})
    assert_same_weights(run(config), plain, atol=1e-5)


@pytest.mark.parametrize("name", ["d3dp", "finepose", "mixste"])
def test_a_step_reads_nothing_back_from_the_device(name):
    """On the meta device there is nothing to read: whoever asks for a number there gets an error."""
    prompt = PromptConfig(text_weights="random", text_width=16, text_depth=1, text_heads=2)
    settings = small_config("data.h5", "run").model.model_copy(update={"name": name, "prompt": prompt})
    network = build_model(settings, JOINTS, WINDOW).to("meta").train()
    average = MovingAverage(network, 0.9, torch.device("meta"))
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], foreach=True)
    objective = Objective(DiffusionConfig(), network.is_denoiser, prompt if network.reads_prompts else None)
    masks = {k: torch.ones(4, WINDOW, JOINTS, dtype=torch.bool, device="meta") for k in ("input_mask", "target_mask")}
    batch = {
        **masks,
        "input_2d": torch.randn(4, WINDOW, JOINTS, 2, device="meta"),
        "target_3d": torch.randn(4, WINDOW, JOINTS, 3, device="meta"),
        "frame_mask": torch.ones(4, WINDOW, dtype=torch.bool, device="meta"),
        "text": ["fencing", "eating", "fencing", ""],
        "scene": [""] * 4,
        "seed": torch.arange(4),
        "index": torch.arange(4),
    }
    for _ in range(2):
        loss = objective(network, batch)
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(network)
    assert loss.is_meta
    with pytest.raises(RuntimeError, match="meta"):
        loss.sum().item()


def test_steps_are_settled_in_order_one_step_late():
    settled = []
    ledger = Ledger(lambda entry: settled.append((entry.step, *entry.sums.tolist())))
    for step in (1, 2, 3):
        one = torch.tensor(float(step))
        ledger.book(step, 10 * one, one, one.view(1), torch.tensor([step]))
        assert len(settled) == step - 1
    ledger.close()
    assert settled == [(1, 10.0, 1.0), (2, 20.0, 2.0), (3, 30.0, 3.0)]
    ledger.close()
    assert len(settled) == 3


@pytest.mark.parametrize("slots", [1, 3])
def test_reordered_projections_have_the_gradients_of_the_weights_as_stored(slots):
    torch.manual_seed(0)
    attention = Attention(width=12, heads=2).double()
    x = torch.randn(2, 5, slots, 12, dtype=torch.float64)
    attention(x).square().sum().backward()
    found = attention.qkv.weight.grad.clone()
    attention.zero_grad()
    q, k, v = (part.unflatten(-1, (2, 6)) for part in attention.qkv(x).chunk(3, dim=-1))
    weights = (torch.einsum("rlshd,rmshd->rshlm", q, k) / 6**0.5).softmax(-1)
    told = torch.einsum("rshlm,rmshd->rlshd", weights, v).flatten(-2)
    attention.project(told).square().sum().backward()
    assert torch.allclose(found, attention.qkv.weight.grad, atol=1e-10)


def test_a_deterministic_lifter_compiles_its_forward_pass():
    lifter = compiled(MixSTE(JOINTS, WINDOW, width=16, depth=1, heads=2), backend="eager")
    assert lifter(torch.randn(2, WINDOW, JOINTS, 2)).shape == (2, WINDOW, JOINTS, 3)
