"""The endpoint's own time: one request after another by the standard library, over one connection.

``python -m rlm_dist.bench.plain_http URL CALLS CHARS`` prints one JSON line: the seconds that each took.
"""

import http.client
import json
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit


def main(url: str, calls: int, chars: int) -> None:
    """Measure each answer, from the first byte sent to the last one read."""
    sys.stdout.write(json.dumps({"each_s": list(_each_s(url, calls, chars))}) + "\n")


def _each_s(url: str, calls: int, chars: int) -> Iterator[float]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    for n in range(calls):
        prompt = f"{n} ".ljust(chars, ".")
        body = json.dumps({"model": "simulated-sub", "messages": [{"role": "user", "content": prompt}]})
        began = time.perf_counter()
        connection.request(
            "POST", f"{parts.path}/chat/completions", body, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        response.read()
        yield time.perf_counter() - began
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the endpoint answers {response.status}")


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
