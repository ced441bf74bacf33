"""1 GB of output."""

line = "x" * 1_000_000
for _ in range(1000):
    sys.stdout.write(line)
