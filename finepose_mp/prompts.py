"""The texts that condition a model, and where their tokens stand among the learnable ones. Needs no torch.

A prompt is 77 tokens in slots: one for each part text ("a person", "speed", "head", ...) and one for the action. A slot
holds learnable rows first and its text after them (FinePOSE, section 3.2: fine-grained part-aware prompt learning).

Prompt conditions say what stands in the action slot. One model, trained with text dropout, serves all of them:
    none      no prompt at all: a prompt matrix of zeros, the same for every window; the text tower is not run
    learned   the part texts and the learnable rows, nothing in the action slot
    scene     who is where, without the action's name as a label of the person: "a fencer in a fencing bout"
    action    the action in words: "playing tag", "sitting down", or any text of the user's own
Only `none` and `learned` ask nothing about the test data; `action` is a label that somebody has to give.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from finepose_mp.config import CONDITIONS

PROMPT_LENGTH = 77  # CLIP's context
START, END, PAD = 49406, 49407, 0  # ids in CLIP's vocabulary; PAD is also the ordinary token "!"
LEARNED = -1


class PromptError(ValueError):
    """A text or prompt condition that cannot be used; the message says the limit or what is known."""


class Slot(NamedTuple):
    """A part of the prompt: its name, its fixed words (None where the action goes) and its number of tokens."""

    name: str
    words: str | None
    length: int


class Arrangement(NamedTuple):
    """What stands at each position of a prompt.

    Attributes:
        tokens: (77,) token ids, LEARNED where a learnable row stands.
        rows: (77,) numbers of learnable rows, counted through all slots in order; LEARNED where a token stands.
        summary: position of the token that stands for the whole prompt.
    """

    tokens: list[int]
    rows: list[int]
    summary: int


SLOTS = (  # for Human3.6M
    Slot("subject", "a person", 7),
    Slot("action", None, 12),
    Slot("speed", "speed", 10),
    Slot("head", "head", 10),
    Slot("body", "body", 10),
    Slot("arm", "arm", 14),
    Slot("leg", "leg", 14),
)
SLOTS_WITHOUT_ACTION = (  # for MPI-INF-3DHP
    Slot("subject", "a person", 9),
    Slot("speed", "speed", 12),
    Slot("head", "head", 12),
    Slot("body", "body", 12),
    Slot("arm", "arm", 16),
    Slot("leg", "leg", 16),
)


class Activity(NamedTuple):
    """Words for one kind of EgoHumans take."""

    action: str
    role: str
    scene: str


EGOHUMANS = {  # by scene title, as in the converted file
    "Tagging": Activity("playing tag", "a player", "a game of tag"),
    "Lego": Activity("assembling lego bricks", "a builder", "a group at a lego table"),
    "Fencing": Activity("fencing", "a fencer", "a fencing bout"),
    "Basketball": Activity("playing basketball", "a player", "a basketball game"),
    "Volleyball": Activity("playing volleyball", "a player", "a volleyball match"),
    "Badminton": Activity("playing badminton", "a player", "a badminton match"),
    "Tennis": Activity("playing tennis", "a player", "a tennis match"),
}
HUMAN36M = {  # by the data set's label
    "Directions": "giving directions",
    "Discussion": "discussing",
    "Eating": "eating",
    "Greeting": "greeting",
    "Phoning": "talking on the phone",
    "Photo": "taking a photo",
    "Posing": "posing",
    "Purchases": "making purchases",
    "Sitting": "sitting",
    "SittingDown": "sitting down",
    "Smoking": "smoking",
    "Waiting": "waiting",
    "WalkDog": "walking the dog",
    "Walking": "walking",
    "WalkTogether": "walking together",
}
_HUMAN36M_LABELS = {words: label for label, words in HUMAN36M.items()}


def condition_text(condition: str, action: str, scene: str) -> str | None:
    """The text of the action slot under a prompt condition; None where there is no prompt at all.

    Args:
        condition: one of CONDITIONS.
        action: in words, or a label of Human3.6M.
        scene: a title of EGOHUMANS; any other is used as it is, in lower case.

    Raises:
        PromptError: unknown condition.
    """
    if condition not in CONDITIONS:
        raise PromptError(f"unknown prompt condition {condition!r}; known: {', '.join(CONDITIONS)}")
    if condition == "none":
        return None
    if condition == "learned":
        return ""
    if condition == "action":
        return HUMAN36M.get(action, action)
    known = EGOHUMANS.get(scene)
    return f"{known.role} in {known.scene}" if known else scene.lower()


def training_texts(
    condition: str, actions: Sequence[str], scenes: Sequence[str], dropout: float, seeds: Sequence[int]
) -> list[str | None]:
    """The texts of a training batch: those of `condition`, some replaced by those of the other conditions.

    A window is under another condition with probability `dropout`, each of the others alike, so that one model can be
    used under all of them. Its fate follows from its own seed, not from the batch that it is in.

    Args:
        condition: that the model is mainly trained for. Under `learned` and `none` only these two are drawn.
        actions, scenes: of each window.
        dropout: share of windows under another condition.
        seeds: of each window (64 bits).
    """
    others = _dropped_to(condition)
    texts = []
    for action, scene, seed in zip(actions, scenes, seeds, strict=True):
        # A stream of its own: the window's noise is drawn from the seed itself.
        generator = np.random.default_rng((int(seed) % 2**64, *b"text"))
        drawn = others[generator.integers(len(others))] if generator.random() < dropout else condition
        texts.append(condition_text(drawn, action, scene))
    return texts


def possible_texts(condition: str, actions: Sequence[str], scenes: Sequence[str], dropout: float) -> list[str | None]:
    """Every distinct text that `training_texts` may draw; arguments as there."""
    conditions = [condition, *(_dropped_to(condition) if dropout > 0 else [])]
    pairs = dict.fromkeys(zip(actions, scenes, strict=True))
    return list(dict.fromkeys(condition_text(c, action, scene) for c in conditions for action, scene in pairs))


def _dropped_to(condition: str) -> list[str]:
    """The conditions that text dropout draws from."""
    allowed = ("learned", "none") if condition in ("learned", "none") else CONDITIONS
    return [other for other in allowed if other != condition]


def published_label(text: str) -> str:
    """The label that the released code feeds for one of Human3.6M's actions; any other text as it is."""
    return _HUMAN36M_LABELS.get(text, text)


