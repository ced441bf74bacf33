"""How many processes the machine has, and how much memory is free: what other jobs do shows in it."""

buffer = ctypes.create_string_buffer(1000)
attempt(lambda: works("sysinfo", buffer), "sysinfo")
for path in (
    "/proc/loadavg",
    "/proc/stat",
    "/proc/meminfo",
    "/proc/vmstat",
    "/proc/net/unix",
    "/proc/sys/kernel/random/boot_id",
):
    attempt(lambda: slurp(path) or True, path)
attempt(lambda: os.getloadavg(), "the load")
attempt(lambda: works("quotactl", 0, 0, 0, 0), "quotactl")
