"""What the suite expects of a backbone, as checks that each give one verdict."""

import copy
import io
import pickle
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from backbones import BackboneError
from backbones.maps import SMALLEST_SIDE, STRIDES, normalization_of
from evaluation.models.backbone_subject import (
    TINY,
    BrokenError,
    Check,
    Found,
    SkippedError,
    Subject,
    autocast,
    batch_bound,
    count,
    equal,
    first_non_finite,
    half_bound,
    is_finite,
    relative_difference,
    require_finite,
    size_text,
    summary,
    tensors,
)
from evaluation.utils.formats import fixed, significant
from evaluation.utils.random_state import seeded

SMALL_SIDES = (32, 16, 8)
FLOPS_SIZE = (224, 224)


def check_builds(subject: Subject) -> Found:
    """Check that it builds with values and initializes them."""
    parameters = sum(value.numel() for value in subject.network.parameters())
    return Found(f'{significant(parameters / 1e6)} M parameters', {'parameters': parameters})


def check_meta(subject: Subject) -> Found:
    """Check that it builds and runs without values."""
    try:
        subject.count_without_values(subject.sizes[0])
    except Exception as error:
        raise BrokenError(
            f'{summary(error)}; create tensors on x.device, and do not branch on their values'
        ) from error
    return Found('builds and runs without values')


def check_maps(subject: Subject) -> Found:
    """Check that it returns a tuple of four finite maps (B, C, H, W)."""
    output, advice = subject.output(), 'return a tuple of four maps (B, C, H, W)'
    if isinstance(output, Tensor):
        raise BrokenError(f'returns one tensor of shape {tuple(output.shape)}; {advice}')
    if not isinstance(output, (tuple, list)):
        raise BrokenError(f'returns a {type(output).__name__}; {advice}')
    if len(output) != len(STRIDES):
        raise BrokenError(f'returns {len(output)} {"map" if len(output) == 1 else "maps"}; {advice}')
    for index, value in enumerate(output):
        if not isinstance(value, Tensor):
            raise BrokenError(f'output {index} is a {type(value).__name__}; {advice}')
        if value.dim() != 4 or len(value) != 2:
            raise BrokenError(f'output {index} has shape {tuple(value.shape)} for 2 images; {advice}')
    wanted = _sizes_of_maps(subject.sizes[0])
    if _sizes(output) != wanted and [tuple(value.shape[1:3]) for value in output] == wanted:
        raise BrokenError(
            f'maps are (B, H, W, C), such as {tuple(output[0].shape)}; return x.permute(0, 3, 1, 2), '
            'which is (B, C, H, W)'
        )
    _check_finite(subject, output, torch.float32)
    return Found(f'four maps (B, C, H, W), the first {tuple(output[0].shape)}')


def _check_finite(subject: Subject, output: Any, dtype: torch.dtype) -> None:
    """Name the first map, and the first module, that has NaN or infinite values."""
    broken = [index for index, value in enumerate(tensors(output)) if not is_finite(value)]
    if broken:
        raise BrokenError(
            f'map {broken[0]} has NaN or infinite values{first_non_finite(subject, dtype)}; compute '
            'large sums, exponentials and norms in float32, or scale them before'
        )


def check_strides(subject: Subject) -> Found:
    """Check that the strides are 4, 8, 16 and 32, with sizes rounded up, for all sizes."""
    for size in subject.sizes:
        try:
            output = subject.output(size)
        except Exception as error:
            raise BrokenError(
                f'images of {size_text(size)}: {summary(error)}; pad them and crop the maps'
            ) from error
        _check_sizes(output, size)
    return Found('4, 8, 16, 32 at ' + ', '.join(map(size_text, subject.sizes)))


def _check_sizes(output: Any, size: tuple[int, int]) -> None:
    for index, (own, right) in enumerate(zip(_sizes(output), _sizes_of_maps(size), strict=True)):
        if own != right:
            raise BrokenError(
                f'map {index} is {size_text(own)} for an image of {size_text(size)} (height x width), '
                f'not {size_text(right)}; return maps at strides 4, 8, 16 and 32, with sizes rounded up'
            )


