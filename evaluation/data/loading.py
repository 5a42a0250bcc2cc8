"""Loading of images that refuses what is missing, truncated, no image, or not the one annotated."""

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS

from evaluation.data.image_files import ADVICE, DECODER_ERRORS, BadFileError, read_whole


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
            raise BadFileError(_size_message(path, (height, width), stated))
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = (height, width)
        return results

    def _decode(self, content: bytes, path: str) -> np.ndarray:
        try:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        except DECODER_ERRORS:
            image = None
        if image is None:
            raise BadFileError(f'{path} is not an image that can be decoded; {ADVICE}')
        return image


def _size_message(path: str, size: tuple[int, int], stated: tuple[int, int]) -> str:
    (height, width), (stated_height, stated_width) = size, stated
    turned = ' (turned by its EXIF orientation?)' if size == stated[::-1] else ''
    return (
        f'{path} is {width}x{height} pixels{turned}, its annotations are for '
        f'{stated_width}x{stated_height}; {ADVICE}'
    )
