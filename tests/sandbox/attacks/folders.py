"""The names of the host's files."""

import glob

for path in ("/", "/etc", "/home", "/root", "/tmp", "/var", "/proc", facts["folder"]):
    found = attempt(lambda: os.listdir(path))
    if found and path not in ("/", "/tmp", "/proc"):
        hit(f"listed {path}")
    print(found)
print(glob.glob(facts["folder"] + "/*"))
