#!/usr/bin/env bash
# The units in a real systemd: they start, serve, reload, drain, restart what hangs, form a cluster, and are closed to
# the rest.
#
# usage: systemd/test.sh [--binary FILE] [--root FOLDER] [--suite NAME] [--keep] [--help]
#
#   --binary  the server to test; default: target/release/erlmcp-shard, else target/debug/erlmcp-shard
#   --root    where the system to boot lies, and is made if it is not there; default: .cache/systemd/root
#   --suite   which Debian it is; default: this host's, else bookworm (the binary needs a C library as new as its own)
#   --keep    leave it running at the end and say how to enter it
#
# Needs root, python3 and, on Debian, `apt-get install debootstrap systemd-container`. The system is booted by
# systemd-nspawn with a network of its own, and forgets everything at its end; this host is not touched. The system is
# fetched once (280 MB). Takes about half a minute. The last line is `N passed, N failed`; exit status 0 only if nothing
# failed, 3 if this host cannot run it.
set -euo pipefail

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
cannot() { echo "$*" >&2; exit 3; }
say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$repository/.cache/systemd/root
binary= suite= keep=
while (($#)); do
    case $1 in
        --binary) binary=$(realpath "$2"); shift ;;
        --root) root=$(realpath -m "$2"); shift ;;
        --suite) suite=$2; shift ;;
        --keep) keep=yes ;;
        -h | --help) usage; exit 0 ;;
        *) echo "unknown word $1; see --help" >&2; exit 2 ;;
    esac
    shift
done
if [[ -z $binary ]]; then
    for profile in release debug; do
        binary=${CARGO_TARGET_DIR:-$repository/target}/$profile/erlmcp-shard
        [[ ! -x $binary ]] || break
    done
fi
[[ -x $binary ]] || cannot "no server at $binary: cargo build --release, or --binary FILE"
[[ $(id -u) == 0 ]] || cannot "systemd-nspawn needs root"
for tool in debootstrap systemd-nspawn nsenter python3; do
    command -v "$tool" > /dev/null || cannot "no $tool here: apt-get install debootstrap systemd-container python3"
done
if [[ -z $suite ]]; then
    # shellcheck disable=SC1091
    suite=$(. /etc/os-release && [[ $ID == debian ]] && echo "${VERSION_CODENAME:-}" || true)
    suite=${suite:-bookworm}
fi

work=$(mktemp -d)
nspawn= leader=
finish() {
    [[ -z $nspawn ]] || { kill "$nspawn" && wait "$nspawn"; } 2> /dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# --- The system -------------------------------------------------------------------------------------------------------

if [[ ! -e $root/.complete ]]; then
    say "fetching Debian $suite into $root"
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,procps "$suite" "$root" \
        http://deb.debian.org/debian > "$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log"; exit 1; }
    touch "$root/.complete"
fi

# inside COMMAND...: in the booted system.
inside() {
    nsenter --target "$leader" --all -- /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin TERM=dumb "$@"
}
# put PATH: a file of the booted system, from stdin.
put() { inside sh -c 'mkdir -p "$(dirname "$1")" && cat > "$1"' sh "$1"; }

say "booting it with $binary"
systemd-nspawn --quiet --directory="$root" --volatile=overlay --private-network --register=no --keep-unit --boot \
    --console=pipe --machine="erlmcp-shard-test" --bind-ro="$binary:/usr/local/bin/erlmcp-shard" \
    > "$work/console.log" 2>&1 < /dev/null &
nspawn=$!
for _ in {1..300}; do
    kill -0 "$nspawn" 2> /dev/null || { cat "$work/console.log"; cannot "systemd-nspawn does not boot here"; }
    leader=$(pgrep -P "$nspawn" | head -n 1 || true)
    [[ -z $leader ]] || ! inside systemctl is-system-running --wait 2> /dev/null |
        grep -qE '^(running|degraded)$' || break
    sleep 0.1
done

# --- Looking ----------------------------------------------------------------------------------------------------------

passed=0
failed=0
# check NAME COMMAND...: counts whether it succeeds.
check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "not ok  $name"
        sed 's/^/        /' <<< "$output" | tail -n 5
    fi
}
# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}
# is WANTED GOT; matches PATTERN GOT; below LIMIT GOT
is() { [[ $1 == "$2" ]] || { echo "wanted $1, got $2"; return 1; }; }
matches() { [[ $2 =~ $1 ]] || { echo "wanted $1, got $2"; return 1; }; }
below() { (($2 < $1)) || { echo "wanted less than $1, got $2"; return 1; }; }
# says UNIT PATTERN: a line of its journal.
says() { inside journalctl --quiet --unit "$1" --grep "$2" --lines 1; }
# property UNIT NAME: as systemd knows it.
property() { inside systemctl show --property "$2" --value "$1"; }
# of_main UNIT FILE PATTERN: lines of a file below /proc of the unit's main process.
of_main() { inside grep -E "$3" "/proc/$(property "$1" MainPID)/$2"; }
# call PORT TOOL ARGUMENTS [CURL OPTION]...: the answer to a call of the modern era.
call() {
    local port=$1 tool=$2 arguments=$3 meta
    shift 3
    meta='"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}'
    inside curl -sS --max-time 30 "$@" "http://127.0.0.1:$port/mcp" -H 'Content-Type: application/json' \
        -H 'Accept: application/json, text/event-stream' -H 'MCP-Protocol-Version: 2026-07-28' \
        -H 'Mcp-Method: tools/call' -H "Mcp-Name: $tool" \
        -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"'"$tool"'","arguments":'"$arguments"',"_meta":{'"$meta"'}}}'
}
serves() { matches '"result".*hello' "$(call "$1" echo '{"text":"hello"}')"; }
# thread UNIT NAME: the number of one of its threads.
thread() {
    inside sh -c 'grep -lx "$2" /proc/"$1"/task/*/comm' sh "$(property "$1" MainPID)" "$2" | head -n 1 | cut -d/ -f5
}

