"""This project: a client, a Redis server, a root and a sub worker."""

import sys

from rlm_dist.bench.peers.asking import measure, query_for
from rlm_dist.bench.peers.redis_server import redis_server
from rlm_dist.bench.rig import finished, settings_of
from rlm_dist.client.client import Client
from rlm_dist.local.cluster import workers


def main(url: str, calls: int, in_flight: int) -> None:
    """Measure; the client is this process, the workers are below it."""
    query = query_for("FINAL(result)")
    with redis_server() as held:
        settings = settings_of(held.folder, url, held.url, root_slots=1, slots=in_flight)
        with workers(settings, roots=1, subs=1), Client(settings) as client:
            measure(lambda context: str(finished(client.submit(context, query)).answer), calls, [held.pid])


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
