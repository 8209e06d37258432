"""An articulated body with constant bone lengths, and what a performance asks of it.

Everything here lives in the room frame: metres, z up, floor at z = 0. A performance gives a ground path and the things
done on the way (steps come from `gait`); `animate` turns it into joints by two-bone inverse kinematics, so that feet
stay where they were put, limbs keep their lengths, and knees and elbows bend one way only.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from finepose_mp.preprocessing.simulation.gait import Gait, walk

FPS = 20.0
JOINT_COUNT = 17  # coco17: five on the face, then left and right shoulder, elbow, wrist, hip, knee, ankle
BALL_HEIGHT = 0.015  # of the ball of a resting foot above the floor, metres
_STRAIGHTEST = 0.99  # a limb never reaches farther than this fraction of its stretched length


@dataclass(frozen=True)
class Body:
    """Bone lengths of one person, metres.

    The proportions are those of Drillis and Contini (1966) as printed by Winter (Biomechanics and Motor Control of
    Human Movement, figure 4.1), each varied by a few percent from person to person.
    """

    height: float
    thigh: float
    shank: float
    ankle_height: float
    foot: float
    hip_half_width: float
    lumbar: float
    chest: float
    shoulder_half_width: float
    upper_arm: float
    forearm: float
    neck: float
    face: np.ndarray  # (5, 3) nose, eyes, ears in the head frame (forward, left, up)

    @property
    def standing_hip_height(self) -> float:
        """Height of the hips of somebody standing at ease, metres."""
        return self.ankle_height + 0.975 * (self.thigh + self.shank)


def random_body(rng: np.random.Generator) -> Body:
    """A person of 1.52 to 1.93 m with slightly individual proportions."""
    height = float(np.clip(rng.normal(1.72, 0.10), 1.52, 1.93))

    def part(fraction: float) -> float:
        return float(height * fraction * (1 + 0.03 * np.clip(rng.normal(), -2, 2)))

    ear, eye = part(0.043), part(0.018)
    face = height * np.array([[0.068, 0, 0.045], [0.050, 0, 0.066], [0.050, 0, 0.066], [0, 0, 0.052], [0, 0, 0.052]])
    face[:, 1] = [0, eye, -eye, ear, -ear]
    return Body(
        height=height,
        thigh=part(0.245),
        shank=part(0.246),
        ankle_height=part(0.039),
        foot=part(0.080),
        hip_half_width=part(0.052),
        lumbar=part(0.100),
        chest=part(0.188),
        shoulder_half_width=part(0.105),
        upper_arm=part(0.186),
        forearm=part(0.146),
        neck=part(0.052),
        face=face,
    )


@dataclass(frozen=True)
class Motion:
    """People moving in the room frame, T frames at 20 per second.

    joints (T, P, 17, 3) metres, coco17; toes (T, P, 2, 3) metres, balls of the left and right foot; head_rotation
    (T, P, 3, 3), columns forward, left and up of the head; sources (P,) says where each person's motion comes from.
    """

    joints: np.ndarray
    toes: np.ndarray
    head_rotation: np.ndarray
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Reach:
    """A hand drawn away from its swing: side (0 left, 1 right), weight (T,) 0..1, target (T, 3) metres.

    The target is in the room frame or, with `in_chest`, along forward, left and up of the chest from the shoulder.
    `elbow` (3,) is where the elbow points, in the chest frame.
    """

    side: int
    weight: np.ndarray
    target: np.ndarray
    in_chest: bool = False
    elbow: tuple[float, float, float] = (-0.5, 0.4, -1.0)  # written for the left arm, mirrored for the right


@dataclass
class Performance:
    """What one person does in T frames; see `still` for the neutral one. Shifts are along (forward, left) of `facing`.

    path (T, 2) m, facing (T,) rad; crouch (T,) m below standing; lift (T,) m of a jump; pelvis_shift (T, 2) m;
    pelvis_turn, lean (forward), twist, tilt (to the left) (T,) rad; stance (T, 2, 2) m, where the left and right ankle
    belong; foot_turn (T, 2) rad; foot_shift (T, 2, 2) m, foot_raise (T, 2) m and foot_pitch (T, 2) rad (heel up) on top
    of the steps; gaze (T, 3) m, the point looked at; reaches, hands busy with something.
    """

    path: np.ndarray
    facing: np.ndarray
    gaze: np.ndarray
    crouch: np.ndarray
    lift: np.ndarray
    pelvis_shift: np.ndarray
    pelvis_turn: np.ndarray
    lean: np.ndarray
    twist: np.ndarray
    tilt: np.ndarray
    stance: np.ndarray
    foot_turn: np.ndarray
    foot_shift: np.ndarray
    foot_raise: np.ndarray
    foot_pitch: np.ndarray
    reaches: list[Reach] = field(default_factory=list)


def still(body: Body, path: np.ndarray, facing: np.ndarray, gaze: np.ndarray) -> Performance:
    """A performance that only follows its path, upright, arms swinging."""
    frames = len(path)
    stance = np.zeros((frames, 2, 2))
    stance[:, :, 1] = np.array([1, -1]) * body.hip_half_width * 1.05
    scalars = ("crouch", "lift", "pelvis_turn", "lean", "twist", "tilt")
    return Performance(
        path=path,
        facing=facing,
        gaze=gaze,
        pelvis_shift=np.zeros((frames, 2)),
        stance=stance,
        foot_turn=np.tile([0.1, -0.1], (frames, 1)),
        foot_shift=np.zeros((frames, 2, 2)),
        foot_raise=np.zeros((frames, 2)),
        foot_pitch=np.zeros((frames, 2)),
        **{name: np.zeros(frames) for name in scalars},
    )


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], seconds: float) -> np.ndarray:
    """Noise of unit deviation along axis 0 (frames) that changes over about that many seconds."""
    sigma = seconds * FPS / 2
    margin = int(4 * sigma) + 1
    white = rng.standard_normal((shape[0] + 2 * margin, *shape[1:]))
    scale = np.sqrt(2 * np.sqrt(np.pi) * max(sigma, 0.3))  # a Gaussian filter divides white noise by this
    return gaussian_filter1d(white, sigma, axis=0)[margin : margin + shape[0]] * scale


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotation (T, 3, 3) = Rz(yaw) Ry(pitch) Rx(roll); positive pitch bows forward, positive roll leans right."""
    yaw, pitch, roll = np.broadcast_arrays(yaw, pitch, roll)
    (cz, sz), (cy, sy), (cx, sx) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def two_bones(
    start: np.ndarray, target: np.ndarray, first: float, second: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The middle and the end joint (..., 3) of a limb that reaches from `start` for `target`, bent towards `pole`.

    Out of reach, the limb points at the target. The flexion stays below 150 degrees.
    """
    offset = target - start
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    direction = offset / np.maximum(distance, 1e-9)
    nearest = np.sqrt(first**2 + second**2 - 2 * first * second * np.cos(np.radians(30)))
    distance = np.clip(distance, nearest, _STRAIGHTEST * (first + second))
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    aside = np.sqrt(np.maximum(first**2 - along**2, 0))
    bend = pole - (pole * direction).sum(-1, keepdims=True) * direction
    bend = bend / np.maximum(np.linalg.norm(bend, axis=-1, keepdims=True), 1e-9)
    return start + along * direction + aside * bend, start + distance * direction


def animate(body: Body, act: Performance, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints (T, 17, 3), balls of the feet (T, 2, 3) and head rotation (T, 3, 3) of one person in the room frame."""
    gait = walk(act.path, act.facing, act.stance, act.foot_turn, body.thigh + body.shank, FPS)
    balls, ankles, toe_direction = _feet(body, act, gait)
    pelvis_rotation, chest_rotation = _torso(act, gait, rng)
    hip_offsets = np.array([[0, body.hip_half_width, 0], [0, -body.hip_half_width, 0]])
    hip_offsets = np.einsum("tij,sj->tsi", pelvis_rotation, hip_offsets)
    pelvis = _pelvis(body, act, gait, ankles, hip_offsets)
    hips = pelvis[:, None] + hip_offsets
    knee_poles = pelvis_rotation[:, None, :, 0] + 0.8 * toe_direction + [0, 0, 0.15]
    knees, ankles_reached = two_bones(hips, ankles, body.thigh, body.shank, knee_poles)
    lumbar = pelvis + pelvis_rotation[:, :, 2] * body.lumbar
    shoulder_line = lumbar + chest_rotation[:, :, 2] * body.chest
    sides = np.array([1.0, -1.0])[:, None] * chest_rotation[:, None, :, 1] * body.shoulder_half_width
    shoulders = shoulder_line[:, None] + sides
    elbows, wrists = _arms(body, act, gait, shoulders, chest_rotation, rng)
    head_joint = shoulder_line + body.neck * (0.9 * chest_rotation[:, :, 2] + 0.1 * chest_rotation[:, :, 0])
    head_rotation = _head(act, head_joint, chest_rotation, rng)
    face = head_joint[:, None] + np.einsum("tij,fj->tfi", head_rotation, body.face)
    limbs = [
        part[:, side, None] for part in (shoulders, elbows, wrists, hips, knees, ankles_reached) for side in (0, 1)
    ]
    return np.concatenate([face, *limbs], axis=1), balls + (ankles_reached - ankles), head_rotation


def _feet(body: Body, act: Performance, gait: Gait) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balls (T, 2, 3) and ankles (T, 2, 3) of both feet, and the directions of the toes (T, 2, 3)."""
    cos, sin = np.cos(act.facing)[:, None], np.sin(act.facing)[:, None]
    shift = np.stack(
        [
            cos * act.foot_shift[..., 0] - sin * act.foot_shift[..., 1],
            sin * act.foot_shift[..., 0] + cos * act.foot_shift[..., 1],
        ],
        axis=-1,
    )
    toe = np.stack([np.cos(gait.foot_yaw), np.sin(gait.foot_yaw), np.zeros_like(gait.foot_yaw)], axis=-1)
    balls = np.concatenate([gait.foot_position + shift, np.zeros((*shift.shape[:2], 1))], axis=-1) + body.foot * toe
    balls[..., 2] = BALL_HEIGHT + gait.foot_height + act.foot_raise + act.lift[:, None]
    pitch = gait.foot_pitch + act.foot_pitch
    instep = body.ankle_height - BALL_HEIGHT
    back = -body.foot * np.cos(pitch) + instep * np.sin(pitch)
    up = body.foot * np.sin(pitch) + instep * np.cos(pitch)
    ankles = balls + back[..., None] * toe
    ankles[..., 2] += up
    return balls, ankles, toe


def _torso(act: Performance, gait: Gait, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3) of the pelvis and of the chest; the chest turns against the legs."""
    frames = len(act.path)
    sway = 0.02 * smooth_noise(rng, (frames, 3), 1.2)
    moving = np.clip(gait.speed / 1.4, 0, 1)
    stride = np.cos(2 * np.pi * gait.phase)  # 1 when the left foot lands
    forward = np.einsum("td,td->t", gait.velocity, np.stack([np.cos(act.facing), np.sin(act.facing)], axis=-1))
    lean = np.clip(act.lean + np.clip(0.035 * forward, -0.06, 0.16) + sway[:, 0], -0.4, 1.3)
    pelvis_yaw = act.facing + act.pelvis_turn - 0.07 * moving * stride
    pelvis = rotation(pelvis_yaw, 0.45 * lean, 0.03 * moving * np.sin(2 * np.pi * gait.phase) - 0.3 * act.tilt)
    twist = act.twist + 0.17 * moving * stride + sway[:, 1]
    spine = rotation(twist, 0.55 * lean + 0.03, -0.7 * act.tilt + 0.5 * sway[:, 2])
    return pelvis, pelvis @ spine


def _pelvis(body: Body, act: Performance, gait: Gait, ankles: np.ndarray, hip_offsets: np.ndarray) -> np.ndarray:
    """Pelvis positions (T, 3): above the path, and never so high that a leg could not reach its foot."""
    cos, sin = np.cos(act.facing), np.sin(act.facing)
    forward, left = act.pelvis_shift.T
    pelvis = np.concatenate([act.path, np.zeros((len(act.path), 1))], axis=1)
    pelvis[:, 0] += cos * forward - sin * left
    pelvis[:, 1] += sin * forward + cos * left
    running = np.clip((gait.speed - 1.8) / 0.8, 0, 1)
    bounce = -0.03 * running * np.cos(4 * np.pi * (gait.phase - 0.19))
    wanted = body.standing_hip_height - act.crouch + act.lift + bounce - 0.03 * running
    hips = pelvis[:, None] + hip_offsets
    level = np.linalg.norm((ankles - hips)[..., :2], axis=-1)
    leg = (_STRAIGHTEST - 0.004) * (body.thigh + body.shank)
    ceiling = ankles[..., 2] + np.sqrt(np.maximum(leg**2 - level**2, 0.02)) - hip_offsets[..., 2]
    # A foot in the air may be drawn after the body, one on the floor may not.
    ceiling = (ceiling + 4 * gait.foot_height).min(axis=1)
    # The window of the minimum is as wide as the smoothing that follows: the smooth ceiling stays below the true one.
    ceiling = gaussian_filter1d(minimum_filter1d(ceiling, 5), 1.0, truncate=2.0)
    pelvis[:, 2] = np.minimum(wanted, ceiling)
    return pelvis


def _arms(
    body: Body, act: Performance, gait: Gait, shoulders: np.ndarray, chest: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Elbows (T, 2, 3) and wrists (T, 2, 3): swinging against the legs, or busy with the reaches of the performance."""
    frames = len(act.path)
    habit = rng.normal(0, 1, 3)
    idle = smooth_noise(rng, (frames, 2, 2), 1.5)
    amplitude = np.interp(gait.speed, [0, 0.3, 1.4, 3.0], [0, 0.12, 0.40, 0.62]) * (1 + 0.2 * habit[0])
    flexion = np.interp(gait.speed, [0, 1.4, 2.4], [0.25, 0.4, 1.45]) + 0.12 * habit[1]
    elbows, wrists = np.empty_like(shoulders), np.empty_like(shoulders)
    for side, sign in enumerate((1.0, -1.0)):
        swing = -sign * amplitude * np.cos(2 * np.pi * gait.phase) + 0.06 * idle[:, side, 0] - 0.05
        bend = np.clip(flexion + 0.15 * idle[:, side, 1] + 0.35 * swing, 0.1, 2.2)
        spread = max(0.14 + 0.04 * habit[2], 0.06)
        wrist, pole = _hanging_arm(body, swing, bend, sign * spread, sign)
        for reach in (r for r in act.reaches if r.side == side):
            target = reach.target
            if not reach.in_chest:
                target = np.einsum("tji,tj->ti", chest, reach.target - shoulders[:, side])
            length = np.linalg.norm(target, axis=1, keepdims=True)
            target = target * np.minimum(1, (body.upper_arm + body.forearm) / np.maximum(length, 1e-9))
            weight = reach.weight[:, None]
            wrist = (1 - weight) * wrist + weight * target
            pole = (1 - weight) * pole + weight * np.array(reach.elbow) * [1, sign, 1]
        rotated = [np.einsum("tij,tj->ti", chest, vector) for vector in (wrist, pole)]
        start = shoulders[:, side]
        elbows[:, side], wrists[:, side] = two_bones(
            start, start + rotated[0], body.upper_arm, body.forearm, rotated[1]
        )
    return elbows, wrists


def _hanging_arm(
    body: Body, swing: np.ndarray, bend: np.ndarray, spread: float, sign: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wrist (T, 3) in metres from the shoulder and elbow direction (T, 3), in the chest frame.

    swing (T,) is the upper arm's angle forward of hanging, bend (T,) the elbow's flexion, both in radians; `spread` the
    slope to the left; sign 1 for the left arm, -1 for the right, whose forearms turn inwards.
    """
    upper = np.stack([np.sin(swing), np.full_like(swing, spread), -np.cos(swing)], axis=-1)
    lower = np.stack([np.sin(swing + bend), spread - 0.25 * sign * bend, -np.cos(swing + bend)], axis=-1)
    upper = upper / np.linalg.norm(upper, axis=-1, keepdims=True)
    lower = lower / np.linalg.norm(lower, axis=-1, keepdims=True)
    return body.upper_arm * upper + body.forearm * lower, upper


def _head(act: Performance, head_joint: np.ndarray, chest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Head rotation (T, 3, 3) towards the gaze, as far as the neck allows, with the restlessness of a real head."""
    aim = act.gaze - head_joint
    chest_yaw = np.arctan2(-chest[:, 0, 1], chest[:, 1, 1])  # from the left axis, which bowing leaves level
    yaw = np.angle(np.exp(1j * (np.arctan2(aim[:, 1], aim[:, 0]) - chest_yaw)))
    pitch = np.arctan2(-aim[:, 2], np.hypot(aim[:, 0], aim[:, 1]))
    yaw = gaussian_filter1d(0.85 * np.clip(yaw, -1.25, 1.25), 3.5, mode="nearest")
    pitch = gaussian_filter1d(np.clip(pitch, -0.45, 0.85), 2.5, mode="nearest")
    jitter = np.array([0.05, 0.03, 0.03]) * smooth_noise(rng, (len(yaw), 3), 0.5)
    jitter += np.array([0.006, 0.006, 0.004]) * smooth_noise(rng, (len(yaw), 3), 0.12)
    return rotation(chest_yaw + yaw + jitter[:, 0], pitch + jitter[:, 1], jitter[:, 2])
