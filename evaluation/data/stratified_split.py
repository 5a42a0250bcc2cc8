"""Split of images into training and validation, stratified by class.

Rare classes choose first, as in iterative stratification (Sechidis et al., "On the Stratification of
Multi-Label Data", ECML PKDD 2011): after them, images with common classes are left to correct the
proportions, but not the other way round.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence


def stratified_split(
    names: Sequence[str], classes: Sequence[Collection[Hashable]], share: float, seed: int
) -> list[bool]:
    """Choose the validation images.

    Each class with two or more images gets at least its share of them, rounded and at least one, and
    keeps at least one in training. If images have several classes, a class can lack validation images
    where all of its images are needed for the training of other classes. The choice depends only on the
    arguments: not on the order of the images, the machine or the version of a library.

    Args:
        names: different names of the images.
        classes: classes in each image; empty for an image without objects.
        share: share of the images to validate on, between 0 and 1.
        seed: seed of the choice.

    Returns:
        For each image, whether it is a validation image. Both parts have at least one image with
        objects if there are two of them.
    """
    groups = _groups(names, classes, seed)
    left = {key: len(group) for key, group in groups.items()}
    chosen: set[int] = set()
    keys_of: dict[int, list] = defaultdict(list)
    for key, group in groups.items():
        for index in group:
            keys_of[index].append(key)

    def choose(index: int) -> None:
        chosen.add(index)
        for key in keys_of[index]:
            left[key] -= 1

    # Groups of equal size come in the order of their first image, which depends on the seed.
    for key, group in sorted(groups.items(), key=lambda item: len(item[1])):
        wanted = _wanted(len(group), share)
        for index in group:
            if len(group) - left[key] >= wanted:
                break
            if index not in chosen and all(left[other] > 1 for other in keys_of[index]):
                choose(index)
    objects = groups.get(_OBJECTS, [])
    if len(objects) > 1 and left[_OBJECTS] == len(objects):
        # Each image has a class that no other image has: give up as few classes as possible.
        choose(min(objects, key=lambda index: sum(left[key] == 1 for key in keys_of[index])))
    return [index in chosen for index in range(len(names))]


# Keys of the groups of all images with objects and without.
_OBJECTS, _NO_OBJECTS = ('with objects',), ('without objects',)


def _groups(
    names: Sequence[str], classes: Sequence[Collection[Hashable]], seed: int
) -> dict[Hashable, list[int]]:
    """Return the images of each class, and those with and without objects, in a seeded order."""
    digests = [hashlib.sha256(f'{seed} {name}'.encode()).digest() for name in names]
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index in sorted(range(len(names)), key=digests.__getitem__):
        for key in sorted(set(classes[index]), key=repr):
            groups['class', key].append(index)
        groups[_OBJECTS if classes[index] else _NO_OBJECTS].append(index)
    return dict(groups)


def _wanted(count: int, share: float) -> int:
    """Return the number of validation images of a class with `count` images."""
    return 0 if count < 2 else min(max(round(share * count), 1), count - 1)
