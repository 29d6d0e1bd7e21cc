#!/bin/sh
# Starts the model of this folder as a server on this machine. It needs no Python: a POSIX shell is enough (dash,
# busybox, Termux). What it knows of the model stands in the file `about`, which `plm-edge pack` wrote.
set -u

usage() {
    cat <<END
usage: sh start.sh [options]

Serves the model of this folder at http://127.0.0.1:7560 until Ctrl-C.

  --port N       another port
  --lan          also for other machines in this network, which must send a key; it is printed
  --ctx N        tokens of context (chosen to fit the memory)
  --kv TYPE      type of the cache: f16, q8_0, q4_0 (chosen to fit the memory)
  --threads N    threads (one a big core)
  --force        start although memory is short
  --check        only say what would be started
  --verify       only compare the files with their checksums
  --help         this text
END
}

# three lines: what happened, why, what to do
fail() {
    printf '%s\n  why  %s\n  fix  %s\n' "$1" "$2" "$3" >&2
    exit "${4:-4}"
}

number() {
    case $2 in
        '' | *[!0-9]* | 0*) fail "$1 $2 is no number" "it takes a whole number above zero" "for example $1 $3" 2 ;;
    esac
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 4
cd -- "$here" || exit 4
[ -f about ] || fail "this folder is not whole" "the file 'about' is missing" "copy the folder again" 3
. ./about # MODEL NAME CTX BASE_MIB KV_BYTES, and fits() with lines "tokens type MiB"

port=7560 lan='' ctx='' kv='' threads='' force='' check=''
while [ $# -gt 0 ]; do
    case $1 in
        --port | --ctx | --kv | --threads)
            [ $# -gt 1 ] || fail "$1 needs a value" "nothing stands after it" "see sh start.sh --help" 2 ;;
    esac
    case $1 in
        --port) port=$2; number --port "$port" 7560; shift ;;
        --ctx) ctx=$2; number --ctx "$ctx" 2048; shift ;;
        --threads) threads=$2; number --threads "$threads" 4; shift ;;
        --kv)
            kv=$2; shift
            case $kv in f16 | q8_0 | q4_0) ;; *) fail "--kv $kv is no type of cache" "it is f16, q8_0 or q4_0" "leave it out" 2 ;; esac ;;
        --lan) lan=yes ;;
        --force) force=yes ;;
        --check) check=yes ;;
        --verify)
            command -v sha256sum >/dev/null || fail "the files cannot be compared" "there is no sha256sum here" "install coreutils"
            sha256sum -c SHA256SUMS || fail "a file is damaged" "its checksum is not that of SHA256SUMS" "copy the folder again" 3
            exit 0 ;;
        -h | --help) usage; exit 0 ;;
        *) fail "there is no option $1" "start.sh does not know it" "see sh start.sh --help" 2 ;;
    esac
    shift
done

# MiB of memory that can be taken: the machine's, or what its control group leaves; empty if nobody tells
available() {
    room=''
    while read -r name value _; do
        [ "$name" = MemAvailable: ] && room=$((value / 1024))
    done 2>/dev/null </proc/meminfo
    if read -r most 2>/dev/null </sys/fs/cgroup/memory.max && read -r used 2>/dev/null </sys/fs/cgroup/memory.current; then
        case $most in
            *[!0-9]*) ;;
            *) left=$(((most - used) / 1048576)); [ "${room:-$left}" -lt "$left" ] || room=$left ;;
        esac
    fi
    echo "$room"
}

# bytes of a token in the cache, of this type
token_bytes() {
    case $1 in q8_0) echo $((KV_BYTES * 34 / 64)) ;; q4_0) echo $((KV_BYTES * 18 / 64)) ;; *) echo "$KV_BYTES" ;; esac
}

# cores that are worth a thread: those with 60 % of the best clock, a pair of hyper-threads counted once
big_cores() {
    best=0 all=0 count=0 seen=' '
    for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
        [ -d "$cpu" ] || continue
        all=$((all + 1))
        read -r clock 2>/dev/null <"$cpu/cpufreq/cpuinfo_max_freq" || clock=0
        [ "$clock" -le "$best" ] || best=$clock
    done
    for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
        [ -d "$cpu" ] || continue
        read -r clock 2>/dev/null <"$cpu/cpufreq/cpuinfo_max_freq" || clock=0
        [ $((clock * 10)) -ge $((best * 6)) ] || continue
        read -r pair 2>/dev/null <"$cpu/topology/thread_siblings_list" || pair=$cpu
        case $seen in *" $pair "*) [ "$all" -le 4 ] || continue ;; esac
        seen="$seen$pair "
        count=$((count + 1))
    done
    able=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo "$all")
    [ "$count" -gt 0 ] && [ "$count" -le "$able" ] || count=$able
    [ "$count" -gt 0 ] || count=1
    echo "$count"
}

