"""The bare SDK with its own retries: ``python -m rlm_dist.bench.retrying_sdk URL CALLS IN_FLIGHT``."""

import asyncio
import sys

import openai

_RETRIES = 1000


async def gather(url: str, calls: int, in_flight: int) -> None:
    """Ask ``calls`` prompts, at most ``in_flight`` at once."""
    free = asyncio.Semaphore(in_flight)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=_RETRIES, http_client=openai.DefaultAioHttpClient()
    ) as client:

        async def ask(number: int) -> None:
            async with free:
                await client.chat.completions.create(
                    model="simulated-sub", messages=[{"role": "user", "content": f"Who is it? {number}"}]
                )

        await asyncio.gather(*(ask(number) for number in range(calls)))


if __name__ == "__main__":
    asyncio.run(gather(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
