"""Files beside the standard library: what is installed, and this project itself."""

for path in (*facts["project"], *sys.path):
    for folder, _, names in os.walk(path):
        for name in names:
            if "packages" in folder or not folder.startswith(tuple(p for p in sys.path if p)):
                attempt(lambda: open(os.path.join(folder, name)).close() or True, f"opened {folder}/{name}")
