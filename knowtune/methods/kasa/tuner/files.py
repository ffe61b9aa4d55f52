"""P and Q beside an adapter, in a file that PEFT does not read: with it, loading decomposes nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from knowtune.methods.kasa.tuner.factors import FOREIGN, complete, has_factors
from knowtune.methods.kasa.tuner.variant import ReversibleKasa

FILE = "kasa_factors.safetensors"
ABOUT = "W - P Q is the weight that the adapter beside this file was trained on; made by knowtune, not read by PEFT"
ONLY_HERE = "The adapter changes Conv1D layers: PEFT loads it after `import knowtune` alone."


def kasa_layers(model: Any, adapter: str) -> Iterator[tuple[str, Any]]:
    """Yield path and layer of those that a KaSA adapter changes."""
    for path, layer in model.named_modules():
        if isinstance(getattr(layer, "lora_variant", {}).get(adapter), ReversibleKasa):
            yield path, layer


def save_factors(model: Any, adapter: str, folder: Path) -> None:
    """Write the factors of an adapter into its folder; nothing where some wait for a weight, or it is no KaSA."""
    from safetensors.torch import save_file

    layers = list(kasa_layers(model, adapter))
    if not layers or not all(has_factors(layer, adapter) for _, layer in layers):
        return
    tensors = {}
    for path, layer in layers:
        tensors[f"{path}.P"] = layer.kasa_P[adapter].detach().cpu().contiguous()
        tensors[f"{path}.Q"] = layer.kasa_Q[adapter].detach().cpu().contiguous()
    about = f"{ABOUT}. {ONLY_HERE}" if any(layer.fan_in_fan_out for _, layer in layers) else ABOUT
    save_file(tensors, folder / FILE, metadata={"about": about})  # one entry: they are written in no order


def load_factors(model: Any, adapter: str, source: str, options: dict[str, Any]) -> None:
    """Give a loaded adapter its factors, from the file beside it, else from the base's weights.

    Warns once where the file is of another base.

    Args:
        model: with the adapter loaded.
        adapter: its name there.
        source: its folder, or its repository on the hub.
        options: of the hub's client, such as subfolder and revision.

    Raises:
        ValueError: the file is damaged.
    """
    layers = [(path, layer) for path, layer in kasa_layers(model, adapter) if not has_factors(layer, adapter)]
    if not layers:
        return
    path = _find(source, options)
    saved = {} if path is None else _read(path)
    foreign = []
    for name, layer in layers:
        given = (saved[f"{name}.P"], saved[f"{name}.Q"]) if {f"{name}.P", f"{name}.Q"} <= saved.keys() else None
        if complete(layer, adapter, given):
            foreign.append(name)
    if foreign:
        which = f"those of {len(foreign)} of {len(layers)} layers, e.g. {foreign[0]},"
        warnings.warn(f"{path}: {which} {FOREIGN}", stacklevel=2)


def _read(path: Path) -> dict[str, Any]:
    """Read the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and the factors are computed again") from error


def _find(source: str, options: dict[str, Any]) -> Path | None:
    """Find the file in a folder, or in a repository on the hub or in its cache; None where there is none."""
    folder = Path(source, options.get("subfolder") or "")
    if folder.is_dir():
        return folder / FILE if (folder / FILE).is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(source, FILE, **options))
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None
