"""Attacks keep their budget, increase the loss, and find analytic solutions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.analysis.robustness.attacks import (
    NORMS,
    added,
    fgsm,
    losses,
    pgd,
    radius_of,
    random_start,
    slope,
    within,
)
from evaluation.utils.errors import UserError

SHAPE = (3, 5, 4)
ROUNDING = 1e-9


def picture(seed, batch=2, low=0, high=256, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (batch, *shape), generator=generator).float()


def curved(seed, batch=2):
    """Return a nonlinear per-image loss with many local maxima."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(8, math.prod(SHAPE), generator=generator)
    second = torch.randn(8, generator=generator)
    return lambda images: (images.flatten(1) / 20 @ first.T).sin() @ second


def linear(weights):
    return lambda images: (images * weights).sum((1, 2, 3))


def sizes(images, changed, norm):
    change = (changed.double() - images.double()).flatten(1)
    return change.abs().amax(1) if norm == 'linf' else change.square().sum(1).sqrt()


def radii(radius, images):
    return torch.full((len(images),), radius, dtype=torch.float64)


def start_of(batch, norm):
    return random_start([(0, index) for index in range(batch)], SHAPE, norm)


def attacked(loss, images, radius, norm, steps=5):
    clean = slope(loss, images)
    radius = radii(radius, images)
    start = start_of(len(images), norm)
    found, _ = pgd(loss, images, clean, radius, norm, steps, start)
    return fgsm(images, clean.gradient, radius, norm), found


class TestBudget:
    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**20),
        radius=st.floats(0, 300),
        norm=st.sampled_from(NORMS),
        steps=st.integers(1, 4),
    )
    def test_is_kept(self, seed, radius, norm, steps):
        images = picture(seed)
        for changed in attacked(curved(seed), images, radius, norm, steps):
            assert (sizes(images, changed, norm) <= radius * (1 + ROUNDING)).all()
            assert changed.min() >= 0
            assert changed.max() <= 255
            assert changed.dtype == images.dtype

    @settings(max_examples=60, deadline=None)
    @given(
        pixel=st.floats(0, 255, width=32),
        change=st.floats(-300, 300),
    )
    def test_rounding_does_not_exceed_it(self, pixel, change):
        images = torch.full((1, 3, 1, 1), pixel)
        changed = added(images, torch.full((1, 3, 1, 1), change, dtype=torch.float64))
        assert sizes(images, changed, 'linf') <= abs(change)

    @pytest.mark.parametrize('norm', NORMS)
    def test_of_zero_changes_nothing(self, norm):
        images = picture(3)
        for changed in attacked(curved(3), images, 0.0, norm):
            assert torch.equal(changed, images)

    @pytest.mark.parametrize('norm', NORMS)
    def test_is_used_up(self, norm):
        images = picture(4, low=50, high=200)
        single, several = attacked(linear(picture(5) - 127.3), images, 6.0, norm)
        for changed in (single, several):
            assert sizes(images, changed, norm) == pytest.approx(6.0, rel=1e-4)

    @pytest.mark.parametrize('norm', NORMS)
    def test_differs_per_image(self, norm):
        images, radius = picture(4, batch=3, low=50, high=200), torch.tensor([0.0, 1.0, 9.0]).double()
        loss = linear(picture(5, batch=1) - 127.3)
        clean = slope(loss, images)
        single = fgsm(images, clean.gradient, radius, norm)
        several, _ = pgd(loss, images, clean, radius, norm, 4, start_of(3, norm))
        for changed in (single, several):
            assert sizes(images, changed, norm).tolist() == pytest.approx(radius.tolist(), rel=1e-4)

    def test_of_l2_is_the_root_mean_square(self):
        images = picture(6, low=100, high=150)
        radius = radius_of(2.0, 'l2', SHAPE)
        single, _ = attacked(curved(6), images, radius, 'l2')
        mean_square = (single - images).square().mean((1, 2, 3))
        assert mean_square.sqrt() == pytest.approx(2.0, rel=1e-4)
        assert radius_of(2.0, 'linf', SHAPE) == 2.0

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**20), radius=st.floats(1e-3, 50), norm=st.sampled_from(NORMS))
    def test_within_is_a_projection(self, seed, radius, norm):
        change = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed)).double() * 9
        zero = torch.zeros_like(change)
        once = within(change, radii(radius, change), norm)
        assert (sizes(zero, once, norm) <= radius * (1 + ROUNDING)).all()
        torch.testing.assert_close(within(once, radii(radius, change), norm), once)
        torch.testing.assert_close(within(change, radii(1e6, change), norm), change)


