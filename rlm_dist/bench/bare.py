"""The bare client that the system is measured beside: the SDK in one process, a gather over a semaphore.

``python -m rlm_dist.bench.bare URL CALLS IN_FLIGHT CHARS`` prints one JSON line: seconds, and CPU seconds.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import openai


async def gather(url: str, prompts: Sequence[str], in_flight: int) -> list[str | None]:
    """Ask every prompt, at most ``in_flight`` at once."""
    free = asyncio.Semaphore(in_flight)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=openai.DefaultAioHttpClient()
    ) as client:

        async def ask(prompt: str) -> str | None:
            async with free:
                completion = await client.chat.completions.create(
                    model="simulated-sub", messages=[{"role": "user", "content": prompt}]
                )
            return completion.choices[0].message.content

        return await asyncio.gather(*(ask(prompt) for prompt in prompts))


def main(url: str, calls: int, in_flight: int, chars: int) -> None:
    """Measure one gather, its client and connections included, and the imports left out."""
    prompts = [f"Label the line.\nLine {n}: Who is {n}?".ljust(chars, ".") for n in range(calls)]
    began, used = time.perf_counter(), time.process_time()
    answers = asyncio.run(gather(url, prompts, in_flight))
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
    if any(answer != "human being" for answer in answers):
        raise SystemExit("wrong answers")
    sys.stdout.write(json.dumps({"seconds": seconds, "cpu_s": cpu_s}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