def check_channels(subject: Subject) -> Found:
    """Check that channels do not depend on the image size, and equal `dims` if there are any."""
    channels = [value.shape[1] for value in subject.output()]
    for size in subject.sizes[1:]:
        try:
            other = [value.shape[1] for value in subject.output(size)]
        except Exception:  # The check of strides reports it.
            continue
        if other != channels:
            raise BrokenError(
                f'channels are {channels} at {size_text(subject.sizes[0])} and {other} at '
                f'{size_text(size)}; return the same number at every size'
            )
    text, figures = ', '.join(map(str, channels)), {'channels': channels}
    dims = getattr(subject.network, 'dims', None)
    if dims is None:
        return Found(text, figures)
    if list(dims) != channels:
        raise BrokenError(f'maps have {channels} channels, but dims is {list(dims)}; correct dims')
    return Found(f'{text}, as in dims', figures)


def check_determinism(subject: Subject) -> Found:
    """Check that two passes in eval mode give equal bits, without reseeding between them."""
    network, images = subject.network, subject.images()
    with torch.no_grad(), seeded(subject.seed):
        one, other = network(images.clone()), network(images.clone())
    if not equal(one, other):
        raise BrokenError('two passes in eval mode differ; use randomness only if self.training')
    return Found('two passes in eval mode have equal bits')


def check_batches(subject: Subject) -> Found:
    """Check that an image has the same maps alone and in a batch of three, in eval mode."""
    require_finite(subject)
    images = subject.images(3)
    together = tensors(subject.run(subject.network, images))
    largest = 0.0
    for index in range(len(images)):
        alone = tensors(subject.run(subject.network, images[index : index + 1]))
        for one, many in zip(alone, together, strict=True):
            scale = torch.cat([one, many[index : index + 1]]).abs().max().clamp_min(TINY)
            largest = max(largest, ((one[0] - many[index]).abs().max() / scale).item())
    bound = batch_bound(subject)
    if not largest <= bound:
        raise BrokenError(
            f'an image alone and in a batch of 3 differ by {significant(largest, 2)} of the largest '
            f'value, more than {bound:.0e}; in eval mode, compute nothing over axis 0'
        )
    text = f'an image alone and in a batch of 3 differ by {largest:.0e} of the largest value'
    return Found(text, {'difference': largest, 'bound': bound})


def check_input(subject: Subject) -> Found:
    """Check that a pass leaves its input unchanged."""
    images = subject.images()
    given = images.clone()
    with torch.no_grad(), seeded(subject.seed):
        subject.network(given)
    if not torch.equal(given, images):
        raise BrokenError('modifies its input; replace operations in place, such as x += 1 or relu_()')
    return Found('a pass leaves its input unchanged')


def check_gradients(subject: Subject) -> Found:
    """Check that finite gradients reach all parameters that require them, in train mode."""
    require_finite(subject)
    network = subject.build()
    network.train()
    with seeded(subject.seed):
        outputs = tensors(network(subject.images()))
        # Random weights: norms would make the gradient of a plain sum vanish.
        sum((value * torch.randn_like(value)).mean() for value in outputs).backward()
    every = dict(network.named_parameters())
    trained = {name: value.grad for name, value in every.items() if value.requires_grad}
    without = [name for name, grad in trained.items() if grad is None]
    if without:
        raise BrokenError(
            f'{len(without)} of {len(trained)} parameters get no gradient, first {without[0]}; use or '
            'remove them, or freeze them with requires_grad_(False)'
        )
    broken = [name for name, grad in trained.items() if not grad.isfinite().all()]
    if broken:
        raise BrokenError(
            f'{len(broken)} of {len(trained)} gradients have NaN or infinite values, first {broken[0]}; '
            'check square roots, divisions and logarithms at 0'
        )
    zeros = sum(not grad.any() for grad in trained.values())
    frozen = len(every) - len(trained)
    more = (f', {frozen} are frozen' if frozen else '') + (f', {zeros} get only zeros' if zeros else '')
    figures = {'parameters': len(trained), 'frozen': frozen, 'zeros': zeros}
    return Found(f'finite for {len(trained)} of {len(every)} parameters{more}', figures)


