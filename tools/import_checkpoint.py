"""Make a run directory of a checkpoint of the released FinePOSE or D3DP code."""

import argparse
import sys
from pathlib import Path

from finepose_mp.released import import_checkpoint
from finepose_mp.skeletons import JOINT_SETS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="file of the released code, such as best_epoch_20_10.bin")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="run directory to make")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/human36m.h5"),
        metavar="FILE.h5",
        help="file to evaluate on (default: %(default)s)",
    )
    parser.add_argument(
        "--joints", choices=JOINT_SETS, help="joint set (default: h36m17; mpi17 for prompts without action)"
    )
    parser.add_argument(
        "--compatibility",
        choices=("released", "paper"),
        default="released",
        help="how FinePOSE's prompts are used: as the released code does, or as the paper says (default: %(default)s)",
    )
    arguments = parser.parse_args()
    try:
        config = import_checkpoint(
            arguments.checkpoint, arguments.run, arguments.data, arguments.joints, arguments.compatibility
        )
    except (OSError, ValueError) as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        return 1
    model, data = config.model, config.data
    print(
        f"{arguments.run}: {model.name}, {data.joint_set}, window {data.window}, width {model.width}, "
        f"depth {model.depth}; evaluate it with: python tools/evaluate.py --run {arguments.run} --data {arguments.data}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
