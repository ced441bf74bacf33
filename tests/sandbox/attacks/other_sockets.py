"""Sockets of the kernel's other families; a network namespace does not hold AF_VSOCK."""

names = {
    1: "unix",
    2: "inet",
    10: "inet6",
    15: "key",
    16: "netlink",
    17: "packet",
    29: "can",
    31: "bluetooth",
    38: "alg",
    40: "vsock",
    44: "xdp",
    43: "smc",
    21: "rds",
    30: "tipc",
}
for family, name in names.items():
    for kind in (1, 2, 3, 5):
        attempt(lambda: socket.socket(family, kind, 0).detach(), f"a {name} socket")
