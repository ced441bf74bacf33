"""What the sandbox tests share: encoded contexts and scripted sub models."""

import json
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rlm_dist.models import Answer, CallFailure, Message
from rlm_dist.sandbox.host import Query, Sandbox, SandboxLimits

LIMITS = SandboxLimits(code_timeout_s=20)


def write_context(
    path: Path, kind: str, texts: Sequence[str], *, several: bool = False, named: bool = False
) -> Path:
    """Write ``texts`` as an encoded context, spelled out here a second time so that the format is pinned."""
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    header = {"v": 1, "kind": kind, "n": len(data), "several": several, "named": named}
    lengths = b"".join(struct.pack("<Q", len(item)) for item in data)
    path.write_bytes(json.dumps(header).encode() + b"\n" + lengths + b"".join(data))
    return path


def echo(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
    """A sub model that answers ``<model>:<last prompt>``."""
    return [Answer(call_id="c", text=f"{model}:{prompt[-1].content}") for prompt in prompts]


def failing_on(word: str) -> Query:
    """A sub model that fails every prompt that contains ``word``."""

    def query(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        failure = CallFailure(kind="invalid", message="the endpoint refused it")
        return [
            Answer(call_id="c", failure=failure)
            if word in prompt[-1].content
            else Answer(call_id="c", text=prompt[-1].content.upper())
            for prompt in prompts
        ]

    return query


# Run in the REPL, it gives the most memory its process ever held, in bytes (ru_maxrss counts our own in).
PEAK = "int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) * 1024"


def shown(sandbox: Sandbox, code: str) -> str:
    """What a block that must succeed prints."""
    result = sandbox.run(code)
    assert result.error is None, result.error
    assert result.output.omitted == 0
    return result.output.head


def wait_until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for a state; fails where it does not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the state did not come"
        time.sleep(0.01)


def exists(pid: int) -> bool:
    """Whether a process of this id runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
