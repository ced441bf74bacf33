"""What can be asked of a path without opening it: its file system, its attributes, its changes."""

for path in ("/", "/tmp", *facts["secrets"]):
    attempt(lambda: os.statvfs(path), f"statvfs of {path}")
    attempt(lambda: os.listxattr(path), f"listxattr of {path}")
    attempt(lambda: os.getxattr(path, "user.x"), f"getxattr of {path}")
    attempt(lambda: works("inotify_add_watch", libc.inotify_init(), path.encode(), 1), f"a watch on {path}")
