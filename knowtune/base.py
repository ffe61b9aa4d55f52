"""The pristine base model: where it comes from, what identifies it, how it is loaded.

A base is either `embedded` (a small Llama built here from the known facts) or a local folder in transformers
layout, wherever that came from (`knowtune.hub` fetches one). Its *card* holds the digest of every weight file;
adapters carry the digest of the whole, so that an adapter never meets another base.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.admission import admit
from knowtune.artefacts import file_digest, read_card, read_json, read_tensors, text_digest
from knowtune.checkpoints import DECIDING_FILES, LOCAL, first_line, load_tokenizer, plain_generation, read_config
from knowtune.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.families import Task

CARD = "base.json"
ORIGIN = "hub.json"  # beside a model fetched from a hub: repository and revision
ADAPTER_CARD = "knowtune.json"  # beside every trained adapter; carries the digest of its base
MERGED = "merged.json"  # beside every merged model; carries the digest of its base
POOLER = "pooler"  # what of a backbone belongs to a classifier's head
COMPOSED = "composed.json"  # beside a merged model that stays base + adapter; names the method that puts them together


@dataclass(frozen=True)
class Compute:
    """Where and in which number format a model runs.

    Args:
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        dtype: "float32", "bfloat16" or "auto" (bfloat16 on a CUDA device that has it, else float32).
        quantize: "none" or "4bit" (bitsandbytes, CUDA only).
        threads: CPU threads; the last bits of a sum depend on it.
    """

    device: str = "cpu"
    dtype: str = "float32"
    quantize: str = "none"
    threads: int = 2

    def resolved_device(self) -> str:
        """Return "cpu" or "cuda".

        Raises:
            UserError: CUDA is asked for and not there.
        """
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "params.yaml: compute.device: got 'cuda', but torch sees no CUDA device; use 'auto' or 'cpu'"
            )
        return self.device

    def resolved_dtype(self) -> Any:
        """Return the torch dtype of the base's weights."""
        import torch

        name = self.dtype
        if name == "auto":
            fast = self.resolved_device() == "cuda" and torch.cuda.is_bf16_supported()
            name = "bfloat16" if fast else "float32"
        return getattr(torch, name)


def make_card(folder: Path, identity: str) -> dict[str, Any]:
    """Describe a model folder by the digest of each file that decides what it computes.

    Args:
        folder: a folder in transformers layout.
        identity: the name that results show, e.g. "embedded" or the folder's name; never a whole path. A model fetched
            from a hub is named after its repository and revision.

    Raises:
        UserError: see `knowtune.admission.admit`.
    """
    found = admit(folder)
    files = {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted({path for pattern in DECIDING_FILES for path in folder.glob(pattern) if path.is_file()})
    }
    origin = read_json(folder / ORIGIN) if (folder / ORIGIN).is_file() else None
    return {
        "identity": f"{origin['repo']}@{origin['revision'][:8]}" if origin else identity,
        "origin": origin,
        "digest": text_digest(files),
        "files": files,
        "sizes": {name: (folder / name).stat().st_size for name in files},
        "context": found.context,
        "architecture": found.architecture,
        "notes": found.notes,
    }


@dataclass(frozen=True)
class Base:
    """A base model on disk: its card and the folder its weights lie in."""

    card: dict[str, Any]
    folder: Path
    compute: Compute
    task: Task

    @classmethod
    def open(cls, artefact: Path, source: Path, compute: Compute, task: Task) -> Base:
        """Open what the base stage wrote; the weights lie beside the card, or in `source` when the base is a folder."""
        shape = {"digest": str, "files": dict, "sizes": dict, "context": int | None}
        card = read_card(artefact / CARD, shape, "base")
        folder = artefact if (artefact / "config.json").is_file() else source
        for name in {**card["files"], **card["sizes"]}:
            if not (folder / name).is_file():
                raise UserError(
                    f"{folder / name}: missing; the base of this workspace was made with it. Run the base stage again"
                )
        for name, size in card["sizes"].items():  # cheap; the base stage has digested every byte
            if (folder / name).stat().st_size != size:
                raise UserError(f"{folder / name}: not the file that the base stage saw; run it again (dvc repro)")
        return cls(card, folder, compute, task)

    @property
    def digest(self) -> str:
        """The digest that adapters made on this base carry."""
        return str(self.card["digest"])

    @property
    def context(self) -> int:
        """The longest sequence the model was built for, in tokens."""
        return int(self.card["context"] or 2**31)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer, see `knowtune.checkpoints`; its longest text is the base's context."""
        tokenizer = load_tokenizer(self.folder)
        tokenizer.model_max_length = self.context
        return tokenizer

    def model(self) -> PreTrainedModel:
        """Load a fresh, pristine copy in evaluation mode; a new head follows torch's global seed."""
        return load_model(self.folder, self.compute, self.task)

    def exact(self) -> Base:
        """Give the same base in float32 and unquantised: for folding and mixing, whatever the training ran in."""
        return replace(self, compute=replace(self.compute, dtype="float32", quantize="none"))


def load_model(folder: Path, compute: Compute, task: Task, *, trained: bool = False) -> PreTrainedModel:
    """Load a checkpoint with a task's head onto the device and in the dtype asked for, in evaluation mode.

    Args:
        folder: in transformers layout.
        compute: device, dtype, quantisation.
        task: says which head.
        trained: whether the pipeline wrote the checkpoint itself; see `from_checkpoint`.
    """
    options: dict[str, Any] = {"dtype": compute.resolved_dtype(), "trained": trained}
    if compute.quantize == "4bit":
        options["quantization_config"] = _four_bit(compute)
    model: Any = task.load_model(folder, **options)
    if compute.quantize == "none":
        model = model.to(compute.resolved_device())
    loaded: PreTrainedModel = model.eval()
    return loaded


