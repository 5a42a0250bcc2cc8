"""Loading of segmentation maps that refuses what is not one class index a pixel of the image."""

import io

import numpy as np
from mmengine.registry import TRANSFORMS
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from evaluation.data.image_files import ADVICE, FORMATS, BadFileError, read_whole, turn_hint
from evaluation.utils.errors import UserError

IGNORED = 255
_INDEX_MODES = ('1', 'L', 'P')
_MAPS = 'maps must be PNGs with one class index of 8 bits a pixel, grey or with a palette'


@TRANSFORMS.register_module()
class LoadCheckedSegmentationMap(LoadAnnotations):
    """mmseg's `LoadAnnotations` whose errors name the file in one line.

    mmseg keeps the lowest 8 bits of any value, takes colors for another axis, and leaves indices
    beyond the classes to fail inside the loss, on a GPU without saying where.

    Args:
        num_classes: of the data set; labels must be below it, or 255.
        reduce_zero_label: ignore 0 and count classes from 1; None is what the data set says.
        backend_args: of the file backend.
        imdecode_backend: decoder.
    """

    def __init__(
        self,
        num_classes: int,
        reduce_zero_label: bool | None = None,
        backend_args: dict | None = None,
        imdecode_backend: str = 'pillow',
    ) -> None:
        super().__init__(reduce_zero_label, backend_args, imdecode_backend)
        self.num_classes = num_classes

    def _load_seg_map(self, results: dict) -> None:
        """Add `gt_seg_map` (H, W) from `seg_map_path`, of the size `ori_shape`.

        Raises:
            BadFileError: the file is missing, truncated, no map of indices, of another size than the
                image, or has indices beyond the classes.
        """
        path = results['seg_map_path']
        self._check_settings(results['reduce_zero_label'])
        try:
            content = read_whole(path, self.backend_args)
            check_bits(content, path)
            with Image.open(io.BytesIO(content), formats=FORMATS) as header:
                advice = self._advice(header.size, results)
                check_header(header, path, results['ori_shape'], advice)
            super()._load_seg_map(results)
        except BadFileError:
            raise
        # Decoders raise whatever their arithmetic runs into.
        except Exception:
            message = f'{path} is not an image that can be decoded; {ADVICE}'
            raise BadFileError(message, 'undecodable images') from None
        check_labels(results['gt_seg_map'], path, self.num_classes, self.reduce_zero_label)

    def _advice(self, size: tuple[int, int], results: dict) -> str:
        """Return what to do about a map whose size may be that of the turned image."""
        height, width = results['ori_shape']
        if height == width or size != (height, width) or 'img_path' not in results:
            return ADVICE
        return turn_hint(read_whole(results['img_path'], self.backend_args)) or ADVICE

    def _check_settings(self, of_dataset: bool) -> None:
        if self.reduce_zero_label not in (None, of_dataset):
            raise UserError(
                f'reduce_zero_label is {of_dataset} in the data set and {self.reduce_zero_label} in '
                f'{type(self).__name__}; make them equal'
            )


def check_header(
    header: Image.Image, path: str, image_size: tuple[int, int], advice: str = ADVICE
) -> None:
    """Check the header of a map's file.

    Args:
        header: the opened map; its pixels are not read.
        path: its name.
        image_size: height and width of the image.
        advice: what to do about a map of another size, for the message.

    Raises:
        BadFileError: it holds no indices, or is of another size.
    """
    if header.mode not in _INDEX_MODES or header.format != 'PNG':
        message = f'{path} is a {header.format} of mode {header.mode}; {_MAPS}'
        raise BadFileError(message, 'maps of colours or of other than 8 bits')
    height, width = image_size
    if header.size != (width, height):
        raise BadFileError(
            f'{path} is {header.width}x{header.height} pixels, its image {width}x{height}; {advice}',
            'maps of another size than their image',
        )


def check_bits(content: bytes, path: str) -> None:
    """Check that a PNG stores its indices as they are.

    Raises:
        BadFileError: it is grey with 2 or 4 bits a pixel, which decoders stretch to 8: 1 of 15 becomes
            17 of 255.
    """
    depth, color_type = content[24:26] if content.startswith(b'\x89PNG') else (8, 0)
    if color_type == 0 and depth in (2, 4):
        message = f'{path} is a PNG of {depth} bits a pixel, grey; {_MAPS}'
        raise BadFileError(message, 'maps of colours or of other than 8 bits')


def check_labels(labels: np.ndarray, path: str, num_classes: int, reduce_zero_label: bool) -> None:
    """Check labels (H, W), uint8, against the number of classes.

    Raises:
        BadFileError: there is one; the message has the index as it stands in the file.
    """
    # In 8 bits the ignored 255 becomes 0, so that one maximum is enough.
    greatest = int((labels + np.uint8(1)).max(initial=0))
    if greatest > num_classes:
        index = greatest if reduce_zero_label else greatest - 1
        known = f'1 to {num_classes}' if reduce_zero_label else f'0 to {num_classes - 1}'
        ignored = '0 and 255' if reduce_zero_label else '255'
        raise BadFileError(
            f'{path} has the class index {index}; known are {known}, and {ignored} to ignore; '
            'give maps of these classes, or change the classes of the config',
            'maps with labels out of range',
        )