class PromptLayout:
    """Which token or learnable row stands at each of the 77 positions of a prompt.

    The repaired layout is one sentence, from one start token to one end token and without padding: a slot's text
    stands whole at the slot's end, and learnable rows fill the rest. The action's text takes the place of the last rows
    of its slot, so an empty one leaves all of them. The end token stands for the prompt, as in CLIP.

    In the paper's and the released layout every slot ends in the first four tokens of "<start> text <end>": longer
    texts lose their end, shorter ones are padded with token 0. The paper lets the last token stand for the prompt. The
    released code takes the position that the end token had in the action's own token row, and reads Human3.6M's labels.

    Attributes:
        learnable: number of learnable rows of each slot, by its name, in order.
    """

    def __init__(self, compatibility: str, action_slot: bool, tokenize: Callable[[str], list[int]]) -> None:
        self._slots = SLOTS if action_slot else SLOTS_WITHOUT_ACTION
        self._whole_texts = compatibility == "repaired"
        self._released = compatibility == "released"
        self._has_action = action_slot
        self._tokenize = tokenize
        self._words = {slot.name: self._fixed_words(slot) for slot in self._slots if slot.words}
        published_action = 0 if self._whole_texts else _PUBLISHED_TEXT
        self.learnable = {
            slot.name: slot.length - (self._words[slot.name].count if slot.words else published_action)
            for slot in self._slots
        }

    def arrange(self, text: str) -> Arrangement:
        """The prompt with `text` in the action slot.

        Raises:
            PromptError: the text is longer than its slot, or there is no slot for it.
        """
        action = self._action_words(text)
        tokens, rows, first = [], [], 0
        for slot in self._slots:
            before, after = self._words.get(slot.name, action)
            kept = slot.length - len(before) - len(after)
            tokens += [*before, *[LEARNED] * kept, *after]
            rows += [*[LEARNED] * len(before), *range(first, first + kept), *[LEARNED] * len(after)]
            first += self.learnable[slot.name]
        return Arrangement(tokens, rows, self._summary(text))

    def _summary(self, text: str) -> int:
        if self._released and self._has_action:
            return min(len(self._tokenize(published_label(text))) + 1, PROMPT_LENGTH - 1)
        return PROMPT_LENGTH - 1

    def _fixed_words(self, slot: Slot) -> "_Words":
        if not self._whole_texts:
            return self._published(slot.words)
        start = [START] if slot == self._slots[0] else []
        end = [END] if slot == self._slots[-1] else []
        return _Words(start, [*self._tokenize(slot.words), *end])

    def _action_words(self, text: str) -> "_Words":
        if not self._has_action:
            if text:
                raise PromptError(
                    f"text {text!r}: this model's prompt has no slot for it (model.prompt.action_slot is false); use "
                    "prompt condition learned or none"
                )
            return _Words([], [])
        if not self._whole_texts:
            return self._published(published_label(text) if self._released else text)
        tokens = self._tokenize(text)
        limit = next(slot.length for slot in self._slots if slot.words is None)
        if len(tokens) > limit:
            raise PromptError(
                f"text {text!r} is {len(tokens)} tokens long, its slot holds {limit}; shorten it "
                "(a common word is one token)"
            )
        return _Words([], tokens)

    def _published(self, text: str) -> "_Words":
        return _Words([], [START, *self._tokenize(text), END, PAD, PAD, PAD][:_PUBLISHED_TEXT])


_PUBLISHED_TEXT = 4  # positions of a slot that the paper gives to the text


class _Words(NamedTuple):
    """Tokens of a slot before and after its learnable rows."""

    before: list[int]
    after: list[int]

    @property
    def count(self) -> int:
        return len(self.before) + len(self.after)
