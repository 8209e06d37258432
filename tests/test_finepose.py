"""FinePOSE's denoiser beside a small text tower: prompts reach whom they should, once, and nobody else."""

from copy import deepcopy

import pytest
import torch
from reference_network import weight
from torch.optim.swa_utils import AveragedModel

from finepose_mp.config import PromptConfig
from finepose_mp.models import D3DP
from finepose_mp.models.finepose import FinePOSE
from finepose_mp.models.text_tower import TextTower, build_text_tower, tokenize
from finepose_mp.prompts import PromptError

JOINTS, WINDOW = 17, 6
SMALL = PromptConfig(text_weights="random", text_width=32, text_depth=2, text_heads=2)
TEXTS = ["playing tag", "fencing", "sitting down"]
T = torch.tensor([123, 777, 5])


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return build_text_tower(SMALL)


def finepose(tower: TextTower, compatibility: str = "repaired", **sizes) -> FinePOSE:
    torch.manual_seed(0)
    network = FinePOSE(
        JOINTS, WINDOW, **{"width": 48, "depth": 2, "heads": 4, **sizes}, tower=tower, compatibility=compatibility
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("prompts.slots"):  # fresh zeros would hide what flows where
                parameter.copy_(weight(name, tuple(parameter.shape)))
    return network.eval()


@pytest.fixture(scope="module")
def network(tower) -> FinePOSE:
    return finepose(tower)


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (3, WINDOW, JOINTS, 2), (3, WINDOW, JOINTS, 3), (3, 4, WINDOW, JOINTS, 3)
    return tuple(0.4 * torch.randn(shape, generator=generator) for shape in shapes)


@pytest.fixture
def encoded(tower, monkeypatch) -> list[int]:
    """How many texts each use of the text tower encoded."""
    counts, encode = [], tower.encode

    def counted(embeddings):
        counts.append(len(embeddings))
        return encode(embeddings)

    monkeypatch.setattr(tower, "encode", counted)
    return counts


@pytest.mark.parametrize(("width", "depth", "heads"), [(32, 1, 2), (48, 3, 4), (16, 2, 8)])
def test_any_width_and_depth(tower, inputs, width, depth, heads):
    x2d, x3d, x3dh = inputs
    network = finepose(tower, width=width, depth=depth, heads=heads)
    assert network(x2d, x3d, T, None, TEXTS).shape == x3d.shape
    assert network(x2d, x3dh, T, None, TEXTS).shape == x3dh.shape


@pytest.mark.parametrize("compatibility", ["repaired", "paper"])
def test_each_window_reads_its_own_prompt(tower, inputs, compatibility):
    x2d, x3d, x3dh = inputs
    network = finepose(tower, compatibility)
    with torch.inference_mode():
        for noisy in (x3d, x3dh):
            before = network(x2d, noisy, T, None, TEXTS)
            others = network(x2d, noisy, T, None, [TEXTS[0], "walking the dog", "eating"])
            alone = torch.cat(
                [network(x2d[i : i + 1], noisy[i : i + 1], T[i : i + 1], None, [TEXTS[i]]) for i in range(3)]
            )
            assert torch.allclose(before[0], others[0], atol=1e-6)
            assert not torch.allclose(before[1], others[1], atol=1e-3)
            assert torch.allclose(before, alone, atol=1e-5)


def test_the_released_network_mixes_the_prompts_of_a_batch(tower, inputs):
    x2d, x3d, _ = inputs
    network = finepose(tower, "released")
    with torch.inference_mode():
        before, after = (network(x2d, x3d, T, None, [TEXTS[0], "fencing", last]) for last in TEXTS[1:])
    changed = (before[0] - after[0]).abs().amax(dim=(0, 2)) > 1e-6  # joint j of window 0 reads prompt j mod 3
    assert changed[2::3].all()


def test_distinct_texts_are_encoded_once(network, inputs, encoded):
    x2d, _, x3dh = inputs
    prompt = network.encode_prompts(["fencing", "fencing", "playing tag"])
    assert encoded == [2]
    assert prompt.keys.shape[0] == prompt.values.shape[0] == prompt.summary.shape[0] == 2
    for _ in range(3):
        network(x2d, x3dh, T, None, prompt)
    assert encoded == [2]


def test_an_encoded_prompt_gives_what_its_texts_give(network, inputs):
    x2d, x3d, _ = inputs
    with torch.inference_mode():
        encoded_before = network(x2d, x3d, T, None, network.encode_prompts(TEXTS))
        encoded_now = network(x2d, x3d, T, None, TEXTS)
    assert torch.equal(encoded_before, encoded_now)


def test_one_text_serves_any_batch_and_a_batchs_texts_its_mirrored_half(network, inputs):
    x2d, x3d, _ = inputs
    with torch.inference_mode():
        one, three = network.encode_prompts(["fencing"]), network.encode_prompts(["fencing"] * 3)
        assert torch.equal(network(x2d, x3d, T, None, one), network(x2d, x3d, T, None, three))
        mixed = network.encode_prompts(TEXTS)
        once = network(x2d, x3d, T, None, mixed)
        twice = network(*(torch.cat([x, x]) for x in (x2d, x3d, T)), None, mixed)
    assert torch.allclose(twice, torch.cat([once, once]), atol=1e-5)


def test_a_number_of_texts_that_does_not_fit_is_refused(network, inputs):
    x2d, x3d, _ = inputs
    with pytest.raises(ValueError, match="2 texts for 3 windows"):
        network(x2d, x3d, T, None, ["fencing", "playing tag"])


def test_hypotheses_do_not_see_each_other(network, inputs):
    x2d, _, x3dh = inputs
    with torch.inference_mode():
        together = network(x2d, x3dh, T, None, TEXTS)
        alone = network(x2d, x3dh[:, 2], T, None, TEXTS)
    assert torch.allclose(together[:, 2], alone, atol=1e-5)


def test_no_prompt_encodes_nothing_and_is_the_same_for_everyone(network, inputs, encoded):
    x2d, x3d, _ = inputs
    with torch.inference_mode():
        without = network(x2d, x3d, T)
        assert encoded == []
        some = network(x2d, x3d, T, None, [None, "fencing", None])
        learned = network(x2d, x3d, T, None, [""])
    assert torch.allclose(without[[0, 2]], some[[0, 2]], atol=1e-6)
    assert not torch.allclose(without[1], some[1], atol=1e-3)
    assert not torch.allclose(without, learned, atol=1e-3)


def test_fresh_stylization_lets_nothing_of_the_text_tokens_through(tower, inputs):
    """A fresh network reads texts through P[L] alone: without it, it is D3DP's."""
    x2d, x3d, x3dh = inputs
    sizes = {"width": 48, "depth": 2, "heads": 4}
    network = FinePOSE(JOINTS, WINDOW, **sizes, tower=tower).eval()
    torch.nn.init.zeros_(network.prompts.summarize.weight)
    torch.nn.init.zeros_(network.prompts.summarize.bias)
    d3dp = D3DP(JOINTS, WINDOW, **sizes).eval()
    d3dp.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if name in d3dp.state_dict()})
    with torch.inference_mode():
        for noisy in (x3d, x3dh):
            assert torch.equal(network(x2d, noisy, T, None, TEXTS), d3dp(x2d, noisy, T))


