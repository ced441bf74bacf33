"""The endpoint's own time: one request after another by the standard library, over one connection.

``python -m rlm_dist.bench.plain_http URL CALLS CHARS`` prints one JSON line: the seconds that each took.
"""

import http.client
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit


def main(url: str, calls: int, chars: int) -> None:
    """Measure each answer, from the first byte sent to the last one read."""
    sys.stdout.write(json.dumps({"each_s": list(_each_s(url, calls, chars))}) + "\n")


def _each_s(url: str, calls: int, chars: int) -> Iterator[float]:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.netloc)) as connection:
        for n in range(calls):
            yield _answer_s(connection, f"{parts.path}/chat/completions", f"{n} ".ljust(chars, "."))


def _answer_s(connection: http.client.HTTPConnection, path: str, prompt: str) -> float:
    body = json.dumps({"model": "simulated-sub", "messages": [{"role": "user", "content": prompt}]})
    began = time.perf_counter()
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    seconds = time.perf_counter() - began
    if response.status != http.HTTPStatus.OK:
        raise RuntimeError(f"the endpoint answers {response.status}")
    return seconds


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