# --- The units --------------------------------------------------------------------------------------------------------

unit=erlmcp-shard.service
inside erlmcp-shard tune render systemd --output /etc/systemd/system > "$work/render.log"
inside erlmcp-shard tune render sysctl --output /etc/sysctl.d >> "$work/render.log"
same() { diff <(inside cat "/etc/systemd/system/$1") "$repository/systemd/$1"; }
check "the binary renders the unit that is shipped" same erlmcp-shard.service
check "and the template" same erlmcp-shard@.service

put /etc/erlmcp-shard/config.toml <<< '[catalog]
source = "tools.toml"'
tool() {
    printf '[[tool]]\nname = "%s"\ndescription = "For the test"\nexec = [%s]\n' "$1" "$2"
    printf 'input_schema = { type = "object" }\n'
}
{ tool echo '"cat"'; tool nap '"sleep", "5"'; } | put /etc/erlmcp-shard/tools.toml
inside chmod -R go+rX /etc/erlmcp-shard
# A shorter patience than the shipped one, so that nobody waits for this test.
put /etc/systemd/system/erlmcp-shard.service.d/test.conf <<< '[Service]
WatchdogSec=2
TimeoutStopSec=3
TimeoutAbortSec=1'
inside systemctl daemon-reload
verify() { is "" "$(inside systemd-analyze verify --man=no "/etc/systemd/system/$1" 2>&1)"; }
check "systemd finds nothing wrong with the unit" verify erlmcp-shard.service
check "nor with the template" verify erlmcp-shard@.service

# --- It starts and serves ---------------------------------------------------------------------------------------------

check "it starts, and says when it is ready" inside systemctl start "$unit"
is_active() { is active "$(property "$1" ActiveState)"; }
check "it is active" is_active "$unit"
status_is() { matches "$2" "$(property "$1" StatusText)"; }
check "its status line says what it does" eventually 10 status_is "$unit" '^serving [0-9]+ connections on [0-9]+ shards$'
check "it serves" serves 8080
metrics() { matches erlmcp_connections_capacity "$(inside curl -sS http://127.0.0.1:9464/metrics)"; }
check "it is watched over the admin listener" metrics
# Where even root may not raise limits (no CAP_SYS_RESOURCE, bit 24), systemd gives what it has.
nofile=1048576
capabilities=$(inside sed -n 's/^CapEff:\s*/0x/p' /proc/1/status)
((capabilities >> 24 & 1)) || nofile=$(inside sed -nE 's/^Max open files +[0-9]+ +([0-9]+) .*/\1/p' /proc/1/limits)
limit_is() { matches " $1 +$1 " "$(of_main "$unit" limits '^Max open files ')"; }
check "it may open $nofile files" limit_is "$nofile"
check "it runs without capabilities" of_main "$unit" status '^CapBnd:\s0000000000000000$'
check "under a system call filter" of_main "$unit" status '^Seccomp:\s2$'
not_root() { ! of_main "$unit" status '^Uid:\s0\s'; }
check "and not as root" not_root
check "it logs how many connections there is room for" says "$unit" 'room for [0-9]+ connections'

