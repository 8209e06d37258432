"""The text tower: CLIP's transformer, its weights from wherever a configuration says."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from finepose_mp.config import PromptConfig
from finepose_mp.models import text_tower
from finepose_mp.models.text_tower import TextTower, TextWeightsError, build_text_tower, tokenize
from finepose_mp.prompts import END, START

RANDOM = PromptConfig(text_weights="random", text_width=32, text_depth=2, text_heads=2)


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return build_text_tower(RANDOM)


def sentence(text: str) -> torch.Tensor:
    tokens = [START, *tokenize(text), END]
    return torch.tensor([tokens + [0] * (77 - len(tokens))])


def from_file(path, **settings) -> TextTower:
    return build_text_tower(PromptConfig(text_weights=str(path), **settings))


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_encodes_as_open_clips_own_text_transformer(tower, activation):
    open_clip = pytest.importorskip("open_clip")
    own = TextTower(tower._network.state_dict(), 2, activation)
    theirs = open_clip.transformer.TextTransformer(
        width=32,
        heads=2,
        layers=2,
        output_dim=None,
        output_tokens=True,
        act_layer=open_clip.transformer.QuickGELU if activation == "quick_gelu" else torch.nn.GELU,
    )
    theirs.load_state_dict(tower._network.state_dict())
    tokens = sentence("a person walking the dog")
    with torch.inference_mode():
        assert torch.allclose(own.encode(own.embed(tokens)), theirs(tokens)[1], atol=1e-6)


def test_tokens_see_only_those_before_them(tower):
    embeddings = tower.embed(sentence("walking"))
    changed = embeddings.clone()
    changed[:, 40] += torch.randn(32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = tower.encode(embeddings), tower.encode(changed)
    assert torch.allclose(before[:, :40], after[:, :40], atol=1e-6)
    assert not torch.allclose(before[:, 40:], after[:, 40:], atol=1e-3)


def test_a_random_tower_is_the_same_everywhere_and_says_what_it_is(caplog):
    with caplog.at_level(logging.INFO):
        again = build_text_tower(RANDOM)
    assert again.checksum == CHECKSUM
    assert "untrained" in caplog.text
    assert build_text_tower(RANDOM.model_copy(update={"text_depth": 1})).checksum != CHECKSUM


CHECKSUM = 405386696


def test_a_saved_tower_comes_back_with_its_heads_and_activation(tower, tmp_path):
    tower.save(tmp_path / "tower.safetensors")
    back = from_file(tmp_path / "tower.safetensors", text_activation="quick_gelu")
    assert (back.checksum, back.heads, back.activation) == (tower.checksum, 2, "gelu")


def test_half_precision_weights_are_kept_in_half_precision(tower, tmp_path):
    weights = {name: tensor.half() for name, tensor in tower._network.state_dict().items()}
    half, full = (TextTower({n: t.float() * scale for n, t in weights.items()}, 2, "gelu") for scale in (1, 1.001))
    half.save(tmp_path / "half.safetensors")
    full.save(tmp_path / "full.safetensors")
    assert from_file(tmp_path / "half.safetensors").checksum == half.checksum
    assert from_file(tmp_path / "full.safetensors").checksum == full.checksum
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize(("scale", "bytes_each"), [(1, 2), (1.001, 4)])
def test_embeddings_take_half_the_memory_only_where_nothing_is_lost(tower, scale, bytes_each):
    weights = {name: tensor.float() * scale for name, tensor in tower._network.state_dict().items()}
    found = TextTower(weights, 2, "gelu")
    assert found._network.token_embedding.weight.itemsize == bytes_each
    tokens = sentence("a person walking the dog")
    assert torch.equal(found.embed(tokens), weights["token_embedding.weight"][tokens])


@pytest.mark.parametrize("prefix", ["", "text."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_takes_the_text_side_of_a_whole_clip(tower, tmp_path, prefix, suffix):
    whole = {f"{prefix}{name}": tensor for name, tensor in tower._network.state_dict().items()}
    whole |= {"visual.conv1.weight": torch.zeros(4, 3, 2, 2), "logit_scale": torch.ones(())}
    whole |= {f"{prefix}text_projection": torch.zeros(32, 32)}
    path = tmp_path / f"clip{suffix}"
    save_file(whole, path) if suffix == ".safetensors" else torch.save({"state_dict": whole}, path)
    assert from_file(path).checksum == tower.checksum
    assert from_file(path).activation == "quick_gelu"  # as OpenAI's; the file does not say


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda path: path.write_text("weights"), "neither safetensors nor a PyTorch state dict"),
        (lambda path: torch.save({"a": torch.zeros(2)}, path), "holds no CLIP text tower"),
        (lambda path: torch.save([1, 2], path), "holds no CLIP text tower"),
        (lambda path: save_file({"visual.proj": torch.zeros(2)}, path), "holds no CLIP text tower"),
        (lambda path: save_file({"ln_final.weight": torch.zeros(64)}, path), "holds no CLIP text tower"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    content(tmp_path / "file.bin")
    with pytest.raises(TextWeightsError, match=message):
        from_file(tmp_path / "file.bin")


def test_an_unknown_name_lists_the_known_tags():
    with pytest.raises(TextWeightsError, match=r"neither a file nor a tag of .*openai.*nor random"):
        from_file("opneai")


def test_without_a_network_the_message_says_how_to_fetch_and_what_to_choose_instead(monkeypatch):
    pretrained = pytest.importorskip("open_clip.pretrained")

    def unreachable(*_args, **_options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(pretrained, "download_pretrained", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(TextWeightsError) as error:
        from_file("openai")
    for advice in ("no route to host", "hf download", "model.prompt.text_weights=random", "model.name=d3dp"):
        assert advice in str(error.value)


def test_weights_downloaded_before_need_no_network(tower, tmp_path, monkeypatch):
    tower.save(tmp_path / "cached.safetensors")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "cached.safetensors"))
    assert from_file("openai").checksum == tower.checksum


def test_a_tag_brings_its_own_activation(tower, tmp_path, monkeypatch):
    weights = tower._network.state_dict()
    save_file(weights, tmp_path / "cached.safetensors")
    monkeypatch.setattr(text_tower, "_fetched", lambda *_: tmp_path / "cached.safetensors")
    assert from_file("openai").activation == "quick_gelu"
    assert from_file("laion2b_s34b_b79k").activation == "gelu"
