"""Contribution maps of a model: their figures, and the files that hold them."""

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

# Of RepLKNet's table 10 (Ding et al., arXiv 2203.06717).
THRESHOLDS = (0.2, 0.3, 0.5, 0.99)
_GOLDEN = (5**0.5 - 1) / 2
ANALYSIS = 'effective receptive field'
TOOL = 'tools/analyze_erf.py'
HALF = 0.5


@dataclass(frozen=True)
class GaussianFit:
    """A Gaussian around the middle, fitted to a profile.

    Attributes:
        sigma: standard deviation, in pixels.
        r2: share of the profile's sum of squares that the Gaussian explains; 1 is a perfect fit.
    """

    sigma: float
    r2: float


def centred_area_ratios(
    contribution: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> dict[float, float]:
    """Area of the smallest centred square that holds a share of all contribution, by that share.

    Squares have sides of 2k + 1 pixels around the pixel (H // 2, W // 2); the area is
    side ** 2 / (H * W), at most 1.

    Args:
        contribution: (H, W), none negative and not all 0.
        thresholds: shares, each above 0 and below 1.
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
    """Area ratios as RepLKNet's code measures them: of log10(contribution + 1), above a share.

    Squares have sides of 2k + 1 pixels, k from 1 to H // 2 - 1. The first that holds *more* than the
    share counts.

    Args:
        contribution: (H, W), none negative and not all 0.
        thresholds: shares, each above 0 and below 1.

    Returns:
        By share; None where no square holds more.
    """
    height, width = contribution.shape
    held = _held_by_squares(np.log10(contribution.astype(np.float64) + 1))
    ratios: dict[float, float | None] = {}
    for share in thresholds:
        enough = [k for k in range(1, height // 2) if held[min(k, len(held) - 1)] > share * held[-1]]
        ratios[share] = (2 * enough[0] + 1) ** 2 / (height * width) if enough else None
    return ratios


def _held_by_squares(contribution: np.ndarray) -> np.ndarray:
    """What the squares around the middle hold, by k, the largest all of it."""
    height, width = contribution.shape
    rows = np.abs(np.arange(height) - height // 2)
    columns = np.abs(np.arange(width) - width // 2)
    ring = np.maximum(rows[:, None], columns[None, :])
    return np.cumsum(np.bincount(ring.ravel(), contribution.ravel()))


def gaussian_fits(contribution: np.ndarray) -> tuple[GaussianFit, GaussianFit]:
    """Fits to the sums over columns and over rows: how wide a map is from top to bottom, and across.

    Args:
        contribution: (H, W), none negative and not all 0.
    """
    return _fit(contribution.sum(1)), _fit(contribution.sum(0))


def _fit(profile: np.ndarray) -> GaussianFit:
    """Least squares of a * exp(-d^2 / (2 sigma^2)), d from the middle.

    Not the profile's second moment, which one faint value at the edge moves more than the whole middle,
    and which the edges of the image cut short. For every sigma the best `a` is known, so that the search
    is for one number: over a grid, then between the neighbours of its best.
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


AREA_RATIOS = {SUITE: centred_area_ratios, REPLKNET: logged_area_ratios}


@dataclass(frozen=True)
class TargetResult:
    """Contributions to one target.

    Attributes:
        name: of the target.
        grid: height and width of its map; None for a detection's score.
        images: how many have it.
        mean: (H, W), mean contribution over these images.
        protocol: by which areas are measured, `suite` or `replknet`.
    """

    name: str
    grid: tuple[int, int] | None
    images: int
    mean: np.ndarray
    protocol: str = SUITE

    @cached_property
    def area_ratios(self) -> dict[float, float | None]:
        """Area of the smallest centred square that holds a share of the contribution, by that share."""
        return AREA_RATIOS[self.protocol](self.mean)

    def as_json(self) -> dict:
        """Its figures."""
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
    """An analysis of one model.

    Attributes:
        config: name of the config.
        model_config: the config of the model alone.
        checkpoint: digests of the weights and of their file.
        images: folder, number and digest of the images.
        size: side that they were cut to, in pixels.
        batch: images in a pass.
        seed: of what no checkpoint set; None where it set all.
        device: `cpu` or `cuda`.
        targets: in the order of the network.
        protocol: by which contributions and areas are measured.
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
        """Everything but the maps.

        Args:
            maps: name and digest of the file that has them.
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
        """What a table of accuracies shows: how far the last of the stages sees."""
        stages = [target for target in self.targets if target.name.startswith(STAGE)]
        if not stages:
            return {}, ''
        last, mark = stages[-1], mark_of(self.protocol)
        what = f'log10(x + 1) of what the middle of {last.name} depends on, its positive part,'
        if self.protocol == SUITE:
            what = f'what the middle of {last.name} depends on,'
        note = (
            f'ERF{mark}: area of the smallest centred square that holds half of {what} in percent of '
            f'the image; images: {last.images} of {self.size}x{self.size}.'
        )
        ratio = last.area_ratios[HALF]
        return {f'ERF {last.name}{mark}': None if ratio is None else 100 * ratio}, note


@dataclass(frozen=True)
class Maps:
    """What a figure or a table shows of one model.

    Attributes:
        name: of the model.
        size: side of the maps, in pixels.
        images: SHA-256 of the images that they are of.
        targets: in the order of the network.
        protocol: by which contributions and areas are measured.
    """

    name: str
    size: int
    images: str
    targets: list[TargetResult]
    protocol: str = SUITE


def mark_of(protocol: str) -> str:
    """What names of figures end in, so that figures of two protocols never stand under one name."""
    return '' if protocol == SUITE else ' (RepLKNet)'


def maps_of(result: ReceptiveFieldResult) -> Maps:
    """What a figure shows of a result."""
    return Maps(
        model_name({'config': {'name': result.config}, 'checkpoint': result.checkpoint}),
        result.size,
        result.images['sha256'],
        result.targets,
        result.protocol,
    )


def write_result(result: ReceptiveFieldResult, file: Path) -> None:
    """Write the maps beside `file`, then the JSON, which names them.

    Raises:
        UserError: a file cannot be written.
    """
    path = file.with_suffix('.npz')
    content = npz_bytes({target.name: target.mean for target in result.targets})
    write_output(path, content)
    maps = {'file': path.name, 'sha256': hashlib.sha256(content).hexdigest()}
    write_content(file, result.as_json(maps))


def read_maps(file: Path) -> Maps:
    """Read a JSON file and the maps that it names.

    Raises:
        UserError: a file is missing, or is not what `write_result` writes.
    """
    content = read_result(file, ANALYSIS, 'receptive fields', TOOL)
    path = file.with_name(content['maps']['file'])
    if not path.is_file():
        raise UserError(f'{path}, the maps of {file}, is missing; keep both files together')
    if file_sha256(path) != content['maps']['sha256']:
        raise UserError(f'{path} is damaged, or not the maps of {file}; repeat the analysis')
    with np.load(path, allow_pickle=False) as arrays:
        maps = {name: arrays[name] for name in arrays.files}
    protocol = content.get('protocol', SUITE)
    if protocol not in AREA_RATIOS:
        raise UserError(f'{file} is of an unknown protocol ({protocol}); repeat the analysis')
    targets = [
        TargetResult(name, facts['grid'] and tuple(facts['grid']), facts['images'], maps[name], protocol)
        for name, facts in content['targets'].items()
    ]
    return Maps(model_name(content), content['size'], content['images']['sha256'], targets, protocol)


def shares() -> list[str]:
    """The shares of the contribution that areas are stated for, in percent."""
    return [f'{100 * share:g} %' for share in THRESHOLDS]
