"""A REPL process that breaks the protocol: the cell is lost, and the host goes on.

The fakes replace ``child.py``; each speaks to the host over its socket and sends what no honest child would.
"""

import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rlm_dist.errors import Cancelled, SandboxError
from rlm_dist.sandbox import messages, session
from rlm_dist.sandbox.host import Query, Sandbox, SandboxLimits
from rlm_dist.sandbox.host_work import HostWork
from rlm_dist.sandbox.inside import frames
from rlm_dist.sandbox.process import PlainStart
from rlm_dist.sandbox.session import ReplSession
from rlm_dist.schema import Answer, Message
from tests.support.sandboxes import echo, exists, run_until_lost, shown, write_context
from tests.support.waiting import wait_until

PRELUDE = """
import json, os, sys, time
fd = int(sys.argv[1])
def read():
    n = int.from_bytes(os.read(fd, 4), "big")
    data = b""
    while len(data) < n:
        data += os.read(fd, n - len(data))
    return json.loads(data)
def raw(data):
    while data:
        data = data[os.write(fd, data):]
def payload(data):
    raw(len(data).to_bytes(4, "big") + data)
def send(**message):
    payload(json.dumps(message).encode())
def done(**changes):
    whole = {"op": "done", "cell": 1, "output": {"head": "", "tail": "", "omitted": 0}, "error": None,
             "final": None, "partial": None, "names": []}
    send(**{**whole, **changes})
USER = [{"role": "user", "content": "q"}]
"""
READY = PRELUDE + "read()\nsend(op='ready')\nread()\n"


def fake(tmp_path: Path, script: str, code_timeout_s: float = 20.0, query: object = echo) -> Sandbox:
    """A sandbox whose process runs ``script`` instead of the REPL."""
    child = tmp_path / "fake.py"
    child.write_text(script)
    context = write_context(tmp_path / "context", "str", ["hello"])
    limits = SandboxLimits(code_timeout_s=code_timeout_s)
    start = PlainStart(child)
    return Sandbox(context_path=context, query=query, limits=limits, start=start)  # type: ignore[arg-type]


def session_of(repl: Sandbox) -> ReplSession:
    """The session with the process that runs now."""
    assert repl._session is not None
    return repl._session


def test_the_fake_itself_can_be_honest(tmp_path: Path) -> None:
    """So the tests below fail for the reason that they name."""
    script = READY + "done(output={'head': 'h', 'tail': '', 'omitted': 0}, names=['x'])\ntime.sleep(60)"
    with fake(tmp_path, script) as repl:
        assert shown(repl, "anything") == "h"


@pytest.mark.parametrize(
    "attack",
    [
        "raw(b'garbage that is no frame')",
        "raw(b'\\0\\0\\0\\0')",
        "raw(b'\\xff\\xff\\xff\\xff')",
        "payload(b'not json')",
        "payload(b'\\xff\\xfe')",
        "payload(b'[1, 2]')",
        "payload(b'null')",
        "payload(b'{}')",
        "payload(b'[' * 100_000)",
        "payload(b'{\"op\":' * 100_000)",
        "payload(b'{\"op\": \"done\", \"cell\": ' + b'9' * 100_000 + b'}')",
        "send(op='nonsense')",
        "send(op=5)",
        "send(op='done')",
        "done(cell='1')",
        "done(cell=True)",
        "done(cell=7)",
        "done(more='x')",
        "done(output=None)",
        "done(output={'head': 'x', 'tail': '', 'omitted': -1})",
        "done(final={'text': 5, 'json': None, 'by': 'FINAL'})",
        "done(final={'text': 'x', 'json': None, 'by': 'nobody'})",
        "done(names=['x'] * 101)",
        "done(error=['x'])",
        "send(op='ready')",
        "send(op='broken', detail='x')",
        "send(op='resolved', found=True, final=None, names=[])",
        "send(op='query', id=1, prompts=[], model=None)",
        "send(op='query', id=1, prompts=[[]], model=None)",
        "send(op='query', id='1', prompts=[USER], model=None)",
        "send(op='query', id=-1, prompts=[USER], model=None)",
        "send(op='query', id=1, prompts=['q'], model=None)",
        "send(op='query', id=1, prompts=[USER], model=5)",
        "send(op='query', id=1, prompts=[USER], model=None, ahead=1)",
        "done(unused=-1)",
        "send(op='query', id=1, prompts=[[{'role': 'tool', 'content': 'q'}]], model=None)",
        "send(op='query', id=1, prompts=[[{'role': 'user', 'content': None}]], model=None)",
        "send(op='query', id=1, prompts=[[{'role': 'user', 'content': 'q', 'x': 1}]], model=None)",
        'payload(b\'{"op": "broken", "detail": "\\\\ud800"}\')',
        "raw((1000).to_bytes(4, 'big') + b'half'); os.close(fd)",
        "os.close(fd)",
        "os._exit(0)",
    ],
)
def test_a_frame_that_is_not_valid_ends_the_process_and_loses_the_cell(tmp_path: Path, attack: str) -> None:
    with fake(tmp_path, READY + attack + "\ntime.sleep(60)") as repl:
        result = repl.run("x = 1")
        assert result.state_lost
        assert result.error is not None
        assert result.error.startswith("The Python process of the REPL ended: ")
        assert "All variables are gone." in result.error


