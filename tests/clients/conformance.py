#!/usr/bin/env python3
"""Hold the built server to the official MCP conformance suite, both protocol revisions.

usage: conformance.py [--binary PATH] [--only REVISION] [--allow-warnings] [--output DIR]

For each revision a fresh server (`--catalog everything`, two shards) is started and the suite is run with
`--requirements REVISION`, which runs exactly what that revision requires, at that revision's wire, and then the scenarios
it reports without scoring. There is no list of expected failures. We count from what the suite itself printed and wrote:

- every required scenario must have run, and their number must be the number written down below;
- the pending scenarios named below must pass as well, by really being exercised (`PROOF`), not by being skipped;
- the scenarios of the tasks extension, which the suite does not score, are scored here (`TASKS`); the one that the suite
  itself skips is shown and not counted;
- a warning is a broken SHOULD: shown, and counted as a failure unless --allow-warnings is given.

The last line is `conformance: N passed, N failed` (scenarios). Environment: `MCP_TEST_NODE` (a Node >= 22, default `node`)
and `MCP_TEST_NPM` (folder with node_modules, default .cache/npm); `tests/clients/prepare.sh` fills both.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from serve import ROOT, Server, ServerError, end_on_sigterm

SUITE_TIMEOUT_S = 420
REQUIRED = {"2025-11-25": 30, "2026-07-28": 37}
EXTRA = {
    "2025-11-25": ["server-session-lifecycle", "json-schema-2020-12", "server-sse-polling"],
    "2026-07-28": ["json-schema-2020-12", "http-header-validation", "http-custom-header-server-validation"],
}
TASKS = {
    "2025-11-25": [],
    "2026-07-28": [
        "tasks-capability-negotiation",
        "tasks-dispatch-and-envelope",
        "tasks-lifecycle",
        "tasks-mrtr-composition",
        "tasks-mrtr-input",
        "tasks-request-headers",
        "tasks-request-state-removal",
        "tasks-required-task-error",
        "tasks-wire-fields",
    ],
}
# Scenarios that may pass without having tested anything: these checks must be there, with SUCCESS.
PROOF = {
    "server-session-lifecycle": ["server-session-delete-accepted", "server-session-terminated-returns-404"],
    "server-sse-polling": ["server-sse-priming-event", "server-sse-retry-field", "server-sse-disconnect-resume"],
}
RUNNING = re.compile(r"^=== Running scenario: (\S+) ===$", re.MULTILINE)
LISTED = re.compile(r"^\s+- (\S+?)(?: \[(\w+)\])?$")


@dataclass
class Scenario:
    """What the suite wrote about one scenario."""

    name: str
    checks: list[dict] = field(default_factory=list)

    def with_status(self, *wanted: str) -> list[dict]:
        return [check for check in self.checks if check.get("status") in wanted]

    def problems(self, allow_warnings: bool) -> list[str]:
        statuses = ["FAILURE"] if allow_warnings else ["FAILURE", "WARNING"]
        found = [describe(check) for check in self.with_status(*statuses)]
        if not self.with_status("SUCCESS"):
            found.append("no check succeeded: the scenario did not run, or tested nothing")
        succeeded = {check["id"] for check in self.with_status("SUCCESS")}
        found += [f"{check} was not exercised" for check in PROOF.get(self.name, []) if check not in succeeded]
        return found


def describe(check: dict) -> str:
    message = check.get("errorMessage") or check.get("description") or ""
    return f"{check.get('status')} {check.get('id')}: {message}"[:1200]


class Suite:
    """The suite's command line."""

    def __init__(self) -> None:
        self.node = os.environ.get("MCP_TEST_NODE", "node")
        npm = Path(os.environ.get("MCP_TEST_NPM", ROOT / ".cache" / "npm"))
        self.entry = npm / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        if not self.entry.is_file():
            raise ServerError(f"{self.entry} is missing: run tests/clients/prepare.sh first")

    def required(self, revision: str) -> tuple[list[str], list[str]]:
        """Server scenarios the revision requires, and those it runs without scoring them."""
        text = self._run(["list", "--requirements", revision], timeout_s=60).stdout
        required: list[str] = []
        unscored: list[str] = []
        section = ""
        for line in text.splitlines():
            if line and not line.startswith(" "):
                section = line
            elif found := LISTED.match(line):
                if section.startswith("Server scenarios"):
                    required.append(found[1])
                elif section.startswith("Run and reported") and found[2] == "server":
                    unscored.append(found[1])
        return required, unscored

    def run(self, revision: str, url: str, output: Path) -> tuple[int, str]:
        arguments = ["server", "--url", url, "--requirements", revision, "-o", str(output)]
        done = self._run(arguments, timeout_s=SUITE_TIMEOUT_S)
        output.mkdir(parents=True, exist_ok=True)
        (output / "suite.log").write_text(done.stdout + done.stderr)
        return done.returncode, done.stdout

    def _run(self, arguments: list[str], timeout_s: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.node, str(self.entry), *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
        )


