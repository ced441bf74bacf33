"""The program in docs/sessions.md runs as it stands, and so does a session from asyncio."""

import asyncio
import re

import pytest

from rlm_dist import AsyncClient, NotFound
from tests.support.environment import PROJECT

pytestmark = pytest.mark.acceptance

PROGRAMS = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/sessions.md").read_text(), re.S)


def test_the_program_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = PROGRAMS
    exec(program, {})  # noqa: S102  # our own page
    first, second = capsys.readouterr().out.splitlines()
    assert "words" in first
    assert re.search(r" \[\d\S*, \d\S*\]$", second)


def test_a_session_from_asyncio() -> None:
    """Queries are awaited; the session is continued by its id."""

    async def main() -> None:
        query = 'How many lines contain the word "number"?'
        async with AsyncClient() as client:
            async with await client.session("The number is 7.", max_iterations=6) as session:
                first = await session.ask(query, timeout=60)
                assert await session.add("more.txt", "text") == "context_1"
            again = await client.reopen_session(session.id)
            job = await again.submit(query)
            assert ((await job.result(60)).answer, first.answer) == ("1", "1")
            assert [job.id for job in again.jobs()] == [first.id, job.id]
            with pytest.raises(NotFound, match="no such session: s0"):
                await client.reopen_session("s0")

    asyncio.run(main())
