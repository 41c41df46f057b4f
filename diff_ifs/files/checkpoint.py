"""Checkpoints: what NAME.pt holds, read without torch and written with it.

A checkpoint is what `torch.save` makes of a dict: an uncompressed zip archive of a pickle and the
bytes of its tensors. Reading it here takes no second for loading torch, so that what is wrong with
one is said at once; and of all that a pickle may call, nothing is but what puts such tensors
together.
"""

import collections
import hashlib
import io
import pickle
import pickletools
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diff_ifs.errors import InputError, one_line
from diff_ifs.files.disk import atomic_write
from diff_ifs.files.names import find_pictures, is_picture, is_plain, plain
from diff_ifs.files.target import read_target
from diff_ifs.setup import MAX_SINGULAR, RANGES, WINDOW, Setup

if TYPE_CHECKING:
    from torch import Tensor

    from diff_ifs.fit.run import State

STORAGES = {"FloatStorage": np.dtype("<f4"), "DoubleStorage": np.dtype("<f8")}


class _Unpickler(pickle.Unpickler):
    """Tensors become arrays that share the bytes of the archive, which is all that it can be made
    to call for."""

    def __init__(self, pickled: bytes, archive: zipfile.ZipFile, folder: str):
        super().__init__(io.BytesIO(pickled))
        self.archive, self.folder = archive, folder
        self.storages: dict[
            str, np.ndarray
        ] = {}  # each is read once, however often it is referred to

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _array
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a checkpoint")

    def persistent_load(self, reference: tuple) -> np.ndarray:
        _, dtype, key, _, _ = reference
        if key not in self.storages:
            self.storages[key] = np.frombuffer(
                bytearray(self.archive.read(f"{self.folder}data/{key}")), np.uint8
            )
        return self.storages[key].view(dtype)


def _array(
    storage: np.ndarray, start: int, shape: tuple, strides: tuple, graph: bool, hooks: object
) -> np.ndarray:
    """A tensor of a storage. Raises ValueError if it reaches beyond it, or belongs to a
    computation."""
    if min(start, *shape, *strides, 0) < 0 or graph:
        raise ValueError("a tensor that nothing writes")
    last = start + sum((count - 1) * step for count, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= len(storage):
        raise ValueError("a tensor that is larger than its storage")
    steps = [storage.itemsize * step for step in strides]
    return np.lib.stride_tricks.as_strided(storage[start:], shape, steps)


def _unpacked(path: Path) -> object:
    """What is pickled in a file. Raises InputError for one that train_ifs.py cannot have written.

    That is a zip archive without compression that unpacks to no more than its own size. The pickle
    may not ask for more places in its memory than it has bytes.
    """
    foreign = InputError(
        f"{path} is not a checkpoint of train_ifs.py, or it is damaged; make it again"
    )
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\3\4":
                raise foreign
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
            if not stored or sum(record.file_size for record in records) > path.stat().st_size:
                raise foreign
            (name,) = (
                record.filename for record in records if record.filename.endswith("data.pkl")
            )
            pickled = archive.read(name)
            for code, argument, _ in pickletools.genops(pickled):
                if code.name in ("PUT", "LONG_BINPUT") and argument > len(pickled):
                    raise foreign
            return _Unpickler(pickled, archive, name.removesuffix("data.pkl")).load()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error})") from error
    except Exception as error:  # zipfile and pickle raise many kinds for a damaged file
        raise foreign from error


def _stretch(maps: np.ndarray) -> np.ndarray:
    """The larger singular values of maps (..., 2, 3), as `ifs_model.singular_values` computes
    them."""
    a, b, c, d = np.moveaxis(maps[..., :2].astype(float), (-2, -1), (0, 1)).reshape(
        4, *maps.shape[:-2]
    )
    return np.hypot(a + d, c - b) / 2 + np.hypot(a - d, c + b) / 2


