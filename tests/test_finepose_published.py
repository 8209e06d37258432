"""FinePOSE against the published network: outputs, what flows inside, gradients, sampling; and printed values."""

import numpy as np
import pytest
import torch
from reference_finepose import ACTIONS, JOINTS, WINDOW, T, published_finepose, published_tower
from reference_network import normal

from finepose_mp.diffusion import CosineSchedule, ddim_sample
from finepose_mp.inference.mirroring import mirror_averaged, with_mirrored
from finepose_mp.models.finepose import FinePOSE
from finepose_mp.released import published_name
from finepose_mp.skeletons import H36M17

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden/reference/parity_finepose.npz")


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    return {
        "x2d": normal("x2d", (2, WINDOW, JOINTS, 2), 0.3),
        "x3d": normal("x3d", (2, WINDOW, JOINTS, 3), 0.5),
        "x3dh": normal("x3dh", (2, 3, WINDOW, JOINTS, 3), 0.5),
    }


@pytest.fixture(scope="module")
def released() -> FinePOSE:
    return published_finepose("released")


@pytest.fixture(scope="module")
def unmixed() -> FinePOSE:
    """The released network, but every pose reads its own prompt."""
    network = published_finepose("released")
    network.communication.mixes_prompts = False
    return network


@pytest.fixture(scope="module")
def paper() -> FinePOSE:
    return published_finepose("paper")


def assert_equals(found: torch.Tensor, published: np.ndarray) -> None:
    assert found.shape == published.shape
    assert np.abs(found.detach().numpy() - published).max() < TOLERANCE


PRINTED = {  # of "repaired", which nobody published: what it gave when it was written
    "released": [-0.050805, -0.555901, -0.085623, -0.071450, -0.527938, -0.064053],
    "paper": [-0.001657, -0.422107, -0.022737, -0.028960, -0.453260, -0.003942],
    "repaired": [-0.092037, -0.239603, 0.124798, -0.094381, -0.273830, 0.175317],
}


@pytest.mark.parametrize("compatibility", PRINTED)
def test_printed_values(compatibility, inputs):
    """Six numbers that each network gives for these weights and inputs."""
    network = published_finepose(compatibility)
    with torch.inference_mode():
        prompt = network.encode_prompts(ACTIONS)
        single = network(inputs["x2d"], inputs["x3d"], T, None, prompt)
        several = network(inputs["x2d"], inputs["x3dh"], T, None, prompt)
    found = torch.stack([single[0, 0, 0, 0], single[0, 8, 16, 2], single[1, 4, 7, 1], several[0, 0, 0, 0, 0],
                         several[1, 2, 8, 16, 2], several[1, 1, 3, 9, 1]])  # fmt: skip
    assert found.tolist() == pytest.approx(PRINTED[compatibility], abs=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 2])
def test_released_equals_the_published_network(golden, inputs, released, batch):
    """With two windows, the prompts of which the released code mixes up."""
    x2d, x3d, x3dh = (inputs[key][:batch] for key in ("x2d", "x3d", "x3dh"))
    with torch.inference_mode():
        prompt = released.encode_prompts(ACTIONS[:batch])
        assert_equals(released(x2d, x3d, T[:batch], None, prompt), golden[f"ref_b{batch}_train"])
        assert_equals(released(x2d, x3dh, T[:batch], None, prompt), golden[f"ref_b{batch}_hyp3"])


def test_released_equals_the_published_network_for_one_action(golden, inputs, released):
    for texts in (["Walking"], ["Walking", "Walking"]):
        with torch.inference_mode():
            found = released(inputs["x2d"], inputs["x3d"], T, None, texts)
        assert_equals(found, golden["ref_b2_sameaction_train"])


@pytest.mark.parametrize(("fixture", "key"), [("unmixed", "unmixed"), ("paper", "paperPL")])
def test_own_prompts_equal_the_published_network_without_its_mixing(golden, inputs, request, fixture, key):
    network = request.getfixturevalue(fixture)
    with torch.inference_mode():
        prompt = network.encode_prompts(ACTIONS)
        assert_equals(network(inputs["x2d"], inputs["x3d"], T, None, prompt), golden[f"{key}_b2_train"])
        assert_equals(network(inputs["x2d"], inputs["x3dh"], T, None, prompt), golden[f"{key}_b2_hyp3"])


