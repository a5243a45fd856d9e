#!/bin/sh
# Runs a command on two hosts that are simulated on one machine, and removes both at the end.
#
#   tests/two_hosts.sh COMMAND ...
#
# Each host is a network namespace with one end of a cable (10.77.0.1 and 10.77.0.2) and a /dev/shm of its own: without
# the first DGL takes both for one machine, without the second their shared memory has the same names, and each reads the
# other's rows. The command finds its host's number, 0 or 1, in HOST; the status is the worse of the two. Needs Linux,
# iproute2 and root: 77 says that this machine does not allow it.
set -eu
a=gnnlib-a-$$ b=gnnlib-b-$$
trap 'exit 130' INT TERM HUP
trap 'kill ${pids:-} 2>/dev/null || true; wait; ip netns del $a 2>/dev/null || true; ip netns del $b 2>/dev/null || true' EXIT

why=$({
    ip netns add $a && ip netns add $b &&
    ip link add name eth0 netns $a type veth peer name eth0 netns $b &&
    ip -n $a addr add 10.77.0.1/24 dev eth0 && ip -n $b addr add 10.77.0.2/24 dev eth0 &&
    for host in $a $b; do ip -n $host link set lo up && ip -n $host link set eth0 up; done &&
    ip netns exec $a unshare -m mount -t tmpfs tmpfs /dev/shm
} 2>&1) || { echo "two hosts on one machine are not allowed here: $why" >&2; exit 77; }

status=0
for number in 0 1; do
    [ $number = 0 ] && host=$a || host=$b
    HOST=$number ip netns exec $host unshare -m sh -c 'mount -t tmpfs tmpfs /dev/shm && exec "$@"' sh "$@" &
    pids="${pids:-} $!"
done
for pid in $pids; do wait "$pid" || status=$?; done
exit $status
