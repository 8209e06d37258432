"""The denoiser and the deterministic lifter: equality with the published network, masks, shapes."""

import platform
import resource

import numpy as np
import pytest
import torch
from reference_network import fill, normal, published_name

from finepose_mp.config import ModelConfig
from finepose_mp.models import D3DP, MixSTE, build_model
from finepose_mp.models.blocks import MLP, Attention, Block, DropPath, Keys, SpatialTemporal
from finepose_mp.models.products import Linear, has_onednn_kernels, keep_freed_memory
from finepose_mp.models.short_attention import attend, split

JOINTS, WINDOW = 17, 9
T = torch.tensor([123, 777])


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden/reference/parity_d3dp.npz")


@pytest.fixture(scope="module")
def small() -> D3DP:
    return fill(D3DP(JOINTS, WINDOW, width=128, depth=3))


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    return {
        "x2d": normal("x2d", (2, WINDOW, JOINTS, 2), 0.3),
        "x3d": normal("x3d", (2, WINDOW, JOINTS, 3), 0.5),
        "x3dh": normal("x3dh", (2, 3, WINDOW, JOINTS, 3), 0.5),
    }


def test_printed_values_of_the_published_network(small, inputs):
    """Six numbers that the published network gives for these weights and inputs."""
    with torch.inference_mode():
        single = small(inputs["x2d"], inputs["x3d"], T)
        several = small(inputs["x2d"], inputs["x3dh"], T)
    found = torch.stack([single[0, 0, 0, 0], single[0, 8, 16, 2], single[1, 4, 7, 1], several[0, 0, 0, 0, 0],
                         several[1, 2, 8, 16, 2], several[1, 1, 3, 9, 1]])  # fmt: skip
    assert found.tolist() == pytest.approx(PRINTED, abs=2e-5)


PRINTED = [0.025613, -0.428281, 0.227228, -0.046766, 0.097480, 0.162404]


@pytest.mark.parametrize(("tag", "width", "depth"), [("cs512", 512, 2), ("cs128", 128, 3)])
def test_equals_the_published_network(golden, tag, width, depth):
    network = fill(D3DP(JOINTS, WINDOW, width=width, depth=depth))
    x2d, x3d, x3dh = (torch.from_numpy(golden[key]) for key in ("x2d", "x3d", "x3dh"))
    with torch.inference_mode():
        for b in (1, 2):
            single = network(x2d[:b], x3d[:b], T[:b])
            several = network(x2d[:b], x3dh[:b], T[:b])
            assert np.abs(single.numpy() - golden[f"{tag}_b{b}_train"]).max() < 2e-5
            assert np.abs(several.numpy() - golden[f"{tag}_b{b}_hyp3"]).max() < 2e-5


@pytest.mark.parametrize(("tag", "width", "depth"), [("cs512", 512, 2), ("cs128", 128, 3)])
def test_weights_and_gradients_map_one_to_one(golden, tag, width, depth):
    network = fill(D3DP(JOINTS, WINDOW, width=width, depth=depth))
    x2d, x3d = torch.from_numpy(golden["x2d"]), torch.from_numpy(golden["x3d"])
    loss = (network(x2d[:1], x3d[:1], T[:1]) - x3d[1:]).norm(dim=-1).mean()
    loss.backward()
    assert loss.item() == pytest.approx(float(golden[f"{tag}_b1_grad_loss"]), abs=1e-5)

    norms = {published_name(n): (p.double().norm().item(), p.grad.norm().item()) for n, p in network.named_parameters()}
    assert sorted(norms) == sorted(golden[f"{tag}_param_names"])
    weights = dict(zip(golden[f"{tag}_param_names"], golden[f"{tag}_param_l2_after_fill"], strict=True))
    gradients = dict(zip(golden[f"{tag}_b1_grad_gradnames"], golden[f"{tag}_b1_grad_gradnorm"], strict=True))
    for name, (weight_norm, gradient_norm) in norms.items():
        assert weight_norm == pytest.approx(weights[name], rel=1e-6), name
        assert gradient_norm == pytest.approx(gradients[name], rel=1e-3, abs=1e-6), name


