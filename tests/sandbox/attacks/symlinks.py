"""A link in a folder of our own that leads to a secret."""

for folder in (facts["open_folder"], "/tmp", "/dev/shm", "."):
    link = os.path.join(folder, "attack-link")
    for make in (os.symlink, os.link):
        attempt(lambda: make(facts["secrets"][0], link) or True)
        attempt(lambda: slurp(link))
