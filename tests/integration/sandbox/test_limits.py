"""What the REPL's process may use and see, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_dist.local.child_python import import_variables
from rlm_dist.sandbox.frame_writer import FrameWriter
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.process import PlainStart
from tests.support.sandboxes import (
    echo,
    exists,
    forks,
    host_pid,
    library_paths,
    process_of,
    require,
    shown,
    write_context,
)
from tests.support.waiting import wait_until


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An encoded context."""
    return write_context(tmp_path / "context", "str", ["hello"])


def over(context: Path, limits: SandboxLimits) -> Sandbox:
    """A REPL with these limits, not yet started."""
    return Sandbox(context_path=context, query=echo, limits=limits, start=forks())


SHORT = SandboxLimits(code_timeout_s=0.5)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
        "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
        "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    time.sleep(60)",
    ],
)
def test_19_a_block_that_runs_too_long_is_stopped_and_the_variables_are_kept(
    context: Path, code: str
) -> None:
    with over(context, SHORT) as repl:
        shown(repl, "x = 1")
        result = repl.run("print('before')\n" + code)
        assert result.error is not None
        assert result.error.startswith(
            "Stopped: the block ran for more than 0.5 s. Its variables are kept.\n"
        )
        assert result.error.endswith("KeyboardInterrupt")
        assert result.output.head == "before\n"
        assert not result.state_lost
        assert shown(repl, "x") == "1\n"


@pytest.mark.parametrize(
    "code",
    ["import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", "sum(range(10**13))"],
)
def test_19_a_block_that_does_not_react_loses_the_variables(context: Path, code: str) -> None:
    with over(context, SHORT) as repl:
        shown(repl, "x = 1")
        result = repl.run(code)
        assert result.state_lost
        assert result.error == (
            "Stopped: the block ran for more than 0.5 s, and it did not react to being interrupted. "
            "All variables (x) are gone."
        )
        repl.restart()
        assert shown(repl, "context") == "'hello'\n"


def test_a_caught_interrupt_may_still_hand_in_an_answer(context: Path) -> None:
    with over(context, SHORT) as repl:
        result = repl.run(
            "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    FINAL('late')"
        )
        assert result.final is not None
        assert result.final.text == "late"


