"""The nightly command: damaged inputs for every boundary, and kills of every writing command."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections import Counter
from pathlib import Path

from tests.hostile import campaign
from tests.hostile.boundaries import BOUNDARIES
from tests.hostile.jobs import damage_jobs, keep

_KEPT_OF_A_KIND = 3


def main() -> int:
    """Exit code 0, or 1 if anything failed. The inputs that failed are in the corpus then."""
    arguments = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    arguments.add_argument("--cases", type=int, default=100_000, help="inputs of all boundaries together")
    arguments.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    arguments.add_argument("--only", nargs="*", default=list(BOUNDARIES), metavar="BOUNDARY")
    arguments.add_argument("--kills", type=int, default=0, help="kill every writing command that often as well")
    arguments.add_argument("--commands", nargs="*", default=None, metavar="COMMAND", help="for --kills; default: all")
    arguments.add_argument("--json", type=Path, default=None, help="write the counts there")
    given = arguments.parse_args()
    seed = secrets.randbelow(10**9) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    rows = _inputs(given.only, given.cases, seed) if given.cases else []
    if given.kills:
        from tests.hostile import kills

        rows += kills.campaign(given.commands, given.kills, seed)
    if given.json is not None:
        date = time.strftime("%Y-%m-%d")
        given.json.write_text(json.dumps({"date": date, "seed": seed, "rows": rows}, indent=1) + "\n")
    return 1 if any(row["failed"] for row in rows) else 0


def _inputs(names: list[str], cases: int, seed: int) -> list[dict[str, object]]:
    rows = []
    for job in damage_jobs(names, cases, seed):
        start = time.monotonic()
        (outcome,) = campaign.run([job]).values()
        kinds = ", ".join(f"{kind} {count}" for kind, count in outcome.kinds.most_common(6))
        print(f"{job.boundary}: {outcome.cases} cases, {time.monotonic() - start:.0f} s: {kinds}", flush=True)
        seen: Counter[str] = Counter()
        for content, fault in outcome.faults:
            kind = campaign.kind_of(fault)
            seen[kind] += 1
            if seen[kind] <= _KEPT_OF_A_KIND:
                print(f"  FAILED: {fault} → {keep(job.boundary, content)}", flush=True)
        for kind, count in seen.items():
            print(f"  {count} × {kind}", flush=True)
        rows.append({"what": job.boundary, "cases": outcome.cases, "failed": len(outcome.faults)})
    return rows


if __name__ == "__main__":
    sys.exit(main())
