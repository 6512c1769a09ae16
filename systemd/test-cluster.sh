# shellcheck shell=bash disable=SC2154
# Nodes of a cluster as instances of the template: part of test.sh, whose words it uses.
#
# The secret is given in both ways that README.md documents, by the very lines that stand there: first systemd hands it
# over (LoadCredential=), then it belongs to a user of its own (User=).

# drop_in PATTERN: the drop-in of the README that has such a line.
drop_in() {
    sed -n '/^## Nodes of a cluster/,/^## What/p' "$repository/systemd/README.md" |
        awk -v pattern="$1" '
            /^# / { block = block substr($0, 3) "\n"; next }
            block ~ pattern { printf "%s", block; found = 1; exit }
            { block = "" }
            END { exit !found }'
}
# use_drop_in PATTERN: for both nodes, in place of the one before.
use_drop_in() {
    local name
    for name in "${names[@]}"; do
        drop_in "$1" | put "/etc/systemd/system/erlmcp-shard@$name.service.d/secret.conf"
    done
    inside systemctl daemon-reload
}
# admin NAME PATH
admin() { inside curl -sS --max-time 5 "http://127.0.0.1:${admin_port[$1]}$2"; }
# metric NAME METRIC: its value, of the one shard there is.
metric() { admin "$1" /metrics | sed -nE "s/^$2(\\{[^}]*\\})? ([0-9]+).*/\\2/p"; }
counts() { is "$3" "$(metric "$1" "$2")"; }
# sees NAME NUMBER: so many nodes are alive for it.
sees() { is "$2" "$(admin "$1" /status | grep -o '"state":"alive"' | wc -l)"; }
all_see_all() { sees east 2 && sees west 2; }
# legacy NAME BODY [CURL OPTION]...: a message of the legacy era.
legacy() {
    local name=$1 body=$2
    shift 2
    inside curl -sS --max-time 30 "$@" "http://127.0.0.1:${http_port[$name]}/mcp" -H 'Content-Type: application/json' \
        -H 'Accept: application/json, text/event-stream' -d "$body"
}
# open_session NAME: prints its id.
open_session() {
    local client='"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}'
    legacy "$1" '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{'"$client"'}}' -D - -o /dev/null |
        sed -n 's/^mcp-session-id: *\([^[:space:]]*\).*/\1/Ip'
}
# knows NAME SESSION: it serves it; forgot: it says that there is none.
ask_session() {
    legacy "$1" '{"jsonrpc":"2.0","id":2,"method":"ping"}' -H "Mcp-Session-Id: $2" -w '\n%{http_code}' \
        -H 'MCP-Protocol-Version: 2025-06-18'
}
knows() { matches '"result":.*200$' "$(ask_session "$1" "$2")"; }
both_know() { knows east "$1" && knows west "$1"; }
forgot() { matches '404$' "$(ask_session "$1" "$2")"; }
restart_each() {
    local name
    for name in "${names[@]}"; do
        # A rotation takes more starts in a minute than the unit allows one that dies.
        inside systemctl reset-failed "erlmcp-shard@$name" || true
        inside systemctl restart "erlmcp-shard@$name" && eventually 10 all_see_all || return 1
    done
}
# reload_each WORDS TIMES: and each says them, so many times by now.
reload_each() {
    local name
    for name in "${names[@]}"; do
        inside systemctl reload "erlmcp-shard@$name" && eventually 10 said "$name" "$1" "$2" || return 1
    done
}
said() { is "$3" "$(inside journalctl --quiet --unit "erlmcp-shard@$1" --grep "$2" --output cat | wc -l)"; }

secret=/etc/erlmcp-shard/cluster.secret
# set_secret LINE...: the file keeps its owner and permissions.
set_secret() { printf '%s\n' "$@" | inside sh -c 'cat > "$1"' sh "$secret"; }
fresh() { inside erlmcp-shard secret; }

names=(east west)
declare -A http_port=([east]=8280 [west]=8281) admin_port=([east]=9280 [west]=9281) mesh_port=([east]=7946 [west]=7962)
number=0
for name in "${names[@]}"; do
    number=$((number + 1))
    put "/etc/erlmcp-shard/$name.toml" << TOML
[server]
listen = "127.0.0.1:${http_port[$name]}"
tcp = "off"
admin = "127.0.0.1:${admin_port[$name]}"
[cluster]
node = $number
listen = "127.0.0.1:${mesh_port[$name]}"
peers = ["127.0.0.1:${mesh_port[east]}", "127.0.0.1:${mesh_port[west]}"]
secret_file = "cluster.secret"
sync = "eager"
TOML
    put "/etc/systemd/system/erlmcp-shard@$name.service.d/cores.conf" <<< "[Service]
