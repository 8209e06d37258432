"""The report that lies beside a converted file: everything that went wrong is in it, in words and in its place."""

import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY
from raw_take import RawTake

from finepose_mp.preprocessing.conversion import Outcome
from finepose_mp.preprocessing.egohumans.findings import CHECKS
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.findings_report import findings_report, report_path, write_report


def outcomes() -> list[Outcome]:
    findings = Findings()
    findings.add("frames.used", "info", "601 frames used")
    findings.add("plausibility.speed", "warning", "aria02 | flies", person="aria02", frames=[3, 4, 5, 9])
    findings.add("exo_camera.left_out", "error", "cam03 left out:\nno pose", camera="cam03")
    return [
        Outcome("02_lego/001_lego", "raw/b", frames=601, findings=findings.items),
        Outcome("01_tagging/002_tagging", "raw/a.tar.gz", error="raw/a.tar.gz is cut off"),
        Outcome("01_tagging/001_tagging", "raw/c", frames=20, findings=findings.items[:1]),
    ]


def test_everything_is_said_in_its_place():
    text = findings_report(outcomes(), CHECKS)
    lines = text.splitlines()
    assert "2 sequences converted, 1 left out" in text
    assert lines.index("| 01_tagging/001_tagging | 20 | 0 | 0 | 1 |") < lines.index(
        "| 02_lego/001_lego | 601 | 1 | 1 | 1 |"
    )
    assert "* **01_tagging/002_tagging** (raw/a.tar.gz): raw/a.tar.gz is cut off" in lines
    error, warning = (
        next(i for i, line in enumerate(lines) if line.startswith(f"| {s} ")) for s in ("error", "warning")
    )
    assert lines[error] == "| error | exo_camera.left_out | cam03 | cam03 left out: no pose |"
    assert lines[warning] == "| warning | plausibility.speed | aria02; frames 3-5, 9 (4) | aria02 \\| flies |"
    assert lines.index("## 02_lego/001_lego") < error < warning


def test_sequence_without_anything_to_look_at_has_no_section():
    assert "## 01_tagging/001_tagging" not in findings_report(outcomes(), CHECKS)


def test_every_check_is_explained_and_counted():
    text = findings_report(outcomes(), CHECKS)
    for name, expectation in CHECKS.items():
        assert f"| {name} | {expectation} |" in text
    assert f"| frames.used | {CHECKS['frames.used']} | 0 | 0 | 2 |" in text


def test_tables_have_as_many_cells_as_titles():
    for block in findings_report(outcomes(), CHECKS).split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.strip().splitlines()}) == 1


def test_order_of_outcomes_does_not_matter():
    assert findings_report(reversed(outcomes())) == findings_report(outcomes())


def test_names_that_are_no_unicode_are_written_as_they_can_be(tmp_path):
    findings = Findings()
    findings.add("people.unknown_name", "warning", "fit_poses3d names b\udc80", person="b\udc80", found=["b\udc80"])
    assert findings.items[0]["message"] == "fit_poses3d names b\\udc80", "a finding is printed, too"
    failed = Outcome("01_tagging/003_tagging", "raw/\udcff", error="raw/\udcff is empty")
    path = write_report(tmp_path / "x.h5", [Outcome("a", "raw/a", findings=findings.items), failed])
    text = path.read_text(encoding="utf-8")
    assert "names b\\udc80" in text and "raw/\\udcff is empty" in text


def test_report_lies_beside_the_file():
    assert report_path(Path("data/egohumans.h5")) == Path("data/egohumans.findings.md")


def test_the_tool_writes_it_beside_the_file(tmp_path):
    take = RawTake()
    take.manual["cam01"] = take.transforms["aria01"]
    take.write(tmp_path / "raw/01_tagging/001_tagging")
    command = [sys.executable, str(REPOSITORY / "tools/convert.py"), "egohumans", "--raw", "raw", "--out", "x.h5"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "x.findings.md" in result.stdout
    text = (tmp_path / "x.findings.md").read_text()
    assert "| warning | exo_camera.manual_ignored | cam01 |" in text
    assert f"| frames.gap | {CHECKS['frames.gap']} | 0 | 0 | 0 |" in text
