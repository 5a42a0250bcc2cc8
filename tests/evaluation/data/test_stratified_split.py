"""Stratified split: shares, rare classes, and independence of the order of the images."""

from collections import Counter
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from evaluation.data.stratified_split import stratified_split

images = st.lists(st.frozensets(st.integers(0, 4), max_size=3), min_size=2, max_size=8)
seeds = st.integers(0, 1000)


def names_of(classes):
    return [f'{index}.jpg' for index in range(len(classes))]


def classes_in(classes, chosen, part):
    return {name for own, each in zip(classes, chosen, strict=True) if each is part for name in own}


@given(st.lists(st.integers(0, 5), min_size=2, max_size=200), seeds)
def test_each_class_has_its_share_if_images_have_one_class(labels, seed):
    classes = [{label} for label in labels]
    chosen = stratified_split(names_of(classes), classes, 0.2, seed)
    validated = Counter(label for label, each in zip(labels, chosen, strict=True) if each)
    counts = Counter(labels)
    least = {label: expected(count) for label, count in counts.items()}
    assert all(validated[label] >= number for label, number in least.items())
    # All images together have their share as well, which rounding of the classes can miss.
    assert sum(validated.values()) == max(sum(least.values()), expected(len(labels)))


def expected(count):
    return 0 if count == 1 else min(max(round(0.2 * count), 1), count - 1)


@given(images, seeds)
def test_training_has_each_class_of_two_images(classes, seed):
    chosen = stratified_split(names_of(classes), classes, 0.5, seed)
    counts = Counter(name for own in classes for name in own)
    repeated = {name for name, count in counts.items() if count > 1}
    has_shared_image = any(own and all(counts[name] > 1 for name in own) for own in classes)
    if has_shared_image or sum(map(bool, classes)) < 2:
        assert repeated <= classes_in(classes, chosen, False)


@given(images, seeds)
def test_both_parts_have_objects(classes, seed):
    chosen = stratified_split(names_of(classes), classes, 0.2, seed)
    if sum(map(bool, classes)) > 1:
        assert classes_in(classes, chosen, True)
        assert classes_in(classes, chosen, False)


@given(images, seeds, st.randoms(use_true_random=False))
def test_order_of_images_does_not_matter(classes, seed, random):
    names = names_of(classes)
    order = random.sample(range(len(names)), len(names))
    chosen = stratified_split(names, classes, 0.3, seed)
    shuffled = stratified_split([names[i] for i in order], [classes[i] for i in order], 0.3, seed)
    assert [chosen[i] for i in order] == shuffled


def test_seed_changes_the_choice():
    classes = [{0}] * 50
    choices = {tuple(stratified_split(names_of(classes), classes, 0.2, seed)) for seed in range(5)}
    assert len(choices) == 5
    assert {sum(choice) for choice in choices} == {10}


def test_validation_rarely_lacks_a_class_that_it_could_have():
    """Compare with all possible splits of small sets of images with several classes."""
    missed = 0
    for seed, pattern in enumerate(product([{0}, {0, 1}, {1, 2}, {2}], repeat=5)):
        classes = list(pattern)
        counts = Counter(name for own in classes for name in own)
        repeated = {name for name, count in counts.items() if count > 1}

        def is_complete(split, classes=classes, repeated=repeated):
            return all(repeated <= classes_in(classes, split, part) for part in (True, False))

        chosen = stratified_split(names_of(classes), classes, 0.2, seed)
        possible = any(is_complete(split) for split in product([True, False], repeat=5))
        missed += possible and not is_complete(chosen)
    assert missed < 0.05 * 4**5
