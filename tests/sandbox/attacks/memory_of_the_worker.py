"""The worker's memory, by way of /proc."""


def read(path):
    with open(path, "rb", 0) as file:
        file.seek(facts["address"])
        print(file.read(facts["length"]))


attempt(lambda: read(f"/proc/{facts['pid']}/mem"))
attempt(lambda: read(f"/proc/{os.getppid()}/mem"))