def test_looking_up_a_variable_never_hangs(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_dist.sandbox.host._RESOLVE_S", 0.3)
    with over(context, SHORT) as repl:
        shown(repl, "class A:\n    def __str__(self):\n        while True: pass\nx = A()")
        found = repl.resolve("x")
        assert (found.found, found.final) == (True, None)
        assert shown(repl, "1") == "1\n"


def test_a_repl_that_cannot_be_written_to_ends(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is full, and no thread can be started that waits for room."""

    def refuse(_: FrameWriter, frame: bytes) -> None:
        raise RuntimeError("can't start new thread")

    with over(context, SHORT) as repl:
        monkeypatch.setattr(FrameWriter, "send", refuse)
        result = repl.run("1")
        assert result.state_lost
        assert "no thread can be started to write to it" in (result.error or "")


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(2 << 30)",
        "x = []\nwhile True: x.append('a' * 1000 + str(len(x)))",
        "x = 'a' * 10**9 * 2",
    ],
)
def test_19_memory_that_blows_up_is_an_observation(context: Path, code: str) -> None:
    with over(context, SandboxLimits(memory_bytes=300 << 20)) as repl:
        shown(repl, "kept = 1")
        result = repl.run(code)
        assert result.error is not None
        assert "MemoryError" in result.error
        assert shown(repl, "x = None\nkept") == "1\n"


def test_a_repl_that_cannot_map_memory_for_its_reserve_goes_on(context: Path) -> None:
    """Another thread may take what there was room for; ``mmap`` says so by an error of the system."""
    refuse = "def refuse(*_):\n    raise OSError(12, 'Cannot allocate memory')\n"
    with over(context, SandboxLimits(memory_bytes=300 << 20)) as repl:
        result = repl.run(f"{refuse}import mmap\nreal, mmap.mmap = mmap.mmap, refuse\nbytearray(2 << 30)")
        assert "MemoryError" in (result.error or "")
        assert shown(repl, "mmap.mmap = real\n1") == "1\n"


def test_memory_is_by_default_a_gibibyte_for_a_small_context(context: Path) -> None:
    with over(context, SandboxLimits()) as repl:
        assert shown(repl, "import resource\nresource.getrlimit(resource.RLIMIT_AS)[0]") == f"{1 << 30}\n"
        assert shown(repl, "len(bytearray(800 << 20)) >> 20") == "800\n"


def test_cpu_time_used_up_is_told(context: Path) -> None:
    with over(context, SandboxLimits(cpu_s=1)) as repl:
        result = repl.run("while True: pass")
        assert result.state_lost
        assert result.error is not None
        assert "SIGXCPU" in result.error


def test_open_files_are_limited_in_number(context: Path) -> None:
    with over(context, SandboxLimits(open_files=20)) as repl:
        result = repl.run("fs = [open('/dev/null') for _ in range(30)]")
        assert result.error is not None
        assert "Too many open files" in result.error


def test_files_are_limited_in_size(context: Path, tmp_path: Path) -> None:
    """Only an unlocked REPL can write files."""
    limits = SandboxLimits(file_size_bytes=1000)
    with Sandbox(context_path=context, query=echo, limits=limits, start=PlainStart()) as repl:
        repl.run(f"open({str(tmp_path / 'out')!r}, 'wb', 0).write(b'x' * 1000 + b'y')\nfor _ in 'ab': 1/0")
        assert (tmp_path / "out").stat().st_size == 1000


def test_the_environment_is_clean(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    with over(context, SandboxLimits()) as repl:
        found = shown(repl, "import os, sys\nsorted(os.environ), os.getcwd(), sys.argv, sys.stdin.read()")
        assert (
            found
            == "(['LC_ALL', 'MALLOC_ARENA_MAX', 'OMP_NUM_THREADS', 'PYTHONHASHSEED', 'TZ'], '/', [''], '')\n"
        )


@pytest.mark.parametrize("module", ["pydantic", "redis", "rlm_dist", "inside", "host", "pytest"])
def test_only_the_standard_library_can_be_imported(context: Path, module: str) -> None:
    with over(context, SandboxLimits()) as repl:
        result = repl.run(f"import sys\nsys.modules.pop({module!r}, None)\nimport {module}")
        assert result.error is not None
        assert f"ModuleNotFoundError: No module named '{module}'" in result.error


def test_the_whole_standard_library_can_be_imported(context: Path) -> None:
    modules = "re json csv math statistics collections datetime zoneinfo sqlite3 decimal asyncio uuid difflib"
    with over(context, SandboxLimits()) as repl:
        shown(repl, "import " + ", ".join(modules.split()))


def test_a_process_that_is_not_locked_holds_its_own_socket_and_imports_the_library_alone(
    context: Path, tmp_path: Path
) -> None:
    with (
        open(tmp_path / "secret", "w") as secret,
        Sandbox(context_path=context, query=echo, limits=SandboxLimits(), start=PlainStart()) as repl,
    ):
        os.set_inheritable(secret.fileno(), True)
        repl.restart()
        held = [os.readlink(link).split(":")[0] for link in Path(f"/proc/{process_of(repl)}/fd").iterdir()]
        assert sorted(held) == ["/dev/null"] * 3 + ["socket"]
        assert shown(repl, "import sys\nsys.path") == f"{library_paths()}\n"


def test_the_process_is_the_first_to_go_when_the_machine_runs_out_of_memory(context: Path) -> None:
    with over(context, SandboxLimits()) as repl:
        process = process_of(repl)
        assert Path(f"/proc/{process}/oom_score_adj").read_text() == "800\n"


def test_close_ends_the_process(context: Path) -> None:
    with over(context, SandboxLimits()) as repl:
        process = process_of(repl)
        assert exists(process)
    wait_until(lambda: not exists(process))


def test_close_ends_a_process_that_is_not_locked_and_what_it_started(context: Path) -> None:
    repl = Sandbox(context_path=context, query=echo, limits=SandboxLimits(), start=PlainStart())
    repl.start()
    pids = shown(repl, "import os, subprocess\nos.getpid(), subprocess.Popen(['sleep', '600']).pid")
    child, grandchild = (int(pid) for pid in pids.strip("()\n").split(", "))
    assert exists(child)
    assert exists(grandchild)
    repl.close()
    wait_until(lambda: not exists(child) and not exists(grandchild))


HOST = """
import sys
from pathlib import Path
from rlm_dist.schema import Answer
from rlm_dist.sandbox.fork_server_start import ForkServerStart
from rlm_dist.local.child_python import import_variables
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.process import PlainStart

level = Level(sys.argv[3])
start = PlainStart() if level is Level.OFF else ForkServerStart(level)

def under_way(prompts, model):
    print("under way", flush=True)
    return [Answer(call_id="c", text="")]

sandbox = Sandbox(context_path=Path(sys.argv[1]), query=under_way, limits=SandboxLimits(), start=start)
sandbox.start()
print(sandbox.run("import os\\nos.getpid()").output.head.strip(), flush=True)
sandbox.run(sys.argv[2])
"""


@pytest.mark.parametrize("level", [Level.OFF, Level.LANDLOCK, Level.NAMESPACES])
@pytest.mark.parametrize("code", ["import time\ntime.sleep(600)", "while True: pass", "sum(range(10**13))"])
def test_the_process_ends_with_its_host_whatever_it_is_doing(context: Path, code: str, level: Level) -> None:
    require(level)
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(context), f"llm_query('x')\n{code}", level],
        stdout=subprocess.PIPE,
        env={**os.environ, **import_variables()},
    )
    with host:
        assert host.stdout is not None
        child = host_pid(int(host.stdout.readline()), below=host.pid)
        assert host.stdout.readline() == b"under way\n"
        assert exists(child)
        host.send_signal(signal.SIGKILL)
        host.wait()
        wait_until(lambda: not exists(child))