# --- It reloads -------------------------------------------------------------------------------------------------------

main=$(property "$unit" MainPID)
tool later '"cat"' | inside tee -a /etc/erlmcp-shard/tools.toml > /dev/null
check "it reloads" inside systemctl reload "$unit"
has_later() { matches '"result"' "$(call 8080 later '{}')"; }
check "and serves the changed catalog" eventually 10 has_later
# runs_as PID UNIT: nothing has restarted it.
runs_as() { is "$1" "$(property "$2" MainPID)"; }
check "with the same process" runs_as "$main" "$unit"

# --- It drains --------------------------------------------------------------------------------------------------------

outlives_watchdog() { sleep 5; runs_as "$main" "$unit" && is 0 "$(property "$unit" NRestarts)"; }
check "while every shard answers, the watchdog is content" outlives_watchdog
call 8080 nap '{}' -w '\n%{http_code}' > "$work/nap.log" 2>&1 &
nap=$!
busy() { matches '"calls":1' "$(inside curl -sS http://127.0.0.1:9464/status)"; }
eventually 10 busy > /dev/null || true
began=$SECONDS
check "it stops" inside systemctl stop "$unit"
took=$((SECONDS - began))
wait "$nap" || true
answered() { matches '"result"' "$(cat "$work/nap.log")" && is 200 "$(tail -n 1 "$work/nap.log")"; }
check "after the call in flight, which took longer than TimeoutStopSec and WatchdogSec" answered
check "and not later than it must ($took s)" below 9 "$took"
ended_well() { is success "$(property "$unit" Result)"; }
check "with success" ended_well

