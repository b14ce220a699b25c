"""``deepprep BIDS_DIR OUT_DIR group``: the motion of all runs in one table."""

from __future__ import annotations

from pathlib import Path

from deepprep.bids.derivatives import write_text
from deepprep.errors import InputError

TABLE_NAME = "group_bold.tsv"

COLUMNS = (
    *("bids_name", "n_frames", "fd_mean_mm", "fd_max_mm", "fd_percent_above"),
    *("std_dvars_mean", "n_motion_outliers", "n_non_steady_state"),
)


def write_group_table(out_dir: Path, fd_threshold_mm: float) -> Path:
    """Write ``group_bold.tsv``: one row for each ``desc-confounds_timeseries.tsv``.

    Columns: mean and largest framewise displacement (mm), per cent of frames above
    ``--fd-spike-threshold``, mean standardised DVARS, and the numbers of outlier columns.

    Raises
    ------
    InputError
        There is no confounds table yet.
    """
    import pandas as pd

    files = sorted(out_dir.glob("sub-*/**/*_desc-confounds_timeseries.tsv"))
    if not files:
        raise InputError(f"{out_dir} has no confounds tables yet: run the participant level first.")
    rows = []
    for file in files:
        table = pd.read_csv(file, sep="\t", na_values="n/a")
        fd = table.get("framewise_displacement", pd.Series(dtype=float)).dropna()
        dvars = table.get("std_dvars", pd.Series(dtype=float)).dropna()
        names = [str(c) for c in table.columns]
        rows.append(
            {
                "bids_name": file.name.removesuffix("_desc-confounds_timeseries.tsv"),
                "n_frames": len(table),
                "fd_mean_mm": fd.mean(),
                "fd_max_mm": fd.max(),
                "fd_percent_above": 100 * (fd > fd_threshold_mm).mean(),
                "std_dvars_mean": dvars.mean(),
                "n_motion_outliers": sum(n.startswith("motion_outlier") for n in names),
                "n_non_steady_state": sum(n.startswith("non_steady_state") for n in names),
            }
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    text = frame.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.4f")
    return write_text(out_dir / TABLE_NAME, text)
