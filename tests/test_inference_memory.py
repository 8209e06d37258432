"""Inference within a bound on memory and in lower precision: what may change, and what may not."""

from copy import deepcopy

import pytest
import torch
from reference_network import weight
from torch.profiler import ProfilerActivity, profile

from finepose_mp.config import Config
from finepose_mp.diffusion import draw_noise
from finepose_mp.inference import lifting
from finepose_mp.inference.lifting import lift_windows
from finepose_mp.inference.memory import in_precision, sequence_bytes, sequences_within
from finepose_mp.models import build_model
from finepose_mp.models.blocks import Attention, Keys, SpatialTemporal
from finepose_mp.models.packing import PackedLinear, can_pack, is_packed, pack

WINDOW, JOINTS, WINDOWS, HYPOTHESES = 9, 17, 3, 5
SEEDS = torch.tensor([11, 12, 13])
TEXTS = ["fencing", "playing tag", "sitting down"]


def config_of(name: str = "finepose", memory_mb: int = 1024, **prompt) -> Config:
    small = {"text_weights": "random", "text_width": 16, "text_depth": 1, "text_heads": 2, **prompt}
    return Config.model_validate(
        {
            "run_dir": "run",
            "data": {"files": ["data.h5"], "window": WINDOW, "joint_set": "h36m17"},
            "model": {"name": name, "width": 64, "depth": 2, "heads": 4, "prompt": small},
            "evaluation": {"memory_mb": memory_mb},
        }
    )


def network_of(config: Config) -> torch.nn.Module:
    """With weights that follow from names, for outputs of natural size."""
    network = build_model(config.model, JOINTS, WINDOW).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weight(f"trunk.{name}" if name != "head.1.weight" else name, tuple(parameter.shape)))
    return network


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    mask = torch.rand(WINDOWS, WINDOW, JOINTS, generator=generator) > 0.2
    return torch.randn(WINDOWS, WINDOW, JOINTS, 2, generator=generator) * 0.3 * mask.unsqueeze(-1), mask


@pytest.fixture(scope="module", params=["d3dp", "finepose"])
def network(request):
    return network_of(config_of(request.param))


def prompt_of(network, texts=tuple(TEXTS)):
    with torch.inference_mode():
        return network.encode_prompts(list(texts)) if network.reads_prompts else None


def lift(network, config, inputs, prompt=None, hypotheses=HYPOTHESES, flip=True):
    return lift_windows(network, config, *inputs, SEEDS, hypotheses, 3, flip, prompt)


def within(monkeypatch, sequences: int) -> list[int]:
    """Lets `sequences` pose sequences into memory; returns how many the network was given at a time."""
    monkeypatch.setattr("finepose_mp.inference.lifting.sequences_within", lambda _model, _mb: sequences)
    seen, keys = [], SpatialTemporal.keys
    monkeypatch.setattr(SpatialTemporal, "keys", lambda trunk, mask: seen.append(len(mask)) or keys(trunk, mask))
    return seen


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("sequences", [1, 2, 6, 7, 12, 29])
def test_results_do_not_depend_on_the_chunk(network, inputs, monkeypatch, sequences, flip):
    config, prompt = config_of(), prompt_of(network)
    whole = lift(network, config, inputs, prompt, flip=flip)
    seen = within(monkeypatch, sequences)
    chunked = lift(network, config, inputs, prompt, flip=flip)
    assert (chunked - whole).abs().max() <= 1e-6
    assert max(seen) <= max(sequences, 2 if flip else 1)
    assert sum(seen) == WINDOWS * HYPOTHESES * 3 * (2 if flip else 1)


def test_one_hypothesis_at_a_time_is_one_of_many(network, inputs, monkeypatch):
    """Each hypothesis alone, from its own share of the noise, is the one that it is among the others."""
    whole = lift(network, config_of(), inputs, prompt_of(network))
    for number in range(HYPOTHESES):

        def share(generators, shape, number=number):
            return draw_noise(generators, (HYPOTHESES, *shape[1:]))[:, number : number + 1]

        with monkeypatch.context() as patch:
            patch.setattr(lifting, "draw_noise", share)
            alone = lift(network, config_of(), inputs, prompt_of(network), hypotheses=1)
        assert (alone[:, 0] - whole[:, number]).abs().max() <= 1e-6


def test_the_released_network_is_never_cut_where_it_mixes_prompts(inputs, monkeypatch):
    config = config_of(compatibility="released")
    network = network_of(config)
    mixed = lift(network, config, inputs, prompt_of(network))
    one = lift(network, config, inputs, prompt_of(network, ["fencing"]))
    seen = within(monkeypatch, 2)
    assert torch.equal(lift(network, config, inputs, prompt_of(network)), mixed)
    assert set(seen) == {2 * WINDOWS * HYPOTHESES}
    seen.clear()
    assert (lift(network, config, inputs, prompt_of(network, ["fencing"])) - one).abs().max() <= 1e-6
    assert set(seen) == {2}


