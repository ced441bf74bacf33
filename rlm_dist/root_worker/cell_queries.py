"""The queries of a job's cells, which its fan-out answers.

They know nothing of the REPL that asks them: a REPL and its queries that refer to each other would stay in
memory, with their job, until Python's collector comes by.
"""

from collections.abc import Sequence

from rlm_dist.json_schemas import JsonSchema
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.typed_calls import Chat, typed_answers
from rlm_dist.sandbox.host_work import HostWork
from rlm_dist.schema import Answer, Message


class CellQueries:
    """Hands queries to ``fan_out``, with the ``turn`` and the ``traceparent`` of the cell that runs."""

    def __init__(self, fan_out: FanOut) -> None:
        self.fan_out = fan_out
        self.turn = 0
        self.traceparent: str | None = None
        self._checks = HostWork()

    def query(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        """As ``FanOut.query``."""
        return self.fan_out.query(prompts, model, turn=self.turn, traceparent=self.traceparent)

    def query_ahead(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer | None]:
        """As ``FanOut.query_ahead``."""
        return self.fan_out.query_ahead(prompts, model, turn=self.turn, traceparent=self.traceparent)

    def typed_query(
        self, prompts: Sequence[tuple[Message, ...]], model: str | None, schema: JsonSchema
    ) -> list[Answer]:
        """As ``query``, for answers that conform to a schema; each try is a query of its own."""
        turn, traceparent = self.turn, self.traceparent

        def ask(chats: Sequence[Chat]) -> list[Answer]:
            return self.fan_out.query(chats, model, turn=turn, traceparent=traceparent, schema=schema)

        return typed_answers(ask, prompts, schema, self._checks)
