#!/usr/bin/env bash
# A cluster of several nodes on this host, for trying it out and for tests.
#
# usage: deploy/local/cluster.sh start|stop|restart [NODE]... | status [FLAG]... | tail
#
#   start    starts the nodes that do not run, and waits until each is ready and all see each other
#   stop     drains: calls in flight finish, sessions go to the nodes that stay; waits until they have left
#   restart  one node after the other, so that the cluster stays
#   status   erlmcp-shard status, asked of the first node that answers; --watch, --shards, --json
#   tail     follows the logs
#
# Everything lies in one folder: node-1.toml, node-1.log, node-1.pid and so on, and cluster.secret. The configurations are
# written at each start, from these variables:
#
#   CLUSTER_DIR      the folder                                       default: cluster-run in the checkout
#   NODES            how many nodes, 1 to 16                          4
#   HTTP_PORT        of node 1; the next node has the next one        8080
#   TCP_PORT         the same, newline-delimited JSON                 9001
#   ADMIN_PORT       the same, status and metrics                     9464
#   MESH_PORT        of node 1's first shard; each shard has one      7946
#   CORES            cores that the nodes share, like 0-7,9           those this shell may use
#   SHARDS_PER_CORE  shards on each core of a node                    1
#   SYNC, REPLICAS   as under [cluster]                               lazy, 1
#   CATALOG          demo, everything, or the path of a file          demo
#   ERLMCP           the program                                      built here, or else the one in PATH
#   WAIT_S           seconds a start or a stop may take               30
set -euo pipefail

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
fail() { echo "$*" >&2; exit 1; }

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${CLUSTER_DIR:-$repository/cluster-run}
nodes=${NODES:-4}
http_port=${HTTP_PORT:-8080}
tcp_port=${TCP_PORT:-9001}
admin_port=${ADMIN_PORT:-9464}
mesh_port=${MESH_PORT:-7946}
shards_per_core=${SHARDS_PER_CORE:-1}
wait_s=${WAIT_S:-30}
here=127.0.0.1

# within MOST TEXT: a number from 1 to that.
within() { [[ $2 =~ ^[1-9][0-9]?$ ]] && (($2 <= $1)); }
within 16 "$nodes" || fail "NODES=$nodes: from 1 to 16"
within 64 "$shards_per_core" || fail "SHARDS_PER_CORE=$shards_per_core: from 1 to 64"

admin() { echo "$here:$((admin_port + $1 - 1))"; }