def test_what_flows_inside_equals_the_published_network(golden, inputs, released):
    seen = {}

    def note(name):
        return lambda _module, args, output: seen.update({name: (*args, output)})

    modules = {
        "refine": released.prompts.refine,
        "time": released.embed_time,
        "told": released.communication,
        "style": released.stylization,
        "temporal": released.trunk.temporal_blocks[0],
    }
    hooks = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    with torch.inference_mode():
        matrix, summary = released.prompts(["Walking"])
        released(inputs["x2d"][:1], inputs["x3d"][:1], T[:1], None, ["Walking"])
        times = released.embed_time(T)
    for hook in hooks:
        hook.remove()

    def by_joint(tokens: torch.Tensor) -> torch.Tensor:  # (17, 9, 512), as published
        return tokens.reshape(WINDOW, JOINTS, -1).transpose(0, 1)

    assert_equals(seen["refine"][0].transpose(0, 1), golden["b1_mid_clip_out_LND"])
    assert_equals(matrix, golden["b1_mid_xf_out"])
    assert_equals(summary, golden["b1_mid_xf_proj"])
    assert_equals(times, golden["time_mlp_out"])
    assert_equals(seen["style"][1].unsqueeze(0), golden["b1_mid_emb"])
    assert_equals(by_joint(seen["told"][0]), golden["b1_mid_ste_out"])
    assert_equals(by_joint(seen["temporal"][0] - released.trunk.temporal_position), golden["b1_mid_xattn_out"])
    assert_equals(by_joint(seen["temporal"][-1]), golden["b1_mid_tte0_out"])


def gradient_norms(network: FinePOSE, inputs: dict[str, torch.Tensor]) -> tuple[float, dict[str, float]]:
    """The loss of the published gradients, and the gradient's norm of every parameter by its published name."""
    network.zero_grad()
    prediction = network(inputs["x2d"][:1], inputs["x3d"][:1], T[:1], None, ["Walking"])
    loss = (prediction - inputs["x3d"][1:]).norm(dim=-1).mean()
    loss.backward()
    norms = {
        published_name(name): np.nan if parameter.grad is None else parameter.grad.norm().item()
        for name, parameter in network.named_parameters()
    }
    return loss.item(), norms


def test_weights_and_gradients_map_one_to_one(golden, inputs, released):
    loss, norms = gradient_norms(released, inputs)
    assert loss == pytest.approx(float(golden["b1_grad_loss"]), abs=1e-5)
    weights = dict(zip(golden["param_names"], golden["param_l2_after_fill"], strict=True))
    gradients = dict(zip(golden["b1_grad_gradnames"], golden["b1_grad_gradnorm"], strict=True))
    assert sorted(norms) == sorted(name for name in weights if not name.startswith("clip_text."))
    for name, parameter in released.named_parameters():
        theirs = published_name(name)
        assert parameter.detach().double().norm().item() == pytest.approx(weights[theirs], rel=1e-6), name
        assert norms[theirs] == pytest.approx(gradients[theirs], rel=1e-3, abs=1e-6, nan_ok=True), name


@pytest.mark.parametrize("compatibility", ["paper", "repaired"])
def test_slots_learn_where_the_released_ones_do_not(compatibility, inputs):
    network = published_finepose(compatibility)
    _, norms = gradient_norms(network, inputs)
    slots = [norm for name, norm in norms.items() if name.startswith("ctx_")]
    assert len(slots) == 7
    assert all(norm > 1e-4 for norm in slots)
    assert all(np.isfinite(norm) for norm in norms.values())


@pytest.mark.parametrize(
    ("fixture", "key"),
    [
        ("released", "ddim_b2_H2_K3_flip"),
        ("released", "ddim_b2_H2_K3_noflip"),
        ("unmixed", "ddim_unmixed_H2_K3_flip"),
    ],
)
def test_sampling_equals_the_published_one(golden, request, fixture, key):
    network = request.getfixturevalue(fixture)
    input_2d, flip = torch.from_numpy(golden["ddim_x2d"]), key.endswith("_flip")

    with torch.inference_mode():
        seen = with_mirrored(input_2d, None, H36M17)[0] if flip else input_2d
        conditions = network.condition(seen, None, network.encode_prompts(ACTIONS))
        denoise = lambda noisy, t: network.denoise(conditions, noisy, torch.full((len(noisy),), t))  # noqa: E731
        if flip:
            denoise = mirror_averaged(denoise, H36M17)
        noise = lambda draw: torch.from_numpy(golden[f"ddim_noise_{draw}"])  # noqa: E731
        found = ddim_sample(denoise, noise, CosineSchedule(), 3, 1.1)
    assert_equals(found.transpose(0, 1), golden[key])  # published (B, S, H, N, J, 3)
    if f"{key}_first_x0" in golden:
        assert_equals(found[0], golden[f"{key}_first_x0"])
        noise_seen = CosineSchedule().noise_in(noise(0), 999, found[0])
        assert_equals(noise_seen, golden[f"{key}_first_eps"])


def test_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = FinePOSE(17, 243, tower=published_tower(), compatibility="released")
    assert sum(p.numel() for p in network.parameters()) == 49_312_771
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 49_287_683
