"""The page of a participant: offline, ordered, escaped, nothing lost."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from deepprep.reports import methods
from deepprep.reports.boilerplate import write_citations
from deepprep.reports.report import find_crash_files, write_subject_report

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">\n<rect width="4"/>\n</svg>'


class Page(HTMLParser):
    """Tags, links and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.starts, self.links, self.ids, self.words, self._quiet = [], [], [], "", 0
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.starts.append(tag)
        self._quiet = tag in ("script", "style")
        for name, value in attrs:
            if name in ("src", "href", "data", "srcset", "poster", "action"):
                self.links.append((tag, name, value))
            if name == "id":
                self.ids.append(value)

    def handle_data(self, data):
        if not self._quiet:
            self.words += data + "\n"

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._quiet = 0

    def figures(self):
        return [
            unquote(v) for t, n, v in self.links if (t, n) in (("img", "src"), ("object", "data"))
        ]


def make(out, label, names):
    folder = out / f"sub-{label}" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        text = SVG if name.endswith(".svg") else f"<p>content of {name}</p>"
        (folder / f"sub-{label}_{name}").write_text(text)
    return folder


ONE_RUN = [
    "desc-summary_T1w.html",
    "desc-conform_T1w.html",
    "dseg.svg",
    "space-MNI152NLin2009cAsym_T1w.svg",
    "space-MNI152NLin6Asym_T1w.svg",
    "desc-summary_fieldmap.html",
    "task-rest_run-1_desc-summary_bold.html",
    "task-rest_run-1_desc-coreg_bold.svg",
    "task-rest_run-1_desc-rois_bold.svg",
    "task-rest_run-1_desc-tsnr_bold.svg",
    "task-rest_run-1_desc-compcorvar_bold.svg",
    "task-rest_run-1_desc-carpetplot_bold.svg",
    "task-rest_run-1_desc-confoundcorr_bold.svg",
    "desc-about_T1w.html",
]


@pytest.fixture
def page(tmp_path):
    make(tmp_path, "01", ONE_RUN)
    write_citations(tmp_path, [methods.conform(1), methods.head_motion()])
    return Page(write_subject_report(tmp_path, "sub-01", "run1"))


def test_sections_come_in_fmriprep_order(page):
    names = re.findall(r"<h2>(.*?)</h2>", page.text)
    expected = ["Summary", "Anatomical", "B0 field mapping", "Functional", "About", "Methods"]
    assert [n for n in names if n in [*expected, "Errors"]][:6] == expected
    assert names[-1] == "Errors"


def test_every_figure_is_shown_once_and_exists(page, tmp_path):
    shown = page.figures()
    wanted = {f"./sub-01/figures/sub-01_{n}" for n in ONE_RUN if n.endswith(".svg")}
    assert sorted(shown) == sorted(wanted)
    assert all((tmp_path / s).exists() for s in shown)
    for name in ONE_RUN:
        if name.endswith(".html"):
            assert f"content of {name}" in page.words


def test_flickering_figures_get_the_mouse(page):
    objects = [v for t, n, v in page.links if t == "object"]
    assert sorted(o.split("_", 1)[1] for o in objects) == [
        "space-MNI152NLin2009cAsym_T1w.svg",
        "space-MNI152NLin6Asym_T1w.svg",
        "task-rest_run-1_desc-coreg_bold.svg",
    ]


def test_page_asks_nothing_of_the_network(page):
    for tag, name, value in page.links:
        assert not re.match(r"\s*([a-z]+:)?//", value, re.I), (tag, name, value)
        assert value.startswith(("#", "./sub-01/figures/", "data:,")), (tag, name, value)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|<script[^>]+src", page.text)
    assert "link" in page.starts and page.starts.count("script") == 1


def test_links_of_the_contents_point_at_something(page):
    anchors = [v[1:] for t, n, v in page.links if t == "a" and v.startswith("#")]
    assert anchors and set(anchors) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_methods_and_captions_are_in_the_page(page):
    assert "Gauss-Newton" in page.words
    assert "BibTeX" in page.words and "@article{jiang_motion" in page.words
    assert "Normalisation to MNI152NLin6Asym." in page.words
    assert "No errors to report" in page.words


def groups(page):
    return [
        " ".join(re.findall(r'class="entity">(.*?)</span>', g))
        for g in re.findall(r'<details class="run".*?</summary>', page.text, flags=re.DOTALL)
    ]