def test_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = D3DP(joints=17, window=27)
    assert sum(p.numel() for p in network.parameters()) == 34_724_867


def test_hypotheses_do_not_see_each_other(small, inputs):
    with torch.inference_mode():
        together = small(inputs["x2d"], inputs["x3dh"], T)
        alone = small(inputs["x2d"], inputs["x3dh"][:, 1], T)
    assert torch.allclose(together[:, 1], alone, atol=2e-6)


def test_windows_of_a_batch_do_not_see_each_other(small, inputs):
    with torch.inference_mode():
        both = small(inputs["x2d"], inputs["x3d"], T)
        second = small(inputs["x2d"][1:], inputs["x3d"][1:], T[1:])
    assert torch.allclose(both[1:], second, atol=2e-6)


def test_a_full_mask_changes_nothing(small, inputs):
    full = torch.ones(2, WINDOW, JOINTS, dtype=torch.bool)
    with torch.inference_mode():
        assert torch.allclose(
            small(inputs["x2d"], inputs["x3d"], T, full), small(inputs["x2d"], inputs["x3d"], T), atol=2e-6
        )


@pytest.fixture
def mask() -> torch.Tensor:
    """Joint 3 always missing, frame 5 empty, the last two frames padding; window 1 has nothing at all."""
    mask = torch.ones(2, WINDOW, JOINTS, dtype=torch.bool)
    mask[:, :, 3] = False
    mask[:, 5] = False
    mask[:, 7:] = False
    mask[1] = False
    return mask


@pytest.mark.parametrize("hypotheses", [False, True])
def test_masked_keypoints_do_not_reach_other_tokens(small, inputs, mask, hypotheses):
    noisy = inputs["x3dh"] if hypotheses else inputs["x3d"]
    changed = torch.where(mask.unsqueeze(-1), inputs["x2d"], torch.tensor(5.0))
    with torch.inference_mode():
        before = small(inputs["x2d"], noisy, T, mask)
        after = small(changed, noisy, T, mask)
    seen = (mask.unsqueeze(1).expand(noisy.shape[:-1]) if hypotheses else mask)[:1]
    assert torch.equal(before[:1][seen], after[:1][seen])
    assert not torch.equal(before, after)  # a missing keypoint's own prediction may still change


def test_masked_noise_does_not_reach_other_tokens(small, inputs, mask):
    changed = torch.where(mask.unsqueeze(-1), inputs["x3d"], torch.tensor(-0.7))
    with torch.inference_mode():
        before, after = (small(inputs["x2d"], noisy, T, mask) for noisy in (inputs["x3d"], changed))
    assert torch.equal(before[mask], after[mask])


def test_padding_does_not_change_the_frames_before_it(small, inputs, mask):
    """Frames beyond the end of a track: whatever stands in them, the others are predicted alike."""
    padding = torch.ones_like(mask)
    padding[:, 6:] = False
    longer = inputs["x2d"].clone()
    longer[:, 6:] = longer[:, 5:6]
    with torch.inference_mode():
        first, second = (small(x, inputs["x3d"], T, padding)[:, :6] for x in (inputs["x2d"], longer))
    assert torch.equal(first, second)


def test_windows_without_any_keypoint_stay_finite(small, inputs, mask):
    network = D3DP(JOINTS, WINDOW, width=32, depth=2, heads=4).train()
    prediction = network(inputs["x2d"], inputs["x3d"], T, mask)
    prediction.square().mean().backward()
    assert torch.isfinite(prediction).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_no_softmax_is_over_nothing(mask):
    """Whatever kernel computes the attention: some give zeros for a row without keys, others NaN."""
    assert Keys.of(mask, heads=2).usable.any(-1).all()
    assert Keys.of(mask.flatten(0, 1).unsqueeze(-1), heads=2).usable.any(-1).all()