room=$(available)
if [ -n "$ctx$kv" ]; then
    [ -n "$ctx" ] || ctx=$CTX
    [ -n "$kv" ] || kv=f16
    need=$((BASE_MIB + ctx * $(token_bytes "$kv") / 1048576))
else
    while read -r tokens type mib; do
        ctx=$tokens kv=$type need=$mib
        if [ -n "$force" ] || [ "$need" -le "${room:-$need}" ]; then break; fi
    done <<END
$(fits)
END
    [ "$ctx $kv" = "$CTX f16" ] ||
        echo "memory is short: $ctx tokens of context with a $kv cache (--ctx $CTX --kv f16 --force insists)" >&2
fi
if [ -z "$force" ] && [ "$need" -gt "${room:-$need}" ]; then
    fail "not enough memory for $NAME" \
        "it needs about $need MiB with $ctx tokens of context in $kv; $room MiB are available" \
        "close other programs, give a smaller --ctx or --kv q4_0, or insist with --force" 5
fi
[ -n "$threads" ] || threads=$(big_cores)

taken() {
    hex=$(printf '%04X' "$port")
    while read -r _ local _ state _; do
        case $local-$state in *:"$hex"-0A) return 0 ;; esac
    done 2>/dev/null </proc/net/tcp
    return 1
}
if taken; then
    fail "port $port is taken" "another program listens on it" "end that program, or choose another: --port $((port + 1))"
fi
chmod u+x bin/* 2>/dev/null
[ -x bin/llama-server ] || fail "bin/llama-server cannot be started here" \
    "this file system allows no programs (Android's shared storage, a USB stick)" "copy the folder to your home folder"

host=127.0.0.1 urls='' LLAMA_API_KEY=''
if [ -n "$lan" ]; then
    if [ ! -s key ]; then
        (umask 077; od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >key)
    fi
    read -r LLAMA_API_KEY <key || [ -n "$LLAMA_API_KEY" ] ||
        fail "there is no key for --lan" "the file 'key' cannot be written" "make the folder writable"
    export LLAMA_API_KEY
    # it listens on this machine's own addresses, and may be called by these alone
    addresses=$({ hostname -I || ip -4 -o addr show scope global | sed 's|.* inet \([0-9.]*\)/.*|\1|' ||
        ifconfig | sed -n 's/.*inet \(addr:\)\{0,1\}\([0-9.]*\).*/\2/p'; } 2>/dev/null)
    for address in $addresses; do
        case $address in
            127.* | *:*) ;;
            *) host="$host,$address"; urls="$urls  http://$address:$port" ;;
        esac
    done
    [ -n "$urls" ] || fail "this machine has no address in a network" "neither hostname, ip nor ifconfig shows one" \
        "connect it first, or leave --lan out"
fi

# prompts of earlier requests are kept in a 20th of the memory, if that is left
keep=$((${room:-0} / 20))
[ $((need + keep)) -le "${room:-0}" ] || keep=0

set -- --model "model/$MODEL" --alias "$NAME" --host "$host" --port "$port" --cors-origins localhost \
    --ctx-size "$ctx" --cache-type-k "$kv" --cache-type-v "$kv" --threads "$threads" --parallel 1 \
    --batch-size 512 --ubatch-size 512 --load-mode none --no-warmup --offline --ctx-checkpoints 0 \
    --cache-ram "$keep" --sleep-idle-seconds 900 --log-colors off
if [ -f page/index.html ]; then set -- "$@" --path page; else set -- "$@" --no-ui; fi

echo "$NAME: about $need MiB${room:+ of $room}, $ctx tokens of context in $kv, $threads threads" >&2
if [ -n "$check" ]; then
    printf '%s' bin/llama-server; printf ' %s' "$@"; echo
    exit 0
fi
echo "at http://127.0.0.1:$port$urls; Ctrl-C stops it" >&2
[ -z "$lan" ] || echo "key: $LLAMA_API_KEY (in the file 'key'; remove it for a new one)" >&2
exec bin/llama-server "$@"
