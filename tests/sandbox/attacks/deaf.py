"""A REPL that shuts the half of its socket on which the worker writes, while it waits for an answer."""

for fd in range(3, 64):
    attempt(lambda: libc.shutdown(fd, socket.SHUT_RD) or None)
llm_query("look")
