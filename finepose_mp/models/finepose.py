"""FinePOSE's denoiser: D3DP's, told by a prompt who moves how.

Source: Xu et al., "FinePOSE: Fine-Grained Prompt-Driven 3D Human Pose Estimation via Diffusion Models", CVPR 2024:
prompts (FPP, section 3.2, in `prompting`), prompt-pose communication (FPC, 3.3), prompt-driven timestamp stylization
(PTS, 3.4), on the backbone of MixSTE. Where the paper and its released code differ, `compatibility` chooses:

                           paper            released                     repaired
    D1 learnable tokens    trained          never: the text tower runs   trained
                                            without gradients
    D2 prompt that a       its own          row r of windows, hypo-      its own
       pose reads                           theses and joints reads
                                            prompt r mod b of b windows
    D3 token for the       the last         where the end token stood    the last, which is
       whole prompt, P[L]                   in the action's own tokens   CLIP's end token
                                            (2 to 4), in 3DHP the last
    D4 text of a slot      4 tokens with    as in the paper              whole, or an error;
                           start and end,                                one start and one end
                           cut, or padded                                for the whole prompt;
                           with "!"                                      no padding
    D4 Human3.6M's labels  as given         "SittingDown"                as given, in words

All three follow the code where the paper's equations are simpler, because the published numbers are the code's: four
trained encoder layers, a norm and a projection after the text tower; the time F(t) added to P[L] at the input too;
stylization inside a residual branch, after a norm, as (1 + scale), with a last layer that starts at zero.
Released weights fit `released` and `paper`; those of `repaired` are its own.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from finepose_mp.models.blocks import RegressionHead, SpatialTemporal, Stem, TimeEmbedding
from finepose_mp.models.denoiser import Conditions, Denoiser
from finepose_mp.models.prompting import PromptEncoder, sent
from finepose_mp.models.short_attention import attend
from finepose_mp.models.text_tower import TextTower
from finepose_mp.prompts import PROMPT_LENGTH


class Prompt(NamedTuple):
    """Encoded texts: U distinct ones, and which of them each window reads.

    Made by `FinePOSE.encode_prompts`; everything that depends on texts alone, so that a run computes it once.

    Attributes:
        keys, values: (U, heads, 77, d) for the attention to the prompt matrix.
        summary: (U, D), the vector that stands for a whole prompt.
        index: (b,), rows of the above; a batch of more windows repeats them: one text serves any number of windows,
            and those of a batch serve it again in its mirrored half.
    """

    keys: Tensor
    values: Tensor
    summary: Tensor
    index: Tensor

    def of_windows(self, windows: int) -> Tensor:
        """(B,) rows of the distinct texts. Raises ValueError when B is no multiple of the number of texts."""
        if windows % len(self.index):
            raise ValueError(f"{len(self.index)} texts for {windows} windows: give one text, or one for each window")
        return self.index.repeat(windows // len(self.index))


class Communication(nn.Module):
    """Prompt-pose communication (FPC): every pose token attends to the tokens of its prompt.

    `mixes_prompts` is the released order: row r of windows, hypotheses and joints reads prompt r mod b.
    """

    def __init__(self, width: int, heads: int, mixes_prompts: bool) -> None:
        super().__init__()
        self._heads = heads
        self.mixes_prompts = mixes_prompts
        self.norm = nn.LayerNorm(width)
        self.text_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def keys_and_values(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (U, heads, L, d) of prompt matrices (U, L, D)."""
        text = self.text_norm(matrix.to(self.text_norm.weight.dtype))  # texts are encoded in full precision
        return self._by_head(self.key(text)), self._by_head(self.value(text))

    def forward(self, tokens: Tensor, prompt: Prompt) -> Tensor:
        """What the prompts tell the tokens, (B, H, N, J, D) like them."""
        query = self.query(self.norm(tokens))
        if self.mixes_prompts and len(prompt.keys) > 1:
            return self._mixed(query, prompt)
        index = prompt.of_windows(tokens.shape[0])
        told = self._attend(query.flatten(1, 3), *(_rows(x, index) for x in (prompt.keys, prompt.values)))
        return told.view(tokens.shape)

    def _mixed(self, query: Tensor, prompt: Prompt) -> Tensor:
        rows = query.transpose(2, 3).flatten(0, 2)  # (B*H*J, N, D)
        index = prompt.of_windows(rows.shape[0])
        told = self._attend(rows, prompt.keys[index], prompt.values[index])
        windows, hypotheses, frames, joints, _ = query.shape
        return told.view(windows, hypotheses, joints, frames, -1).transpose(2, 3)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        by_head = self._by_head(query)
        # A prompt encoded outside autocast meets queries of another precision.
        attended = attend(by_head, keys.to(by_head.dtype), values.to(by_head.dtype))
        return attended.transpose(1, 2).flatten(2)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self._heads, -1)).transpose(1, 2)