def load_checkpoint(path: Path) -> dict:
    """The dict of a checkpoint, with arrays for its tensors; all that rendering needs is there and
    sane.

    Raises InputError.
    """
    checkpoint = _unpacked(path)
    if (
        type(checkpoint) is not dict
        or type(checkpoint.get("format")) is not str
        or checkpoint["format"] != "diff_ifs"
    ):
        raise InputError(f"{path} is not a checkpoint of train_ifs.py")
    if type(checkpoint.get("version")) is not int or checkpoint["version"] != 1:
        raise InputError(
            f"{path} has another version than 1, which this program reads; make it again"
        )
    maps, window, stroke = (checkpoint.get(key) for key in ("maps", "window", "stroke"))
    if not (
        type(maps) is np.ndarray
        and maps.ndim == 3
        and maps.shape[1:] == (2, 3)
        and 1 <= len(maps) <= 1000
    ):
        raise InputError(f"{path} does not hold 1 to 1000 maps of shape (n, 2, 3)")
    if not np.isfinite(maps).all() or _stretch(maps).max() > MAX_SINGULAR:
        raise InputError(
            f"{path} holds maps that are not contractions by at least 0.99; make it again"
        )
    if abs(maps).max() > 1e3:
        raise InputError(f"{path} holds maps that lead far away; make it again")
    numbers = (
        type(window) in (tuple, list)
        and len(window) == 4
        and all(type(x) in (int, float) for x in window)
    )
    if not numbers or not all(abs(x) <= 1e6 for x in window):
        raise InputError(f"{path} does not hold a window (xmin, xmax, ymin, ymax)")
    width, height = window[1] - window[0], window[3] - window[2]
    if not (width > 1e-12 and height > 1e-12):
        raise InputError(f"{path} holds an empty window")
    if abs(width - height) > 1e-9 * width:
        raise InputError(f"{path} holds a window that is not square")
    if not (type(stroke) in (int, float) and 0 <= stroke <= 1):
        raise InputError(f"{path} does not hold a stroke from 0 to 1")
    for key, low, high in (("step", 0, 10**9), ("size", *RANGES["size"])):
        if type(checkpoint.get(key)) is not int or not low <= checkpoint[key] <= high:
            raise InputError(f"{path} does not hold a {key} from {low} to {high}")
    if not (type(checkpoint.get("iou")) in (int, float) and -1 <= checkpoint["iou"] <= 1):
        raise InputError(f"{path} does not hold an IoU")
    if not (type(checkpoint.get("name")) is str and is_plain(checkpoint["name"])):
        raise InputError(f"{path} does not hold the name of a target")
    return checkpoint


def load_path(path: Path, checkpoint: dict) -> tuple[list[int], np.ndarray, list[float]]:
    """The way of a fit: steps, maps (K, n, 2, 3) and strokes at each. Raises InputError where it is
    not there."""
    way = checkpoint.get("path")
    if not isinstance(way, dict):
        raise InputError(
            f"{path} does not hold the way of its fit; make it again with train_ifs.py"
        )
    steps, maps, strokes = (way.get(key) for key in ("steps", "maps", "strokes"))
    sound = (
        isinstance(maps, np.ndarray)
        and maps.shape[1:] == checkpoint["maps"].shape
        and isinstance(steps, list)
        and isinstance(strokes, list)
        and len(steps) == len(strokes) == len(maps) > 0
        and all(isinstance(step, int) for step in steps)
        and all(isinstance(stroke, float) and 0 <= stroke <= 1 for stroke in strokes)
        and bool(np.isfinite(maps).all())
        and float(_stretch(maps).max()) <= MAX_SINGULAR
        and float(abs(maps).max()) <= 1e3
    )
    if not sound:
        raise InputError(f"{path} holds a damaged way of its fit; make it again with train_ifs.py")
    return steps, maps, strokes


def setup_of(path: Path, checkpoint: dict) -> Setup:
    """The setup of a fit, the default one of a checkpoint without. Raises InputError for one that
    cannot be."""
    fields = checkpoint.get("setup", {})
    try:
        if type(fields) is not dict:
            raise TypeError("there is none")
        return Setup(**fields)
    except (TypeError, ValueError) as error:
        words = f"{path} does not hold the setup of its fit ({one_line(error)})"
        raise InputError(f"{words}; make it again with train_ifs.py") from error


def fitted_target(path: Path, checkpoint: dict, name: str) -> tuple[Path, np.ndarray]:
    """The picture that a checkpoint was fitted to, and its coverage (S, S) as the fit read it.
    Raises InputError."""
    setup, given = setup_of(path, checkpoint), checkpoint.get("picture")
    known = type(given) is str and is_picture(given) and plain(given) == name
    picture = find_pictures(given if known else name)[0]
    target = read_target(
        picture, checkpoint["size"], setup.invert, setup.threshold, setup.grey
    ).coverage
    if checkpoint.get("target") not in (None, fingerprint(target)):
        raise InputError(f"{picture} is not the picture that {path} was fitted to; fit it again")
    return picture, target


