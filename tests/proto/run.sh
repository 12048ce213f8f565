#!/usr/bin/env bash
# Holds proto/ to its rules (proto/buf.yaml) with buf, which is built from Go
# modules once, some four minutes, and kept in the user's cache:
#
#   run.sh          lint, format, and nothing that breaks users of quorumwatch.v1
#   run.sh renew    keeps what was added to quorumwatch.v1 since: from then on
#                   it stays, too. Refused where something else was changed
#
# What users rely on is kept as a descriptor set, proto/quorumwatch.v1.binpb.
#
# Where buf cannot be built, nothing is checked, and the last line of stdout says
# so: "SKIPPED: ...". Exit codes: 0 done or skipped, 1 failed, 2 usage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

kept=proto/quorumwatch.v1.binpb
tool_dir=tests/proto/tools/buf
buf_version=$(sed -n -E 's#^[[:space:]]*github.com/bufbuild/buf v([^ ]+).*#\1#p' "$tool_dir/go.mod")
built_dir=${XDG_CACHE_HOME:-$HOME/.cache}/quorumwatch/buf-$buf_version
# Without a registry a first build is not waited for longer.
fetch_seconds=400

say() { printf 'proto: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

skip() {
    printf 'SKIPPED: %s\n' "$*"
    exit 0
}

scratch_dir=$(mktemp -d)
trap 'rm -rf "$scratch_dir"' EXIT

# find_buf: sets `buf`. One that is installed is used where it is the same version.
find_buf() {
    buf=$built_dir/buf
    [[ ! -x $buf ]] || return 0
    if command -v buf >/dev/null && [[ $(buf --version 2>&1) == "$buf_version" ]]; then
        buf=buf
        return
    fi
    command -v go >/dev/null || skip "buf $buf_version is built with Go, which is not installed"
    local package=github.com/bufbuild/buf/cmd/buf error
    say "building buf $buf_version (some four minutes, once)"
    error=$(cd "$tool_dir" &&
        GOWORK=off timeout "$fetch_seconds" go list -deps "$package" 2>&1 >/dev/null) ||
        skip "the modules of buf $buf_version cannot be fetched, or Go is too old: $(tail -n 1 <<<"$error")"
    mkdir -p "$built_dir"
    # mv within one file system is atomic, so there is never half a binary, however this run ends.
    local staged
    staged=$(mktemp "$built_dir/staging.XXXXXX")
    (cd "$tool_dir" &&
        CGO_ENABLED=0 GOWORK=off go build -trimpath -ldflags "-s -w" -o "$staged" "$package") >&2 || {
        rm -f "$staged"
        fail "buf $buf_version cannot be built"
    }
    mv -f "$staged" "$buf"
}

# build_set <directory with protos> <file>: the descriptor set of quorumwatch.v1, with what it imports.
# Comments are not in it: they may change.
build_set() {
    "$buf" build "$1" --path "$1/quorumwatch/v1" --exclude-source-info -o "$2"
}

# breaking <directory with protos>: prints what breaks users of the kept set, and fails.
breaking() { "$buf" breaking "$1" --against "$kept" --error-format="${2:-text}"; }

lint() { "$buf" lint "$1" --error-format="${2:-text}"; }

# plant <name> <file> <sed script>: sets `planted` to a copy of proto/ with one change.
plant() {
    planted=$scratch_dir/$1
    cp -r proto "$planted"
    sed -E -i.before "$3" "$planted/quorumwatch/$2"
    ! cmp -s "$planted/quorumwatch/$2" "$planted/quorumwatch/$2.before" ||
        fail "the change \"$1\" finds nothing to change in $2; adapt tests/proto/run.sh"
    rm "$planted/quorumwatch/$2.before"
}

# refuses <check> <rule> <what plant takes>: the check must fail, and by this rule.
refuses() {
    local check=$1 rule=$2 said
    shift 2
    plant "$@"
    ! said=$("$check" "$planted" json 2>&1) || fail "\"$1\" in $2 is not refused by $rule"
    [[ $said == *"\"type\":\"$rule\""* ]] || fail "\"$1\" in $2 is refused, but not by $rule: $said"
}

# accepts <what plant takes>: it breaks nobody.
accepts() {
    plant "$@"
    breaking "$planted" >&2 || fail "\"$1\" in $2 is refused, and breaks nobody"
}

# A check that lets everything pass looks like one that works.
check_the_checks() {
    refuses breaking FIELD_SAME_NAME "a field renumbered" v1/position.proto \
        's/era = 1;/resource_version = 1;/; s/resource_version = 2;/era = 2;/'
    refuses breaking FIELD_NO_DELETE "a field deleted" v1/shard.proto 's/uint64 epoch = 4;/reserved 4;/'
    refuses breaking FIELD_SAME_TYPE "a type changed" v1/position.proto 's/uint64 era = 1;/string era = 1;/'
    refuses breaking ENUM_VALUE_SAME_NAME "a value renamed" v1/error.proto 's/(_REASON)_TOO_LARGE/\1_TOO_BIG/'
    refuses breaking RPC_NO_DELETE "a call renamed" v1/group_service.proto 's/rpc WatchGroup\(/rpc FollowGroup(/'
    refuses lint COMMENT_FIELD "a comment deleted" v1/position.proto '/^  \/\/ The stream/d'
    accepts "a reserved field added" v1/cluster.proto \
        's/reserved 14 to 19;/\/\/ Its weight.\n  uint32 weight = 14;\n  reserved 15 to 19;/; s/"weight", //'
    accepts "a field between replicas renumbered" internal/v1/membership_service.proto 's/string name = 1;/string name = 99;/'
}

check() {
    lint proto >&2 || fail "proto/buf.yaml says which rules hold"
    "$buf" format proto --diff --exit-code >&2 || fail "to format: $buf format --write proto"
    breaking proto >&2 ||
        fail "users of quorumwatch.v1 would break: add a field, a value or a call instead, and leave the old one"
    check_the_checks
    build_set proto "$scratch_dir/now.binpb"
    cmp -s "$scratch_dir/now.binpb" "$kept" ||
        say "quorumwatch.v1 has grown; once that is to stay: tests/proto/run.sh renew"
}

renew() {
    [[ ! -e $kept ]] || breaking proto >&2 || fail "not renewed: this is more than additions"
    build_set proto "$scratch_dir/now.binpb"
    mv "$scratch_dir/now.binpb" "$kept"
}

[[ $# -le 1 && ${1:-renew} == renew ]] || {
    say "usage: run.sh [renew]"
    exit 2
}
find_buf
"${1:-check}"
