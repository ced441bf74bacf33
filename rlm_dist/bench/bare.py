"""The bare client that the system is measured beside: the SDK in one process, a gather over a semaphore.

``python -m rlm_dist.bench.bare URL CALLS IN_FLIGHT CHARS`` prints one JSON line: the seconds and CPU
seconds of all calls, and the seconds of each.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import openai


async def gather(url: str, prompts: Sequence[str], in_flight: int) -> list[float]:
    """Ask every prompt, at most ``in_flight`` at once; the seconds that each took."""
    free = asyncio.Semaphore(in_flight)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=openai.DefaultAioHttpClient()
    ) as client:

        async def ask(prompt: str) -> float:
            async with free:
                began = time.perf_counter()
                completion = await client.chat.completions.create(
                    model="simulated-sub", messages=[{"role": "user", "content": prompt}]
                )
                if not completion.choices[0].message.content:
                    raise RuntimeError("an empty answer")
                return time.perf_counter() - began

        return await asyncio.gather(*(ask(prompt) for prompt in prompts))


def main(url: str, calls: int, in_flight: int, chars: int) -> None:
    """Measure one gather, its client and connections included, the imports left out."""
    prompts = [f"{n} ".ljust(chars, ".") for n in range(calls)]
    began, used = time.perf_counter(), time.process_time()
    each_s = asyncio.run(gather(url, prompts, in_flight))
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
    sys.stdout.write(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "each_s": each_s}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
