"""Files made, changed and removed wherever that might be possible."""

for folder in (
    facts["open_folder"],
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/run",
    "/root",
    ".",
    os.path.dirname(os.__file__),
):
    path = os.path.join(folder, f"attack-{facts['pid']}")
    attempt(lambda: open(path, "w").write("x") and None)
    attempt(lambda: os.mkdir(path + "-folder"))
    attempt(lambda: os.mkfifo(path + "-pipe"))
    attempt(lambda: os.mknod(path + "-node"))
    attempt(lambda: works("creat", path.encode() + b"-c", 0o644), f"creat in {folder}")
for path in facts["victims"]:
    attempt(lambda: open(path, "a").write("changed"))
    attempt(lambda: os.truncate(path, 0))
    attempt(lambda: os.chmod(path, 0o777))
    attempt(lambda: os.utime(path, (1, 1)))
    attempt(lambda: os.rename(path, path + ".moved"))
    attempt(lambda: os.unlink(path))
    attempt(lambda: os.setxattr(path, "user.attack", b"x"))
