"""Images with one label each."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from evaluation.data.imagenet_layout import class_names, labelled_images


@DATASETS.register_module()
class ImageNetDataset(BaseDataset):
    """A split of ImageNet, or of any data set in one of its layouts; see `layout.labelled_images`.

    Args:
        data_root: folder of the data set.
        split: `train` or `val`.
        pipeline: transforms of a sample.
        indices: how many images, or which; None for all.
        test_mode: whether a sample that a transform refuses is an error instead of another sample.
        serialize_data: whether processes that load data share one copy of the list of images.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        pipeline: Sequence[dict] = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        serialize_data: bool = True,
    ) -> None:
        self.split = split
        super().__init__(
            data_root=data_root,
            data_prefix={'img_path': split},
            pipeline=list(pipeline),
            indices=indices,
            test_mode=test_mode,
            serialize_data=serialize_data,
        )

    def load_data_list(self) -> list[dict]:
        """List `img_path` and `gt_label` of every image.

        Raises:
            UserError: the layout is none that is known.
        """
        images = labelled_images(Path(self.data_root), self.split)
        self._metainfo['classes'] = class_names(Path(self.data_root), self.split, images)
        folder = self.data_prefix['img_path']
        return [{'img_path': f'{folder}/{name}', 'gt_label': label} for name, label in images]
