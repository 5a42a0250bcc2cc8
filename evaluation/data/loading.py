"""Loading of images that refuses what is missing, truncated, no image, or not the one annotated."""

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS

from evaluation.data.image_files import ADVICE, BadFileError, read_whole


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """`LoadImageFromFile` whose errors name the file in one line.

    Of a truncated JPEG, some versions of OpenCV return the part that is there over grey, without an
    error, and a benchmark would go on with it. On an image of another size than the annotated one,
    masks would lie elsewhere.
    """

    def transform(self, results: dict) -> dict:
        """Add `img` (H, W, 3), `img_shape` and `ori_shape` from `img_path`.

        Where `height` and `width` are given, as COCO's annotations do, the image must have them.

        Raises:
            BadFileError: the file is missing, truncated, no image, or of another size.
        """
        path = results['img_path']
        content = read_whole(path, self.backend_args)
        image = self._decode(content, path)
        height, width = image.shape[:2]
        stated = results.get('height', height), results.get('width', width)
        if stated != (height, width):
            message = _size_message(path, (height, width), stated)
            raise BadFileError(message, 'images of another size than annotated')
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = (height, width)
        return results

    def _decode(self, content: bytes, path: str) -> np.ndarray:
        return decoded(content, path, self.color_type, self.imdecode_backend)


def decoded(
    content: bytes,
    path: str,
    color_type: str = 'color',
    imdecode_backend: str | None = None,
    advice: str = ADVICE,
) -> np.ndarray:
    """Decode an image, (H, W, 3), uint8, in BGR order, or as mmcv's `imfrombytes` says.

    Raises:
        BadFileError: it cannot be decoded.
    """
    try:
        image = mmcv.imfrombytes(content, flag=color_type, backend=imdecode_backend)
    # Decoders raise whatever their arithmetic runs into, or return nothing.
    except Exception:
        image = None
    if image is None:
        message = f'{path} is not an image that can be decoded; {advice}'
        raise BadFileError(message, 'undecodable images')
    return image


def _size_message(path: str, size: tuple[int, int], stated: tuple[int, int]) -> str:
    (height, width), (stated_height, stated_width) = size, stated
    turned = ' (turned by its EXIF orientation?)' if size == stated[::-1] else ''
    return (
        f'{path} is {width}x{height} pixels{turned}, its annotations are for '
        f'{stated_width}x{stated_height}; {ADVICE}'
    )
