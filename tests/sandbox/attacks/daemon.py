"""A grandchild that is to live on when the job is over."""


def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in range(256):
                attempt(lambda: os.close(fd))
            time.sleep(20)
        os._exit(0)


attempt(daemon)
seen()
