"""Lifting of 2D keypoints to 3D human pose, for several people at once, seen from head-worn and fixed cameras."""

__version__ = "0.1.0"
