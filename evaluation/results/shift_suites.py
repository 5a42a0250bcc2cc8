"""Test sets under distribution shift: their domains, layout and summary figures."""

from dataclasses import dataclass
from pathlib import Path

from evaluation.results.result import Domain


@dataclass(frozen=True)
class ShiftSuite:
    """A collection of test sets with the classes of a known data set, each from a different domain.

    Attributes:
        key: name on the command line.
        title: name in tables.
        task: key of the task.
        metric: metric that is averaged over the domains.
        domains: names of the domains and of their folders.
        annotations: annotation file of each domain, relative to its folder.
        images: folder of the images, relative to the folder of the domain.
        slope: share of the figure in distribution that is expected under shift.
        source: publication.
    """

    key: str
    title: str
    task: str
    metric: str
    domains: tuple[str, ...]
    annotations: str
    images: str
    slope: float
    source: str

    def effective_robustness(self, mean: float, inside: float) -> float:
        """Return by how many points a model is better under shift than its figure lets expect.

        Args:
            mean: mean figure over the domains, in percent.
            inside: figure in distribution, in percent.
        """
        return mean - self.slope * inside


# Mao et al., arXiv 2307.12730. A fit over detectors expects 0.45 of the AP on COCO val2017.
COCO_O = ShiftSuite(
    key='coco-o',
    title='COCO-O',
    task='instance_segmentation',
    metric='box_AP',
    domains=('sketch', 'weather', 'cartoon', 'painting', 'tattoo', 'handmake'),
    annotations='annotations/instances_val2017.json',
    images='val2017/',
    slope=0.45,
    source='arXiv 2307.12730',
)
SUITES = {suite.key: suite for suite in (COCO_O,)}


def dataset_of(domain: Domain) -> str:
    """Return the name of the data set of a domain, such as `COCO-O sketch`."""
    return f'{SUITES[domain.suite].title} {domain.name}'


def domain_folder(run: Path, domain: Domain) -> Path:
    """Return the folder of the result of a domain, below that of the test in distribution."""
    return run / domain.suite / domain.name