def load_origin(path: Path, name: str, options: dict) -> tuple[dict, Setup]:
    """A checkpoint to go on from, and its setup. Raises InputError if it is of another name or
    options."""
    checkpoint = load_checkpoint(path)
    if checkpoint["name"] != name:
        raise InputError(
            f"{path} is a fit of {checkpoint['name']!r}, not of {name!r}; rename it, or leave out "
            "--resume"
        )
    setup = setup_of(path, checkpoint)
    changed = [field for field, value in options.items() if not _same(getattr(setup, field), value)]
    if changed:
        what = " and ".join(f"--{field}" for field in changed)
        raise InputError(f"{path} was made with another {what}: leave that out, or --resume")
    return checkpoint, setup


def check_target(path: Path, checkpoint: dict, picture: Path, target: np.ndarray) -> None:
    """Raise InputError if a fit is not of this target (S, S), read from a picture."""
    if type(checkpoint.get("target")) is not str or checkpoint["target"] != fingerprint(target):
        raise InputError(
            f"{path} is a fit of another {picture.name}; restore that, or fit it anew without "
            "--resume"
        )


def resume_of(path: Path, checkpoint: dict, setup: Setup) -> dict:
    """What a fit needs to go on from a checkpoint, in tensors. Raises InputError if it is not
    there."""
    from diff_ifs.fit.run import check_resume

    try:
        resume = as_tensors(checkpoint.get("resume"))
        check_resume(resume, setup)
    except ValueError as error:
        raise InputError(
            f"{path} does not hold what --resume needs ({error}); start again without it"
        ) from error
    return resume


def as_tensors(fields: dict) -> dict:
    """The same fields with tensors in place of arrays, and of those in lists. Raises ValueError if
    it is no dict."""
    import torch

    if type(fields) is not dict:
        raise ValueError("there are no fields")

    def tensor(value: object) -> object:
        return torch.from_numpy(value) if type(value) is np.ndarray else value

    return {
        key: list(map(tensor, value)) if type(value) is list else tensor(value)
        for key, value in fields.items()
    }


def _same(a: object, b: object) -> bool:
    """Whether a value from a file is equal to a plain one of ours, down to the types."""
    if type(a) is not type(b):
        return False
    if type(b) is tuple:
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


def fingerprint(target: np.ndarray) -> str:
    """The SHA-256 of a target's pixels."""
    return hashlib.sha256(target.tobytes()).hexdigest()


def save_checkpoint(
    path: Path,
    name: str,
    setup: Setup,
    state: "State",
    target: "Tensor",
    picture: str | None = None,
) -> None:
    """Write the best system of a fit, and what is needed to go on with it; `picture` is the
    target's file."""
    import torch

    more = {}
    if setup.grey:
        from diff_ifs.draw.picture import exposure

        more["exposure"] = exposure(state.best_maps, WINDOW, target)
    content = io.BytesIO()  # torch's own writer takes a full disk badly
    torch.save(
        {
            "format": "diff_ifs",
            "version": 1,
            "name": name,
            "maps": state.best_maps.clone(),
            "window": WINDOW,
            "stroke": state.best_stroke,
            "size": setup.size,
            "setup": asdict(setup),
            "step": state.step,
            "iou": state.best_iou,
            "target": fingerprint(target.cpu().numpy()),
            "picture": picture or f"{name}.png",
            "path": {
                "steps": [step for step, _, _ in state.path],
                "maps": torch.stack([maps for _, maps, _ in state.path]),
                "strokes": [stroke for _, _, stroke in state.path],
            },
            "resume": _alone_on_cpu(state.resume),
            **more,
        },
        content,
    )
    with atomic_write(path) as file:
        file.write(content.getbuffer())


def _alone_on_cpu(value):
    """The same nest of dicts and lists with every tensor on the CPU, in a storage of its own."""
    if isinstance(value, dict):
        return {key: _alone_on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_alone_on_cpu(item) for item in value]
    return value.detach().cpu().clone() if hasattr(value, "detach") else value
