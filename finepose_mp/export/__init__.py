"""Poses for other programs: CSV, NumPy, glTF, BVH and TRC."""

from finepose_mp.export.poses import ExportError, Poses, load_poses
from finepose_mp.export.rig import Rig, fit_rig
from finepose_mp.export.writing import FORMATS, export_poses

__all__ = ["FORMATS", "ExportError", "Poses", "Rig", "export_poses", "fit_rig", "load_poses"]
