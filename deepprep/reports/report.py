"""The page of a participant: nireports' assembler with our own specification and template.

nireports reads the specification (``deepprep/data/reports/spec.yml``) and names the entities of
the figures. The selection of figures, the fragments and the template are ours: its template
loads styles from the network, its grouping puts figures without a session into no session, its
sorting puts run 10 before run 2, it does not escape what it quotes and it rewrites the figures.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nireports.assembler import data as nireports_data
from nireports.assembler.report import Report

from deepprep import __version__
from deepprep.reports.mosaic import write_text
from deepprep.reports.summaries import errors_summary

_DATA = resources.files("deepprep.data") / "reports"
_ENTITY_NAMES = {
    "acquisition": "acquisition",
    "ceagent": "contrast agent",
    "fmapid": "field map",
}


@dataclass
class Item:
    """A reportlet: a heading and its figures or text, as ``(safe HTML, caption)``."""

    subtitle: str | None
    description: str | None
    components: list[tuple[str, str | None]]


@dataclass
class Group:
    """The reportlets of one combination of entities, such as one run."""

    entities: list[tuple[str, str]]
    reportlets: list[Item]


@dataclass
class Section:
    """A section of the page."""

    name: str
    groups: list[Group]
    count: int = 0
    named: bool = field(init=False)

    def __post_init__(self) -> None:
        self.named = any(group.entities for group in self.groups)


def write_subject_report(
    out_dir: str | os.PathLike,
    subject_label: str,
    run_uuid: str = "",
    *,
    crash_files: Sequence[str | os.PathLike] | None = None,
) -> Path:
    """Write ``OUT/sub-X.html`` from the figures in ``OUT/sub-X/figures``.

    Parameters
    ----------
    out_dir : path-like
        Root of the derivatives.
    subject_label : str
        With or without ``sub-``.
    run_uuid : str
        Of the run whose crash files are shown.
    crash_files : sequence of path-like, optional
        What failed in this run; searched by :func:`find_crash_files` when absent, which may
        also find crashes of an earlier run with the same folders.
    """
    out_dir = Path(out_dir)
    label = subject_label.removeprefix("sub-")
    if crash_files is None:
        crash_files = find_crash_files(out_dir, label, run_uuid)
    figures = out_dir / f"sub-{label}" / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    with resources.as_file(_DATA / "spec.yml") as spec:
        report = SubjectReport(
            out_dir,
            run_uuid,
            bootstrap_file=spec,
            out_filename=f"sub-{label}.html",
            reportlets_dir=figures,
            # nireports substitutes metadata in the specification: keep names from a data set out.
            metadata={"filename": "report"},
        )
    report.title = f"Report of sub-{label}"
    report.sections.append(_methods(out_dir / "logs"))
    report.sections.append(_errors(crash_files, out_dir))
    report.generate_report()
    return report.out_filename


def find_crash_files(out_dir: Path, label: str, run_uuid: str = "") -> list[Path]:
    """Crash files of a participant: in its own log folder, and those in ``logs`` that name it."""
    own = out_dir / f"sub-{label}" / "log"
    found = sorted((own / run_uuid if run_uuid else own).glob("**/crash*.txt"))
    token = re.compile(rf"sub-{re.escape(label)}(?![A-Za-z0-9])")
    logs = out_dir / "logs"
    if run_uuid and (logs / run_uuid).is_dir():
        logs = logs / run_uuid
    for path in sorted(logs.glob("**/crash*.txt")):
        # The path below the folder of logs, not above it: the data set may itself be "sub-01".
        if token.search(str(path.relative_to(out_dir))) or token.search(_head(path)):
            found.append(path)
    return found


class SubjectReport(Report):
    """nireports' report with own grouping, order, escaping and template."""

    __slots__ = ()

    def index(self, config: Mapping[str, Any]) -> None:
        """Select the figures of each section; called by nireports' constructor."""
        files = _figures(Path(config["root"]))
        for section in config["sections"]:
            keys = [k for k in section.get("ordering", "").split(",") if k]
            chosen = [
                (spec, [f for f in files if _matches(f[1], spec["bids"])])
                for spec in section["reportlets"]
            ]
            combinations = {_combination(e, keys) for _, found in chosen for _, e in found}
            groups = []
            for combination in sorted(combinations, key=_natural):
                items = []
                for spec, found in chosen:
                    own = [f for f in found if _combination(f[1], keys) == combination]
                    if own:
                        items.append(_item(spec, own, Path(config["out_dir"])))
                named = [
                    (_ENTITY_NAMES.get(k, k), str(v))
                    for k, v in zip(keys, combination)
                    if v is not None
                ]
                groups.append(Group(named, items))
            if groups:
                self.sections.append(Section(section["name"], groups))

    def generate_report(self) -> int:
        """Render the template with escaping on, write the page atomically."""
        import jinja2

        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string((_DATA / "report.html.j2").read_text("utf-8"))
        page = template.render(title=self.title, sections=self.sections, version=__version__)
        write_text(self.out_filename, page)
        return 0


