"""Association of detected people into tracks over time, and how well that keeps identities apart."""

from finepose_mp.tracking.across_views import (
    TracksInView,
    likely_links,
    match_across_views,
    ray_distance,
    tracks_in_view,
)
from finepose_mp.tracking.detections import Detections, repeated_ids
from finepose_mp.tracking.identity import FrameIdentities, IdentityScores, identity_scores, total_scores
from finepose_mp.tracking.placing import Places, places_on_floor
from finepose_mp.tracking.settings import CAUTIOUS, AcrossViewsSettings, TrackingSettings
from finepose_mp.tracking.steadying import Steadied, at_rest, by_keypoints, by_poses
from finepose_mp.tracking.tracks import ABSENT, BRIDGED, DETECTED, Tracks, track, tracks_by_id

__all__ = [
    "ABSENT",
    "BRIDGED",
    "CAUTIOUS",
    "DETECTED",
    "AcrossViewsSettings",
    "Detections",
    "FrameIdentities",
    "IdentityScores",
    "Places",
    "Steadied",
    "TrackingSettings",
    "Tracks",
    "TracksInView",
    "at_rest",
    "by_keypoints",
    "by_poses",
    "identity_scores",
    "likely_links",
    "match_across_views",
    "places_on_floor",
    "ray_distance",
    "repeated_ids",
    "total_scores",
    "track",
    "tracks_by_id",
    "tracks_in_view",
]