def test_zero_filled_mode_ignores_the_mask(inputs, mask):
    torch.manual_seed(0)
    zeros = build_model(ModelConfig(width=32, depth=1, heads=4), JOINTS, WINDOW, missing="zeros").eval()
    with torch.inference_mode():
        assert torch.equal(zeros(inputs["x2d"], inputs["x3d"], T, mask), zeros(inputs["x2d"], inputs["x3d"], T))


def test_mixste_predicts_one_pose_per_frame_and_honours_the_mask(inputs, mask):
    torch.manual_seed(0)
    lifter = build_model(ModelConfig(name="mixste", width=32, depth=2, heads=4), JOINTS, WINDOW, "masked").eval()
    assert isinstance(lifter, MixSTE)
    changed = torch.where(mask.unsqueeze(-1), inputs["x2d"], torch.tensor(5.0))
    with torch.inference_mode():
        before, after = (lifter(x, mask) for x in (inputs["x2d"], changed))
    assert before.shape == (2, WINDOW, JOINTS, 3)
    assert torch.equal(before[mask], after[mask])


@pytest.mark.parametrize("slots", [1, 3])
def test_attention_equals_its_formula(slots):
    torch.manual_seed(1)
    attention = Attention(width=12, heads=2).double()
    x = torch.randn(2, 5, slots, 12, dtype=torch.float64)
    mask = torch.rand(2, 5, slots) > 0.4
    mask[0, :, 0] = False
    q, k, v = attention.qkv(x).unflatten(-1, (3, 2, 6)).unbind(-3)  # each (R, L, S, heads, d)
    scores = torch.einsum("rlshd,rmshd->rshlm", q, k) / 6**0.5
    alone = torch.eye(5, dtype=torch.bool) & ~mask.any(1)[:, :, None, None, None]
    scores = scores.masked_fill(~(mask.transpose(1, 2)[:, :, None, None, :] | alone), -torch.inf)
    attended = torch.einsum("rshlm,rmshd->rlshd", scores.softmax(-1), v).flatten(-2)
    assert torch.allclose(attention(x, Keys.of(mask, heads=2)), attention.project(attended), atol=1e-12)


def test_drop_path_drops_whole_sequences_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    dropped = drop(torch.ones(400, 5, 7, 2))
    per_sequence = dropped.flatten(2).unflatten(2, (7, 2)).transpose(1, 2).flatten(2)
    assert ((per_sequence == 0).all(-1) | (per_sequence == 1 / 0.75).all(-1)).all()
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(dropped), dropped)


def test_drop_path_grows_linearly_over_depth():
    trunk = SpatialTemporal(JOINTS, WINDOW, width=16, depth=5, heads=2, mlp_ratio=2, drop_path=0.1)
    for blocks in (trunk.spatial_blocks, trunk.temporal_blocks):
        assert [block.drop_path.probability for block in blocks] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])


def test_blocks_over_joints_and_over_time_are_the_same_computation():
    """The two layouts, (B*N, J, 1, D) and (B, N, J, D), are two views of one block."""
    torch.manual_seed(2)
    block = Block(width=16, heads=4, mlp_ratio=2, drop_path=0)
    tokens = torch.randn(2, 6, 3, 16)
    over_time = block(tokens)
    one_by_one = torch.stack([block(tokens[:, :, j : j + 1])[:, :, 0] for j in range(3)], dim=2)
    assert torch.allclose(over_time, one_by_one, atol=1e-6)


