#!/usr/bin/env bash
# Fetch what the client tests run with, pinned, into .cache/ (git-ignored). Does nothing when it is already there.
#
# usage: prepare.sh [--help]
#
#   .cache/npm    package-lock.json's packages: the conformance suite, both TypeScript SDKs, Node 22 as an npm package
#   .cache/venv   python/requirements.txt: the official Python client
#
# Prints two lines for the caller to eval: MCP_TEST_NODE=… and MCP_TEST_PYTHON=…; everything else goes to stderr.
# Needs node >= 18 with npm, and python3 >= 3.11 with venv. Packages come from the registries npm and pip are set up with.
set -euo pipefail

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache
say() { printf 'prepare: %s\n' "$*" >&2; }

# Run a command, again if it fails: a registry may hiccup.
persist() {
    local attempt
    for attempt in 1 2 3; do
        if timeout --foreground 300 "$@" >&2; then return 0; fi
        say "attempt $attempt failed: $*"
        sleep $((attempt * 3))
    done
    return 1
}

# A folder is finished when its stamp holds the sum of what it was made from.
sum_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
finished() { [[ -f $1/.stamp && $(cat "$1/.stamp") == "$2" ]]; }

npm_sum=$(sum_of "$here/package.json" "$here/package-lock.json")
if ! finished "$cache/npm" "$npm_sum"; then
    say "npm packages (conformance suite, TypeScript SDKs, Node 22)"
    rm -rf "$cache/npm" && mkdir -p "$cache/npm"
    cp "$here/package.json" "$here/package-lock.json" "$cache/npm/"
    persist npm ci --prefix "$cache/npm" --no-audit --no-fund --loglevel=error
    echo "$npm_sum" > "$cache/npm/.stamp"
fi

pip_sum=$(sum_of "$here/python/requirements.txt")
if ! finished "$cache/venv" "$pip_sum"; then
    say "python packages (the official client)"
    rm -rf "$cache/venv"
    python3 -m venv "$cache/venv"
    persist "$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r "$here/python/requirements.txt"
    echo "$pip_sum" > "$cache/venv/.stamp"
fi

# Node 22: the packaged one, or the machine's own where it is new enough (another CPU than x64 or arm64).
node=
for candidate in "$cache"/npm/node_modules/node-linux-*/bin/node "$(command -v node || true)"; do
    if [[ -x $candidate ]] && [[ $("$candidate" --version 2> /dev/null) =~ ^v([0-9]+) ]] && ((BASH_REMATCH[1] >= 22)); then
        node=$candidate
        break
    fi
done
[[ -n $node ]] || { say "no Node 22 or newer"; exit 1; }

printf 'MCP_TEST_NODE=%q\nMCP_TEST_PYTHON=%q\n' "$node" "$cache/venv/bin/python"
