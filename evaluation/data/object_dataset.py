"""Data sets of objects: boxes with or without masks, from COCO's or VOC's files."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from evaluation.data.bad_images import THREADS
from evaluation.data.coco_file import listed, read_json
from evaluation.data.dataset_folder import (
    COCO,
    PREPARED,
    TEST,
    TRAIN,
    VAL,
    DatasetFolder,
    ImageFinder,
    folder_split_of,
    split_of,
)
from evaluation.data.examine_coco import examine_entries, examine_images, examine_names
from evaluation.data.findings import Examination
from evaluation.data.image_files import TURNED_IMAGES
from evaluation.data.object_annotations import (
    check_content,
    coco_content,
    complete,
    have_masks,
    used_classes,
)
from evaluation.data.prepared_dataset import (
    EXAMPLES,
    MOST_NAMES,
    PARTS,
    Options,
    Part,
    Prepared,
    Split,
    class_table,
    describe,
    split_images,
)
from evaluation.data.recipe_page import NewData, detection_schedule, object_page
from evaluation.data.voc_boxes import read_voc
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_json
from evaluation.utils.process_memory import garbage_collection_paused

IMAGE_SET = 'ImageSets/Main/{split}.txt'


def prepare_objects(options: Options, folder: DatasetFolder, kind: str, name: str) -> Prepared:
    """Prepare a data set of objects.

    Args:
        options: options of the command.
        folder: files of the data set.
        kind: format of the annotations, `coco` or `voc`.
        name: name of the recipe.

    Raises:
        UserError: annotations or images cannot be used.
    """
    sources, split = _object_sources(options, folder, kind)
    contents = list(sources.values())
    with_masks = not options.boxes and have_masks(sources)
    classes, unused = used_classes(contents, list(sources))
    written = {
        part: coco_content(images, annotations, classes, with_masks)
        for part, (images, annotations) in _divided(contents, split).items()
    }
    examination = _examine_objects(options, written, f'{PREPARED}/{name}', with_masks)
    parts = {part: _object_part(content, classes) for part, content in written.items()}
    counts = len(parts[TRAIN].images), len(parts[VAL].images)
    data = NewData(name, str(options.root), f'{PREPARED}/{name}', classes, counts)
    # Training skips images without objects.
    schedule = detection_schedule(sum(map(bool, parts[TRAIN].classes)))
    description = describe(
        data,
        'Mask R-CNN on boxes and masks' if with_masks else 'Faster R-CNN on boxes',
        class_table(parts, classes, 'objects'),
        parts,
        split.text,
        schedule.text,
        [f'Categories without annotations, left out: {listed(unused, MOST_NAMES)}.'] * bool(unused),
        examination,
    )
    page = object_page(data, with_masks, schedule)
    return Prepared(data, page, description, parts, partial(_write_contents, written))


def _write_contents(contents: Mapping[str, dict], folder: Path) -> None:
    for part, content in contents.items():
        write_json(folder / f'{part}.json', content)


def _divided(contents: Sequence[dict], split: Split) -> dict[str, tuple[list, list]]:
    """Return images and annotations of each part; annotations can be those of both."""
    if len(contents) > 1:
        return {
            part: (content['images'], content['annotations'])
            for part, content in zip(PARTS, contents, strict=True)
        }
    (content,) = contents
    return {
        part: (
            [image for image, own in zip(content['images'], split.parts, strict=True) if own == part],
            content['annotations'],
        )
        for part in PARTS
    }


@garbage_collection_paused()
def _object_sources(
    options: Options, folder: DatasetFolder, kind: str
) -> tuple[dict[Path, dict], Split]:
    """Read the annotations of objects.

    Returns:
        Completed contents by the path of their file, that of the training images first, with paths of
        images relative to the data root; and the split of the images of a single content.
    """
    root, finder = options.root, ImageFinder([*folder.images, *folder.masks])
    if kind == COCO:
        files = _coco_files(root, folder.coco)
        contents = {root / file: read_json(root / file) for file in files}
    else:
        contents = {root: read_voc(root, folder.xml, finder)}
    sources = {}
    for file, content in contents.items():
        completed = complete(content, file, not options.boxes)
        images = _found_images(completed['images'], file, finder, root)
        sources[file] = {**completed, 'images': images}
    if len(sources) > 1:
        _check_apart(sources)
        return sources, Split([], 'as the files state')
    (content,) = sources.values()
    paths = [image['file_name'] for image in content['images']]
    present = _classes_by_image(content, 'category')
    given = [folder_split_of(path) for path in paths]
    sets = {} if kind == COCO else _image_sets(root)
    if sets:
        given = [sets.get(Path(path).stem) for path in paths]
        if not any(given):
            raise UserError(
                f'{root / IMAGE_SET.format(split="*")} list no image of the XML files, such as '
                f'{Path(paths[0]).stem}; list names without endings, or remove the lists'
            )
    labels = [present[image['id']] for image in content['images']]
    return sources, split_images(paths, labels, given, options)


def _coco_files(root: Path, files: Sequence[str]) -> list[str]:
    """Return the file of the training and validation images, or one file of each.

    Raises:
        UserError: it is not clear which files these are.
    """
    kept = [file for file in files if split_of(file) != TEST] or list(files)
    if len(kept) == 1:
        return kept
    by_part = {part: [file for file in kept if split_of(file) == part] for part in PARTS}
    if len(kept) == 2 and all(by_part.values()):
        return [by_part[part][0] for part in PARTS]
    raise UserError(
        f'{root} has {len(kept)} COCO files, {", ".join(kept[:EXAMPLES])}; keep one with all images, or '
        'two with train and val in their names'
    )


def _found_images(images: Iterable[dict], file: Path, finder: ImageFinder, root: Path) -> list[dict]:
    """Return entries of `images` with paths relative to the data root.

    Raises:
        UserError: images are missing, or listed twice.
    """
    own = os.path.relpath(file, root)
    found = {image['id']: (image, finder.find(image['file_name'], own)) for image in images}
    missing = [image['file_name'] for image, path in found.values() if path is None]
    if missing:
        raise UserError(
            f'{len(missing)} of the {len(found)} images of {file} are missing in {root}, such as '
            f'{missing[0]}; add them, or remove their entries'
        )
    path, count = Counter(path for _, path in found.values()).most_common(1)[0]
    if count > 1:
        raise UserError(f'{file} lists the image {path} {count} times; keep one entry for each image')
    keys = ('id', 'height', 'width')
    return [{**{key: image[key] for key in keys}, 'file_name': path} for image, path in found.values()]


def _check_apart(sources: Mapping[Path, dict]) -> None:
    """Check that training and validation have no image in common.

    Raises:
        UserError: they do, so a model would be evaluated on images that it has learned.
    """
    train, val = ({image['file_name'] for image in content['images']} for content in sources.values())
    if common := sorted(train & val):
        raise UserError(
            f'{len(common)} images are listed for both training and validation, such as {common[0]}; '
            f'remove them from one of {", ".join(map(str, sources))}'
        )


def _image_sets(root: Path) -> dict[str, str]:
    """Return the split of each image by its name, from VOC's lists; empty if there are none."""
    found: dict[str, str] = {}
    for part in (*PARTS, TEST):
        file = root / IMAGE_SET.format(split=part)
        if not file.is_file():
            continue
        try:
            lines = file.read_text('utf-8-sig').splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f'{file} cannot be read ({error}); give one name per line, as UTF-8'
            ) from error
        for name in filter(None, map(str.strip, lines)):
            if found.setdefault(name, part) != part:
                raise UserError(
                    f'{file} lists {name}, which is also a {found[name]} image; remove it from one list'
                )
    return found


