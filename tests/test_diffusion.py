"""The diffusion process: schedule, noising, sampling; against the published sampler and an independent one."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from reference_network import fill

from finepose_mp.diffusion import CosineSchedule, ddim_sample, draw_noise, sampling_times, window_generators
from finepose_mp.inference.mirroring import mirror_averaged, with_mirrored
from finepose_mp.models import D3DP
from finepose_mp.skeletons import H36M17

SCHEDULE = CosineSchedule()
CLIP = 1.1


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden/reference/parity_d3dp.npz")


def stored_noise(golden):
    return lambda draw: torch.from_numpy(golden[f"ddim_noise_{draw}"])


def test_schedule_equals_the_published_one(golden):
    assert np.abs(SCHEDULE.betas.numpy() - golden["sched_betas"]).max() < 1e-12
    assert np.abs(SCHEDULE.alphas_cumprod.numpy() - golden["sched_alphas_cumprod"]).max() < 1e-12


@pytest.mark.parametrize("steps", [1, 3, 5, 10])
def test_sampling_times_and_coefficients_equal_the_published_ones(golden, steps):
    times = sampling_times(1000, steps)
    assert times == golden[f"ddim_times_K{steps}"].tolist()
    for i, (t, t_next) in enumerate(pairwise(times[:-1])):
        _, of_noise, of_fresh = SCHEDULE.ddim_coefficients(t, t_next)
        assert of_fresh == pytest.approx(golden[f"ddim_sigma_K{steps}"][i], abs=1e-12)
        assert of_noise == pytest.approx(golden[f"ddim_c_K{steps}"][i], abs=1e-12)


def test_noising_equals_the_published_one(golden):
    clean, noise = (torch.from_numpy(golden[k]).double() for k in ("q_x0", "q_noise"))
    noisy = SCHEDULE.add_noise(clean, torch.from_numpy(golden["q_t"]), noise)
    assert np.abs(noisy.numpy() - golden["q_out_float64"]).max() < 1e-12
    bounded = noisy.clamp(-CLIP, CLIP).float().numpy()
    assert np.abs(bounded - golden["q_network_input_float32"]).max() < 1e-6


@pytest.mark.parametrize(("tag", "width", "depth"), [("cs512", 512, 2), ("cs128", 128, 3)])
@pytest.mark.parametrize("flip", [True, False], ids=["flip", "noflip"])
def test_sampling_equals_the_published_one(golden, tag, width, depth, flip):
    network = fill(D3DP(17, 9, width=width, depth=depth))
    input_2d = torch.from_numpy(golden["ddim_x2d"])

    with torch.inference_mode():
        conditions = network.condition(with_mirrored(input_2d, None, H36M17)[0] if flip else input_2d)
        denoise = lambda noisy, t: network.denoise(conditions, noisy, torch.full((len(noisy),), t))  # noqa: E731
        if flip:
            denoise = mirror_averaged(denoise, H36M17)
        found = ddim_sample(denoise, stored_noise(golden), SCHEDULE, 3, CLIP)
    published = golden[f"{tag}_ddim_b2_H2_K3_{'flip' if flip else 'noflip'}"]  # (B, S, H, N, J, 3)
    assert np.abs(found.transpose(0, 1).numpy() - published).max() < 2e-5


def toy_denoiser(noisy: torch.Tensor, t: int) -> torch.Tensor:
    return torch.tanh(0.7 * noisy + 0.1 * np.cos(t))


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20])
@pytest.mark.parametrize("flip", [True, False], ids=["flip", "noflip"])
def test_sampling_equals_that_of_diffusers(steps, flip):
    """Their schedule, times and step around the network and the mirroring that we sample: five settings make it D3DP's.

    Their betas are multiplied up in float64: in float32 the root of a rounded difference is NaN at 2 and 5 steps.
    """
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), dim=0)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == sampling_times(1000, steps)[:-1]
    network = fill(D3DP(17, 9, width=32, depth=1, heads=4)).double()
    generator = torch.Generator().manual_seed(3)
    input_2d = 0.3 * torch.randn(2, 9, 17, 2, generator=generator, dtype=torch.float64)
    noises = torch.randn(steps + 1, 2, 3, 9, 17, 3, generator=generator, dtype=torch.float64)

    def predict(keypoints, noisy, t):
        return network(keypoints, noisy, torch.full((len(keypoints),), t))

    def denoise(noisy, t):
        if not flip:
            return predict(input_2d, noisy, t)
        swapped = [H36M17.mirror.index(joint) for joint in range(17)]
        turn = lambda points: (points * torch.tensor([-1, 1, 1])[: points.shape[-1]])[..., swapped, :]  # noqa: E731
        return (predict(input_2d, noisy, t) + turn(predict(turn(input_2d), turn(noisy), t))) / 2

    with torch.inference_mode():
        theirs = noises[0]
        for draw, t in enumerate(scheduler.timesteps.tolist(), start=1):
            clean = denoise(theirs.clamp(-CLIP, CLIP), t).clamp(-CLIP, CLIP)
            theirs = scheduler.step(clean, t, theirs, eta=1.0, variance_noise=noises[draw]).prev_sample
        conditions = network.condition(with_mirrored(input_2d, None, H36M17)[0] if flip else input_2d)
        ours = lambda noisy, t: network.denoise(conditions, noisy, torch.full((len(noisy),), t))  # noqa: E731
        sampler = mirror_averaged(ours, H36M17) if flip else ours
        found = ddim_sample(sampler, noises.__getitem__, SCHEDULE, steps, CLIP)
    assert torch.allclose(found[-1], theirs, atol=2e-5)


def test_the_schedule_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert torch.allclose(theirs.double(), SCHEDULE.alphas_cumprod, rtol=2e-5, atol=0)


def test_the_first_steps_do_not_depend_on_how_they_continue():
    """Prediction s is what a caller would see after s steps: the first is the network's at pure noise."""
    noises = draw_noise(window_generators([1, 2, 3, 4]), (2, 1, 4, 17, 3))
    found = ddim_sample(toy_denoiser, lambda draw: noises[draw], SCHEDULE, 3, CLIP)
    assert found.shape == (3, 2, 1, 4, 17, 3)
    assert torch.equal(found[0], toy_denoiser(noises[0].clamp(-CLIP, CLIP), 999))


def test_predictions_stay_within_the_bound():
    noises = draw_noise(window_generators([1, 2]), (1, 1, 4, 17, 3))
    found = ddim_sample(lambda noisy, t: 3 * noisy, lambda draw: noises[draw % 2], SCHEDULE, 5, clip=0.8)
    assert found.abs().max() <= 0.8


def test_noise_in_inverts_noising():
    clean, noise = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    for t in (0, 10, 500, 990):
        noisy = SCHEDULE.add_noise(clean, torch.tensor([t, t]), noise)
        assert torch.allclose(SCHEDULE.noise_in(noisy, t, clean), noise, atol=1e-9)


def test_a_windows_noise_depends_on_its_seed_alone():
    together = draw_noise(window_generators(torch.tensor([5, 6, 7])), (4, 3))
    alone = draw_noise(window_generators([6]), (4, 3))
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


def test_seeds_that_differ_in_high_bits_only_give_different_noise():
    low, high = draw_noise(window_generators([5, 5 + (1 << 40)]), (4, 3))
    assert not torch.equal(low, high)


def test_negative_seeds_are_seeds_too():
    assert torch.isfinite(draw_noise(window_generators(torch.tensor([-3])), (4, 3))).all()


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match="allows 1 to 1000 sampling steps"):
        sampling_times(1000, steps)