def test_masked_keypoints_do_not_reach_other_tokens(network, inputs):
    x2d, x3d, _ = inputs
    mask = torch.ones(3, WINDOW, JOINTS, dtype=torch.bool)
    mask[:, :, 3] = False
    mask[:, 4:] = False
    mask[1] = False
    changed = torch.where(mask.unsqueeze(-1), x2d, torch.tensor(5.0))
    with torch.inference_mode():
        before, after = (network(x, x3d, T, mask, TEXTS) for x in (x2d, changed))
    assert torch.equal(before[mask], after[mask])
    assert torch.isfinite(before).all()


def test_a_text_longer_than_its_slot_is_refused(network):
    with pytest.raises(PromptError, match="its slot holds 12"):
        network.encode_prompts(["one two three four five six seven eight nine ten eleven twelve thirteen"])


def train_once(network: FinePOSE, inputs, texts) -> dict[str, torch.Tensor | None]:
    """Gradients of one step, by parameter."""
    x2d, x3d, _ = inputs
    network.train().zero_grad()
    network(x2d, x3d, T, None, texts).square().mean().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("compatibility", ["repaired", "paper"])
def test_slots_learn_through_the_frozen_tower(tower, inputs, compatibility):
    network = finepose(tower, compatibility)
    before = deepcopy(tower._network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    gradients = train_once(network, inputs, TEXTS)
    old = {name: slot.detach().clone() for name, slot in network.prompts.slots.items()}
    optimizer.step()
    for name, slot in network.prompts.slots.items():
        assert gradients[f"prompts.slots.{name}"].abs().max() > 0
        assert not torch.equal(slot, old[name])
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower._network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in tower._network.parameters())


