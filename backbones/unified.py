"""One architecture for every spatial token mixer (arXiv 2211.05781, section 3).

Backbones with the same dims and depths differ only in the mixer.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute_in_backward

from backbones.blocks import NORM_EPS, Block, Downsample, Stem
from backbones.checkpoint import translate_state_dict
from backbones.errors import BackboneError
from backbones.loadable import LoadableModule
from backbones.maps import check_image_size
from backbones.mixers import MIXERS, TokenMixer
from backbones.options import (
    check_init_cfg,
    check_lengths,
    check_whole_numbers,
    mixer_class,
    options_of_stage,
)


@MODELS.register_module()
class UnifiedBackbone(LoadableModule):
    """Stem, four stages of blocks with one kind of token mixer, and a norm on each output map.

    Args:
        mixer: `type` is a key of `MIXERS`; the other entries are the mixer's own options, each one
            value for all stages or a sequence with one value per stage.
        dims: channels of each stage.
        depths: number of blocks in each stage.
        mlp_ratios: hidden channels of the MLPs in each stage, as a multiple of dims.
        pos_embed_sizes: side of the learned position embedding in the first block of each stage
            (Pyramid Vision Transformer); None for no embeddings.
        pos_embed_on_shortcut: whether to add the positions to the shortcut too, as in the released
            classifiers, or only to the mixer's branch, as in the released detectors.
        in_channels: number of image channels.
        drop_path_rate: probability of dropping a branch in the last block; rises linearly from 0.
        layer_scale_init_value: initial value of the layer scales.
        norm_placement: `output`: each output map has its own LayerNorm off the trunk, as published;
            these norms are new in a dense model. `trunk`: the trunk itself is normalized after each
            stage, as in the classifier, so that these norms can be loaded from ImageNet weights.
        out_indices: stages whose maps are returned.
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k stages.
        norm_eval: keep batch norms in eval mode while training.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: `dict(type='Pretrained', checkpoint=..., prefix=..., key=...)` loads a checkpoint, in
            the suite's or the released names, from a path or URL; see `load_pretrained`.

    Raises:
        BackboneError: an argument is invalid; the message says which and what is accepted.
    """

    # Family of this network in comparisons.
    family = 'unified'
    # Registered name of its classifier.
    classifier = 'UnifiedClassifier'

    def __init__(
        self,
        mixer: dict,
        dims: Sequence[int],
        depths: Sequence[int],
        mlp_ratios: Sequence[float] = (4, 4, 4, 4),
        pos_embed_sizes: Sequence[int] | None = None,
        pos_embed_on_shortcut: bool = False,
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        norm_placement: str = 'output',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        stages = len(depths)
        pos_embed_sizes = pos_embed_sizes or (None,) * stages
        check_lengths(stages, dims=dims, mlp_ratios=mlp_ratios, pos_embed_sizes=pos_embed_sizes)
        check_whole_numbers(dims=dims, depths=depths)
        if norm_placement not in ('output', 'trunk'):
            raise BackboneError(f"norm_placement={norm_placement!r}: choose 'output' or 'trunk'")
        if not out_indices or not set(out_indices) <= set(range(stages)):
            raise BackboneError(f'out_indices={tuple(out_indices)}: choose from 0 to {stages - 1}')
        if not -1 <= frozen_stages <= stages:
            raise BackboneError(f'frozen_stages={frozen_stages}: choose from -1 to {stages}')
        if not 0 <= drop_path_rate <= 1:
            raise BackboneError(f'drop_path_rate={drop_path_rate}: choose from 0 to 1')
        check_init_cfg(init_cfg)
        mixer_class(mixer)  # check the mixer before using it
        self.mixer_name = mixer['type']
        self.dims = tuple(dims)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

        self.stem = Stem(in_channels, dims[0])
        self.downsamples = nn.ModuleList(Downsample(in_dim, dim) for in_dim, dim in pairwise(dims))
        drop_paths = drop_path_schedule(drop_path_rate, depths)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(
                        dims[i],
                        build_mixer(mixer, i, stages, dims[i], j),
                        mlp_ratio=mlp_ratios[i],
                        drop_path=drop_path,
                        layer_scale_init_value=layer_scale_init_value,
                        pos_embed_size=None if j else pos_embed_sizes[i],
                        pos_embed_on_shortcut=pos_embed_on_shortcut,
                    )
                    for j, drop_path in enumerate(drop_paths[i])
                )
            )
            for i in range(stages)
        )
        on_trunk = norm_placement == 'trunk'
        self.stage_norms = _norms(dims, range(stages) if on_trunk else ())
        self.out_norms = _norms(dims, () if on_trunk else self.out_indices)
        self._reset_parameters()
        self._freeze()
        self.register_load_state_dict_pre_hook(translate_state_dict)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps of the stages in `out_indices`.

        Args:
            x: (B, 3, H, W), both sides at least 32 pixels.

        Returns:
            For each of these stages, (B, C, H / stride, W / stride) with strides 4, 8, 16 and 32,
            sizes rounded up; in channels_last memory format.

        Raises:
            BackboneError: the input is smaller than 32 pixels.
        """
        return self.stage_maps(x, self.out_indices)

    def stage_maps(self, x: Tensor, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """Return the feature maps of any stages, in the format of `forward`.

        Args:
            x: (B, 3, H, W), both sides at least 32 pixels.
            indices: stages, in order; with `norm_placement='output'`, only stages in `out_indices`.

        Raises:
            BackboneError: the input is smaller than 32 pixels.
        """
        check_image_size(x)
        x = x.permute(0, 2, 3, 1)
        maps = []
        for i, stage in enumerate(self.stages):
            x = self.downsamples[i - 1](x) if i else self.stem(x)
            for block in stage:
                x = self._run(block, x)
            if self.stage_norms:
                x = self.stage_norms[str(i)](x)
            if i in indices:
                out = self.out_norms[str(i)](x) if self.out_norms else x
                maps.append(out.permute(0, 3, 1, 2))
        return tuple(maps)

    @property
    def num_layers(self) -> int:
        """Index of the layer after the last block, for output norms and heads; see `layer_of`."""
        return sum(map(len, self.stages)) + 1

    def layer_of(self, name: str) -> int:
        """Return the layer of a parameter: 0 in the stem, then its block's number over all stages.

        A downsampling belongs to the layer of the block after it, a trunk norm to that of the block
        before it.

        Args:
            name: parameter name from `named_parameters`.
        """
        part, index, *rest = name.split('.')
        if part == 'stem':
            return 0
        before = [sum(map(len, self.stages[:stage])) for stage in range(len(self.stages) + 1)]
        if part == 'stages':
            return before[int(index)] + int(rest[0]) + 1
        if part == 'downsamples':
            return before[int(index) + 1] + 1
        if part == 'stage_norms':
            return before[int(index) + 1]
        return self.num_layers

    def _run(self, block: Block, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return recompute_in_backward(block, x, use_reentrant=False)
        return block(x)

    def translated(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights in this backbone's names, from released ones; see `translate_state_dict`."""
        found = dict(weights)
        translate_state_dict(self, found, '')
        for name, module in self.named_modules():
            if isinstance(module, TokenMixer):
                module.translate(found, f'{name}.')
        return found

    def train(self, mode: bool = True) -> 'UnifiedBackbone':
        """Set training mode, except for parts that `frozen_stages` and `norm_eval` keep in eval mode."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            self.keep_batch_norms_in_eval_mode()
        return self

    def _freeze(self) -> None:
        # The output norms stay trainable: they are new in a dense model.
        if self.frozen_stages < 0:
            return
        frozen = [self.stem, *self.downsamples[: max(self.frozen_stages - 1, 0)]]
        frozen += self.stages[: self.frozen_stages]
        frozen += list(self.stage_norms.values())[: self.frozen_stages]
        for module in frozen:
            module.eval().requires_grad_(False)

    def _reset_parameters(self) -> None:
        self.apply(_truncated_normal)
        for module in self.modules():
            if isinstance(module, TokenMixer):
                module.reset_parameters()


@MODELS.register_module()
class UnifiedClassifier(UnifiedBackbone):
    """ImageNet classifier on the trunk of `UnifiedBackbone` (arXiv 2211.05781, section 3).

    Args:
        num_classes: number of classes.
        mixer, dims, depths, mlp_ratios, pos_embed_sizes, drop_path_rate, layer_scale_init_value,
        with_cp, init_cfg: as in `UnifiedBackbone`.
    """

    def __init__(
        self,
        mixer: dict,
        dims: Sequence[int],
        depths: Sequence[int],
        mlp_ratios: Sequence[float] = (4, 4, 4, 4),
        pos_embed_sizes: Sequence[int] | None = None,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            mixer=mixer,
            dims=dims,
            depths=depths,
            mlp_ratios=mlp_ratios,
            pos_embed_sizes=pos_embed_sizes,
            pos_embed_on_shortcut=True,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=layer_scale_init_value,
            norm_placement='trunk',
            out_indices=(len(depths) - 1,),
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.num_classes = num_classes
        features = int(dims[-1] * 1.5)
        self.conv_head = nn.Sequential(
            nn.Conv2d(dims[-1], features, 1, bias=False), nn.BatchNorm2d(features), nn.GELU()
        )
        self.head = nn.Linear(features, num_classes)
        self.conv_head.apply(_truncated_normal)
        self.head.apply(_truncated_normal)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, 3, H, W) -> (B, num_classes)."""
        (x,) = self.stage_maps(x, self.out_indices)
        return self.head(self.conv_head(x).mean((2, 3)))


def drop_path_schedule(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the drop path rate of every block by stage, rising linearly from 0 to `rate`."""
    last = max(sum(depths) - 1, 1)
    rates = iter([rate * i / last for i in range(sum(depths))])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def build_mixer(mixer: dict, stage: int, stages: int, dim: int, block_index: int) -> TokenMixer:
    """Build the mixer of one block from a `mixer` config with optional per-stage options.

    Raises:
        BackboneError: the type is unknown, or an option is unknown, missing or of the wrong length.
    """
    options = options_of_stage(mixer, stage, stages)
    try:
        return MIXERS[mixer['type']](dim, block_index, **options)
    except BackboneError as error:
        raise BackboneError(f'stage {stage}: {error}') from error


def _norms(dims: Sequence[int], indices: Sequence[int]) -> nn.ModuleDict:
    return nn.ModuleDict({str(i): nn.LayerNorm(dims[i], eps=NORM_EPS) for i in indices})


def _truncated_normal(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