# The program: what is named, what this checkout builds, or what is installed.
find_binary() {
    if [[ -n ${ERLMCP:-} ]]; then
        binary=$(command -v "$ERLMCP") || fail "ERLMCP=$ERLMCP: no such program"
    elif [[ -f $repository/Cargo.toml ]] && command -v cargo > /dev/null; then
        (cd "$repository" && cargo build --release --quiet --bin erlmcp-shard) || fail "it does not build"
        local target=${CARGO_TARGET_DIR:-target}
        [[ $target == /* ]] || target=$repository/$target
        binary=$target/release/erlmcp-shard
    else
        binary=$(command -v erlmcp-shard) ||
            fail "no erlmcp-shard in PATH and no cargo to build it with; name the program: ERLMCP=FILE"
    fi
    binary=$(realpath "$binary")
}

# expand 0-3,8: one number per line.
expand() {
    local part
    for part in ${1//,/ }; do
        seq "${part%-*}" "${part#*-}"
    done
}

# The cores of each node: a slice for each, or in turns where there are fewer cores than nodes.
share_cores() {
    local list each
    list=${CORES:-$(sed -n 's/^Cpus_allowed_list:\s*//p' /proc/self/status)}
    mapfile -t cores < <(expand "$list")
    each=$((${#cores[@]} / nodes))
    slice=$((each > 0 ? each : 1))
    shards=$((slice * shards_per_core))
    # The ports of one node's shards must not reach into the next one's.
    mesh_step=$((shards > 16 ? shards : 16))
}
cores_of() {
    local first=$(((($1 - 1) * slice) % ${#cores[@]}))
    local mine=("${cores[@]:first:slice}")
    (IFS=, && echo "${mine[*]}")
}

# pid_of NODE: prints it if that node runs. The number alone proves nothing: it may have been given to another process.
pid_of() {
    local pid
    pid=$(cat "$folder/node-$1.pid" 2> /dev/null) || return 1
    tr '\0' '\n' 2> /dev/null < "/proc/$pid/cmdline" | grep -qxF "$folder/node-$1.toml" || return 1
    echo "$pid"
}

# eventually COMMAND...: until it succeeds, for at most $wait_s seconds.
eventually() {
    local deadline=$((SECONDS + wait_s))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

configure() {
    local peers=() node
    for ((node = 1; node <= nodes; node++)); do
        peers+=("\"$here:$((mesh_port + (node - 1) * mesh_step))\"")
    done
    local catalog=${CATALOG:-demo}
    case $catalog in
        demo | everything) ;;
        *) catalog=$(realpath "$catalog") ;;
    esac
    cat > "$folder/node-$1.toml" << TOML
# Written by deploy/local/cluster.sh at each start.
[server]
cores = "$(cores_of "$1")"
shards_per_core = $shards_per_core
listen = "$here:$((http_port + $1 - 1))"
tcp = "$here:$((tcp_port + $1 - 1))"
admin = "$(admin "$1")"

[catalog]
source = "$catalog"

[cluster]
node = $1
listen = "$here:$((mesh_port + ($1 - 1) * mesh_step))"
peers = [$(IFS=, && echo "${peers[*]}")]
secret_file = "cluster.secret"
sync = "${SYNC:-lazy}"
replicas = ${REPLICAS:-1}
TOML
}

# Answers, or has ended. Asked of a process that was just started, whose command line may not be there yet.
is_settled() { answers "$1" || ! kill -0 "$(cat "$folder/node-$1.pid")" 2> /dev/null; }
answers() { "$binary" status --json --admin "$(admin "$1")" > /dev/null 2>&1; }
is_gone() { ! pid_of "$1" > /dev/null; }
# sees_all: the first node that runs sees all that run.
sees_all() {
    local node running=0 first='' seen
    for ((node = nodes; node >= 1; node--)); do
        if pid_of "$node" > /dev/null; then
            running=$((running + 1))
            first=$node
        fi
    done
    ((running)) || return 1
    seen=$("$binary" status --json --admin "$(admin "$first")" 2> /dev/null | grep -o '"state":"alive"' | wc -l)
    ((running == seen))
}

launch() {
    local node=$1
    if pid_of "$node" > /dev/null; then
        return
    fi
    configure "$node"
    # A session of its own: what is typed at this terminal is not meant for it. The lock is ours, not its.
    setsid "$binary" --config "$folder/node-$node.toml" >> "$folder/node-$node.log" 2>&1 < /dev/null 9>&- &
    echo $! > "$folder/node-$node.pid"
}

await() {
    local node=$1
    eventually is_settled "$node" || fail "node $node does not get ready; see $folder/node-$node.log"
    if ! answers "$node"; then
        tail -n 5 "$folder/node-$node.log" >&2
        fail "node $node has not started; its log is $folder/node-$node.log"
    fi
    echo "node $node  http://$here:$((http_port + node - 1))/mcp  tcp $here:$((tcp_port + node - 1))  " \
        "admin $(admin "$node")  pid $(cat "$folder/node-$node.pid")"
}

start() {
    local node
    [[ -e $folder/cluster.secret ]] || "$binary" secret "$folder/cluster.secret"
    for node in "$@"; do launch "$node"; done
    for node in "$@"; do await "$node"; done
    eventually sees_all || fail "the nodes do not find each other; see the logs in $folder"
}

stop() {
    local node pid
    local -A pids=()
    for node in "$@"; do
        if pid=$(pid_of "$node"); then
            pids[$node]=$pid
            kill -TERM "$pid" 2> /dev/null || true
        fi
    done
    ((${#pids[@]})) || echo "nothing runs"
    for node in "${!pids[@]}"; do
        if ! eventually is_gone "$node"; then
            kill -KILL "${pids[$node]}" 2> /dev/null || true
            echo "node $node did not leave in $wait_s s and was killed" >&2
        else
            echo "node $node has left"
        fi
        rm -f "$folder/node-$node.pid"
    done
}

restart() {
    local node
    for node in "$@"; do
        stop "$node"
        start "$node"
    done
}

follow() {
    local logs=("$folder"/node-*.log)
    [[ -e ${logs[0]} ]] || fail "no logs in $folder: nothing was started"
    exec tail -n 20 -F "${logs[@]}"
}

ask() {
    local node pid
    for ((node = 1; node <= nodes; node++)); do
        if pid=$(pid_of "$node"); then
            # The program that runs, not one that would have to be built first.
            exec "/proc/$pid/exe" status --admin "$(admin "$node")" "$@"
        fi
    done
    fail "no node runs (looked in $folder); start them: ${BASH_SOURCE[0]} start"
}

command=${1:-}
shift || true
case $command in
    start | stop | restart)
        for node in "$@"; do
            within "$nodes" "$node" || fail "no node $node; there are 1 to $nodes (NODES)"
        done
        (($#)) || mapfile -t all < <(seq "$nodes")
        mkdir -p "$folder"
        folder=$(realpath "$folder")
        exec 9> "$folder/lock"
        flock -n 9 || fail "another cluster.sh works in $folder; wait for it"
        if [[ $command != stop ]]; then
            find_binary
            share_cores
        fi
        "$command" "${@:-${all[@]}}"
        ;;
    status)
        [[ ! -d $folder ]] || folder=$(realpath "$folder")
        ask "$@"
        ;;
    tail) follow ;;
    -h | --help | help) usage ;;
    *) usage >&2; exit 2 ;;
esac
