"""Changes to training samples that leave what they mean intact."""

from finepose_mp.skeletons import JointSet

_POINTS = ("input_2d", "target_3d")  # (..., J, D), x first, in coordinates whose x axis passes through 0
_PER_JOINT = ("input_score", "input_mask", "target_mask", "in_view")  # (..., J)


def mirror(sample: dict, joint_set: JointSet) -> dict:
    """The sample of the mirrored world: x -> -x in input and target, and left and right joints change places.

    Rays, screen coordinates and camera-frame points all have x = 0 on the camera's axis or in the image's middle, so
    one rule serves all. `input_px` (..., J, 2) is mirrored in the picture where it is usable, u -> width - u, which is
    x -> -x in screen coordinates. The camera's parameters stay those of the recorded picture: to project a mirrored
    pose, mirror it back first. Mirroring twice gives the sample again (`input_px` to rounding).

    Args:
        sample: what `read_track` returns, numpy arrays or tensors, with any leading axes; not changed.
        joint_set: whose `mirror` says which joints change places.
    """
    order = list(joint_set.mirror)
    mirrored = dict(sample)
    for name in _PER_JOINT:
        mirrored[name] = sample[name][..., order]
    for name in _POINTS:
        mirrored[name] = sample[name][..., order, :]  # a copy, so that the sign changes in it alone
        mirrored[name][..., 0] *= -1
    pixels = sample["input_px"][..., order, :]
    width = sample["image_size"][..., None, None, 0]
    pixels[..., 0] = mirrored["input_mask"] * (width - pixels[..., 0])
    mirrored["input_px"] = pixels
    mirrored["root_camera"] = sample["root_camera"] * 1
    mirrored["root_camera"][..., 0] *= -1
    return mirrored
