"""Numbers that papers report on Human3.6M, each with its kind: what one must know before comparing with it.

Single: one pose per frame. True root: one of several hypotheses, chosen by the 2D with the person's true position in
space. Oracle: chosen by the true pose, which rewards the spread of hypotheses even where it is noise. Label: the true
action is given at test time. Means of 15 actions in millimetres on S9 and S11; only averages, as these were read.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A row of the literature."""

    method: str
    input_2d: str  # detections, or "true" for ground truth seen through the lens
    window: int  # frames
    kind: str
    mpjpe: float
    p_mpjpe: float | None
    source: str


_FP = "FinePOSE (CVPR 2024), tables 1 and 2"
_OWN = "its README"
_CODE = "its page on paperswithcode.com"
_ORACLE = "oracle (J-Best)"
_ORACLE_LABEL = "oracle (J-Best), label; checkpoint chosen on the test subjects"

PUBLISHED = (
    Published("VideoPose3D (CVPR 2019)", "CPN", 243, "single", 46.8, 36.5, _OWN),
    Published("PoseFormerV2 (CVPR 2023)", "CPN", 243, "single", 45.2, 35.6, _FP),
    Published("GLA-GCN (ICCV 2023)", "CPN", 243, "single", 44.4, 34.8, _FP),
    Published("MHFormer (CVPR 2022)", "CPN", 351, "single", 43.0, 34.4, _FP),
    Published("P-STMO (ECCV 2022)", "CPN", 243, "single", 42.8, 34.4, _FP),
    Published("MixSTE (CVPR 2022)", "CPN", 243, "single", 40.9, None, "README of PoseMamba"),
    Published("MixSTE (CVPR 2022)", "HRNet", 243, "single", 39.8, 30.6, _FP),
    Published("D3DP (ICCV 2023)", "CPN", 243, "J-Agg, true root", 39.5, None, _CODE),
    Published("MotionAGFormer (WACV 2024)", "SH", 243, "single", 38.4, None, _OWN),
    Published("PoseMamba-L (AAAI 2025)", "SH", 243, "single", 38.1, None, _OWN),
    Published("DiffPose (CVPR 2023)", "CPN", 243, "mean of samples", 36.9, 28.7, _FP),
    Published("D3DP (ICCV 2023)", "CPN", 243, _ORACLE, 35.4, 28.7, _FP),
    Published("FinePOSE (CVPR 2024)", "CPN", 243, _ORACLE_LABEL, 31.9, 25.0, _FP),
    Published("MixSTE (CVPR 2022)", "true", 243, "single", 21.6, None, _FP),
    Published("D3DP (ICCV 2023)", "true", 243, "J-Agg, true root", 19.6, None, _CODE),
    Published("D3DP (ICCV 2023)", "true", 243, _ORACLE, 18.4, None, _FP),
    Published("MotionAGFormer (WACV 2024)", "true", 243, "single", 17.3, None, _OWN),
    Published("FinePOSE (CVPR 2024)", "true", 243, _ORACLE_LABEL, 16.7, 12.7, _FP),
)