def check_half(subject: Subject, dtype: torch.dtype) -> Found:
    """Check that maps under autocast are finite and close to float32.

    Raises:
        SkippedError: the CPU has no products in this precision.
    """
    try:
        with autocast(dtype), torch.no_grad():
            product = nn.functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
    except RuntimeError as error:
        raise SkippedError(f'this CPU has no {dtype} ({str(error).splitlines()[0]})') from error
    if product.dtype != dtype:  # Older versions of PyTorch switch autocast off.
        raise SkippedError(f'this version of PyTorch has no {dtype} on the CPU')
    require_finite(subject)
    with autocast(dtype):
        halves = subject.run(subject.network, subject.images())
    _check_finite(subject, halves, dtype)
    difference = relative_difference(halves, subject.output())
    bound = half_bound(subject, dtype)
    how = f'float32 by {fixed(100 * difference, 2)} % (at most {fixed(100 * bound, 0)} %)'
    if not difference <= bound:
        raise BrokenError(
            f'maps differ from {how}; compute large sums and norms in float32, with '
            'torch.autocast(x.device.type, enabled=False)'
        )
    return Found(f'finite, differs from {how}', {'difference': difference, 'bound': bound})


def check_state(subject: Subject) -> Found:
    """Check that a saved state dict gives a new backbone equal maps."""
    file = io.BytesIO()
    torch.save(subject.network.state_dict(), file)
    file.seek(0)
    other = subject.build(subject.seed + 1)
    other.load_state_dict(torch.load(file, weights_only=True))
    other.eval()
    if not equal(subject.run(other, subject.images()), subject.output()):
        raise BrokenError(
            'a new backbone with the same state dict returns different maps; register all tensors that '
            'are not computed from arguments as parameters or persistent buffers'
        )
    return Found(f'saved, loaded into a new one, equal maps; {fixed(file.tell() / 2**20, 1)} MiB')


def check_modes(subject: Subject) -> Found:
    """Check that `train()` and `eval()` switch all modules, and keep the maps."""
    network = copy.deepcopy(subject.network)
    # Not chained: `train` of mmdet's ResNet returns None.
    network.train()
    is_training = network.training
    network.eval()
    left = [name or 'itself' for name, module in network.named_modules() if module.training]
    if left:
        raise BrokenError(
            f'after eval(), {left[0]} is in train mode; override train(mode), and call '
            'super().train(mode) in it'
        )
    if not is_training:
        raise BrokenError('after train(), it is in eval mode; call super().train(mode) in train(mode)')
    if not equal(subject.run(network, subject.images()), subject.output()):
        raise BrokenError('maps differ after train() and eval(); do not change values in train(mode)')
    return Found('train() and eval() switch all modules and keep the maps')


def _pickled(network: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(network))


def check_copies(subject: Subject) -> Found:
    """Check that copies by deepcopy and pickle return equal maps."""
    for name, copied in (('deepcopy', copy.deepcopy), ('pickle', _pickled)):
        try:
            other = copied(subject.network)
        except Exception as error:
            raise BrokenError(
                f'{name} {summary(error)}; avoid lambdas, local classes and open files as attributes'
            ) from error
        if not equal(subject.run(other, subject.images()), subject.output()):
            raise BrokenError(f'a copy by {name} returns different maps; keep no state outside of it')
    return Found('copies by deepcopy and pickle return equal maps')


