"""Calls that fail at once, one after the other, for ever: the clock of the block stands still in each."""

while True:
    try:
        llm_query("fail")
    except LLMQueryError:
        pass
