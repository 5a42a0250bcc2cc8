"""Networks of timm as backbones."""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.models import group_parameters
from torch import Tensor, nn

from backbones.errors import BackboneError
from backbones.maps import STRIDES, check_image_size
from backbones.timm import networks
from backbones.timm.classifier import NETWORK, TimmModule
from backbones.timm.probe import Facts, common_stride, probe, run
from backbones.timm.pyramid import LayerNorm2d, SimpleFeaturePyramid
from backbones.timm.windows import AttentionWindows, pad_before_shift

# As in the published dense models of Swin and others.
NORM_EPS = 1e-5


@MODELS.register_module()
class TimmBackbone(TimmModule):
    """A network of timm as a backbone with maps at strides 4, 8, 16 and 32, for images of any size.

    Images are padded to what the network divides by, and the maps are cropped. Parts that no map depends
    on, such as the classifier, are removed.

    Plain vision transformers, whose maps all have one stride, get the simple feature pyramid of ViTDet
    (arXiv 2203.16527, section 3), and a patch size of 16.

    Args:
        model_name: name in timm, such as `convnextv2_tiny.fcmae_ft_in22k_in1k`; or `hf-hub:` and a
            repository, or `local-dir:` and a folder.
        options: options of timm's class, such as `dict(window_size=12)`.
        out_indices: strides whose maps are returned: 0 for 4, 1 for 8, 2 for 16, 3 for 32.
        out_norm: whether to put a LayerNorm on each map. `auto`: if the network neither normalizes
            maps nor has batch norms, as in the published dense versions of Swin and MambaOut.
        pyramid_channels: channels of the maps of a plain vision transformer.
        window_size: side of the attention windows of a plain vision transformer, in patches; None for
            global attention in all blocks. See `AttentionWindows`.
        drop_path_rate: probability of dropping a branch in the last block, as defined by the network.
        frozen_stages: -1 freezes nothing, 0 the stem, k also everything that the first k maps depend on;
            of a plain vision transformer, its first k blocks.
        norm_eval: keep batch norms in eval mode while training.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: `dict(type='Pretrained', checkpoint=...)` loads weights in the names of timm or of the
            original release, from a path or URL; see `load_pretrained`.

    Raises:
        BackboneError: an argument is invalid, or the network cannot serve as a backbone; the message
            says why, and names networks that can.
    """

    # Class for recipes of classification.
    classifier = 'TimmClassifier'

    def __init__(
        self,
        model_name: str,
        options: Mapping[str, Any] | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: str | bool = 'auto',
        pyramid_channels: int = 256,
        window_size: int | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(model_name, init_cfg)
        _check_arguments(out_indices, out_norm, pyramid_channels, frozen_stages, drop_path_rate)
        self.out_indices = tuple(sorted(out_indices))
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        wanted = json.dumps(dict(options or {}), sort_keys=True)
        facts, chosen = examined(model_name, wanted, self.out_indices)
        dropped = {'drop_path_rate': drop_path_rate} if drop_path_rate else {}
        self.network = networks.create(model_name, {**chosen, **dropped})
        pad_before_shift(self.network)
        self._facts = facts
        self._remove_unused(facts)
        self._build_around(facts, out_norm, pyramid_channels, window_size)
        if with_cp:
            self._recompute_blocks()
        self._freeze()

    def _remove_unused(self, facts: Facts) -> None:
        """Remove what no map depends on."""
        before = self.network.state_dict().keys()
        for name in facts.unused_modules:
            self.network.set_submodule(name, nn.Identity())
        removed = before - self.network.state_dict().keys()
        self.unused_weights = {NETWORK + name: 'not needed for feature maps' for name in removed}
        self.absent_weights = {
            'out_norms.': 'output norms are new in a dense model',
            'pyramid.': 'the feature pyramid is new in a dense model',
        }
        for name in facts.unused_parameters:
            self.network.get_parameter(name).requires_grad_(False)

    def _build_around(
        self, facts: Facts, out_norm: str | bool, pyramid_channels: int, window_size: int | None
    ) -> None:
        """Add pyramid, windows and output norms."""
        self.pyramid, self._windows = None, None
        self.divisor = facts.divisor
        if facts.common_stride:
            strides = [STRIDES[index] for index in self.out_indices]
            self.pyramid = SimpleFeaturePyramid(
                facts.dims[0], facts.common_stride, pyramid_channels, strides
            )
            self.dims = (pyramid_channels,) * len(STRIDES)
            self.divisor = math.lcm(facts.divisor, STRIDES[-1])
        else:
            self.dims = facts.dims
        if window_size is not None:
            self._windows = self._attention_windows(window_size)
        if out_norm == 'auto':
            normalized = (True,) * 4 if facts.common_stride else facts.are_normalized
            normed = [i for i, done in zip(self.out_indices, normalized, strict=False) if not done]
        else:
            normed = self.out_indices if out_norm else ()
        self.out_norms = nn.ModuleDict(
            {str(index): LayerNorm2d(self.dims[index], eps=NORM_EPS) for index in normed}
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of `out_indices`.

        Args:
            x: (B, 3, H, W), both sides at least 32 pixels.

        Returns:
            For each of `out_indices`, (B, C, H / stride, W / stride), sizes rounded up; in
            channels_last memory format.

        Raises:
            BackboneError: the input is smaller than 32 pixels.
        """
        height, width = x.shape[-2:]
        check_image_size(x)
        below, right = -height % self.divisor, -width % self.divisor
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        if self._windows:
            stride = self._facts.common_stride
            self._windows.grid = x.shape[-2] // stride, x.shape[-1] // stride
        maps = run(self.network, x, self._facts.indices)
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        return tuple(
            self._finished(each, index, height, width)
            for index, each in zip(self.out_indices, maps, strict=True)
        )

    def _finished(self, x: Tensor, index: int, height: int, width: int) -> Tensor:
        """Crop and normalize a map."""
        stride = STRIDES[index]
        x = x[..., : -(-height // stride), : -(-width // stride)]
        if str(index) in self.out_norms:
            x = self.out_norms[str(index)](x)
        return x.contiguous(memory_format=torch.channels_last)

    @property
    def num_layers(self) -> int:
        """Index of the layer after the last block, for output norms and heads; see `layer_of`.

        Raises:
            BackboneError: timm does not tell the layers of this network.
        """
        return max(self._layers.values()) + 1

    def layer_of(self, name: str) -> int:
        """Return the layer of a parameter, as grouped by timm for layer-wise learning rate decay.

        Tokens and position embeddings belong to layer 0.

        Args:
            name: parameter name from `named_parameters`.

        Raises:
            BackboneError: timm does not tell the layers of this network.
        """
        return self._layers.get(name, self.num_layers)

    @functools.cached_property
    def _layers(self) -> dict[str, int]:
        if not hasattr(self.network, 'group_matcher'):
            raise BackboneError(
                f'layer_decay_rate: timm does not tell the layers of {self.model_name} (it has no '
                'group_matcher); remove layer_decay_rate'
            )
        found = group_parameters(self.network, self.network.group_matcher(coarse=False), reverse=True)
        # Parameters of the network itself are tokens and position embeddings; timm misses some.
        return {NETWORK + name: layer if '.' in name else 0 for name, layer in found.items()}

    def _attention_windows(self, window_size: int) -> AttentionWindows:
        """Restrict most blocks to windows.

        Raises:
            BackboneError: the network is not a plain vision transformer of a known kind.
        """
        network = self.network
        takes_tokens = getattr(network, 'rope', None) is None and hasattr(network, 'num_prefix_tokens')
        if not self._facts.common_stride or not takes_tokens or not hasattr(network, 'blocks'):
            raise BackboneError(
                f'window_size={window_size}: {self.model_name} is not a plain vision transformer '
                'without rotary positions; remove window_size'
            )
        if type(window_size) is not int or window_size < 1:
            raise BackboneError(f'window_size={window_size!r}: give a whole number, 1 or more')
        return AttentionWindows(network.blocks, window_size, network.num_prefix_tokens)

    def _recompute_blocks(self) -> None:
        try:
            self.network.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise BackboneError(
                f'with_cp: timm cannot recompute the blocks of {self.model_name}; give with_cp=False'
            ) from error

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """Set training mode, except for parts that `frozen_stages` and `norm_eval` keep in eval mode."""
        super().train(mode)
        for module in self._frozen_modules if mode else ():
            self.network.get_submodule(module).eval()
        if mode and self.norm_eval:
            self.keep_batch_norms_in_eval_mode()
        return self

    def _freeze(self) -> None:
        self._frozen_modules: list[str] = []
        if self.frozen_stages < 0:
            return
        most = self.num_layers - 1 if self._facts.common_stride else len(STRIDES)
        if self.frozen_stages > most:
            raise BackboneError(f'frozen_stages={self.frozen_stages}: choose from -1 to {most}')
        frozen = {name for name, _ in self.network.named_parameters() if self._is_frozen(name)}
        for name in frozen:
            self.network.get_parameter(name).requires_grad_(False)
        self._frozen_modules = [
            name
            for name, module in self.network.named_modules()
            if name and _names_below(name, module) and frozen >= _names_below(name, module)
        ]

    def _is_frozen(self, name: str) -> bool:
        if self._facts.common_stride:
            return self.layer_of(NETWORK + name) <= self.frozen_stages
        return name in self._stem or self._facts.first_maps.get(name, len(STRIDES)) < self.frozen_stages

    @functools.cached_property
    def _stem(self) -> frozenset[str]:
        """Names of the parameters of the stem."""
        if not hasattr(self.network, 'group_matcher'):
            return frozenset()
        found = group_parameters(self.network, self.network.group_matcher(coarse=True), reverse=True)
        return frozenset(name for name, layer in found.items() if layer == 0)


@functools.lru_cache(maxsize=64)
def examined(
    model_name: str, options: str, out_indices: tuple[int, ...]
) -> tuple[Facts, dict[str, Any]]:
    """Return how a network can serve as a backbone, and the options to build it with.

    Args:
        model_name: name in timm.
        options: wanted options of timm's class, as JSON.
        out_indices: indices of the wanted strides.

    Raises:
        BackboneError: it cannot; the message names networks that can.
    """
    wanted = json.loads(options)
    chosen = {**networks.options_for_any_size(model_name), **wanted}
    network = networks.create_without_values(model_name, chosen)
    known = networks.class_options(model_name)
    if 'patch_size' in known - wanted.keys() and _is_patchwise(network):
        chosen['patch_size'] = networks.PATCH_SIZE
        network = networks.create_without_values(model_name, chosen)
    try:
        return probe(network, model_name, out_indices), chosen
    except BackboneError as error:
        raise BackboneError(f'{error}; {networks.suggestion(model_name)}') from error


def _is_patchwise(network: nn.Module) -> bool:
    """Return whether the patch embedding of a plain vision transformer sets the stride of its maps."""
    size = getattr(getattr(network, 'patch_embed', None), 'patch_size', None)
    return size is not None and common_stride(network) == max(
        size if isinstance(size, tuple) else (size,)
    )


def _names_below(name: str, module: nn.Module) -> set[str]:
    return {f'{name}.{each}' for each, _ in module.named_parameters()}


def _check_arguments(
    out_indices: Sequence[int],
    out_norm: str | bool,
    pyramid_channels: int,
    frozen_stages: int,
    drop_path_rate: float,
) -> None:
    """Check arguments before anything is built.

    Raises:
        BackboneError: one is invalid.
    """
    if not out_indices or not set(out_indices) <= set(range(len(STRIDES))):
        raise BackboneError(f'out_indices={tuple(out_indices)}: choose from 0 to {len(STRIDES) - 1}')
    if out_norm not in ('auto', True, False):
        raise BackboneError(f"out_norm={out_norm!r}: choose 'auto', True or False")
    if type(pyramid_channels) is not int or pyramid_channels < 1:
        raise BackboneError(f'pyramid_channels={pyramid_channels!r}: give a whole number, 1 or more')
    if type(frozen_stages) is not int or frozen_stages < -1:
        raise BackboneError(f'frozen_stages={frozen_stages!r}: give a whole number, -1 or more')
    if not 0 <= drop_path_rate <= 1:
        raise BackboneError(f'drop_path_rate={drop_path_rate}: choose from 0 to 1')
