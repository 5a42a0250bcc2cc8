"""Loading of segmentation maps, with a check that each pixel of the image has one class index."""

import io

import numpy as np
from mmengine.registry import TRANSFORMS
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from evaluation.data.image_files import ADVICE, FORMATS, BadFileError, read_whole, turn_hint
from evaluation.utils.errors import UserError

IGNORED = 255
_INDEX_MODES = ('1', 'L', 'P')
_MAPS = 'maps must be PNGs with one 8-bit class index per pixel, grayscale or with a palette'


@TRANSFORMS.register_module()
class LoadCheckedSegmentationMap(LoadAnnotations):
    """mmseg's `LoadAnnotations` with one-line errors that name the file.

    mmseg keeps only the lowest 8 bits of a value, reads colors as a third axis, and lets class indices
    that are out of range fail inside the loss; on a GPU, the error does not say where.

    Args:
        num_classes: number of classes of the data set; labels must be below it, or 255.
        reduce_zero_label: ignore 0 and start classes at 1; None for the data set's setting.
        backend_args: arguments of the file backend.
        imdecode_backend: name of the decoder.
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
        """Add `gt_seg_map` (H, W) from `seg_map_path`; its size must be `ori_shape`.

        Raises:
            BadFileError: the file is missing, truncated, not a map of class indices, has a different
                size than the image, or has class indices out of range.
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
        # Decoders can raise any exception on corrupt data.
        except Exception:
            message = f'{path} cannot be decoded as an image; {ADVICE}'
            raise BadFileError(message, 'undecodable images') from None
        check_labels(results['gt_seg_map'], path, self.num_classes, self.reduce_zero_label)

    def _advice(self, size: tuple[int, int], results: dict) -> str:
        """Return the remedy for a map of the wrong size, which could be that of the rotated image."""
        height, width = results['ori_shape']
        if height == width or size != (height, width) or 'img_path' not in results:
            return ADVICE
        return turn_hint(read_whole(results['img_path'], self.backend_args)) or ADVICE

    def _check_settings(self, of_dataset: bool) -> None:
        if self.reduce_zero_label not in (None, of_dataset):
            raise UserError(
                f'reduce_zero_label is {of_dataset} in the data set but {self.reduce_zero_label} in '
                f'{type(self).__name__}; make them equal'
            )


def check_header(
    header: Image.Image, path: str, image_size: tuple[int, int], advice: str = ADVICE
) -> None:
    """Check the header of a segmentation map.

    Args:
        header: opened map; its pixels are not read.
        path: path of the map.
        image_size: height and width of the image.
        advice: remedy for a map with a different size, for the error message.

    Raises:
        BadFileError: the map does not store 8-bit indices, or has a different size than the image.
    """
    if header.mode not in _INDEX_MODES or header.format != 'PNG':
        message = f'{path} is a {header.format} of mode {header.mode}; {_MAPS}'
        raise BadFileError(message, 'maps that are in color or not 8-bit')
    height, width = image_size
    if header.size != (width, height):
        raise BadFileError(
            f'{path} is {header.width}x{header.height} pixels, but its image is {width}x{height}; '
            f'{advice}',
            'maps with a different size than their image',
        )


def check_bits(content: bytes, path: str) -> None:
    """Check that decoders do not scale the indices in a PNG.

    Raises:
        BadFileError: the PNG is grayscale with 2 or 4 bits per pixel, which decoders scale to 8 bits: 1
            of 15 becomes 17 of 255.
    """
    depth, color_type = content[24:26] if content.startswith(b'\x89PNG') else (8, 0)
    if color_type == 0 and depth in (2, 4):
        message = f'{path} is a grayscale PNG with {depth} bits per pixel; {_MAPS}'
        raise BadFileError(message, 'maps that are in color or not 8-bit')


def check_labels(labels: np.ndarray, path: str, num_classes: int, reduce_zero_label: bool) -> None:
    """Check labels (H, W), uint8, against the number of classes.

    Raises:
        BadFileError: a label is out of range; the message has the index that the file stores.
    """
    # In 8 bits the ignored 255 wraps to 0, so one maximum is enough.
    greatest = int((labels + np.uint8(1)).max(initial=0))
    if greatest > num_classes:
        index = greatest if reduce_zero_label else greatest - 1
        known = f'1 to {num_classes}' if reduce_zero_label else f'0 to {num_classes - 1}'
        ignored = '0 and 255' if reduce_zero_label else '255'
        raise BadFileError(
            f'{path} has the class index {index}; expected {known}, or {ignored} to ignore a pixel; '
            'give maps of these classes, or change the classes in the config',
            'maps with labels out of range',
        )