def from_checkpoint(
    kind: Any, folder: Path, *, new_head: bool, num_labels: int | None = None, trained: bool = False, **options: Any
) -> PreTrainedModel:
    """Load a checkpoint by one of transformers' auto classes, from this machine, safetensors only, no foreign code.

    Args:
        kind: e.g. AutoModelForCausalLM.
        folder: in transformers layout.
        new_head: whether weights outside the backbone may be missing, and of its pooler, which language models are
            saved without; they are then random, and their names stand in the model's `new_weights`.
        num_labels: outputs of a classifier's head; None for other models.
        trained: whether the pipeline wrote the checkpoint itself; then its names must be the model's, one by one.
        options: of `from_pretrained`.

    Raises:
        UserError: no such head for this architecture, or weights are missing; of a trained checkpoint also weights
            that the model has no place for.
    """
    if trained:
        read_card(folder / "config.json", {})
    config = read_config(folder)
    if num_labels is not None:
        config.num_labels = num_labels
    try:
        model, info = kind.from_pretrained(
            folder,
            config=config,
            generation_config=plain_generation(folder),
            use_safetensors=True,
            output_loading_info=True,
            **LOCAL,
            **options,
        )
    except Exception as error:  # whatever a file that is not as it should be leads transformers to
        if trained:
            for file in sorted(folder.glob("*.safetensors")):
                read_tensors(file)  # says which is damaged
        told = f"{folder}: transformers cannot load it as {kind.__name__}: {first_line(error)}"
        raise UserError(f"{told}. Run the stage that wrote it again" if trained else told) from error
    if trained:
        require_matching(folder, info["missing_keys"], info["unexpected_keys"])
        require_floats(folder, model)
    backbone = f"{model.base_model_prefix}."
    head = f"{backbone}{POOLER}."
    missing = sorted(
        key for key in info["missing_keys"] if not new_head or (key.startswith(backbone) and not key.startswith(head))
    )
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} weights are missing, e.g. {missing[0]}; they would be random. Is this a "
            f"checkpoint of {type(model).__name__}?"
        )
    model.new_weights = sorted(info["missing_keys"])
    loaded: PreTrainedModel = model
    return loaded


def new_modules(model: Any) -> set[str]:
    """Name the modules that hold what a model's checkpoint has not: its own children, or the backbone's pooler."""
    prefix = f"{model.base_model_prefix}.{POOLER}"
    weights = getattr(model, "new_weights", [])
    return {prefix if weight.startswith(f"{prefix}.") else weight.split(".")[0] for weight in weights}


def require_matching(folder: Path, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Refuse trained weights of which some found no place in the model, or some places no weights.

    Raises:
        UserError: names the first of both kinds.
    """
    found = {"of the model are missing": sorted(missing), "have no place in the model": sorted(unexpected)}
    told = [f"{len(names)} weights {what}, e.g. {', '.join(names[:3])}" for what, names in found.items() if names]
    if told:
        raise UserError(f"{folder}: not what was trained: {'; '.join(told)}. Run the stage that wrote it again")


def require_floats(folder: Path, model: torch.nn.Module) -> None:
    """Refuse whole numbers in a trained checkpoint of a model that has none: transformers takes them for weights.

    Raises:
        UserError: names the first of them.
    """
    from safetensors import safe_open

    if not all(tensor.is_floating_point() for tensor in model.state_dict().values()):
        return
    for path in sorted(folder.glob("model*.safetensors")):  # as transformers names them
        with safe_open(path, framework="pt") as file:
            odd = [name for name in file.keys() if "F" not in file.get_slice(name).get_dtype()]  # noqa: SIM118
        if odd:
            raise UserError(
                f"{path}: {len(odd)} weights are whole numbers, e.g. {odd[0]}. Run the stage that wrote it again"
            )


def overwrite(model: PreTrainedModel, folder: Path) -> None:
    """Replace all weights of a model, where they lie, by those that `save_pretrained` wrote into a folder.

    They come through transformers' own loader, for names and shapes on disk may be others than in memory: experts of a
    mixture are saved one by one.

    Raises:
        UserError: the folder's weights are not this model's.
    """
    loaded = from_checkpoint(type(model), folder, new_head=False, trained=True, dtype=model.dtype)
    model.load_state_dict(loaded.state_dict())


def _four_bit(compute: Compute) -> Any:
    """Make the 4-bit setting, or say what is missing."""
    import importlib.util

    from transformers import BitsAndBytesConfig

    if compute.resolved_device() != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "params.yaml: compute.quantize: got '4bit', which needs CUDA and the extra: make extra NAME=quantized"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute.resolved_dtype()
    )


def require_same_base(adapter_digest: str, base: Base, where: Path) -> None:
    """Refuse an artefact that was made on another base.

    Raises:
        UserError: names both digests.
    """
    if adapter_digest != base.digest:
        raise UserError(
            f"{where}: made on a base with digest {adapter_digest[:12]}, but this base "
            f"({base.card['identity']}) has {base.digest[:12]}; train again, or point `base` at the other model"
        )


def as_pretrained(model: torch.nn.Module) -> PreTrainedModel:
    """Narrow the type of a model that is known to be a plain transformers model."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"a plain transformers model is needed, not {type(model).__name__}")
    return model
