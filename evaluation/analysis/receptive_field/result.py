"""Results of a receptive field analysis: contribution maps, area ratios, Gaussian fits and files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from evaluation.analysis.parts import npz_bytes
from evaluation.analysis.receptive_field.targets import STAGE
from evaluation.analysis.results import (
    REPLKNET,
    SUITE,
    model_name,
    read_result,
    result_content,
    write_content,
)
from evaluation.utils.errors import UserError
from evaluation.utils.files import file_sha256, write_output

# Thresholds of table 10 in RepLKNet (Ding et al., arXiv 2203.06717).
THRESHOLDS = (0.2, 0.3, 0.5, 0.99)
_GOLDEN = (5**0.5 - 1) / 2
ANALYSIS = 'effective receptive field'
TOOL = 'tools/analyze_erf.py'
HALF = 0.5


@dataclass(frozen=True)
class GaussianFit:
    """Centered Gaussian fitted to a profile.

    Attributes:
        sigma: standard deviation, in pixels.
        r2: share of the profile's sum of squares that the Gaussian explains; 1 is a perfect fit.
    """

    sigma: float
    r2: float


def centered_area_ratios(
    contribution: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> dict[float, float]:
    """Return the area of the smallest centered square that contains a share of the contribution.

    Squares have sides of 2k + 1 pixels around the pixel (H // 2, W // 2); the area is
    side ** 2 / (H * W), at most 1.

    Args:
        contribution: (H, W), nonnegative and not all zero.
        thresholds: shares, each above 0 and below 1.

    Returns:
        Area by share.
    """
    height, width = contribution.shape
    held = _held_by_squares(contribution)
    reach = [int(np.searchsorted(held, share * held[-1])) for share in thresholds]
    return {
        share: min((2 * k + 1) ** 2 / (height * width), 1.0)
        for share, k in zip(thresholds, reach, strict=True)
    }


def logged_area_ratios(
    contribution: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> dict[float, float | None]:
    """Return area ratios of log10(contribution + 1), measured as in RepLKNet's code.

    Squares have sides of 2k + 1 pixels, k from 1 to H // 2 - 1. The smallest square that contains *more*
    than the share is taken.

    Args:
        contribution: (H, W), nonnegative and not all zero.
        thresholds: shares, each above 0 and below 1.

    Returns:
        Area by share; None if no square contains more.
    """
    height, width = contribution.shape
    held = _held_by_squares(np.log10(contribution.astype(np.float64) + 1))
    ratios: dict[float, float | None] = {}
    for share in thresholds:
        enough = [k for k in range(1, height // 2) if held[min(k, len(held) - 1)] > share * held[-1]]
        ratios[share] = (2 * enough[0] + 1) ** 2 / (height * width) if enough else None
    return ratios


def _held_by_squares(contribution: np.ndarray) -> np.ndarray:
    """Return the sum inside each centered square, by k; the largest square contains everything."""
    height, width = contribution.shape
    rows = np.abs(np.arange(height) - height // 2)
    columns = np.abs(np.arange(width) - width // 2)
    ring = np.maximum(rows[:, None], columns[None, :])
    return np.cumsum(np.bincount(ring.ravel(), contribution.ravel()))


def gaussian_fits(contribution: np.ndarray) -> tuple[GaussianFit, GaussianFit]:
    """Fit Gaussians to the sums over columns (vertical extent) and over rows (horizontal extent).

    Args:
        contribution: (H, W), nonnegative and not all zero.
    """
    return _fit(contribution.sum(1)), _fit(contribution.sum(0))


def _fit(profile: np.ndarray) -> GaussianFit:
    """Fit a * exp(-d^2 / (2 sigma^2)) by least squares, with d the distance from the center.

    The second moment is not used: faint values far from the center dominate it, and the image borders
    truncate it. The best `a` for each sigma has a closed form, so only sigma is searched: first on a
    grid, then by golden-section search between the neighbors of the best grid point.
    """
    distances = np.arange(len(profile)) - len(profile) // 2

    def explained(log_sigma: float) -> float:
        shape = np.exp(-0.5 * (distances / np.exp(log_sigma)) ** 2)
        return float((shape @ profile) ** 2 / (shape @ shape))

    grid = np.linspace(np.log(0.1), np.log(10 * len(profile)), 200)
    best = int(np.argmax([explained(place) for place in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    while high - low > 1e-9:
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if explained(first) < explained(second):
            low = first
        else:
            high = second
    middle = (low + high) / 2
    return GaussianFit(float(np.exp(middle)), explained(middle) / float(profile @ profile))


AREA_RATIOS = {SUITE: centered_area_ratios, REPLKNET: logged_area_ratios}


@dataclass(frozen=True)
class TargetResult:
    """Contributions to one target.

    Attributes:
        name: name of the target.
        grid: height and width of its map; None for a detection's score.
        images: number of images that have the target.
        mean: (H, W), mean contribution over these images.
        protocol: protocol for measuring areas, `suite` or `replknet`.
    """

    name: str
    grid: tuple[int, int] | None
    images: int
    mean: np.ndarray
    protocol: str = SUITE

    @cached_property
    def area_ratios(self) -> dict[float, float | None]:
        """Area of the smallest centered square that contains a share of the contribution, by share."""
        return AREA_RATIOS[self.protocol](self.mean)

    def as_json(self) -> dict:
        """Return the entry of the target in the JSON file."""
        down, across = gaussian_fits(self.mean)
        return {
            'grid': self.grid and list(self.grid),
            'images': self.images,
            'total_contribution': float(self.mean.sum()),
            'area_ratios': {f'{share:g}': ratio for share, ratio in self.area_ratios.items()},
            'gaussian_fit': {
                'sigma_y': down.sigma,
                'sigma_x': across.sigma,
                'r2_y': down.r2,
                'r2_x': across.r2,
            },
        }


@dataclass(frozen=True)
class ReceptiveFieldResult:
    """Result for one model.

    Attributes:
        config: name of the config.
        model_config: the config's `model`.
        checkpoint: digests of the weights and of their file.
        images: folder, number and digest of the images.
        size: side of the images after resizing, in pixels.
        batch: images per forward pass.
        seed: seed of weights that the checkpoint does not contain; None if it contains all.
        device: `cpu` or `cuda`.
        targets: results of the targets, in network order.
        protocol: protocol for measuring contributions and areas.
    """

    config: str
    model_config: dict
    checkpoint: dict
    images: dict
    size: int
    batch: int
    seed: int | None
    device: str
    targets: list[TargetResult]
    protocol: str = SUITE

    def as_json(self, maps: dict) -> dict:
        """Return the content of the JSON file, which has everything except the maps.

        Args:
            maps: name and digest of the file with the maps.
        """
        facts = {
            'config': {'name': self.config, 'model': self.model_config},
            'checkpoint': self.checkpoint,
            'images': self.images,
            'size': self.size,
            'batch': self.batch,
            'seed': self.seed,
            'protocol': self.protocol,
            'targets': {target.name: target.as_json() for target in self.targets},
            'maps': maps,
        }
        return result_content(ANALYSIS, facts, *self._columns(), self.device)

    def _columns(self) -> tuple[dict[str, float | None], str]:
        """Return values and note for tables of accuracies: the area ratio of the last stage."""
        stages = [target for target in self.targets if target.name.startswith(STAGE)]
        if not stages:
            return {}, ''
        last, mark = stages[-1], mark_of(self.protocol)
        what = f'log10(x + 1) of the positive contributions to the center of {last.name},'
        if self.protocol == SUITE:
            what = f'the contributions to the center of {last.name},'
        note = (
            f'ERF{mark}: area of the smallest centered square that contains half of {what} in percent '
            f'of the image; images: {last.images} of {self.size}x{self.size}.'
        )
        ratio = last.area_ratios[HALF]
        return {f'ERF {last.name}{mark}': None if ratio is None else 100 * ratio}, note


@dataclass(frozen=True)
class Maps:
    """Contribution maps of one model, for figures and tables.

    Attributes:
        name: name of the model.
        size: side of the maps, in pixels.
        images: SHA-256 of the images.
        targets: results of the targets, in network order.
        protocol: protocol for measuring contributions and areas.
    """

    name: str
    size: int
    images: str
    targets: list[TargetResult]
    protocol: str = SUITE


def mark_of(protocol: str) -> str:
    """Return a suffix for metric names, so that values of different protocols never share a name."""
    return '' if protocol == SUITE else ' (RepLKNet)'


def maps_of(result: ReceptiveFieldResult) -> Maps:
    """Return the contribution maps of a result."""
    return Maps(
        model_name({'config': {'name': result.config}, 'checkpoint': result.checkpoint}),
        result.size,
        result.images['sha256'],
        result.targets,
        result.protocol,
    )


def write_result(result: ReceptiveFieldResult, file: Path) -> None:
    """Write the maps next to `file`, then the JSON, which names their file.

    Raises:
        UserError: a file cannot be written.
    """
    path = file.with_suffix('.npz')
    content = npz_bytes({target.name: target.mean for target in result.targets})
    write_output(path, content)
    maps = {'file': path.name, 'sha256': hashlib.sha256(content).hexdigest()}
    write_content(file, result.as_json(maps))


def read_maps(file: Path) -> Maps:
    """Read a JSON file that `write_result` wrote, and its maps.

    Raises:
        UserError: a file is missing or corrupt, or is not a result of this analysis.
    """
    content = read_result(file, ANALYSIS, 'receptive fields', TOOL)
    path = file.with_name(content['maps']['file'])
    if not path.is_file():
        raise UserError(f'{path}, which has the maps of {file}, is missing; keep both files together')
    if file_sha256(path) != content['maps']['sha256']:
        raise UserError(f'{path} is corrupt, or its maps are not those of {file}; repeat the analysis')
    with np.load(path, allow_pickle=False) as arrays:
        maps = {name: arrays[name] for name in arrays.files}
    protocol = content.get('protocol', SUITE)
    if protocol not in AREA_RATIOS:
        raise UserError(f'{file} has an unknown protocol ({protocol}); repeat the analysis')
    targets = [
        TargetResult(name, facts['grid'] and tuple(facts['grid']), facts['images'], maps[name], protocol)
        for name, facts in content['targets'].items()
    ]
    return Maps(model_name(content), content['size'], content['images']['sha256'], targets, protocol)


def shares() -> list[str]:
    """Return the shares of the contribution to report areas for, in percent."""
    return [f'{100 * share:g} %' for share in THRESHOLDS]
