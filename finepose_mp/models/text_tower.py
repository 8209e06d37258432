"""CLIP's text tower, frozen: its tokens, token embeddings and transformer, and where its weights come from.

Only the text side of CLIP is built (open_clip's TextTransformer); nothing visual is read or kept.
"""

import logging
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from finepose_mp.config import PromptConfig
from finepose_mp.prompts import PROMPT_LENGTH

logger = logging.getLogger(__name__)

VOCABULARY = 49408
_ARCHITECTURE = "ViT-B-32"
_HUB_FILE = "open_clip_model.safetensors"


class TextWeightsError(ValueError):
    """Text weights that cannot be had or read; the message says how to get them and what to choose instead."""


class TextTower:
    """A frozen text encoder that passes gradients on to what it encodes.

    Not a torch Module, so that a model which holds it neither trains nor averages nor saves it; copies of the model
    share it. It follows its input to another device.

    Attributes:
        width: channels of an embedding.
        checksum: CRC-32 of all weights, to tell whether a model meets the tower that it was trained with.
    """

    def __init__(self, weights: Mapping[str, Tensor], heads: int, activation: str) -> None:
        from open_clip.transformer import QuickGELU, TextTransformer  # slow to import; only prompted models need it

        self.width = weights["ln_final.weight"].shape[0]
        self.heads, self.activation = heads, activation
        with torch.device("meta"):
            self._network = TextTransformer(
                context_length=PROMPT_LENGTH,
                vocab_size=VOCABULARY,
                width=self.width,
                heads=heads,
                layers=1 + max(int(name.split(".")[2]) for name in weights if "resblocks" in name),
                output_dim=None,
                act_layer=QuickGELU if activation == "quick_gelu" else torch.nn.GELU,
            )
        tensors = {name: tensor.float() for name, tensor in weights.items()}
        self.checksum = _checksum(tensors)
        # Two fifths of the tower, of which a text looks up a few rows.
        tensors["token_embedding.weight"] = _halved(tensors["token_embedding.weight"])
        self._network.load_state_dict(tensors, assign=True)
        self._network.attn_mask = self._network.build_causal_mask()
        self._network.requires_grad_(False).eval()

    def __deepcopy__(self, memo: dict) -> "TextTower":
        return self

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (..., W) of token ids."""
        return self._on(tokens.device).token_embedding(tokens).float()

    def encode(self, embeddings: Tensor) -> Tensor:
        """Encoded tokens (U, 77, W) of embedded ones; each sees itself and those before it."""
        network = self._on(embeddings.device)
        positioned = embeddings + network.positional_embedding
        return network.ln_final(network.transformer(positioned, attn_mask=network.attn_mask))

    def save(self, path: Path) -> None:
        """Writes the weights as safetensors, in half precision where nothing is lost by it."""
        tensors = {name: _halved(tensor) for name, tensor in self._network.state_dict().items()}
        save_file(tensors, path, metadata={"heads": str(self.heads), "activation": self.activation})

    def _on(self, device: torch.device) -> torch.nn.Module:
        if self._network.ln_final.weight.device != device:
            self._network.to(device)
        return self._network


def build_text_tower(config: PromptConfig) -> TextTower:
    """The text tower that a configuration asks for.

    Raises:
        TextWeightsError: its weights cannot be fetched, found or read.
    """
    if config.text_weights == "random":
        return _random_tower(config.text_width, config.text_depth, config.text_heads)
    path = Path(config.text_weights).expanduser()
    if path.is_file():
        return _tower_from_file(path, config.text_activation)
    tags = _tags()
    if config.text_weights in tags:
        activation = "quick_gelu" if tags[config.text_weights].get("quick_gelu") else "gelu"
        path = _fetched(config.text_weights, tags[config.text_weights])
        logger.info("text tower: CLIP %s, weights %s", _ARCHITECTURE, config.text_weights)
        return _tower_from_file(path, activation)
    raise TextWeightsError(
        f"model.prompt.text_weights {config.text_weights!r} is neither a file nor a tag of open_clip's {_ARCHITECTURE} "
        f"({', '.join(tags)}) nor random"
    )


def tokenize(text: str) -> list[int]:
    """CLIP's token ids of a text, without start and end."""
    return _tokenizer().encode(text)


