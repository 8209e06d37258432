"""The report of an evaluation for readers: report.html, which needs nothing beside it, and its pictures for papers."""

import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from finepose_mp.evaluation import Evaluation
from finepose_mp.report.figures import charts
from finepose_mp.report.page import Picture, report_page
from finepose_mp.report.pictures import moment_figure

WORST_TAKES = 4  # with a picture each


def report_folder(results_path: Path) -> Path:
    """The folder of the report that belongs to a results file: its name without the suffix."""
    return Path(results_path).with_suffix("")


def write_report(outcome: Evaluation, results_path: Path, scenes: Mapping[str, Figure] | None = None) -> Path:
    """Path of report.html, written with the folder figures/ beside it; both appear whole, or not at all.

    Args:
        outcome: of an evaluation, under any protocol.
        results_path: of its results.json; the report lies in `report_folder` of it.
        scenes: further pictures for figures/, by scene.
    """
    folder = report_folder(results_path)
    made = charts(outcome.results)
    drawn = {name: Picture(chart.title, chart.text, _png(chart.figure)) for name, chart in made.items()}
    worst = {take: _picture_of_worst(outcome, take) for take in worst_takes(outcome)}
    page = report_page(outcome.results, drawn, worst, folder.name)
    files = {f"{name}.png": picture.png for name, picture in drawn.items()}
    files |= {f"worst_{rank}.png": picture.png for rank, picture in enumerate(worst.values(), start=1)}
    files |= {f"scene_{_file_name(scene)}.png": _png(figure) for scene, figure in (scenes or {}).items()}
    _replace_folder(folder, page, files)
    return folder / "report.html"


def worst_takes(outcome: Evaluation) -> list[str]:
    """Takes with the largest error of the headline that have a moment to show, the worst first."""
    row, takes = outcome.results["headline"], outcome.results.get("per_take", {})
    errors = {take: takes[take]["mpjpe"][row] for take in outcome.worst if takes[take]["mpjpe"][row] is not None}
    return sorted(errors, key=lambda take: (-errors[take], take))[:WORST_TAKES]


def _picture_of_worst(outcome: Evaluation, take: str) -> Picture:
    moment = outcome.worst[take]
    seen = int((moment.keypoints == moment.keypoints).all(axis=-1).sum())
    text = (
        f"{moment.person} from {moment.camera}, frame index {moment.frame_index} ({moment.seconds:.2f} s), error "
        f"{moment.error_mm:.0f} mm with {seen} of {len(moment.keypoints)} keypoints, "
        f"{float((moment.true_root_camera**2).sum() ** 0.5):.1f} m from the camera."
    )
    return Picture(f"{take} ({moment.scene})", text, _png(moment_figure(moment)))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _file_name(scene: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in scene.lower())


def _replace_folder(folder: Path, page: str, pictures: Mapping[str, bytes]) -> None:
    """Writes the report aside, then puts it in the place of an earlier one."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "figures").mkdir(parents=True)
    (partial / "report.html").write_text(page, encoding="utf-8")
    for name, content in pictures.items():
        (partial / "figures" / name).write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
