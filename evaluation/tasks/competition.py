"""What is compared and by what: contestants and recipes."""

from dataclasses import asdict, dataclass

# Variants of a recipe: fair to all mixers, or as released.
FAIR, RELEASED = 'fair', 'released'


@dataclass(frozen=True)
class Recipe:
    """A training and evaluation that contestants share, as a page of `configs/_base_` declares it.

    Facts that are None are not stated. Results of a recipe that leaves one out are not compared with
    published figures.

    Attributes:
        name: under which published figures are found.
        task: key of the task.
        title: of tables, such as `Mask R-CNN`. Recipes of one title share tables.
        dataset: name of the data that published figures are of, as tables print it.
        images: how many are evaluated.
        epochs: length of the training; None where it is in iterations.
        iterations: the same of a training by iterations.
        batch_size: images of a step.
        start: where trainings start, `pretrained` or `scratch`.
        any_length: whether results of trainings of unknown length are compared with published figures.
        flops_size: height and width of the image that FLOPs are of; None for that of the task.
    """

    name: str
    task: str
    title: str
    dataset: str
    images: int | None = None
    epochs: int | None = None
    iterations: int | None = None
    batch_size: int | None = None
    start: str | None = None
    any_length: bool = False
    flops_size: tuple[int, int] | None = None

    @property
    def length(self) -> str | None:
        """`12 epochs` or `160000 iterations`."""
        if self.epochs is not None:
            return f'{self.epochs} epochs'
        return None if self.iterations is None else f'{self.iterations} iterations'

    def as_json(self) -> dict:
        """All facts, as a config and a result state them."""
        return asdict(self)


@dataclass(frozen=True)
class Contestant:
    """A network whose results are compared with those of others.

    Attributes:
        name: in tables, such as `dcn_tiny` or `r50`.
        family: networks of one design: `unified` of the suite's, else the library that it comes from;
            None in results of before it was told.
        mixer: spatial token mixer, None where the network has none of the suite's.
        scale: `tiny`, say; None where it has none.
    """

    name: str
    family: str | None = None
    mixer: str | None = None
    scale: str | None = None