# A notice that is longer than TimeoutStopSec, and then the drain.
put /etc/erlmcp-shard/config.toml <<< 'server.drain_notice_ms = 5000
catalog.source = "tools.toml"'
inside systemctl start "$unit"
began=$SECONDS
inside systemctl stop --no-block "$unit"
check "with a notice before the drain its status line says so" eventually 3 status_is "$unit" '^draining soon, not ready: '
not_ready() { is 503 "$(inside curl -sS -o /dev/null -w '%{http_code}' "http://127.0.0.1:$1")"; }
check "/readyz says so" not_ready 9464/readyz
check "/health says so" not_ready 8080/health
check "it serves meanwhile" serves 8080
is_inactive() { is inactive "$(property "$unit" ActiveState)"; }
check "then it leaves" eventually 15 is_inactive
took=$((SECONDS - began))
check "not before the notice is over ($took s), which is longer than TimeoutStopSec" below "$took" 3
check "with success" ended_well
put /etc/erlmcp-shard/config.toml <<< '[catalog]
source = "tools.toml"'

# --- It does not hang -------------------------------------------------------------------------------------------------

# Holds one thread, as a debugger does, until its process is gone; the other threads run.
cat > "$work/hold.py" << 'PYTHON'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
SEIZE, INTERRUPT, ALL = 0x4206, 0x4207, 0x40000000
thread = int(sys.argv[1])
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(request, thread, 0, 0):
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
while os.WIFSTOPPED(os.waitpid(thread, ALL)[1]):
    print("held", flush=True)
PYTHON

restarts() { (($1 < $(property "$unit" NRestarts))); }
inside systemctl start "$unit"
shard=$(thread "$unit" shard-1)
[[ -n $shard ]] || shard=$(thread "$unit" shard-0)
nsenter --target "$leader" --pid python3 "$work/hold.py" "$shard" > "$work/hold.log" 2>&1 &
is_held() { grep -q held "$work/hold.log" || { cat "$work/hold.log"; return 1; }; }
check "one shard is held" eventually 5 is_held
began=$SECONDS
check "the watchdog notices and the unit starts again" eventually 15 restarts 0
took=$((SECONDS - began))
check "soon ($took s; WatchdogSec is 2)" below 8 "$took"
check "the journal says that it was the watchdog" says "$unit" 'Watchdog timeout'
check "it serves again" eventually 10 serves 8080
seen=$(property "$unit" NRestarts)
inside kill -STOP "$(property "$unit" MainPID)"
check "a process that is stopped altogether is ended and started again" eventually 20 restarts "$seen"
check "and serves again" eventually 10 serves 8080
seen=$(property "$unit" NRestarts)
inside kill -KILL "$(property "$unit" MainPID)"
check "one that was killed is started again" eventually 10 restarts "$seen"
check "and serves again" eventually 10 serves 8080
inside systemctl stop "$unit"
inside systemctl reset-failed "$unit" 2> /dev/null || true
put /etc/erlmcp-shard/config.toml <<< '[server]
lisden = "127.0.0.1:8080"'
refuses() { ! inside systemctl start "$1"; }
check "a wrong configuration is refused" refuses "$unit"
stays_down() { is failed "$(property "$1" ActiveState)" && is 0 "$(property "$1" NRestarts)"; }
check "and not tried again" stays_down "$unit"

# --- Several on one host ----------------------------------------------------------------------------------------------

cores=$(($(nproc) < 2 ? 1 : 2))
number=0
for name in blue green; do
    core=$((number % cores))
    printf '[server]\nlisten = "127.0.0.1:818%s"\ntcp = "off"\nadmin = "127.0.0.1:919%s"\n' "$number" "$number" |
        put "/etc/erlmcp-shard/$name.toml"
    put "/etc/systemd/system/erlmcp-shard@$name.service.d/cores.conf" <<< "[Service]
CPUAffinity=$core"
    number=$((number + 1))
done
echo 'ERLMCP_FLAGS=--shards-per-core 3 --log json' | put /etc/erlmcp-shard/green.env
inside chmod -R go+rX /etc/erlmcp-shard
inside systemctl daemon-reload
check "two instances start" inside systemctl start erlmcp-shard@blue erlmcp-shard@green
check "the first serves" serves 8180
check "the second serves" serves 8181
check "the first runs on its core" of_main erlmcp-shard@blue status '^Cpus_allowed_list:\s0$'
check "the second on its own" of_main erlmcp-shard@green status "^Cpus_allowed_list:\s$((cores - 1))\$"
check "flags of an instance come from its environment file" eventually 10 status_is erlmcp-shard@green ' 3 shards$'
check "they stop" inside systemctl stop erlmcp-shard@blue erlmcp-shard@green

# shellcheck source-path=SCRIPTDIR
source "$repository/systemd/test-cluster.sh"

# --- The host's limits, with a real kernel behind them -----------------------------------------------------------------

# A new network namespace begins with the kernel's defaults, so this one is always there to be raised.
migrate() { is "$1" "$(inside sysctl -n net.ipv4.tcp_migrate_req)"; }
inside sysctl -qw net.ipv4.tcp_migrate_req=0
inside erlmcp-shard tune apply --connections 1000 > "$work/apply.log" 2>&1 || true
told() { grep -qF "$1" "$work/apply.log" || { cat "$work/apply.log"; return 1; }; }
check "tune apply tells what it changed" told 'net.ipv4.tcp_migrate_req: 0 → 1'
check "and changed it" migrate 1
check "and how to undo it" told 'undo: sysctl -w net.ipv4.tcp_migrate_req=0'
undo() { inside sh -ec "$(sed -n 's/^ *undo: //p' "$work/apply.log")"; }
check "its undo lines are commands" undo
check "that undo it" migrate 0

# --- It is closed -----------------------------------------------------------------------------------------------------

exposure() {
    inside systemd-analyze security --no-pager "$1" | sed -nE 's/.*Overall exposure level for [^:]*: ([0-9.]+).*/\1/p'
}
for name in erlmcp-shard.service erlmcp-shard@blue.service erlmcp-shard@east.service erlmcp-shard@west.service; do
    score=$(exposure "$name")
    check "systemd-analyze security $name: $score, at most 1.5" \
        awk -v score="$score" 'BEGIN { exit !(score != "" && score <= 1.5) }'
done

if [[ -n $keep ]]; then
    say "still running; enter it with: nsenter --target $leader --all"
    say "Enter ends it"
    read -r _ || true
fi
echo
echo "$passed passed, $failed failed"
((failed == 0))
