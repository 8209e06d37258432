"""Writes a trained denoiser as one program (torch.export, .pt2) that runs without this library."""

import argparse
import sys
from pathlib import Path

from finepose_mp import runs
from finepose_mp.inference.deployment import write_exported


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="directory of a training run")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint (default: best)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pt2", help="program to write")
    arguments = parser.parse_args()
    try:
        model, config = runs.load_run(arguments.run, arguments.which)
        write_exported(model, arguments.out)
    except (OSError, ValueError) as error:
        print(f"export_model: {error}", file=sys.stderr)
        return 2
    print(
        f"{arguments.out}: {config.model.name}, {config.data.joint_set}, window {config.data.window}; its inputs are "
        "described in finepose_mp/inference/deployment.py"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
