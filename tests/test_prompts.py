"""Texts, conditions and where their tokens stand in a prompt."""

import numpy as np
import pytest
from conftest import REPOSITORY

from finepose_mp.models.text_tower import tokenize
from finepose_mp.preprocessing.egohumans import catalogue
from finepose_mp.prompts import (
    CONDITIONS,
    EGOHUMANS,
    END,
    HUMAN36M,
    LEARNED,
    PAD,
    START,
    PromptError,
    PromptLayout,
    condition_text,
    training_texts,
)


def layout(compatibility: str = "repaired", action_slot: bool = True) -> PromptLayout:
    return PromptLayout(compatibility, action_slot, tokenize)


@pytest.mark.parametrize("text", ["", "fencing", "walking the dog"])
def test_a_repaired_prompt_is_one_sentence_without_padding(text):
    tokens = layout().arrange(text).tokens
    assert len(tokens) == 77
    assert (tokens[0], tokens[-1]) == (START, END)
    assert tokens.count(START) == tokens.count(END) == 1
    assert PAD not in tokens
    words = [token for token in tokens if token not in (START, END, LEARNED)]
    assert words == tokenize(f"a person {text} speed head body arm leg")


def test_a_repaired_text_stands_at_the_end_of_its_slot_and_learnable_rows_fill_the_rest():
    arrangement = layout().arrange("walking the dog")  # the action's slot: positions 7 to 18
    assert arrangement.tokens[16:19] == tokenize("walking the dog")
    assert arrangement.tokens[7:16] == [LEARNED] * 9
    assert arrangement.summary == 76


def test_every_learnable_row_is_used_without_an_action_and_none_twice():
    prompt = layout()
    rows = [row for row in prompt.arrange("").rows if row != LEARNED]
    assert rows == list(range(sum(prompt.learnable.values())))
    shorter = [row for row in prompt.arrange("playing tag").rows if row != LEARNED]
    assert sorted(set(rows) - set(shorter)) == [4 + 10, 4 + 11]  # the last two of the action's slot


@pytest.mark.parametrize("compatibility", ["repaired", "paper", "released"])
@pytest.mark.parametrize("action_slot", [True, False])
def test_each_position_holds_a_token_or_a_row(compatibility, action_slot):
    arrangement = layout(compatibility, action_slot).arrange("walking" if action_slot else "")
    assert len(arrangement.tokens) == len(arrangement.rows) == 77
    assert all(
        (token == LEARNED) != (row == LEARNED) for token, row in zip(arrangement.tokens, arrangement.rows, strict=True)
    )


def test_a_text_longer_than_its_slot_is_an_error_that_says_the_limit():
    fitting = "one two three four five six seven eight nine ten eleven twelve"
    assert layout().arrange(fitting).tokens[7:19] == tokenize(fitting)
    with pytest.raises(PromptError, match="13 tokens long, its slot holds 12"):
        layout().arrange(f"{fitting} thirteen")


def test_a_prompt_without_action_slot_takes_no_text():
    with pytest.raises(PromptError, match="has no slot for it"):
        layout(action_slot=False).arrange("walking")


def test_published_prompts_keep_four_tokens_of_each_text():
    short, long = (layout("released").arrange(text) for text in ("Walking", "SittingDown"))
    assert short.tokens[15:19] == [START, 3941, END, PAD]
    assert long.tokens[15:19] == [START, 42988, 653, 1136]  # its end is cut off
    assert [short.tokens[i : i + 4] for i in (3, 25)] == [[START, 320, 2533, END], [START, 4163, END, PAD]]
    learnable = {"subject": 3, "action": 8, "speed": 6, "head": 6, "body": 6, "arm": 10, "leg": 10}
    assert layout("released").learnable == learnable


def test_without_an_action_slot_the_published_slots_are_longer():
    learnable = layout("released", action_slot=False).learnable
    assert learnable == {"subject": 5, "speed": 8, "head": 8, "body": 8, "arm": 12, "leg": 12}
    assert layout("released", action_slot=False).arrange("").summary == 76


@pytest.mark.parametrize(("text", "position"), [("Walking", 2), ("WalkDog", 3), ("SittingDown", 4)])
def test_the_released_code_takes_the_wrong_token_for_the_whole_prompt(text, position):
    assert layout("released").arrange(text).summary == position
    assert layout("paper").arrange(text).summary == layout("repaired").arrange(text).summary == 76


@pytest.mark.parametrize("label", HUMAN36M)
def test_the_released_code_gets_labels_where_people_say_words(label):
    assert layout("released").arrange(HUMAN36M[label]) == layout("released").arrange(label)


def test_tokens_equal_those_of_the_published_outputs(shared):
    golden = np.load(shared / "golden/reference/parity_finepose.npz")
    texts = [*golden["text_actions"], "A person", "speed", "head", "body", "arm", "leg"]
    for text, expected in zip(texts, [*golden["text_tokens"], *golden["pre_tokens"]], strict=True):
        assert [START, *tokenize(str(text)), END] == expected[expected > 0].tolist()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_known_text_fits_under_every_condition(condition):
    for scene, activity in EGOHUMANS.items():
        text = condition_text(condition, activity.action, scene)
        assert text is None or len(layout().arrange(text).tokens) == 77
    for label in HUMAN36M:
        text = condition_text(condition, label, "Laboratory")
        assert text is None or len(layout().arrange(text).tokens) == 77


def test_what_each_condition_says():
    said = {c: condition_text(c, "playing tag", "Tagging") for c in CONDITIONS}
    assert said == {"none": None, "learned": "", "scene": "a player in a game of tag", "action": "playing tag"}
    assert condition_text("action", "SittingDown", "") == "sitting down"
    assert condition_text("action", "juggling three balls", "Circus") == "juggling three balls"
    assert condition_text("scene", "juggling three balls", "Circus Tent") == "circus tent"
    with pytest.raises(PromptError, match="unknown prompt condition 'both'; known: none, scene, action, learned"):
        condition_text("both", "fencing", "Fencing")


def test_the_scenes_are_those_of_the_converter_with_the_same_actions():
    converted = {scene.title: scene.action for scene in catalogue.scenes()}
    assert converted == {title: activity.action for title, activity in EGOHUMANS.items()}


def draw(condition: str, dropout: float, seeds) -> list[str | None]:
    return training_texts(condition, ["fencing"] * len(seeds), ["Fencing"] * len(seeds), dropout, seeds)


def test_text_dropout_puts_its_share_of_windows_under_the_other_conditions():
    texts = draw("action", 0.3, range(4000))
    assert texts.count("fencing") / 4000 == pytest.approx(0.7, abs=0.03)
    for other in (None, "", "a fencer in a fencing bout"):
        assert texts.count(other) / 4000 == pytest.approx(0.1, abs=0.02)


def test_text_dropout_follows_from_each_windows_seed():
    seeds = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 50)
    together = draw("action", 0.5, seeds)
    assert together == [draw("action", 0.5, [seed])[0] for seed in seeds]
    assert set(draw("action", 0.0, seeds)) == {"fencing"}
    assert "fencing" not in draw("action", 1.0, seeds)


def test_a_model_trained_without_texts_never_gets_one():
    assert set(draw("learned", 0.5, range(100))) == {"", None}
    assert set(draw("none", 0.0, range(100))) == {None}


def test_the_converter_says_human36ms_actions_in_the_same_words():
    import yaml

    facts = yaml.safe_load((REPOSITORY / "preprocessing" / "human36m" / "clips.yaml").read_text())
    assert {label: action["words"] for label, action in facts["actions"].items()} == HUMAN36M
