"""What each of the seven scenes is like in the simulation: what people do, how large the place is, who watches."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finepose_mp.preprocessing.simulation import activities, sports
from finepose_mp.preprocessing.simulation.motion import Body, Motion, Performance, animate, random_body
from finepose_mp.preprocessing.simulation.steering import LEAD_IN

_LEAD_OUT = 12  # frames simulated after the last one: a step is planned by where the body will be

Choreography = Callable[[np.random.Generator, list[Body], int], list[Performance]]


@dataclass(frozen=True)
class Stage:
    """The simulation's side of one scene.

    `half_size` is where people move, from -x to x and -y to y; `pole_distance` and `pole_height` (lowest, highest)
    place the fixed cameras, metres. `min_views` is the number of fixed cameras that the dataset's authors wanted for a
    triangulated joint. `clip_words` pick fitting clips when real motion is used.
    """

    choreography: Choreography
    half_size: tuple[float, float]
    pole_distance: float
    pole_height: tuple[float, float]
    min_views: int
    clip_words: tuple[str, ...]


STAGES = {
    "tagging": Stage(activities.play_tag, (3.4, 3.0), 6.0, (1.8, 3.0), 3, ("run", "walk", "jump", "soccer")),
    "legoassemble": Stage(
        activities.assemble, (2.4, 2.4), 4.4, (1.6, 2.8), 2, ("bend", "wash", "direct", "signal", "shake")
    ),
    "fencing": Stage(
        activities.fence, (3.4, 2.4), 5.8, (1.6, 2.8), 2, ("sword", "punch", "dance", "charleston", "lambada")
    ),
    "basketball": Stage(sports.play_basketball, (3.6, 3.2), 6.6, (2.0, 3.4), 3, ("basketball", "run", "jump")),
    "volleyball": Stage(sports.play_volleyball, (4.6, 3.2), 7.4, (2.0, 3.4), 2, ("jump", "walk", "basketball")),
    "badminton": Stage(sports.play_badminton, (4.2, 2.6), 6.8, (2.0, 3.4), 2, ("jump", "dance", "walk")),
    "tennis": Stage(sports.play_tennis, (6.5, 3.6), 9.5, (2.2, 3.6), 2, ("run", "walk", "soccer", "dance")),
}


def stage(scene: str) -> Stage:
    """The stage of a scene by the ending of its folder ("tagging"). Raises ValueError listing the known ones."""
    if scene not in STAGES:
        raise ValueError(f"unknown scene {scene!r}; known: {', '.join(STAGES)}")
    return STAGES[scene]


def built_in_motion(scene: str, people: int, frames: int, rng: np.random.Generator) -> Motion:
    """People of random build, two or more, who do what their scene is about, animated by the articulated model.

    Raises:
        ValueError: an unknown scene, or a single person, who has nobody to play with.
    """
    if people < 2:
        raise ValueError(f"a scene needs at least 2 people, found {people}")
    bodies = [random_body(rng) for _ in range(people)]
    acts = stage(scene).choreography(rng, bodies, LEAD_IN + frames + _LEAD_OUT)
    animated = [animate(body, act, rng) for body, act in zip(bodies, acts, strict=True)]
    kept = slice(LEAD_IN, LEAD_IN + frames)
    joints, toes, head_rotation = (np.stack(parts, axis=1)[kept] for parts in zip(*animated, strict=True))
    return Motion(joints, toes, head_rotation, tuple(f"built-in, {body.height:.2f} m tall" for body in bodies))