def text_weights_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's weights among those of a CLIP model, named as in open_clip's TextTransformer. May be empty."""
    prefix = "text." if "text.ln_final.weight" in tensors else ""
    wanted = ("token_embedding.", "positional_embedding", "transformer.resblocks.", "ln_final.")
    named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return {name: tensor for name, tensor in named.items() if name.startswith(wanted)}


@cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def _tower_from_file(path: Path, activation: str) -> TextTower:
    tensors, noted = _read(path)
    weights = text_weights_in(tensors)
    width = weights["ln_final.weight"].shape[0] if "ln_final.weight" in weights else 0
    heads = int(noted.get("heads", max(1, width // 64)))  # every published CLIP has heads of 64 channels
    try:
        return TextTower(weights, heads, noted.get("activation", activation))
    except (KeyError, ValueError, RuntimeError) as error:
        raise TextWeightsError(
            f"{path}: holds no CLIP text tower of {PROMPT_LENGTH} positions and {VOCABULARY} tokens ({error})"
        ) from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a weights file."""
    try:
        with safe_open(path, framework="pt") as file:
            # The visual side is larger than the text side: leave it on disk.
            names = [name for name in file.keys() if not name.startswith("visual.")]
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError:
        pass
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises almost anything on files that are none
        raise TextWeightsError(
            f"{path}: neither safetensors nor a PyTorch state dict. OpenAI's own ViT-B-32.pt is a TorchScript program, "
            "which is not run; its weights are those of model.prompt.text_weights=openai"
        ) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {name.removeprefix("module."): t for name, t in content.items() if isinstance(t, Tensor)}, {}


def _tags() -> dict[str, dict]:
    from open_clip import pretrained

    tags = pretrained.list_pretrained_tags_by_model(_ARCHITECTURE)
    return {tag: pretrained.get_pretrained_cfg(_ARCHITECTURE, tag) for tag in tags}


def _fetched(tag: str, source: dict) -> Path:
    """Path of downloaded weights; without a network where they were downloaded before."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip import pretrained

    cached = try_to_load_from_cache(source["hf_hub"].rstrip("/"), _HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    logger.info("fetching text weights %s of %s (about 600 MB, once)", tag, _ARCHITECTURE)
    try:
        return Path(pretrained.download_pretrained(source))
    except Exception as error:  # whatever the network, the hub or the disk raise
        raise TextWeightsError(
            f"text weights {tag!r} of open_clip's {_ARCHITECTURE} could not be fetched ({error}). Where there is a "
            f"network: `hf download {source['hf_hub'].rstrip('/')} {_HUB_FILE}`, then set model.prompt.text_weights to "
            "the file. Or choose model.prompt.text_weights=random, a small untrained tower that tells texts apart "
            "without understanding them, or model.name=d3dp, which reads no text"
        ) from error


def _random_tower(width: int, depth: int, heads: int) -> TextTower:
    """A small tower with untrained weights that depend on its sizes alone, on every machine.

    Scales as open_clip draws them, token embeddings in half precision as OpenAI's are. NumPy's legacy generator is the
    one whose numbers are guaranteed never to change.
    """
    logger.info("text tower: untrained, width %d, depth %d: it tells texts apart, nothing more", width, depth)
    draws = np.random.RandomState(0)

    def normal(std: float, *shape: int) -> Tensor:
        return torch.from_numpy((std * draws.standard_normal(shape)).astype(np.float32))

    ones, zeros = torch.ones, torch.zeros
    into_residual = width**-0.5 * (2 * depth) ** -0.5
    weights = {
        "token_embedding.weight": normal(0.02, VOCABULARY, width).half(),
        "positional_embedding": normal(0.01, PROMPT_LENGTH, width),
        "ln_final.weight": ones(width),
        "ln_final.bias": zeros(width),
    }
    for layer in range(depth):
        block = {
            "attn.in_proj_weight": normal(width**-0.5, 3 * width, width),
            "attn.in_proj_bias": zeros(3 * width),
            "attn.out_proj.weight": normal(into_residual, width, width),
            "attn.out_proj.bias": zeros(width),
            "mlp.c_fc.weight": normal((2 * width) ** -0.5, 4 * width, width),
            "mlp.c_fc.bias": zeros(4 * width),
            "mlp.c_proj.weight": normal(into_residual, width, 4 * width),
            "mlp.c_proj.bias": zeros(width),
            **{f"ln_{i}.weight": ones(width) for i in (1, 2)},
            **{f"ln_{i}.bias": zeros(width) for i in (1, 2)},
        }
        weights |= {f"transformer.resblocks.{layer}.{name}": tensor for name, tensor in block.items()}
    return TextTower(weights, heads, "gelu")


def _halved(tensor: Tensor) -> Tensor:
    """A tensor in half precision if that loses nothing: OpenAI trained and published CLIP so. Else as it is."""
    half = tensor.half()
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].contiguous().numpy(), zlib.crc32(name.encode(), total))
    return total
