"""Calls that fail at once, one after the other, for ever: the clock of the block stands still in each."""

began = time.monotonic()
while time.monotonic() - began < 15:
    try:
        llm_query("fail")
    except LLMQueryError:
        pass
hit("fifteen seconds of calls that fail")