def test_a_draft_that_is_sent_again_and_again_is_reported_once(tmp_path: Path) -> None:
    script = READY + "for cell in range(1, 4):\n    done(cell=cell, partial='x')\n    read()"
    with fake(tmp_path, script) as repl:
        assert [repl.run("1").partial for _ in range(3)] == ["x", None, None]


def test_half_a_frame_and_silence_is_stopped_by_the_time_limit(tmp_path: Path) -> None:
    script = (
        READY + "raw((1000).to_bytes(4, 'big') + b'half')\nimport signal\nsignal.signal(2, signal.SIG_IGN)\n"
    )
    with fake(tmp_path, script + "time.sleep(60)", code_timeout_s=0.3) as repl:
        assert repl.run("1").state_lost


def test_two_replies_to_one_order_end_the_process(tmp_path: Path) -> None:
    with fake(tmp_path, READY + "done()\ndone(cell=2)\ntime.sleep(60)") as repl:
        assert repl.run("1").error is None
        wait_until(lambda: session_of(repl).gone is not None)
        assert repl.run("2").state_lost


def test_the_same_call_id_twice_ends_the_process(tmp_path: Path) -> None:
    hold = threading.Event()

    def query(prompts: object, model: object) -> list[Answer]:
        hold.wait(20)
        return [Answer(call_id="c", text="a")]

    ask = "send(op='query', id=1, prompts=[USER], model=None)\n"
    with fake(tmp_path, READY + ask + ask + "time.sleep(60)", query=query) as repl:
        assert repl.run("1").state_lost
        hold.set()


def test_a_flood_of_calls_is_held_back_and_the_rest_of_the_host_goes_on(tmp_path: Path) -> None:
    """The process sends calls endlessly and reads no reply; ``close`` still ends it; threads are bounded."""
    many = threading.Event()
    hold = threading.Event()
    lock = threading.Lock()
    running = 0

    def query(prompts: object, model: object) -> list[Answer]:
        nonlocal running
        with lock:
            running += 1
            if running == 64:
                many.set()
        hold.wait(30)
        return [Answer(call_id="c", text="a")]

    script = READY + "n = 0\nwhile True:\n    n += 1\n    send(op='query', id=n, prompts=[USER], model=None)"
    repl = fake(tmp_path, script, query=query)
    repl.start()
    run = run_until_lost(repl)
    assert many.wait(20)
    wait_until(lambda: len(session_of(repl)._open) == 1024)
    assert run.is_alive()
    repl.close()
    run.join(20)
    assert not run.is_alive()
    assert running == 64
    hold.set()


def test_a_process_that_reads_no_replies_is_stopped_by_the_time_limit(tmp_path: Path) -> None:
    """The host's writer is blocked, but the clock runs, since the call itself was answered."""

    def query(prompts: object, model: object) -> list[Answer]:
        return [Answer(call_id="c", text="a" * 8_000_000)]

    script = READY + "import signal\nsignal.signal(2, signal.SIG_IGN)\n"
    script += "send(op='query', id=1, prompts=[USER], model=None)\ntime.sleep(60)"
    with fake(tmp_path, script, code_timeout_s=0.3, query=query) as repl:
        assert repl.run("1").state_lost