def _examine_objects(
    options: Options, contents: Mapping[str, dict], folder: str, with_masks: bool
) -> Examination:
    """Check annotations and images as `tools/check_data.py` does.

    Args:
        options: options of the command.
        contents: contents of the annotation files.
        folder: folder of these files, relative to the data root.
        with_masks: whether masks are checked.

    Returns:
        Doubts, which do not prevent a training.

    Raises:
        UserError: an entry or an image cannot be used.
    """
    examination = Examination(options.root, COCO)
    loading = Examination(options.root, COCO)
    for part, content in contents.items():
        name = Path(folder, f'{part}.json')
        check_content(content, options.root / name, with_masks)
        examine_entries(examination, content, name, with_masks)
        examine_names(examination, content['images'], name)
    for content in contents.values():
        examine_images(loading, content, options.root, THREADS)
    unusable = [finding for finding in loading.findings if finding.kind != TURNED_IMAGES]
    if unusable:
        raise UserError(
            f'{len(unusable)} images cannot be used, such as {unusable[0].subject}, which '
            f'{unusable[0].text}; restore them, or remove their entries'
        )
    examination.findings += loading.findings
    return examination


def _classes_by_image(content: Mapping, key: str) -> dict[int | str, Counter]:
    """Return the number of objects of each class by the id of their image."""
    found: dict[int | str, Counter] = {image['id']: Counter() for image in content['images']}
    for annotation in content['annotations']:
        found[annotation['image_id']][annotation[key]] += 1
    return found


def _object_part(content: Mapping, classes: Sequence[str]) -> Part:
    counts = _classes_by_image(content, 'category_id')
    images = content['images']
    return Part(
        [image['file_name'] for image in images],
        [{classes[i - 1]: n for i, n in counts[image['id']].items()} for image in images],
        [(image['height'], image['width']) for image in images],
    )
