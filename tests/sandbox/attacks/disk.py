"""The disk filled, in files that are each within the limit of a file's size."""

made = 0
for folder in (facts["open_folder"], "/tmp", "/var/tmp"):
    for i in range(60):
        path = f"{folder}/attack-{facts['pid']}-{i}"
        try:
            with open(path, "wb") as file:
                file.write(bytes(1 << 20))
            made += 1
        except OSError:
            break
if made:
    hit(f"{made} MB on the disk")