def read_scenario(output: Path, name: str) -> Scenario:
    """The suite writes `server-<scenario>-<time>/checks.json`."""
    folders = sorted(output.glob(f"server-{name}-[0-9][0-9][0-9][0-9]-*T*"))
    files = [folder / "checks.json" for folder in folders if (folder / "checks.json").is_file()]
    return Scenario(name, json.loads(files[-1].read_text()) if files else [])


def run_revision(suite: Suite, revision: str, options: argparse.Namespace) -> tuple[int, int]:
    required, unscored = suite.required(revision)
    extra = EXTRA[revision] + TASKS[revision]
    output = options.output / revision
    shutil.rmtree(output, ignore_errors=True)
    with Server("everything", options.binary, options.output / f"server-{revision}.log") as server:
        status, text = suite.run(revision, server.environment["MCP_HTTP_URL"], output)
    ran = RUNNING.findall(text)

    passed = failed = warnings = 0
    for name in [*required, *extra]:
        scenario = read_scenario(output, name)
        warnings += len(scenario.with_status("WARNING"))
        problems = scenario.problems(options.allow_warnings)
        if name not in ran:
            problems.insert(0, "the suite did not run it")
        passed, failed = (passed, failed + 1) if problems else (passed + 1, failed)
        kind = "required" if name in required else "extension" if name in TASKS[revision] else "pending"
        print(f"{'not ok' if problems else 'ok'} - {revision} {name} ({kind}, {len(scenario.checks)} checks)")
        for problem in problems:
            print(f"    {problem}")

    for name in (name for name in unscored if name not in extra):
        scenario = read_scenario(output, name)
        counts = ", ".join(f"{len(scenario.with_status(s))} {s.lower()}" for s in ("SUCCESS", "FAILURE", "SKIPPED"))
        print(f"# {revision} {name} (shown and not counted): {counts}")

    broken = []
    if len(required) != REQUIRED[revision] or len(set(required)) != len(required):
        broken.append(f"the suite requires {len(required)} server scenarios, {REQUIRED[revision]} were expected")
    if missing := [name for name in extra if name not in unscored]:
        broken.append(f"no longer among the unscored scenarios: {', '.join(missing)}")
    if status != 0 and failed == 0:
        broken.append(f"every scenario passed, yet the suite ended with status {status}: see {output / 'suite.log'}")
    for problem in broken:
        failed += 1
        print(f"not ok - {revision} {problem}")
    print(f"# {revision}: {len(required)} required and {len(extra)} other scenarios, {warnings} warnings")
    return passed, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--only", choices=sorted(REQUIRED))
    parser.add_argument("--allow-warnings", action="store_true")
    parser.add_argument("--output", type=Path, default=ROOT / ".cache" / "conformance")
    options = parser.parse_args()
    end_on_sigterm()
    passed = failed = 0
    for revision in [options.only] if options.only else sorted(REQUIRED):
        try:
            more_passed, more_failed = run_revision(Suite(), revision, options)
        except (ServerError, subprocess.TimeoutExpired, OSError) as error:
            print(f"not ok - {revision}: {error}")
            more_passed, more_failed = 0, REQUIRED[revision] + len(EXTRA[revision]) + len(TASKS[revision])
        passed, failed = passed + more_passed, failed + more_failed
    print(f"conformance: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
