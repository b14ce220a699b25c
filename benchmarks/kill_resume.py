"""Kill the whole run at random moments, resume, and compare with an undisturbed run.

    python benchmarks/kill_resume.py BIDS_DIR WORK [--kills 5] [--seed 0]

Prints a table and writes benchmarks/results/kill_resume.md. Pages and logs hold dates and are left
out of the comparison; everything else must be equal byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SPACES = ["MNI152NLin2009cAsym:res-2", "T1w"]
RESULTS = Path(__file__).parent / "results" / "kill_resume.md"


def command(bids: Path, out: Path, work: Path) -> list[str]:
    """The main job."""
    return [sys.executable, "-m", "deepprep.cli.main", str(bids), str(out), "participant",
            "-w", str(work), "--output-spaces", *SPACES]  # fmt: skip


def hashes(out: Path) -> dict[str, str]:
    """Hash of every derivative that holds no date."""
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file() and "logs" not in p.relative_to(out).parts and p.suffix != ".html"
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    started = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command(args.bids_dir, args.work / "a", args.work / "wa"), check=True, **quiet)
    undisturbed_s = time.monotonic() - started
    expected = hashes(args.work / "a")
    print(f"undisturbed: {undisturbed_s:.0f} s, {len(expected)} files", flush=True)

    # Every run goes on from where the one before was killed, so the moments add up.
    chance = random.Random(args.seed)
    rows, kills = [], 0
    job = command(args.bids_dir, args.work / "b", args.work / "wb")
    while True:
        child = subprocess.Popen(job, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                 text=True, start_new_session=True)  # fmt: skip
        wait_s = chance.uniform(0.1, 0.6) * undisturbed_s / 2
        if kills < args.kills:
            try:
                _, text = child.communicate(timeout=wait_s)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                _, text = child.communicate()
                kills += 1
                rows.append((f"kill {kills} after {wait_s:.0f} s", text))
                print(rows[-1][0], flush=True)
                continue
        else:
            _, text = child.communicate()
        rows.append((f"resumed to the end, exit {child.returncode}", text))
        print(rows[-1][0], flush=True)
        if kills >= args.kills or not expected:
            break
        # It ended before it could be killed: start over for the remaining kills.
        shutil.rmtree(args.work / "b")
        shutil.rmtree(args.work / "wb")
    found = hashes(args.work / "b")
    different = sorted(k for k in {*expected, *found} if expected.get(k) != found.get(k))
    lines = ["# Kill -9 and resume", "", f"`python benchmarks/kill_resume.py {args.bids_dir.name} "
             f"WORK --kills {args.kills} --seed {args.seed}`", "",
             f"Undisturbed run: {undisturbed_s:.0f} s, {len(expected)} derivatives compared.", "",
             "| run | tasks done | tasks kept |", "|---|---|---|"]  # fmt: skip
    for name, text in rows:
        events = text.splitlines()
        done = sum("] done " in line for line in events)
        kept = sum("] kept " in line for line in events)
        lines.append(f"| {name} | {done} | {kept} |")
    verdict = "all equal" if not different else "DIFFERENT: " + ", ".join(different)
    lines += ["", f"Derivatives after {kills} kills against the undisturbed run: {verdict}.", ""]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