def test_lone_surrogates_in_a_value_do_not_get_through(tmp_path: Path) -> None:
    script = READY + "done(final={'text': 'x', 'json': '[\"\\\\ud800\"]', 'by': 'FINAL'})\ntime.sleep(60)"
    with fake(tmp_path, script) as repl:
        final = repl.run("1").final
        assert final is not None
        assert final.value is None


@pytest.mark.parametrize(
    "value", ["[" * 60 + "]" * 60, "[" * 100_000, "NaN", "[Infinity]", "1" + "0" * 5000, "{", "1e999"]
)
def test_a_value_that_not_every_reader_takes_is_kept_as_text_alone(tmp_path: Path, value: str) -> None:
    script = (
        READY + f"done(final={{'text': 'x', 'json': {json.dumps(value)}, 'by': 'FINAL'}})\ntime.sleep(60)"
    )
    with fake(tmp_path, script) as repl:
        final = repl.run("1").final
        assert final is not None
        assert (final.text, final.value) == ("x", None)


def test_output_longer_than_allowed_is_cut_by_the_host(tmp_path: Path) -> None:
    script = READY + "done(output={'head': 'h' * 99_999, 'tail': 't' * 99_999, 'omitted': 0})\ntime.sleep(60)"
    with fake(tmp_path, script) as repl:
        output = repl.run("1").output
        assert len(output.head) + len(output.tail) <= 20_000
        assert output.omitted == 199_998 - len(output.head) - len(output.tail)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys\nsys.exit(5)", "exited with code 5"),
        (PRELUDE + "read()\npayload(b'x')\ntime.sleep(60)", "broke the frame protocol"),
        (PRELUDE + "read()\ndone()\ntime.sleep(60)", "did not start"),
        (PRELUDE + "read()\nsend(op='broken', detail='no memory')\ntime.sleep(60)", "no memory"),
    ],
)
def test_a_process_that_does_not_come_up_is_an_error_and_is_not_left_behind(
    tmp_path: Path, script: str, said: str
) -> None:
    pid_file = tmp_path / "pid"
    repl = fake(tmp_path, f"import os\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\n" + script)
    with pytest.raises(SandboxError, match=said):
        repl.start()
    wait_until(lambda: not exists(int(pid_file.read_text())))


