"""Score a trained model on one split of a file. In the run directory (or --out) appear

  results_<split>_<file>.json           every number, for programs
  results_<split>_<file>.md             the same as tables
  results_<split>_<file>/report.html    the report with pictures, in one file for a browser or a printer
  results_<split>_<file>/figures/       its pictures and one of each scene, as PNG

Runs on one process, or on several with `accelerate launch tools/evaluate.py ...` or
`torchrun --nproc_per_node 2 -- tools/evaluate.py ...` (mind the dashes); the numbers are the same.
"""

import argparse
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from finepose_mp import evaluation, report, schema, visualization
from finepose_mp.config import CONDITIONS, PRESETS, sampling_asked_for
from finepose_mp.files import check_free
from finepose_mp.schema import CAMERA_KINDS
from finepose_mp.skeletons import convert, joint_set


def main() -> int:
    arguments = _parser().parse_args()
    try:
        run(arguments)
    except (OSError, ValueError, KeyError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    finally:
        if torch.distributed.is_initialized():  # its threads would abort a process that just ends
            torch.distributed.destroy_process_group()
    return 0


def run(arguments: argparse.Namespace) -> None:
    folder = arguments.out or arguments.run
    paths = evaluation.results_paths(folder, arguments.split, arguments.data, arguments.prompt)
    check_free(*paths, report.report_folder(paths[0]), overwrite=arguments.overwrite)
    options = evaluation.Options(
        split=arguments.split,
        which=arguments.which,
        **sampling_asked_for(arguments.preset, arguments.hypotheses, arguments.steps, arguments.flip),
        camera_kinds=arguments.camera_kinds and tuple(arguments.camera_kinds),
        include_interpolated=arguments.include_interpolated,
        prompt_condition=arguments.prompt,
        legacy_overlap=arguments.legacy_overlap,
        align_then_choose=arguments.align_then_choose,
        frame_rate=arguments.frame_rate,
        keep_unreadable=arguments.keep_unreadable_clip,
        drop_shifted=arguments.drop_shifted_takes,
    )
    outcome = evaluation.evaluate(arguments.run, arguments.data, options, arguments.protocol)
    if outcome is None:
        return
    evaluation.write_results(outcome.results, paths)
    scenes = {scene: scene_picture(example) for scene, example in outcome.examples.items()}
    page = report.write_report(outcome, paths[0], scenes)
    print(evaluation.headline_table(outcome.results))
    print(f"\nDistances in mm{_warning(outcome.results)}. All numbers: {paths[0]} and {paths[1]}")
    print(f"Pictures: {page.parent / 'figures'}")
    print(f"Report, to open in a browser: {page}")


def scene_picture(example: evaluation.Example) -> Figure:
    """Everybody at the moment chosen for one scene, prediction beside truth."""
    with schema.open_file(example.file) as file:
        sequence = schema.read_sequence(file, example.sequence)
        joints = joint_set(file.attrs["joint_set"])
    others = visualization.cameras_with_most_people(sequence, example.frame_index, 4)
    views = [example.camera, *(name for name in others if name != example.camera)][:4]
    poses, _ = convert(example.predicted_3d_world(), example.joint_set, joints.name)
    prediction = visualization.Prediction(poses, example.caption)
    return visualization.scene_figure(sequence, joints, example.frame_index, views, prediction)


def _warning(results: dict) -> str:
    return "" if results["simulated"] == "none" else f" on SIMULATED data ({results['simulated']} of the takes)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="directory that train.py wrote")
    parser.add_argument(
        "--data", type=Path, required=True, help="HDF5 file to score it on, as tools/convert.py makes them"
    )
    parser.add_argument(
        "--protocol",
        choices=tuple(evaluation.PROTOCOLS),
        help="how errors are counted and tabled; egohumans fits every file (default: the file's data set decides)",
    )
    parser.add_argument(
        "--split",
        choices=("test", "val"),
        default="test",
        help="takes to score, by the run's own split scheme; choose settings on val (default: test)",
    )
    parser.add_argument(
        "--which",
        choices=("best", "last"),
        default="best",
        help="checkpoint: lowest validation error, or the last one (default: best)",
    )
    parser.add_argument(
        "--hypotheses", type=int, help="poses drawn for each person and window (default: as the run says)"
    )
    parser.add_argument("--steps", type=int, help="DDIM sampling steps (default: as the run says)")
    parser.add_argument("--preset", choices=PRESETS, help="hypotheses, steps and mirroring together, by name")
    parser.add_argument(
        "--no-flip", dest="flip", action="store_false", default=None, help="do not average with the mirrored input"
    )
    parser.add_argument(
        "--camera-kinds",
        nargs="+",
        choices=CAMERA_KINDS,
        help="cameras to score; ego_rgb exo compares head-worn and fixed ones (default: those the run was trained on)",
    )
    parser.add_argument(
        "--include-interpolated",
        action="store_true",
        default=None,
        help="also score joints that the dataset interpolated",
    )
    parser.add_argument(
        "--prompt",
        choices=CONDITIONS,
        help="what a prompted model is told: the action or scene (given labels), the learned prompt alone, or nothing; "
        "the results' names end in _prompt-<condition> (default: as the run says)",
    )
    parser.add_argument(
        "--legacy-overlap",
        action="store_true",
        help="count frames shared by the last two windows, and padding, again, as the papers' code does",
    )
    parser.add_argument(
        "--align-then-choose",
        action=argparse.BooleanOptionalAction,
        help="P-MPJPE and N-MPJPE of J-Agg and oracle rows as in the papers' code: align every hypothesis to the "
        "truth, then choose (default: with protocol human36m; otherwise the pose that was composed is aligned)",
    )
    parser.add_argument(
        "--frame-rate", type=float, metavar="HZ", help="read the file at this rate (default: the run's, or as recorded)"
    )
    parser.add_argument(
        "--keep-unreadable-clip",
        action="store_true",
        help="human36m: score S11's Directions too, which the literature leaves out for one unreadable video",
    )
    parser.add_argument(
        "--drop-shifted-takes",
        action="store_true",
        help="human36m: leave out S9's three takes whose poses lie 200 mm off the images",
    )
    parser.add_argument("--out", type=Path, help="folder for the results (default: the directory of the run)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
