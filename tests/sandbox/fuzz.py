"""Coverage-guided fuzzing by atheris: ``python -m tests.sandbox.fuzz frames|replies [libFuzzer option...]``.

``frames`` feeds what a REPL might send to the reader and the validator, ``replies`` what a model might say to
the parser. The run ends if one of them hangs or raises an unexpected error.
"""

import io
import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["rlm_dist"]):
    from rlm_dist.engine import parsing
    from rlm_dist.errors import SandboxError
    from rlm_dist.sandbox import messages
    from rlm_dist.sandbox.inside import frames


def read_frames(data: bytes) -> None:
    """Read a stream to its end as a session does: the raw bytes, and the bytes as one frame."""
    for stream in (io.BytesIO(data), io.BytesIO(len(data).to_bytes(4, "big") + data)):
        try:
            while (payload := frames.receive(stream.read)) is not None:
                messages.parse(payload)
        except (frames.FrameError, SandboxError):
            continue


def read_reply(data: bytes) -> None:
    """Parse a model's reply."""
    parsing.parse(data.decode("utf-8", "replace"))


TARGETS: dict[str, Callable[[bytes], None]] = {"frames": read_frames, "replies": read_reply}

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
