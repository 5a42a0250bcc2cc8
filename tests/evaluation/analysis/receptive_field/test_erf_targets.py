"""Contributions in networks whose receptive field is known analytically."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import nn

from backbones import MIXERS
from evaluation.analysis.receptive_field.result import THRESHOLDS, centered_area_ratios
from evaluation.analysis.receptive_field.targets import center_value, contributions, moved
from evaluation.utils.errors import UserError


def contribution_to_the_middle(network, images):
    """Return the contribution to the center, summed over images, as an array."""
    images = images.clone().requires_grad_()
    found = contributions(center_value(network(images)), images, 'map', keep_graph=False)
    return found.sum(0).numpy()


def whole_numbers(*shape, low=-4, high=5):
    return torch.randint(low, high, shape).double()


def convolution(kernel, bias):
    """Return a layer that keeps the size of its input, (B, 1, H, W) -> (B, 1, H, W)."""
    layer = nn.Conv2d(1, 1, kernel.shape[-1], padding=kernel.shape[-1] // 2).double()
    layer.weight.data, layer.bias.data = kernel[None, None], torch.tensor([bias]).double()
    return layer


def embedded(kernel, size):
    """Place a kernel in the center of a map of zeros."""
    whole = np.zeros((size, size))
    start = size // 2 - kernel.shape[0] // 2
    whole[start : start + kernel.shape[0], start : start + kernel.shape[1]] = kernel
    return whole


def on_channels_last(mixer):
    """Wrap a mixer as a network on (B, C, H, W)."""
    return lambda images: mixer(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def randomized(name, block_index=0, **options):
    mixer = MIXERS[name](6, block_index, **options).double()
    for parameter in mixer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return mixer.requires_grad_(False)


class TestKnownFields:
    @pytest.mark.parametrize('size', [16, 17])
    def test_chain_of_convolutions_equals_convolution_of_kernels(self, size):
        kernels = [whole_numbers(side, side) for side in (3, 5, 3)]
        # The last bias makes the center positive.
        chain = nn.Sequential(*(convolution(k, 1e6 * (k is kernels[-1])) for k in kernels))
        found = contribution_to_the_middle(chain, whole_numbers(2, 1, size, size))
        one = kernels[0].numpy()
        for kernel in kernels[1:]:
            one = convolve2d(one, kernel.numpy())
        assert np.array_equal(found, 2 * np.abs(embedded(one, size)))

    def test_channels_are_summed(self):
        layer = nn.Conv2d(3, 4, 3, padding=1, bias=False).double()
        layer.weight.data = whole_numbers(4, 3, 3, 3, low=1)
        found = contribution_to_the_middle(layer, whole_numbers(1, 3, 8, 8, low=1))
        assert np.array_equal(found, embedded(layer.weight.sum((0, 1)).detach().numpy(), 8))

    def test_depthwise_7x7_is_a_square(self):
        mixer = randomized('convnext')
        images = torch.randn(2, 6, 20, 20, dtype=torch.float64)
        found = contribution_to_the_middle(on_channels_last(mixer), images)
        assert np.array_equal(found > 0, embedded(np.ones((7, 7)), 20) > 0)

    def test_windows_without_shift_cover_the_center_window(self):
        mixer = randomized('swin', num_heads=3)
        images = torch.randn(2, 6, 28, 28, dtype=torch.float64)
        found = contribution_to_the_middle(on_channels_last(mixer), images)
        window = np.zeros((28, 28), bool)
        window[14:21, 14:21] = True
        assert np.array_equal(found > 0, window)

    def test_windows_with_shift_cover_the_shifted_window(self):
        mixer = randomized('swin', block_index=1, num_heads=3)
        images = torch.randn(2, 6, 28, 28, dtype=torch.float64)
        found = contribution_to_the_middle(on_channels_last(mixer), images)
        window = np.zeros((28, 28), bool)
        window[10:17, 10:17] = True
        assert np.array_equal(found > 0, window)

    def test_mean_is_uniform(self):
        images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
        found = contribution_to_the_middle(lambda x: x.mean((2, 3), keepdim=True), images)
        assert np.ptp(found) < 1e-18
        for share, ratio in centered_area_ratios(found).items():
            side = next(side for side in range(1, 67, 2) if min(side, 64) ** 2 >= share * 64**2)
            assert ratio == min(side**2 / 64**2, 1)
            assert abs(ratio - share) < 2 * 2 / 64
        assert THRESHOLDS == (0.2, 0.3, 0.5, 0.99)


class TestTarget:
    def test_plain_sum_of_layer_norm_has_no_gradient(self):
        images = torch.randn(1, 6, 4, 4, dtype=torch.float64, requires_grad=True)
        normed = nn.LayerNorm(6).double()(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        plain = contributions(normed[:, :, 2, 2].sum(1), images, 'plain', keep_graph=True)
        ours = contributions(center_value(normed), images, 'ours', keep_graph=False)
        assert plain.max() < 1e-12
        assert ours.max() > 1e-2

    def test_images_do_not_mix(self):
        mixer = randomized('halo', num_heads=3)
        images = torch.randn(3, 6, 14, 14, dtype=torch.float64)
        network = on_channels_last(mixer)
        alone = sum(contribution_to_the_middle(network, image[None]) for image in images)
        np.testing.assert_allclose(contribution_to_the_middle(network, images), alone, rtol=1e-10)


class TestRefusals:
    @pytest.mark.parametrize('cut', [lambda x: x.detach(), lambda x: x.argmax(1, keepdim=True).double()])
    def test_no_gradient(self, cut):
        images = torch.rand(1, 3, 4, 4, requires_grad=True)
        with pytest.raises(UserError, match='target stage2 has no gradient with respect to the image'):
            contributions(center_value(cut(images)), images, 'stage2', keep_graph=False)

    def test_value_that_does_not_depend_on_images(self):
        images = torch.rand(1, 3, 4, 4, requires_grad=True)
        other = torch.rand(1, 3, 4, 4, requires_grad=True)
        with pytest.raises(UserError, match='has no gradient'):
            contributions(center_value(other), images, 'stage2', keep_graph=False)

    def test_non_finite_gradient(self):
        images = torch.ones(1, 3, 4, 4, requires_grad=True)
        with pytest.raises(UserError, match='is non-finite'):
            contributions(center_value(images * float('nan') + 1), images, 'stage2', keep_graph=False)


class TestMoved:
    @pytest.mark.parametrize(('down', 'right'), [(0, 0), (2, -1), (-3, 4), (9, 0), (0, -9)])
    def test_shifts_and_fills_with_zeros(self, down, right):
        whole = torch.arange(1.0, 31.0).view(5, 6)
        expected = np.zeros((5, 6))
        for row in range(5):
            for column in range(6):
                if 0 <= row + down < 5 and 0 <= column + right < 6:
                    expected[row + down, column + right] = whole[row, column]
        assert np.array_equal(moved(whole, down, right).numpy(), expected)
