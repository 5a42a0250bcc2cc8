"""From a folder of images and annotations to a recipe: split, check, written files and page.

No file of the user is changed: the written files are in a folder of their own in the data root.
"""

import os
import re
import unicodedata
from pathlib import Path

from evaluation.data.dataset_folder import MASKS, PREPARED, format_of, look_at_folder
from evaluation.data.mask_dataset import prepare_masks
from evaluation.data.object_dataset import prepare_objects
from evaluation.data.prepared_dataset import Options
from evaluation.data.recipe_page import check_name, page_path
from evaluation.utils.errors import UserError
from evaluation.utils.files import replaced_folder, write_json, write_text

SUMMARY = 'dataset.json'


def new_dataset(options: Options) -> str:
    """Write the files and the recipe page of a data set.

    Returns:
        Text that describes the data and names the next commands.

    Raises:
        UserError: the data or an option are invalid; nothing is written.
    """
    folder = look_at_folder(options.root)
    name = options.name if options.name is not None else name_of_folder(options.root)
    check_name(name)
    page = page_path(options.pages, name, options.force)
    target = options.root / PREPARED / name
    check_target(target, options.force)
    kind = format_of(folder, options.kind)
    if kind == MASKS:
        prepared = prepare_masks(options, folder, name)
    else:
        prepared = prepare_objects(options, folder, kind, name)
    summary = {
        'name': name,
        'format': kind,
        'seed': options.seed,
        'classes': prepared.data.classes,
        'images': {part: own.images for part, own in prepared.parts.items()},
    }
    try:
        with replaced_folder(target) as unfinished:
            prepared.write(unfinished)
            write_json(unfinished / SUMMARY, summary)
            # Last: an error before it leaves no page without data.
            write_text(page, prepared.page)
    except OSError as error:
        raise UserError(f'{target} or {page} cannot be written ({error.strerror})') from error
    shown = Path(os.path.relpath(page)) if page.is_relative_to(Path.cwd()) else page
    return (
        f'{prepared.description}\n\nwrote {target}\nwrote {shown}\n\n{next_commands(shown, name, kind)}'
    )


def name_of_folder(root: Path) -> str:
    """Return a name for the recipe of a folder: its own in lower-case ASCII with underscores."""
    plain = unicodedata.normalize('NFKD', root.resolve().name).encode('ascii', 'ignore').decode()
    return re.sub('[^a-z0-9]+', '_', plain.lower()).strip('_')


def check_target(target: Path, may_replace: bool) -> None:
    """Check that the folder of written files can be written.

    Raises:
        UserError: it exists and must not be replaced, or the data root is read-only.
    """
    if target.exists() and not (target / SUMMARY).is_file():
        raise UserError(f'{target} exists but was not written for a data set; move it')
    if target.exists() and not may_replace:
        raise UserError(f'{target} exists; give a different --name, or --force to replace it')
    parent = next(folder for folder in target.parents if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f'{parent} is not writable; copy the data set to a folder that is')


def next_commands(page: Path, name: str, kind: str) -> str:
    """Return the commands that train on a page."""
    weights = '--pretrained released --auto-scale-lr'
    if kind == MASKS:
        # The length is in iterations, which have two images for each GPU.
        weights += ' --cfg-options train_dataloader.batch_size=16'
    return f"""Next, train one backbone on one GPU, or compare several:
    python tools/train.py {page} --backbone swin_tiny {weights}
    python tools/sweep.py {page} --backbones swin_tiny convnext_tiny --seeds 0 1 2 {weights}
    python tools/report.py work_dirs/sweep/{name}_swin_tiny work_dirs/sweep/{name}_convnext_tiny
"""
