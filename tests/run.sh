#!/usr/bin/env bash
# Everything that must hold before a change is merged, in one command.
#
# usage: tests/run.sh [--help] [STAGE]...
#
# Stages, in this order (all of them by default):
#   fmt          cargo fmt --check
#   clippy       cargo clippy, warnings are errors
#   test         cargo test --workspace
#   release      cargo build --release
#   conformance  the official MCP conformance suite, revisions 2025-11-25 and 2026-07-28
#   python       the official Python client, both eras, every transport
#   typescript   the official TypeScript clients 2.x and 1.x
#
# Needs Linux with io_uring, a Rust toolchain (rustfmt, clippy), a C compiler, node >= 18 with npm, python3 >= 3.11 with
# venv. What Debian packages is installed with apt-get when we are root; otherwise the missing packages are named.
# Test clients are fetched, pinned, into .cache/ by tests/clients/prepare.sh. Logs: .cache/logs/STAGE.log.
#
# TEST_BUDGET_S (default 2280) bounds the whole run; a stage that would overrun it is ended and counts as failed.
# A stage without a count of its own adds nothing when it passes and one failure when it fails. The last line is
# `N passed, N failed`: Rust tests + conformance scenarios + client checks. Exit status 0 only if nothing failed.
set -euo pipefail

all=(fmt clippy test release conformance python typescript)
case ${1:-} in
    -h | --help)
        sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stages=("$@")
((${#stages[@]})) || stages=("${all[@]}")
for stage in "${stages[@]}"; do
    [[ " ${all[*]} " == *" $stage "* ]] || { echo "no stage called $stage; see --help" >&2; exit 2; }
done

root=$PWD
logs=$root/.cache/logs
mkdir -p "$logs"
deadline=$((SECONDS + ${TEST_BUDGET_S:-2280}))
passed=0
failed=0
export CARGO_TERM_COLOR=never

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }
wants() { [[ " ${stages[*]} " == *" $1 "* ]]; }
has() { command -v "$1" > /dev/null; }

# What the chosen stages need from the machine.
install_what_is_missing() {
    local packages=()
    if wants fmt || wants clippy || wants test || wants release; then
        has cargo || [[ ! -x ${HOME:-}/.cargo/bin/cargo ]] || PATH=$HOME/.cargo/bin:$PATH
        has cargo || { say "cargo is missing: install Rust (https://rustup.rs)"; exit 1; }
        has cc || packages+=(build-essential)
    fi
    if wants conformance || wants python || wants typescript; then
        has npm || packages+=(nodejs npm)
        has python3 || packages+=(python3)
        python3 -c 'import venv, ensurepip' 2> /dev/null || packages+=(python3-venv)
    fi
    ((${#packages[@]})) || return 0
    if has apt-get && [[ $(id -u) == 0 ]]; then
        say "installing ${packages[*]}"
        timeout 600 apt-get update -qq > "$logs/apt.log" 2>&1 || true
        DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -y -qq --no-install-recommends \
            "${packages[@]}" >> "$logs/apt.log" 2>&1 || { tail -n 20 "$logs/apt.log"; exit 1; }
    else
        say "missing: ${packages[*]} (not root, so please install: apt-get install ${packages[*]})"
        exit 1
    fi
}

# stage NAME SECONDS COMMAND...: run it under a time limit, its output to the log. Sets `status`, `log`.
run_stage() {
    local name=$1 limit=$2 left=$((deadline - SECONDS)) began=$SECONDS
    shift 2
    log=$logs/$name.log
    ((left < limit)) && limit=$left
    if ((limit <= 0)); then
        echo "no time left" > "$log"
        status=124
    else
        say "$name: $*"
        status=0
        # timeout gives the command a process group of its own, and ends that whole group.
        timeout --kill-after=20 "$limit" "$@" > "$log" 2>&1 < /dev/null || status=$?
    fi
    ((status == 124 || status == 137)) && say "$name: ended after its time limit of $limit s"
    say "$name: status $status after $((SECONDS - began)) s"
}

# Adds what was counted; a failure nobody counted is one.
count() {
    local name=$1 more_passed=$2 more_failed=$3
    if ((status != 0 && more_failed == 0)); then more_failed=1; fi
    passed=$((passed + more_passed))
    failed=$((failed + more_failed))
    if ((more_failed)); then
        say "$name: FAILED ($more_passed passed, $more_failed failed), from $log:"
        # First what failed, then how it ended.
        grep -aE -A3 '^not ok|^error|^test .* FAILED|panicked at|^Diff in' "$log" | head -n 150 || true
        echo "  …"
        tail -n 25 "$log"
    elif ((more_passed)); then
        say "$name: $more_passed passed"
    fi
}

# cargo test: the sum of its `test result:` lines.
count_rust_tests() {
    local sums
    sums=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$log" |
        awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }')
    # shellcheck disable=SC2086
    count "$1" $sums
}

# Our own scripts: the sum of their `…: N passed, N failed` lines.
count_checks() {
    local sums
    sums=$(sed -nE 's/^[a-z][^:]*: ([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log" |
        awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }')
    # shellcheck disable=SC2086
    count "$1" $sums
}

# Both catalogs, a fresh server each: the demo one, then the one where tools ask the client back.
both_catalogs() {
    local name=$1 catalog status=0
    shift
    for catalog in demo everything; do
        python3 tests/clients/serve.py --catalog "$catalog" --log "$logs/server-$name-$catalog.log" --timeout 280 -- "$@" ||
            status=$?
    done
    return "$status"
}
export -f both_catalogs
export logs

install_what_is_missing

clients_ready=
prepare_clients() {
    [[ -z $clients_ready ]] || return 0
    clients_ready=yes
    run_stage prepare 900 tests/clients/prepare.sh
    count prepare 0 0
    eval "$(grep -a '^MCP_TEST_' "$log" || true)"
    export MCP_TEST_NODE=${MCP_TEST_NODE:-node} MCP_TEST_PYTHON=${MCP_TEST_PYTHON:-python3}
}

if wants fmt; then
    run_stage fmt 120 cargo fmt --all --check
    count fmt 0 0
fi
if wants clippy; then
    run_stage clippy 900 cargo clippy --workspace --all-targets --locked -- -D warnings
    count clippy 0 0
fi
if wants test; then
    run_stage test 1200 cargo test --workspace --locked --no-fail-fast
    count_rust_tests test
fi
if wants release; then
    run_stage release 1200 cargo build --release --locked
    count release 0 0
fi
if wants conformance; then
    prepare_clients
    run_stage conformance 900 python3 tests/clients/conformance.py
    count_checks conformance
fi
if wants python; then
    prepare_clients
    run_stage python 600 bash -c 'both_catalogs python "$MCP_TEST_PYTHON" tests/clients/python/clients.py'
    count_checks python
fi
if wants typescript; then
    prepare_clients
    # Node looks for packages beside the script, and ours are in the cache.
    cp tests/clients/typescript/clients.mjs .cache/npm/ 2> /dev/null || true
    run_stage typescript 600 bash -c 'both_catalogs typescript "$MCP_TEST_NODE" .cache/npm/clients.mjs'
    count_checks typescript
fi

echo
echo "$passed passed, $failed failed"
((failed == 0))