@pytest.mark.parametrize("texts", [[None, None, None], ["", None, "fencing"]])
def test_every_parameter_is_in_every_training_steps_graph(tower, inputs, texts):
    """Data-parallel training waits for all gradients, whatever texts a process happened to draw."""
    for gradient in train_once(finepose(tower), inputs, texts).values():
        assert torch.isfinite(gradient).all()


def test_released_slots_do_not_learn(tower, inputs):
    gradients = train_once(finepose(tower, "released"), inputs, TEXTS)
    assert {name for name, gradient in gradients.items() if gradient is None} == {
        f"prompts.slots.{name}" for name in ("subject", "action", "speed", "head", "body", "arm", "leg")
    }


def test_slots_in_place_of_words_make_a_sentence_of_clip(tower, network):
    """The repaired prompt is encoded as CLIP encodes text: learnable rows that equal words act like these words."""
    network = deepcopy(network)
    rows = torch.tensor(tokenize("he runs and jumps over it"))
    with torch.no_grad():
        for slot in network.prompts.slots.values():
            slot.copy_(tower.embed(rows.repeat(3)[: len(slot)]))
        arrangement = network.prompts._layout.arrange("playing tag")
        tokens, numbers = torch.tensor(arrangement.tokens), torch.tensor(arrangement.rows)
        within_slot = torch.cat([torch.arange(n) for n in network.prompts._layout.learnable.values()])
        sentence = torch.where(numbers >= 0, rows.repeat(3)[within_slot[numbers.clamp(min=0)]], tokens)
        tower._network.output_tokens = True
        pooled, by_clip = tower._network(sentence.unsqueeze(0))
        ours = tower.encode(network.prompts._embed(tokens.unsqueeze(0), numbers.unsqueeze(0)))
    assert torch.allclose(ours, by_clip, atol=1e-5)
    assert torch.allclose(ours[:, arrangement.summary], pooled, atol=1e-5)


def test_the_tower_is_neither_saved_nor_copied_nor_averaged(network, tower):
    assert not any("token_embedding" in name for name in network.state_dict())
    averaged = AveragedModel(network)
    averaged.update_parameters(network)
    assert averaged.module.prompts.tower is network.prompts.tower is tower
    fresh = finepose(tower)
    fresh.load_state_dict(averaged.module.state_dict())


def test_weights_beside_another_tower_are_refused(network):
    other = finepose(build_text_tower(SMALL.model_copy(update={"text_depth": 1})))
    with pytest.raises(RuntimeError, match="trained beside another text tower"):
        other.load_state_dict(network.state_dict())


def test_a_prompt_encoded_in_full_precision_serves_half_precision(network, inputs):
    x2d, x3d, _ = inputs
    with torch.inference_mode():
        prompt = network.encode_prompts(TEXTS)
        full = network(x2d, x3d, T, None, prompt)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(x2d, x3d, T, None, prompt)
            both = network(x2d, x3d, T, None, TEXTS)
    assert (half - full).abs().max() < 0.1 * full.abs().max()
    assert (both - full).abs().max() < 0.1 * full.abs().max()
