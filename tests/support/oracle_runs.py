"""Questions played through the engine with the oracle's models, in a REPL of this process."""

from collections.abc import Callable, Sequence
from typing import Any

from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality_oracle.root import reply as root_reply
from rlm_dist.bench.quality_oracle.sub import OracleSub
from rlm_dist.engine import loop as engine
from rlm_dist.engine.journal import BudgetHint, Journal
from rlm_dist.schema import Message, Outcome
from tests.support.fake_repl import FakeRepl, reply, spec

Ask = Callable[[list[str]], list[str]]


class OracleRun:
    """One item answered by the root model's code; ``prompts`` are those that it sent."""

    def __init__(self, item: TaskItem, sub: OracleSub, ask: Ask | None = None, **fields: Any) -> None:
        self.prompts: list[str] = []
        self._ask = ask or (lambda prompts: [asked(sub, prompt) for prompt in prompts])
        self.repl = FakeRepl(item.context, llm_query_batched=self._batched)
        self.outcome: Outcome = engine.run(
            spec(item.query, **fields),
            complete=lambda messages: reply(root_reply(messages)),
            repl=self.repl,
            journal=Journal((), lambda entry: None),
            emit=lambda event: None,
            budget=lambda chars: BudgetHint(),
        )

    @property
    def answer(self) -> str | None:
        return self.outcome.answer

    def _batched(self, prompts: Sequence[str]) -> list[str]:
        self.prompts += prompts
        return self._ask(list(prompts))


def asked(sub: OracleSub, prompt: str) -> str:
    return sub.answer([Message(role="user", content=prompt)])
