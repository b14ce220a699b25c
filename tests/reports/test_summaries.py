"""Text fragments: facts, reasons, escaping."""

from html.parser import HTMLParser

import pytest

from deepprep.reports import summaries as s

EVIL = '<script>alert("x")</script>'


class Tags(HTMLParser):
    """Collects tags and text of a fragment."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words += data


def bold(**changes):
    values = {
        "name": "sub-01_task-rest_bold.nii.gz",
        "orientation": "LAS",
        "shape": (64, 64, 30, 200),
        "zooms_mm": (3.0, 3.0, 3.3000001),
        "tr_s": 2.0,
        "pe_direction": "j-",
        "slice_timing": s.Decision("not corrected", "the sidecar has no SliceTiming"),
        "fieldmap": s.Decision("none", "no field map names this run"),
        "dummy_scans": s.Decision("2 frames", "given by --dummy-scans"),
        "coregistration": s.Decision("boundary-based", "its cost fell"),
    }
    return s.BoldSummary(**{**values, **changes})


def fragments_with(evil, tmp_path):
    crash = tmp_path / "crash-1.txt"
    crash.write_text(f"Traceback (most recent call last):\n  File x\nValueError: {evil}\n{evil}")
    decision = s.Decision(evil, evil)
    return {
        "subject": s.subject_summary(
            s.SubjectSummary(evil, (evil,), (evil,), {evil: 2}, (evil,), {evil: decision}, (evil,))
        ),
        "conform": s.conform_summary(
            [s.ConformRow(evil, evil, (1, 2, 3), (1, 1, 1), evil)], (1, 2, 3), (1, 1, 1), evil
        ),
        "fieldmap": s.fieldmap_summary([s.FieldmapRow(evil, evil, (evil,), (evil,), evil)]),
        "bold": s.bold_summary(
            bold(
                name=evil,
                pe_direction=evil,
                slice_timing=decision,
                others={evil: decision},
                metrics={evil: 1.0},
                confounds=(evil,),
                warnings=(evil,),
            )
        ),
        "about": s.about_summary(evil, evil, evil, {evil: evil}, {evil: evil}),
        "errors": s.errors_summary([crash], tmp_path),
    }


@pytest.mark.parametrize("which", ["subject", "conform", "fieldmap", "bold", "about", "errors"])
def test_every_string_is_escaped(which, tmp_path):
    parsed = Tags(fragments_with(EVIL, tmp_path)[which])
    assert "script" not in parsed.tags
    assert EVIL in parsed.words


def test_bold_summary_gives_choices_with_their_reasons():
    words = Tags(s.bold_summary(bold())).words
    for text in (
        "64 × 64 × 30, 200 frames",
        "3 × 3 × 3.3 mm",
        "j- (second axis of the array)",
        "the sidecar has no SliceTiming",
        "no field map names this run",
        "given by --dummy-scans",
        "its cost fell",
    ):
        assert text in words


def test_quality_measures_are_rows_in_words_in_a_fixed_order():
    measures = {"made_up": 1.5, "n_frames": 1205, "tsnr_gm": 70.14, "fd_mean_mm": 0.2034}
    text = s.bold_summary(bold(metrics=measures))
    rows = (
        "<td>Framewise displacement, mean (mm)</td><td>0.203</td>",
        "<td>Temporal signal-to-noise ratio, grey matter (median)</td><td>70.1</td>",
        "<td>made_up</td><td>1.5</td>",
    )
    places = [text.index(row) for row in rows]
    assert places == sorted(places)
    assert "1205" not in text  # the dimensions say how many frames there are
    assert "Quality measure" not in s.bold_summary(bold(metrics={"n_frames": 1205}))


def test_unknown_phase_encoding_is_said():
    assert "unknown" in Tags(s.bold_summary(bold(pe_direction=None))).words


def test_field_maps_not_applied_are_marked_so():
    row = s.FieldmapRow("auto0", "phase difference", ("phasediff",), ("rest",), "the only one")
    words = Tags(s.fieldmap_summary([row])).words
    assert "chosen for rest" in words and "not applied yet" in words
    rejected = s.FieldmapRow("auto1", "PEPOLAR", ("epi",), (), "one direction only")
    assert "not used" in Tags(s.fieldmap_summary([row, rejected])).words
    applied = s.FieldmapRow("a", "m", ("f",), ("rest",), "r", applied=True)
    assert "not applied yet" not in Tags(s.fieldmap_summary([applied])).words
    assert "No field map was found" in s.fieldmap_summary([])


def test_subject_summary_counts_runs():
    words = Tags(
        s.subject_summary(s.SubjectSummary("01", t1w=("a", "b"), bold_by_task={"x": 2, "y": 1}))
    ).words
    assert "x (2 runs), y (1 run)" in words and "2: a, b" in words


def test_errors_show_the_exception_of_each_crash_file(tmp_path):
    crash = tmp_path / "logs" / "crash-a.txt"
    crash.parent.mkdir()
    crash.write_text(
        "Task: bold\nInputs: x = 1\nTraceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n    g()\nValueError: the image is empty\nbye\n'
    )
    missing = tmp_path / "logs" / "crash-b.txt"
    parsed = Tags(s.errors_summary([crash, missing], tmp_path))
    assert "2 steps failed" in parsed.words
    assert "logs/crash-a.txt: ValueError: the image is empty" in parsed.words
    assert "cannot be read" in parsed.words
    assert parsed.tags.count("details") == 2
    assert "No errors to report" in s.errors_summary([])


def test_error_line_of_our_crash_reports_comes_first(tmp_path):
    crash = tmp_path / "crash-a.txt"
    crash.write_text(
        "Task:  sub-01/x\nError: The image is empty.\n\nTraceback\n---------\n"
        "Traceback (most recent call last):\n  x\nKeyError: 3\n"
    )
    assert "crash-a.txt: The image is empty." in Tags(s.errors_summary([crash], tmp_path)).words