CPUAffinity=0"
done
inside chmod -R go+rX /etc/erlmcp-shard
inside erlmcp-shard secret "$secret"
old=$(inside cat "$secret")

# --- The secret is root's, and systemd hands it over ------------------------------------------------------------------

inside systemctl daemon-reload
check "without a drop-in a node cannot read root's secret" refuses erlmcp-shard@east
check "it is not tried again" stays_down erlmcp-shard@east
check "and the journal says what to do" says erlmcp-shard@east "secret $secret cannot be read .*LoadCredential="
inside systemctl reset-failed erlmcp-shard@east || true

use_drop_in LoadCredential=
nothing_wrong() { is "" "$(inside systemd-analyze verify --man=no "$1" 2>&1)"; }
check "systemd finds nothing wrong with the drop-in" nothing_wrong erlmcp-shard@east.service
check "with it two nodes start" inside systemctl start erlmcp-shard@east erlmcp-shard@west
not_root_either() {
    ! of_main erlmcp-shard@east status '^Uid:\s0\s' && is '600 root' "$(inside stat -c '%a %U' "$secret")"
}
check "the file is still for root alone, and they are not root" not_root_either
check "they find each other" eventually 10 all_see_all
session=$(open_session east)
check "a session opened on one is served by the other" knows west "$session"
check "stopping one" inside systemctl stop erlmcp-shard@east
check "ends with success" is success "$(property erlmcp-shard@east Result)"
check "the other one heard that it left" says erlmcp-shard@west 'node 1 has left'
check "has the session at once" knows west "$session"
check "and has it for its own" counts west erlmcp_sessions_adopted_total 1
inside systemctl start erlmcp-shard@east
check "the first one comes back" eventually 10 all_see_all
check "and serves the session too" knows east "$session"

new=$(fresh)
set_secret "$old" "$new"
main=$(property erlmcp-shard@east MainPID)
check "a reload does not change a credential, and says so" reload_each 'needs a restart of the unit' 1
check "nor the process" runs_as "$main" erlmcp-shard@east
check "restarted one by one, all know the new secret" restart_each
set_secret "$new" "$old"
check "all use it" restart_each
check "the session outlived that" both_know "$session"
later=$(open_session east)
set_secret "$new"
check "all forget the old one" restart_each
check "a session sealed with the new one outlived that too" both_know "$later"
check "one sealed with the old one did not" forgot west "$session"
inside systemctl stop erlmcp-shard@east erlmcp-shard@west

# --- The secret belongs to a user of its own --------------------------------------------------------------------------

use_drop_in User=
add_user=$(sed -n 's/^sudo \(useradd .*\)/\1/p' "$repository/systemd/README.md")
check "the user can be made" inside sh -c "$add_user"
inside chown erlmcp-shard "$secret"
inside chmod 640 "$secret"
check "a secret that its group may read is refused" refuses erlmcp-shard@east
check "this is not tried again either" stays_down erlmcp-shard@east
check "and the journal says what to do" \
    says erlmcp-shard@east "secret $secret is open to others .*0640.*chmod 600 $secret"
inside chmod 600 "$secret"
inside systemctl reset-failed erlmcp-shard@east || true
check "two nodes start" inside systemctl start erlmcp-shard@east erlmcp-shard@west
check "as that user" of_main erlmcp-shard@west status "^Uid:\s$(inside id -u erlmcp-shard)\s"
check "they find each other" eventually 10 all_see_all
session=$(open_session west)
check "a session opened on one is served by the other" knows east "$session"

main=$(property erlmcp-shard@west MainPID)
old=$new
new=$(fresh)
inside chmod 644 "$secret"
set_secret "$new"
check "a reload with a file that is open to others changes nothing" \
    reload_each 'still using the old secret: .*0644.*chmod 600' 1
inside chmod 600 "$secret"
set_secret "$old" "$new"
check "reloaded, all know the new secret" reload_each 'secret was replaced: Secrets\(2\)' 1
set_secret "$new" "$old"
check "all use it" reload_each 'secret was replaced: Secrets\(2\)' 2
check "the session outlived that" both_know "$session"
later=$(open_session west)
set_secret "$new"
check "all forget the old one" reload_each 'secret was replaced: Secrets\(1\)' 1
check "a session sealed with the new one outlived that too" both_know "$later"
check "one sealed with the old one did not" forgot east "$session"
check "nothing was restarted" runs_as "$main" erlmcp-shard@west
check "they still see each other" all_see_all
check "and no link was lost" counts west erlmcp_mesh_links_lost_total 0
check "a node that starts with the new secret is let in" inside systemctl restart erlmcp-shard@east
check "by the one that was only reloaded" eventually 10 all_see_all
check "they stop" inside systemctl stop erlmcp-shard@east erlmcp-shard@west