def test_a_grandchild_that_holds_the_socket_does_not_hide_the_end_of_the_process(tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    script = READY + "pid = os.fork()\nif not pid:\n    os.setsid()\n    time.sleep(60)\n"
    script += f"open({str(note)!r}, 'w').write(str(pid))\nos._exit(9)"
    with fake(tmp_path, script) as repl:
        result = repl.run("1")
        os.kill(int(note.read_text()), signal.SIGKILL)
        assert result.state_lost
        assert result.error is not None
        assert "exited with code 9" in result.error


def test_the_last_words_of_a_process_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends while its reply is still unread, and whoever waits looks first whether it is alive."""
    receive, hold = frames.receive, threading.Event()

    def late(read: Callable[[int], bytes]) -> bytes | None:
        payload = receive(read)
        if payload and b'"done"' in payload:
            hold.wait(5)
        return payload

    monkeypatch.setattr(session, "receive", late)
    monkeypatch.setattr(session, "_LIVENESS_S", 0.01)
    with fake(tmp_path, READY + "done(output={'head': 'h', 'tail': '', 'omitted': 0})") as repl:
        repl_process = session_of(repl).process
        alive = repl_process.alive

        def seen_dead() -> bool:
            is_alive = alive()
            if not is_alive:
                threading.Timer(0.1, hold.set).start()
            return is_alive

        monkeypatch.setattr(repl_process, "alive", seen_dead)
        assert repl.run("1").output.head == "h"


# It asks for more than its socket holds, never reads an answer, and says that the cell is over.
NEVER_READS = (
    READY
    + """
send(op='query', id=1, prompts=[[{"role": "user", "content": "q" * 4_000_000}]], model=None)
while not os.path.exists(sys.argv[0] + ".answered"):
    time.sleep(0.01)
done()
time.sleep(600)
"""
)


def answered(tmp_path: Path) -> Query:
    """A sub model that echoes; the fake sees when it has answered."""

    def query(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        (tmp_path / "fake.py.answered").touch()
        return echo(prompts, model)

    return query


def test_the_time_of_a_cell_runs_out_though_the_process_reads_nothing(tmp_path: Path) -> None:
    with fake(tmp_path, NEVER_READS, code_timeout_s=2, query=answered(tmp_path)) as repl:
        assert not repl.run("1").state_lost
        assert repl.run("2").state_lost


def test_what_ends_a_job_ends_a_process_that_reads_nothing(tmp_path: Path) -> None:
    with fake(tmp_path, NEVER_READS, code_timeout_s=600, query=answered(tmp_path)) as repl:
        repl.run("1")
        stop = threading.Timer(0.1, repl.abort, [Cancelled("j")])
        stop.start()
        with pytest.raises(Cancelled):
            repl.run("2")
        assert session_of(repl).gone


def test_a_process_that_reads_nothing_for_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlm_dist.sandbox.session.UNREAD_S", 0.2)
    with fake(tmp_path, NEVER_READS, code_timeout_s=600, query=answered(tmp_path)) as repl:
        repl.run("1")
        assert "did not read" in str(repl.run("2").error)


def test_answers_that_are_not_read_fill_a_bounded_part_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more calls are taken from the process then."""
    monkeypatch.setattr("rlm_dist.sandbox.session._MAX_UNREAD_BYTES", 10_000_000)
    script = """
for number in range(1000):
    send(op='query', id=number, prompts=[[{"role": "user", "content": "q" * 1_000_000}]], model=None)
time.sleep(600)
"""
    with fake(tmp_path, READY + script, code_timeout_s=1) as repl:
        assert repl.run("1").state_lost
        assert session_of(repl).calls < 10 + 64 + 2  # unread, being answered, and waiting for room


def test_costly_schemas_are_checked_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else 64 threads of one job would be at it, and those of other jobs would get no turn."""
    lock, checked = threading.Lock(), threading.Event()
    at_once: list[int] = []
    running = count = 0

    def check(schema: object) -> None:
        nonlocal running, count
        with lock:
            running += 1
            at_once.append(running)
        wait_until(lambda: len(session_of(repl)._open) > 8)  # the others are here to be checked too
        with lock:
            running -= 1
            count += 1
            if count == 3:
                checked.set()

    monkeypatch.setattr(messages, "check_schema", check)
    ask = "send(op='query', id=n, prompts=[USER], model=None, schema={'type': 'string'})"
    repl = fake(tmp_path, READY + f"for n in range(100): {ask}\ntime.sleep(60)", code_timeout_s=60)
    repl.start()
    run = run_until_lost(repl)
    assert checked.wait(20)
    repl.close()
    run.join()
    assert max(at_once) == 1


def test_input_of_few_jobs_is_worked_on_at_a_time() -> None:
    """The threads that renew leases get their turn between these, however many jobs send at once."""
    entered, leave = threading.Semaphore(0), threading.Event()

    def work() -> None:
        with HostWork():
            entered.release()
            leave.wait(20)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        assert entered.acquire(timeout=20)
    assert not entered.acquire(blocking=False)
    leave.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_repl_for_which_no_thread_can_be_started_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pid_file = tmp_path / "pid"
    repl = fake(tmp_path, f"import os\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\n" + READY)
    launch = PlainStart.launch

    def launched(start: PlainStart, path: Path, memory_bytes: int) -> object:
        started = launch(start, path, memory_bytes)
        wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
        monkeypatch.setattr(threading.Thread, "start", fail)
        return started

    monkeypatch.setattr(PlainStart, "launch", launched)
    with pytest.raises(SandboxError, match="no thread can be started"):
        repl.start()
    monkeypatch.undo()
    assert not exists(int(pid_file.read_text()))