class TestLinearModel:
    """For the loss w.x, the best change is eps sign(w) in linf and eps w / |w| in l2."""

    @pytest.mark.parametrize('steps', [1, 10])
    def test_linf(self, steps):
        weights = torch.randn(3, 5, 4)
        images = picture(1, low=20, high=230)
        for changed in attacked(linear(weights), images, 4.0, 'linf', steps):
            assert torch.equal(changed, images + 4 * weights.sign())

    @pytest.mark.parametrize('steps', [10, 40])
    def test_l2(self, steps):
        weights = torch.randn(3, 5, 4)
        images = picture(1, low=20, high=230)
        expected = images + 4 * weights / weights.norm()
        single, several = attacked(linear(weights), images, 4.0, 'l2', steps)
        torch.testing.assert_close(single, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(several, expected, rtol=0, atol=1e-4)

    def test_pixels_stay_valid(self):
        images = torch.tensor([0.0, 255.0, 100.0]).view(1, 3, 1, 1)
        single, several = attacked_without_start(
            linear(torch.tensor([-1.0, 1, 1]).view(3, 1, 1)), images
        )
        for changed in (single, several):
            assert changed.flatten().tolist() == [0.0, 255.0, 108.0]


def attacked_without_start(loss, images):
    clean = slope(loss, images)
    radius = radii(8.0, images)
    found, _ = pgd(loss, images, clean, radius, 'linf', 3, torch.zeros_like(images).double())
    return fgsm(images, clean.gradient, radius, 'linf'), found


class TestStrength:
    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**20),
        radius=st.floats(0, 60),
        norm=st.sampled_from(NORMS),
        steps=st.integers(1, 6),
    )
    def test_pgd_is_at_least_fgsm_and_clean(self, seed, radius, norm, steps):
        images, loss = picture(seed, batch=3), curved(seed)
        clean = slope(loss, images)
        radius = radii(radius, images)
        found, values = pgd(loss, images, clean, radius, norm, steps, start_of(3, norm))
        single = losses(loss, fgsm(images, clean.gradient, radius, norm))
        assert (values >= single).all()
        assert (values >= clean.values).all()
        torch.testing.assert_close(losses(loss, found), values)

    @pytest.mark.parametrize('norm', NORMS)
    def test_steps_help(self, norm):
        """Maxima are so narrow that one long step overshoots."""
        images, loss = picture(11, batch=16), curved(11)
        radius = 10.0 if norm == 'linf' else 40.0
        single, several = attacked(loss, images, radius, norm, steps=20)
        assert losses(loss, several).mean() > losses(loss, single).mean() + 0.5

    @pytest.mark.parametrize('norm', NORMS)
    def test_images_do_not_depend_on_their_batch(self, norm):
        images, loss = picture(12, batch=3), curved(12)
        together = attacked(loss, images, 5.0, norm)
        start = start_of(3, norm)
        for index in range(3):
            image = images[index : index + 1]
            clean = slope(loss, image)
            alone, _ = pgd(loss, image, clean, radii(5.0, image), norm, 5, start[index : index + 1])
            torch.testing.assert_close(alone[0], together[1][index])


class TestRandomStart:
    @pytest.mark.parametrize('norm', NORMS)
    def test_is_in_the_ball_and_depends_on_the_seed(self, norm):
        places = random_start([(0, 1), (0, 2), (0, 1)], SHAPE, norm)
        assert (sizes(torch.zeros_like(places), places, norm) <= 1).all()
        assert torch.equal(places[0], places[2])
        assert not torch.equal(places[0], places[1])


class TestRefused:
    def test_loss_without_a_gradient(self):
        with pytest.raises(UserError, match='has no gradient'):
            slope(lambda images: images.detach().sum((1, 2, 3)), picture(0))

    def test_loss_that_does_not_depend_on_images(self):
        weight = torch.ones((), requires_grad=True)
        with pytest.raises(UserError, match='has no gradient'):
            slope(lambda images: weight.expand(len(images)), picture(0))

    def test_non_finite_loss(self):
        with pytest.raises(UserError, match='is non-finite'):
            slope(lambda images: images.sum((1, 2, 3)) * torch.nan, picture(0))