def _figures(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Figures with their BIDS entities (nireports' configuration), sorted by name."""
    from bids.layout import Config, parse_file_entities

    figures = Config.load(str(nireports_data.load("nipreps.json")))
    return [
        (path, parse_file_entities(str(path), config=figures))
        for path in sorted(folder.iterdir())
        if path.suffix in (".svg", ".html") and not path.name.startswith(".")
    ]


def _matches(entities: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    regex = query.get("regex_search", False)
    for key, wanted in query.items():
        if key in ("regex_search", "datatype"):
            continue
        value = entities.get(key)
        if wanted is None or value is None:
            if wanted is not value:
                return False
        elif isinstance(wanted, list):
            if value not in wanted:
                return False
        elif regex:
            if not re.fullmatch(str(wanted), str(value)):
                return False
        elif str(value) != str(wanted):
            return False
    return True


def _combination(entities: Mapping[str, Any], keys: Sequence[str]) -> tuple:
    return tuple(entities.get(k) for k in keys)


def _natural(combination: tuple) -> list:
    """Sort key: absent first, numbers by value, the rest by letters with numbers inside."""
    key: list = []
    for value in combination:
        pieces = re.split(r"(\d+)", "" if value is None else str(value))
        key.append([(0, int(p), "") if p.isdigit() else (1, 0, p) for p in pieces if p])
    return key


def _item(
    spec: Mapping[str, Any], files: Sequence[tuple[Path, dict[str, Any]]], out_dir: Path
) -> Item:
    components: list[tuple[str, str | None]] = []
    for path, entities in files:
        caption = spec.get("caption")
        caption = caption.format(**entities) if caption else None
        if path.suffix == ".html":
            components.append((path.read_text("utf-8").strip(), caption))
        else:
            name = path.relative_to(out_dir).as_posix()
            components.append((_svg(name, spec.get("static", True)), caption))
    return Item(spec.get("subtitle"), spec.get("description"), components)


def _svg(name: str, static: bool) -> str:
    url, text = html.escape("./" + quote(name)), html.escape(name)
    link = f'<small>Get figure file: <a href="{url}" target="_blank">{text}</a></small>'
    # Only <object> passes the mouse on to the animation inside the figure.
    tag = (
        f'<img src="{url}" alt="{text}" loading="lazy">'
        if static
        else f'<object type="image/svg+xml" data="{url}">Figure {text} is missing.</object>'
    )
    return f'<div class="reportlet">{tag}</div>{link}'


def _methods(logs: Path) -> Section:
    page = logs / "CITATION.html"
    if not page.exists():
        text = '<p class="warning">The methods text has not been written.</p>'
        return Section("Methods", [Group([], [Item(None, None, [(text, None)])])])
    body = re.search(r"<body>(.*)</body>", page.read_text("utf-8"), flags=re.DOTALL)
    parts = [f'<div class="methods">{body[1] if body else ""}</div>']
    for extension, name in (("md", "Markdown"), ("tex", "LaTeX"), ("bib", "BibTeX")):
        path = logs / f"CITATION.{extension}"
        if path.exists():
            source = html.escape(path.read_text("utf-8"))
            parts.append(f"<details><summary>{name}</summary><pre>{source}</pre></details>")
    item = Item(
        None,
        "Copy this text into the methods section of your article. It describes the steps that "
        "were run, and is free of copyright (CC0).",
        [("\n".join(parts), None)],
    )
    return Section("Methods", [Group([], [item])])


def _errors(crash_files: Sequence[str | os.PathLike], out_dir: Path) -> Section:
    text = errors_summary(crash_files, out_dir)
    group = Group([], [Item(None, None, [(text, None)])])
    return Section("Errors", [group], count=len(crash_files))


def _head(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(4000)
    except OSError:
        return ""
