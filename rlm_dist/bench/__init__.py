"""What the system costs, measured on this machine; may import client, contexts, sandbox, local, simulated.

Each figure stands beside that of the plainest thing that does the same. Wall times on a busy machine vary,
so a row is a ratio of things that were measured in turns in one run. The model is the simulated endpoint in
a separate process; the server and the workers are real.
"""