def test_runs_are_ordered_by_session_task_and_number(tmp_path):
    names = ["dseg.svg", "desc-summary_T1w.html"]
    for session in ("2", "10", "1"):
        for entities in ("task-rest_run-10", "task-rest_run-2", "task-nback", "task-rest_run-1"):
            names.append(f"ses-{session}_{entities}_desc-coreg_bold.svg")
            names.append(f"ses-{session}_{entities}_desc-summary_bold.html")
    make(tmp_path, "01", names)
    page = Page(write_subject_report(tmp_path, "01"))
    one = ["task nback", "task rest run 1", "task rest run 2", "task rest run 10"]
    assert groups(page) == [f"session {s} {t}" for s in ("1", "2", "10") for t in one]
    # The anatomy has no session: it is shown all the same, once.
    assert page.text.count("sub-01_dseg.svg</a>") == 1
    assert len(page.figures()) == 13
    first = page.words.index("content of ses-1_task-nback_desc-summary_bold.html")
    assert first < page.words.index("content of ses-2_task-rest_run-10_desc-summary_bold.html")


def test_each_anatomical_reference_has_its_summary(tmp_path):
    names = [
        f"ses-{s}_{f}.html" for s in "ab" for f in ("desc-summary_T1w", "desc-summary_fieldmap")
    ]
    make(tmp_path, "01", names)
    page = Page(write_subject_report(tmp_path, "01"))
    assert groups(page) == ["session a", "session b"] * 2


def test_anatomy_of_each_session_has_its_group(tmp_path):
    make(tmp_path, "01", ["ses-a_dseg.svg", "ses-b_dseg.svg", "ses-b_desc-conform_T1w.html"])
    page = Page(write_subject_report(tmp_path, "01"))
    assert groups(page) == ["session a", "session b"]


def test_run_without_some_figures_is_still_shown(tmp_path):
    make(tmp_path, "01", ["task-rest_desc-summary_bold.html"])
    page = Page(write_subject_report(tmp_path, "01"))
    assert groups(page) == ["task rest"]
    assert "Anatomical" not in re.findall(r"<h2>(.*?)</h2>", page.text)


def test_subject_without_any_figure_gets_a_page_with_its_errors(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "crash-20260101-sub-01-anat.txt").write_text(
        "Traceback (most recent call last):\n  x\nInputError: <b>sub-01_T1w</b> is truncated\n"
    )
    page = Page(write_subject_report(tmp_path, "01"))
    assert "InputError: <b>sub-01_T1w</b> is truncated" in page.words
    assert '<span class="count">1</span>' in page.text
    assert "methods text has not been written" in page.words


def test_crash_files_of_other_subjects_are_left_out(tmp_path):
    for name in ("logs/crash-sub-01_a.txt", "logs/crash-sub-011_a.txt", "logs/crash-x.txt",
                 "logs/crash-y.txt", "sub-01/log/r1/crash-z.txt", "sub-01/log/r0/crash-old.txt"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("inputs: /data/sub-01/anat" if name.endswith("y.txt") else "nothing")
    found = [p.name for p in find_crash_files(tmp_path, "01", "r1")]
    assert found == ["crash-z.txt", "crash-sub-01_a.txt", "crash-y.txt"]


def test_subject_label_is_escaped(tmp_path):
    label = "<script>alert(1)<"
    make(tmp_path, label, ["dseg.svg"])
    page = Page(write_subject_report(tmp_path, label))
    assert page.starts.count("script") == 1
    assert f"Report of sub-{label}" in page.words
    assert page.figures() == [f"./sub-{label}/figures/sub-{label}_dseg.svg"]


def test_label_that_looks_like_a_placeholder_changes_nothing(tmp_path):
    make(tmp_path, "space", ["dseg.svg", "space-MNI152NLin6Asym_T1w.svg"])
    page = Page(write_subject_report(tmp_path, "space", "{space}"))
    assert "Normalisation to MNI152NLin6Asym." in page.words


def test_writing_twice_gives_the_same_bytes_and_leaves_figures_alone(tmp_path):
    folder = make(tmp_path, "01", ONE_RUN)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    first = write_subject_report(tmp_path, "01").read_bytes()
    second = write_subject_report(tmp_path, "01").read_bytes()
    assert first == second
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    assert [p.name for p in tmp_path.glob(".*")] == []
