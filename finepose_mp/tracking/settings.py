"""What decides who is who over time, and the words in which decisions are kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackingSettings:
    """Limits of association. Lengths of the body are in units of its size: the RMS distance of joints from their mean.

    Attributes:
        min_score: keypoints below take no part.
        min_joints: so many usable keypoints make a person; fewer belong to no track.
        duplicate_similarity: two people of one frame who are more alike than this are one, found twice.
        min_similarity: of a person to a track's expected pose, below which they are not the same.
        doubt: how much worse, in summed similarity, the next best pairing of the people of a frame must be; otherwise
            the tracks that it concerns are split there, to be linked from the motion of both sides.
        joint_noise, joint_speed: how far joints stray from the expected pose, sizes and sizes a second.
        coast_seconds: so long a track is expected to go on as it did; later, links decide.
        max_gap_seconds: a person who is away longer comes back as somebody new.
        acceleration: how fast people change their way, sizes a second in a second.
        top_speed: how fast people are, sizes a second.
        newcomers: odds that somebody who appears has never been seen before, against somebody who is back.
        link_doubt: log-likelihood by which a link must beat the next best explanation of everything; otherwise the
            tracks stay apart.
        bridge_seconds: gaps inside a track up to this long are filled by interpolation, and marked.
    """

    min_score: float = 0.3
    min_joints: int = 4
    duplicate_similarity: float = 0.9
    min_similarity: float = 0.3
    doubt: float = 0.1
    joint_noise: float = 0.15
    joint_speed: float = 3.0
    coast_seconds: float = 0.3
    max_gap_seconds: float = 30.0
    acceleration: float = 15.0
    top_speed: float = 5.0
    newcomers: float = 0.02
    link_doubt: float = 0.2
    bridge_seconds: float = 0.25


# For a camera whose tracks other cameras will join by geometry: what it cannot tell is left to them.
CAUTIOUS = TrackingSettings(link_doubt=3.0)


@dataclass(frozen=True)
class AcrossViewsSettings:
    """Limits of identity across cameras; lengths in metres.

    Attributes:
        noise, noise_per_metre: how far the rays of one joint pass each other, at any distance and with distance.
        apart: how far those of two people's do.
        min_joints: so many joints must be seen by both cameras for a moment to count.
        moment_seconds: frames closer in time than this are one moment.
        least_evidence: log-likelihood by which "one person" must beat "two people".
        margin: log-likelihood by which it must beat being one person with somebody else; otherwise both stay apart.
        likely: log-likelihood for two tracks of one camera that motion alone would take for one person.
    """

    noise: float = 0.04
    noise_per_metre: float = 0.006
    apart: float = 0.4
    min_joints: int = 4
    moment_seconds: float = 0.25
    least_evidence: float = 4.0
    margin: float = 3.0
    likely: float = 8.0
