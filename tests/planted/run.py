#!/usr/bin/env python3
"""Plants one fault after the other into a copy of the source, and shows which judge catches it.

    tests/planted/run.py                    # all of faults.toml that have no result yet
    tests/planted/run.py gap-swallowed      # these, whether they have one or not
    tests/planted/run.py --all-judges       # every judge, not only the first that catches it
    tests/planted/run.py --check            # only whether every fault fits the source
    tests/planted/run.py --table            # the results so far, as a table

Nothing is planted in the source itself: the copy and its builds are in target/planted. A run that was
interrupted goes on where it stopped. The exit code is 1 if a fault was not caught.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ROOT / "tests/planted/faults.toml"
WORK = ROOT / "target/planted"
TREE = WORK / "tree"
RESULTS = WORK / "results.json"

# Walks and simulated worlds that must have caught it.
SEEDS = 100
# A build, or a judge that does not end: a fault may well make something wait without end.
TIMEOUT_SECONDS = 900


class Caught(Exception):
    """A judge has failed, as it should."""


def cargo(*arguments, **environment):
    """Runs cargo in the copy; its exit code, None after the timeout, and what it printed."""
    settings = {
        "CARGO_TARGET_DIR": str(WORK / "target"),
        "CARGO_INCREMENTAL": "1",
        "RUSTFLAGS": "-Awarnings",
        "RUST_BACKTRACE": "0",
    }
    process = subprocess.Popen(
        ["cargo", *arguments],
        cwd=TREE,
        env=os.environ | settings | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        return None, output


def walks(_fault):
    """Sessions, logs and subscribers on seeded walks."""
    code, output = cargo(
        "test", "--test", "pipeline", "walk", SEED="0", SEEDS=str(SEEDS)
    )
    if code == 0:
        return
    failed = re.search(r"seeds \[([\d, ]+)\] of", output)
    stuck = re.search(r"SEED=(\d+) cargo test --test pipeline walk: it does not end", output)
    if failed:
        seeds = [int(seed) for seed in failed[1].split(",")]
        raise Caught(f"walk, after {min(seeds) + 1} seeds ({len(seeds)} of {SEEDS})")
    if stuck:
        raise Caught(f"walk, seed {stuck[1]} does not end")
    raise Caught("walk" if code else "walk, does not end")


def simulation(_fault):
    """Whole replicas in simulated worlds."""
    step = 10
    for first in range(1, SEEDS + 1, step):
        seeds = f"{first}..{first + step}"
        code, output = cargo("test", "--test", "simulation", "--", "--seeds", seeds)
        if code == 0:
            continue
        seeds = re.findall(r"--seed (\d+)", output)
        seed = min(map(int, seeds)) if seeds else first
        raise Caught(f"simulation, after {seed} seeds")


def model(_fault):
    """All states of the small models."""
    named("model", *cargo("test", "--test", "model"))


def unit(_fault):
    """Examples and properties."""
    named("unit", *cargo("test", "--lib"))


def service(_fault):
    """Watchers against simulated API servers, and stored data."""
    for test in ("watch", "storage", "raft_group"):
        named(test, *cargo("test", "--test", test))


def extra(fault):
    """What the fault names itself."""
    if "extra" in fault:
        command = fault["extra"].split()
        named("extra", *cargo(*command[1:]))


def named(judge, code, output):
    """Raises where tests have failed, with the first of them."""
    if code == 0:
        return
    failed = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. FAILED", output, re.M)
    count = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    what = f"{failed[0]}{count}" if failed else "does not end"
    raise Caught(f"{judge}: {what}")


JUDGES = (walks, simulation, model, unit, service, extra)
TESTS = ("pipeline", "simulation", "model", "watch", "storage", "raft_group")


def faults():
    """The faults, each checked against the source."""
    known = tomllib.loads(FAULTS.read_text())["fault"]
    for fault in known:
        count = (ROOT / fault["file"]).read_text().count(fault["find"])
        if count != 1:
            sys.exit(f"{fault['name']}: its text stands {count} times in {fault['file']}")
        if fault["find"] == fault["plant"]:
            sys.exit(f"{fault['name']}: nothing is planted")
    names = [fault["name"] for fault in known]
    if len(set(names)) != len(names):
        sys.exit("two faults have one name")
    return known


def copy_source():
    """What git knows of the source, and is not committed yet. Times stay: nothing is built twice."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = {name for name in files.stdout.split("\0") if name and (ROOT / name).is_file()}
    for name in wanted:
        there, here = TREE / name, ROOT / name
        if there.is_file() and there.read_bytes() == here.read_bytes():
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(here, there)
        shutil.copymode(here, there)
    for there in TREE.rglob("*"):
        if there.is_file() and str(there.relative_to(TREE)) not in wanted:
            there.unlink()


def build():
    tests = [argument for test in TESTS for argument in ("--test", test)]
    return cargo("test", "--no-run", "--lib", *tests)


def judge(fault, all_judges):
    """Plants the fault, and asks the judges."""
    path = TREE / fault["file"]
    source = path.read_text()
    path.write_text(source.replace(fault["find"], fault["plant"]))
    started = time.monotonic()
    caught = []
    try:
        code, output = build()
        if code != 0:
            sys.exit(f"{fault['name']} does not build:\n{output[-3000:]}")
        for one in JUDGES:
            try:
                one(fault)
            except Caught as found:
                caught.append(str(found))
                if not all_judges:
                    break
    finally:
        path.write_text(source)
    return {"caught": caught, "seconds": round(time.monotonic() - started)}


def without_fault():
    """Without a fault every judge is content, or else what it says of one means nothing."""
    code, output = build()
    if code != 0:
        sys.exit(f"the source does not build:\n{output[-3000:]}")
    for one in JUDGES:
        try:
            one({})
        except Caught as found:
            sys.exit(f"without any fault: {found}")


def results():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def table(known):
    done = results()
    print("| fault | trap | what it would do | caught by |\n|---|---|---|---|")
    for fault in known:
        result = done.get(fault["name"])
        by = "not run" if result is None else "; ".join(result["caught"]) or "**nothing**"
        print(f"| {fault['name']} | {fault.get('trap', '')} | {fault['means']} | {by} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="only these faults")
    parser.add_argument("--all-judges", action="store_true", help="ask every judge")
    parser.add_argument("--check", action="store_true", help="only check that the faults fit")
    parser.add_argument("--table", action="store_true", help="only print the results so far")
    arguments = parser.parse_args()
    known = faults()
    unknown = set(arguments.names) - {fault["name"] for fault in known}
    if unknown:
        sys.exit(f"no such fault: {', '.join(sorted(unknown))}")
    if arguments.check:
        print(f"{len(known)} faults fit the source")
        return
    if arguments.table:
        table(known)
        return
    copy_source()
    done = results()
    chosen = [fault for fault in known if fault["name"] in arguments.names]
    if not arguments.names:
        chosen = [fault for fault in known if fault["name"] not in done]
        if len(chosen) == len(known):
            print("without a fault ...", flush=True)
            without_fault()
    for number, fault in enumerate(chosen, 1):
        print(f"{number}/{len(chosen)} {fault['name']} ...", end=" ", flush=True)
        done[fault["name"]] = judge(fault, arguments.all_judges)
        RESULTS.write_text(json.dumps(done, indent=1))
        result = done[fault["name"]]
        by = "; ".join(result["caught"]) or "NOT CAUGHT"
        print(f"{by} ({result['seconds']} s)", flush=True)
    missed = [name for name, result in done.items() if not result["caught"]]
    if missed:
        sys.exit(f"not caught: {', '.join(missed)}")


if __name__ == "__main__":
    main()