def check_small_images(subject: Subject) -> Found:
    """Check that 32x32 works, and that smaller images raise an error or give right maps."""
    texts = []
    for side in SMALL_SIDES:
        size = (side, side)
        try:
            output = subject.output(size)
        except Exception as error:
            if side >= SMALLEST_SIDE:
                raise BrokenError(
                    f'an image of {size_text(size)}: {summary(error)}; pad small images to what it takes'
                ) from error
            texts.append(f'{size_text(size)} is refused')
            continue
        _check_sizes(output, size)
        if not is_finite(output):
            raise BrokenError(
                f'an image of {size_text(size)} gives NaN or infinite values; raise an error instead'
            )
        texts.append(f'{size_text(size)} works')
    return Found(', '.join(texts))


def check_flops(subject: Subject) -> Found:
    """Check that all operators have a formula for their FLOPs."""
    try:
        counter, how = subject.count_without_values(FLOPS_SIZE), ''
    except Exception:  # The check of the meta device reports it.
        counter, how = count(subject.network, FLOPS_SIZE), ', counted with values'
    if counter.uncounted:
        names = ', '.join(sorted(counter.uncounted))
        raise BrokenError(
            f'{names} cannot be counted; enter a formula in evaluation/models/operator_flops.py, or the '
            'name in FREE if it needs none'
        )
    flops, norms = counter.total, counter.norms.total()
    text = (
        f'{significant(flops / 1e9)} G at {size_text(FLOPS_SIZE)}, norms {significant(norms / 1e9)}{how}'
    )
    return Found(text, {'flops': flops, 'norm_flops': norms, 'size': list(FLOPS_SIZE)})


def check_layer_decay(subject: Subject) -> Found:
    """Check that `layer_of`, which layer decay needs, knows every parameter."""
    network = subject.network
    if not hasattr(network, 'layer_of'):
        return Found('has no layer_of(name): layer_decay_rate is not available', is_note=True)
    last = network.num_layers
    for name, _ in network.named_parameters():
        layer = network.layer_of(name)
        if layer not in range(last + 1):
            raise BrokenError(
                f'layer_of({name!r}) is {layer!r}; return a whole number from 0 to num_layers={last}'
            )
    return Found(f'layer_of knows all parameters, layers 0 to {last}', {'layers': last})


def check_init_weights(subject: Subject) -> Found:
    """Note how parameters are initialized, and pretrained weights loaded."""
    if hasattr(subject.network, 'init_weights'):
        return Found('init_weights() runs')
    return Found('has no init_weights(): keeps the values of its constructor', is_note=True)


def check_normalization(subject: Subject) -> Found:
    """Check `normalization`, the mean and std of images that the weights expect."""
    try:
        values = normalization_of(subject.network, type(subject.network).__name__)
    except BackboneError as error:
        raise BrokenError(str(error)) from error
    if values is None:
        return Found('states none: images are normalized as the recipe says', is_note=True)
    return Found(f'mean {values["mean"]}, std {values["std"]}', values)


def _sizes(output: Any) -> list[tuple[int, int]]:
    return [tuple(value.shape[-2:]) for value in output]


def _sizes_of_maps(size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in STRIDES]


CHECKS = (
    Check('builds', check_builds),
    Check('maps', check_maps, needs=('builds',)),
    Check('strides', check_strides, needs=('maps',)),
    Check('channels', check_channels, needs=('maps',)),
    Check('small images', check_small_images, needs=('strides',)),
    Check('determinism', check_determinism, needs=('builds',)),
    Check('batch invariance', check_batches, needs=('determinism',)),
    Check('input', check_input, needs=('builds',)),
    Check('gradients', check_gradients, needs=('builds',)),
    Check('bfloat16', partial(check_half, dtype=torch.bfloat16), needs=('determinism',)),
    Check('float16', partial(check_half, dtype=torch.float16), needs=('determinism',)),
    Check('state dict', check_state, needs=('builds',)),
    Check('train and eval', check_modes, needs=('builds',)),
    Check('copies', check_copies, needs=('builds',)),
    Check('meta device', check_meta, needs=('builds',)),
    Check('FLOPs', check_flops, needs=('builds',)),
    Check('layer decay', check_layer_decay, needs=('builds',)),
    Check('init_weights', check_init_weights, needs=('builds',)),
    Check('normalization', check_normalization, needs=('builds',)),
)
