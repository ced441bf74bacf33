"""Trajectories of jobs that real workers ran are, to the letter, what the endpoint was sent and answered."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlm_dist.schema import JobState, Message, Role
from rlm_dist.schema.trajectories import JobTrajectory
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.command_line import Cli

pytestmark = pytest.mark.acceptance

TURNS = 14
Chat = tuple[tuple[str, str], ...]


def as_chat(messages: Sequence[Message]) -> Chat:
    return tuple((message.role, message.content) for message in messages)


class Models:
    """A root model whose long chats are cut and whose samples differ; both models note what they get."""

    def __init__(self) -> None:
        self.root_chats: Counter[Chat] = Counter()
        self.sub_chats: Counter[Chat] = Counter()
        self._sampled = 0

    def root(self, messages: Sequence[Message]) -> str:
        reply = self._sample(messages) if "Who?" in messages[1].content else self._long(messages)
        self.root_chats[(*as_chat(messages), ("assistant", reply))] += 1
        return reply

    def sub(self, messages: Sequence[Message]) -> str:
        reply = f"answer to {messages[-1].content}"
        self.sub_chats[(*as_chat(messages), ("assistant", reply))] += 1
        return reply

    def _long(self, messages: Sequence[Message]) -> str:
        turn = int(messages[-1].content.split("turn=")[1].split(";")[0]) if len(messages) > 2 else 0
        if turn == TURNS:
            return "```repl\nFINAL(len(history))\n```"
        asked = "llm_query('Is it?')" if turn == 3 else "0"
        return f"```repl\nprint('turn={turn + 1};', {asked}, '{turn % 10}' * 9000)\n```"

    def _sample(self, messages: Sequence[Message]) -> str:
        if len(messages) > 2:
            return f"```repl\nFINAL({messages[-1].content.split('mine=')[1][0]!r})\n```"
        self._sampled += 1
        mine = "aba"[self._sampled - 1]
        return f"```repl\nllm_query('part {self._sampled}')\nprint('mine={mine}')\n```"


def test_what_is_exported_is_what_the_models_were_sent_and_said(
    make_bench: MakeBench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models()
    with SimulatedEndpoint(root=models.root, sub=models.sub, window=14_000) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=4)
        bench.wait_ready()
        jobs = [
            {"id": "long", "query": "How long?", "context": "c", "max_iterations": TURNS + 2},
            {"id": "voted", "query": "Who?", "context": "c", "samples": 3},
        ]
        batch = bench.client.submit_batch(jobs, "b", sub_model="simulated-sub")
        assert [result.state for result in batch.results()] == [JobState.SUCCEEDED] * 2
        for name, value in bench.env.items():
            monkeypatch.setenv(name, value)
        file = bench.folder / "out.jsonl"
        done = Cli(capsys)("export", "b", "-o", file)
        assert (done.code, done.err) == (0, "2 jobs exported, in 4 lines\n")
        found = [JobTrajectory.model_validate_json(line) for line in file.read_text().splitlines()]
        roots, subs = Counter[Chat](), Counter[Chat]()
        for one in found:
            for turn in one.turns:
                sent = one.messages[: turn.reply] if turn.sent is None else turn.sent
                roots[as_chat([*sent, one.messages[turn.reply]])] += 1
                subs.update(
                    (*as_chat(call.messages), ("assistant", call.answer or ""))
                    for cell in turn.cells
                    for call in cell.calls
                )
        assert roots == models.root_chats
        assert subs == models.sub_chats
        assert sum(subs.values()) == 4
        assert any(turn.sent for turn in found[0].turns)
        assert [(one.custom_id, one.sample) for one in found[1:]] == [("voted", n) for n in range(3)]
        assert [one.outcome.answer for one in found] == [str(TURNS), "a", "a", "a"]
        won = next(one for one in found[1:] if one.won)
        assert won.turns[1].cells[0].code.strip() == "FINAL('a')"
        assert sum(one.won for one in found[1:]) == 1
        _check_training_files(Cli(capsys), bench.folder, models)


def _check_training_files(cli: Cli, folder: Path, models: Models) -> None:
    """Each chat and each sample is one that the root model was sent and replied to."""
    chats = folder / "chats.jsonl"
    assert cli("export", "b", "--format", "messages", "-o", chats).code == 0
    lines = [json.loads(line)["messages"] for line in chats.read_text().splitlines()]
    assert len(lines) == 2
    samples = folder / "sft.jsonl"
    assert cli("export", "b", "--format", "sft", "-o", samples).code == 0
    turns = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(turns) == TURNS + 1 + 2
    lines += [[*turn["prompt"], *turn["completion"]] for turn in turns]
    for line in lines:
        assert tuple((message["role"], message["content"]) for message in line) in models.root_chats