@pytest.mark.parametrize("sequences", [6, 30])
def test_activations_stay_within_what_was_counted(inputs, monkeypatch, sequences):
    """Peak of what PyTorch allocates, at a width where activations outweigh the rest."""
    config = config_of("d3dp")
    config.model.width = 256
    network = build_model(config.model, JOINTS, WINDOW).eval()
    within(monkeypatch, sequences)
    lift(network, config, inputs)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        lift(network, config, inputs)
    held, peak = 0, 0
    for event in sorted(
        (e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()
    ):
        held += event.nbytes()
        peak = max(peak, held)
    counted = sequences * sequence_bytes(network)
    assert 0.8 * counted < peak < 1.1 * counted + 4 * 2**20  # poses, noise and reordered weights are not counted


def test_a_bound_below_one_sequence_still_lets_one_through(network):
    assert sequences_within(network, 1) >= 1
    on_cpu, elsewhere = sequences_within(network, 1024), sequences_within(deepcopy(network).to("meta"), 1024)
    assert 1 <= on_cpu < elsewhere == 2**30 // sequence_bytes(network)


def test_bfloat16_changes_poses_by_millimetres(network, inputs):
    full = lift(network, config_of(), inputs, prompt_of(network))
    half = lift(in_precision(network, "bf16"), config_of(), inputs, prompt_of(network))
    with torch.autocast("cpu", torch.bfloat16):
        cast = lift(network, config_of(), inputs, prompt_of(network))
    assert half.dtype == torch.float32
    for found in (half, cast):
        error = (found - full).norm(dim=-1)
        assert 0 < error.mean() < 0.03
        exactly_half = (found == found.bfloat16().float()).float().mean()
        assert exactly_half < 0.5, "coordinates are not rounded to bfloat16"


def test_lower_precision_leaves_the_model_alone(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    copied = in_precision(network, "bf16")
    assert in_precision(copied, "bf16") is copied
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {p.dtype for p in copied.trunk.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in [*copied.embed.parameters(), *copied.head.parameters()]} == {torch.float32}


def test_layers_laid_out_for_the_processor_give_the_same_poses(network, inputs, monkeypatch):
    packed = in_precision(network, "fp32")
    assert is_packed(packed.trunk) == can_pack(torch.device("cpu"))
    assert not is_packed(network) and in_precision(packed, "fp32") is packed
    expected, found = (lift(n, config_of(), inputs, prompt_of(network)) for n in (network, packed))
    assert torch.allclose(found, expected, atol=2e-5)
    monkeypatch.setattr("finepose_mp.inference.memory.can_pack", lambda _device: False)
    assert in_precision(network, "fp32") is network, "where layers cannot be packed, nothing is copied"


@pytest.mark.skipif(not can_pack(torch.device("cpu")), reason="needs a processor with AVX-512")
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_packed_attention_equals_the_layer_it_was_made_of(slots, masked):
    torch.manual_seed(0)
    attention = Attention(64, 4)
    x, mask = torch.randn(3, 7, slots, 64), torch.rand(3, 7, slots) > 0.5
    keys = Keys.of(mask, 4) if masked else None
    packed = deepcopy(attention)
    pack(packed)
    assert isinstance(packed.qkv, PackedLinear) and isinstance(packed.project, PackedLinear)
    with torch.no_grad():
        assert torch.allclose(packed(x, keys), attention(x, keys), atol=1e-5)


def test_a_bfloat16_copy_encodes_prompts_too(inputs):
    config = config_of()
    network = network_of(config)
    copied = in_precision(network, "bf16")
    there, here = lift(copied, config, inputs, prompt_of(network)), lift(copied, config, inputs, prompt_of(copied))
    assert torch.allclose(there, here, atol=0.03)


@pytest.mark.parametrize("slots", [1, 4])
def test_attention_in_bfloat16_is_that_in_full_precision(slots):
    """The CPU takes another way there, masks included."""
    torch.manual_seed(0)
    attention = Attention(64, 4)
    x, mask = torch.randn(3, 7, slots, 64), torch.rand(3, 7, slots) > 0.5
    mask[0, :, 0] = False
    keys = Keys.of(mask, 4)
    for usable in (None, keys):
        full = attention(x, usable)
        half = deepcopy(attention).bfloat16()(x.bfloat16(), usable)
        assert (half.float() - full).abs().max() < 0.03 * full.abs().max()
