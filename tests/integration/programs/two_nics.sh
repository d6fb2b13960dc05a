#!/usr/bin/env bash
# Two hosts with two network cards each: LONGSPAN_NICS makes both carry what they can, within a region and between two.
# Each host is a network namespace, each card a veth behind a token bucket. What counts is the cards' own counters, not
# time.
#   two_nics.sh BIN
set -euo pipefail
bin=$1
rate=200  # Mbit/s, of a card
if [ "${2:-}" != inside ]; then
  unshare=(unshare --net --fork --kill-child)
  [ "$(id -u)" = 0 ] || unshare+=(--user --map-root-user)
  if ! why=$("${unshare[@]}" sh -c "ip link add card0 type veth peer name far0 && tc qdisc add dev card0 root tbf rate ${rate}mbit burst 64k limit 1m" 2>&1); then
    echo "SKIP: no network namespaces with veth pairs and token buckets here: $why"
    exit 77
  fi
  exec "${unshare[@]}" "$0" "$bin" inside
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The other host lives as long as this pipe.
mkfifo "$work/alive" "$work/up"
unshare --net sh -c 'echo $$ >"$1"; read -r _ <"$2"' sh "$work/up" "$work/alive" &
exec 8<>"$work/alive"
read -r other <"$work/up"
on() {
  if [ "$1" = a ]; then shift; "$@"; else shift; nsenter --target "$other" --net -- "$@"; fi
}
on a ip link set lo up
on b ip link set lo up
for card in 0 1; do
  ip link add "card$card" type veth peer name "card$card" netns "$other"
  for host in a b; do
    on $host ip addr add "10.9$card.0.$([ $host = a ] && echo 1 || echo 2)/24" dev "card$card"
    on $host ip link set "card$card" up
    on $host tc qdisc add dev "card$card" root tbf rate "${rate}mbit" burst 64k limit 1m
  done
done

# sent HOST CARD: bytes that it sent so far
sent() { on "$1" awk -v card="card$2:" '$1 == card { print $10 }' /proc/net/dev; }

# job NAME TOPOLOGY [both]: an allreduce of both hosts; leaves in bytes[HOST CARD] what each card sent.
declare -A bytes
job() {
  local name=$1 topology=$2 nics=${3:-} rank=0 host status=0
  declare -A before
  for host in a b; do for card in 0 1; do before[$host$card]=$(sent $host $card); done; done
  local ranks=()
  for host in a b; do
    RANK=$rank LOCAL_RANK=0 WORLD_SIZE=2 MASTER_ADDR=10.90.0.1 MASTER_PORT=29500 LONGSPAN_HOST=$host LONGSPAN_TRANSPORTS=tcp \
      LONGSPAN_TOPOLOGY=$topology LONGSPAN_NICS=${nics:+10.90.0.$((rank + 1)),10.91.0.$((rank + 1))} \
      on $host timeout 60 "$bin/all_reduce_perf" -b 8M -e 8M -n 2 -w 1 >"$work/$name.$host" 2>&1 &
    ranks+=($!)
    rank=$((rank + 1))
  done
  for rank in "${ranks[@]}"; do wait "$rank" || status=1; done
  if [ $status != 0 ] || ! grep -q '^# Out of bounds values : 0 OK$' "$work/$name.a"; then
    cat "$work/$name.a" "$work/$name.b"
    exit 1
  fi
  for host in a b; do
    for card in 0 1; do bytes[$host$card]=$(($(sent $host $card) - ${before[$host$card]})); done
    echo "$name: host $host sent ${bytes[${host}0]} B over card 0, ${bytes[${host}1]} B over card 1"
  done
}
fail() {
  echo "$*"
  exit 1
}

hosts() { printf 'version = 1\n[[host]]\nname = "a"\nregion = "%s"\naddress = "10.90.0.1"\nnic = "%s Mbit/s"\n[[host]]\nname = "b"\nregion = "%s"\naddress = "10.90.0.2"\nnic = "%s Mbit/s"\n' "$1" $((2 * rate)) "$2" $((2 * rate)); }
hosts eu eu >"$work/near.toml"
{ hosts eu us; printf '[[wan]]\nfrom = "eu"\nto = "us"\nbandwidth = "%s Mbit/s"\nlatency = "1 ms"\n' $((2 * rate)); } >"$work/far.toml"

job alone "$work/near.toml"
for host in a b; do [ $((20 * ${bytes[${host}1]})) -lt "${bytes[${host}0]}" ] || fail "without LONGSPAN_NICS the route decides: card 0"; done
for topology in near far; do
  job $topology "$work/$topology.toml" both
  for host in a b; do
    less=${bytes[${host}0]} more=${bytes[${host}1]}
    [ "$less" -le "$more" ] || { less=${bytes[${host}1]} more=${bytes[${host}0]}; }
    [ $((10 * less)) -ge $((8 * more)) ] || fail "$topology: the cards of host $host do not share what is sent: $less and $more B"
  done
done

# A card of a quarter of the rate takes no more than it can carry.
for host in a b; do on $host tc qdisc change dev card1 root tbf rate "$((rate / 4))mbit" burst 64k limit 1m; done
for topology in near far; do
  job "slow_$topology" "$work/$topology.toml" both
  for host in a b; do
    [ "${bytes[${host}0]}" -ge $((2 * ${bytes[${host}1]})) ] || fail "$topology: the slow card of host $host is not left what it can carry"
    [ "${bytes[${host}1]}" -ge $((${bytes[${host}0]} / 10)) ] || fail "$topology: the slow card of host $host is hardly used"
  done
done