@pytest.mark.skipif(not has_onednn_kernels(), reason="needs a processor with AVX-512")
@pytest.mark.parametrize("gelu", [False, True])
def test_products_by_onednn_have_the_values_and_gradients_of_plain_ones(gelu, monkeypatch):
    torch.manual_seed(0)
    layer, x = Linear(96, 40), torch.randn(2, 5, 3, 96, requires_grad=True)
    found = [layer.after_gelu(x) if gelu else layer(x)]
    found += torch.autograd.grad(found[0].square().sum(), [x, layer.weight, layer.bias])
    monkeypatch.setattr("finepose_mp.models.products.onednn_dtype", lambda _x: None)
    expected = [layer.after_gelu(x) if gelu else layer(x)]
    expected += torch.autograd.grad(expected[0].square().sum(), [x, layer.weight, layer.bias])
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.skipif(not has_onednn_kernels(), reason="needs a processor with AVX-512")
def test_what_follows_a_gelu_keeps_the_tokens_once():
    """Autograd holds on to the hidden layer before its activation, not after it as well."""
    network, x = MLP(32, 64), torch.randn(100, 32, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        network(x)
    assert sum(t.shape == (100, 64) for t in {t.data_ptr(): t for t in kept}.values()) == 1


def test_a_mask_that_leaves_nothing_out_costs_nothing(monkeypatch):
    """On a CPU, where asking is cheap, full masks take the way of no mask, and rows that all exist are not replaced."""
    trunk = SpatialTemporal(JOINTS, WINDOW, width=16, depth=1, heads=2, mlp_ratio=2.0, drop_path=0.0)
    full = torch.ones(2, WINDOW, JOINTS, dtype=torch.bool)
    assert trunk.keys(full) == (None, None)
    full[0, 0, 0] = False
    assert [keys.exist for keys in trunk.keys(full)] == [None, None]
    full[0, 0] = False
    over_joints, over_time = trunk.keys(full)
    assert over_joints.exist is not None and over_time.exist is None


@pytest.mark.parametrize("axis", [2, 3])
def test_attention_written_out_in_bfloat16_has_the_values_and_gradients_of_the_kernel(axis):
    """To bfloat16's precision; masked keys get no gradient, as there."""
    torch.manual_seed(0)
    shape = (2, 7, 3, 4, 8) if axis == 2 else (2, 7, 4, 3, 8)  # rows, tokens, and parts before or after the heads
    parts = torch.randn(shape).bfloat16().requires_grad_()
    usable = torch.rand(2, 1, 1, 7) > 0.3
    exact = parts.detach().float().requires_grad_()
    expected = attend(*(part.transpose(1, 2) for part in exact.unbind(axis)), usable)
    found = attend(*split(parts, axis), usable)
    assert torch.allclose(found.float(), expected, atol=0.02)
    towards = torch.randn_like(expected)
    [of_exact] = torch.autograd.grad((expected * towards).sum(), exact)
    [of_parts] = torch.autograd.grad((found.float() * towards).sum(), parts)
    assert (of_parts.float() - of_exact).norm() < 0.01 * of_exact.norm()
    of_keys = of_parts.select(axis, 1).transpose(1, 2)  # (rows, heads, tokens, channels)
    assert (of_keys[~usable[:, :, 0].expand(of_keys.shape[:-1])] == 0).all()


def test_attention_in_bfloat16_keeps_its_probabilities_once_and_nothing_in_float32():
    kept = []
    parts = torch.randn(2, 40, 3, 4, 8).bfloat16().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        attend(*split(parts, 2))
    assert {t.dtype for t in kept} == {torch.bfloat16}
    assert sum(t.shape == (2, 4, 40, 40) for t in kept) == 1


@pytest.mark.skipif(not has_onednn_kernels(), reason="needs a processor with AVX-512")
@pytest.mark.parametrize("gelu", [False, True])
def test_products_under_autocast_are_those_of_autocast(gelu, monkeypatch):
    torch.manual_seed(0)
    layer, x = Linear(96, 40), torch.randn(2, 5, 3, 96, requires_grad=True)
    found = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            y = layer.after_gelu(x.bfloat16()) if gelu else layer(x)
        found.append([y, *torch.autograd.grad(y.float().square().sum(), [x, layer.weight, layer.bias])])
        monkeypatch.setattr("finepose_mp.models.products.onednn_dtype", lambda _x: None)
    for one, other in zip(*found, strict=True):
        assert one.dtype is other.dtype
        assert (one - other).float().norm() < 0.01 * other.float().norm()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again():
    keep_freed_memory()

    def pages_fetched() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        assert all(tensor.numel() for tensor in [torch.ones(2**20) for _ in range(40)])
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages_fetched()
    assert pages_fetched() < 4_000, "of the 40 960 that these tensors fill"
