"""The files that an analysis of receptive fields leaves, and how they are read again."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from evaluation.analysis.json_results import model_name, read_result
from evaluation.analysis.parts import npz_bytes
from evaluation.analysis.protocols import REPLKNET, SUITE
from evaluation.analysis.receptive_field.statistics import (
    THRESHOLDS,
    centred_area_ratios,
    gaussian_fits,
    logged_area_ratios,
)
from evaluation.analysis.receptive_field.targets import STAGE
from evaluation.results.provenance import git_state, hardware, now, versions
from evaluation.tables.analyses import columns
from evaluation.utils.errors import UserError
from evaluation.utils.files import file_sha256, json_text, write_output

ANALYSIS = 'effective receptive field'
SCHEMA_VERSION = 1
TOOL = 'tools/analyze_erf.py'
HALF = 0.5
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
class Result:
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
        return {
            'schema_version': SCHEMA_VERSION,
            'analysis': ANALYSIS,
            'config': {
                'name': self.config,
                'model': json.loads(json.dumps(self.model_config, default=str)),
            },
            'checkpoint': self.checkpoint,
            'images': self.images,
            'size': self.size,
            'batch': self.batch,
            'seed': self.seed,
            'protocol': self.protocol,
            'targets': {target.name: target.as_json() for target in self.targets},
            'maps': maps,
            **self._columns(),
            'versions': versions(),
            'git': git_state(),
            'hardware': {'device': self.device, **hardware()},
            'created': now(),
        }

    def _columns(self) -> dict:
        """What a table of accuracies shows: how far the last of the stages sees."""
        stages = [target for target in self.targets if target.name.startswith(STAGE)]
        if not stages:
            return columns({}, '')
        last, mark = stages[-1], mark_of(self.protocol)
        what = f'log10(x + 1) of what the middle of {last.name} depends on, its positive part,'
        if self.protocol == SUITE:
            what = f'what the middle of {last.name} depends on,'
        note = (
            f'ERF{mark}: area of the smallest centred square that holds half of {what} in percent of '
            f'the image; images: {last.images} of {self.size}x{self.size}.'
        )
        ratio = last.area_ratios[HALF]
        return columns({f'ERF {last.name}{mark}': None if ratio is None else 100 * ratio}, note)


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


def maps_of(result: Result) -> Maps:
    """What a figure shows of a result."""
    return Maps(
        model_name({'config': {'name': result.config}, 'checkpoint': result.checkpoint}),
        result.size,
        result.images['sha256'],
        result.targets,
        result.protocol,
    )


def write_result(result: Result, file: Path) -> None:
    """Write the maps beside `file`, then the JSON, which names them.

    Raises:
        UserError: a file cannot be written.
    """
    path = file.with_suffix('.npz')
    content = npz_bytes({target.name: target.mean for target in result.targets})
    write_output(path, content)
    maps = {'file': path.name, 'sha256': hashlib.sha256(content).hexdigest()}
    write_output(file, json_text(result.as_json(maps)).encode())


def read_maps(file: Path) -> Maps:
    """Read a JSON file and the maps that it names.

    Raises:
        UserError: a file is missing, or is not what `write_result` writes.
    """
    content = read_result(file, ANALYSIS, 'receptive fields', SCHEMA_VERSION, TOOL)
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