class Stylization(nn.Module):
    """Prompt-driven timestamp stylization (PTS): scale and shift by the time and the whole prompt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.style = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        # Starts as if there were no prompt: the network is D3DP's until training finds what texts are good for.
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, told: Tensor, v: Tensor) -> Tensor:
        """Stylized (B, H, N, J, D), from what the prompts told and v = P[L] + F(t), (B, D)."""
        scale, shift = self.style(F.silu(v.to(told.dtype)))[:, None, None, None, :].chunk(2, dim=-1)
        return self.project(F.silu(self.norm(told) * (1 + scale) + shift))


class FinePOSE(Denoiser):
    """Predicts Y_0 from (x, Y_t, t) and a prompt, for one or several noisy poses Y_t per window.

    `mask_missing=False` ignores the input mask and lets every token be attended to, as the paper does.
    """

    reads_prompts = True
    matrix_modules: ClassVar[tuple[str, ...]] = ("trunk", "communication", "stylization")

    def __init__(
        self,
        joints: int,
        window: int,
        width: int = 512,
        depth: int = 8,
        heads: int = 8,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.1,
        mask_missing: bool = True,
        *,
        tower: TextTower,
        compatibility: str = "repaired",
        action_slot: bool = True,
    ) -> None:
        super().__init__()
        self.mask_missing = mask_missing
        self.embed = Stem(2 + 3, width)
        self.embed_time = TimeEmbedding(width)
        self.trunk = SpatialTemporal(joints, window, width, depth, heads, mlp_ratio, drop_path)
        self.prompts = PromptEncoder(tower, width, heads, compatibility, action_slot)
        self.communication = Communication(width, heads, mixes_prompts=compatibility == "released")
        self.stylization = Stylization(width)
        self.head = RegressionHead(width)

    def encode_prompts(self, texts: Sequence[str | None]) -> Prompt:
        """The prompts of windows, each distinct text encoded once.

        Args:
            texts: of the action slot, one for each window or one for all; "" leaves the slot to its learnable tokens,
                None is no prompt at all: a matrix of zeros, for which nothing is encoded.

        Raises:
            PromptError: a text is longer than its slot.
        """
        distinct = list(dict.fromkeys(texts))
        index = sent([distinct.index(text) for text in texts], self.head[1].weight.device)
        matrix, summary = self._encode(distinct)
        return Prompt(*self.communication.keys_and_values(matrix), summary, index)

    def forward(
        self,
        input_2d: Tensor,
        noisy_3d: Tensor,
        t: Tensor,
        input_mask: Tensor | None = None,
        prompt: Prompt | Sequence[str | None] | None = None,
    ) -> Tensor:
        """Clean root-relative poses in metres, shaped like `noisy_3d`.

        Args:
            input_2d: (B, N, J, 2) normalised keypoints, 0 where missing.
            noisy_3d: (B, N, J, 3) or, with hypotheses, (B, H, N, J, 3): noised root-relative poses in metres.
            t: (B,) diffusion times.
            input_mask: (B, N, J), True where the keypoint may be attended to; None: everywhere.
            prompt: encoded texts, or texts to encode now (which training wants); None: no prompt for any window.
        """
        return self.denoise(self.condition(input_2d, input_mask, prompt), noisy_3d, t)

    def condition(
        self,
        input_2d: Tensor,
        input_mask: Tensor | None = None,
        prompt: Prompt | Sequence[str | None] | None = None,
    ) -> Conditions:
        """What is the same for all noisy poses of B windows; arguments as those of `forward`."""
        if not isinstance(prompt, Prompt):
            prompt = self.encode_prompts([None] if prompt is None else prompt)
        return super().condition(input_2d, input_mask)._replace(prompt=prompt)

    def _modulation(self, conditions: Conditions, t: Tensor) -> Tensor:
        """v = P[L] + F(t), (B, D)."""
        prompt = conditions.prompt
        return self.embed_time(t) + _rows(prompt.summary, prompt.of_windows(t.shape[0]))

    def _run_trunk(self, tokens: Tensor, mask: Tensor | None, v: Tensor, conditions: Conditions) -> Tensor:
        """Tokens (B*H, N, J, D) after all blocks, from those of (B, H, N, J, D); the prompt speaks after the first."""
        windows = tokens.shape

        def speak(tokens: Tensor) -> Tensor:
            told = self.communication(tokens.view(windows), conditions.prompt)
            return tokens + self.stylization(told, v).flatten(0, 1)

        return self.trunk(tokens.flatten(0, 1).to(self.trunk.dtype), mask, between=speak)

    def _encode(self, distinct: list[str | None]) -> tuple[Tensor, Tensor]:
        """Prompt matrices (U, 77, D) and summaries (U, D) of distinct texts, zeros for None."""
        texts = [text for text in distinct if text is not None]
        if not texts and not self.training:
            zeros = self.head[1].weight.new_zeros(1, PROMPT_LENGTH, self.head[1].in_features)
            return zeros, zeros[:, 0]
        # Data-parallel training wants every parameter in every step's graph, with texts in the batch or without.
        matrix, summary = self.prompts(texts or [""])
        if None in distinct:
            rows = sent([texts.index(text) if text is not None else 0 for text in distinct], matrix.device)
            exists = sent([text is not None for text in distinct], matrix.device)
            matrix, summary = matrix[rows] * exists[:, None, None], summary[rows] * exists[:, None]
        return matrix, summary


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x (U, ...) by index (B,), without a copy where there is only one.

    Sizes that vary are read off shapes: `len` is a plain number, which would tie an exported program to one batch.
    """
    return x.expand(index.shape[0], *x.shape[1:]) if len(x) == 1 else x[index]
