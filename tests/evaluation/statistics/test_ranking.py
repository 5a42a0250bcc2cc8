"""Rankings of made-up results, whose scores, noise and orders are known."""

import json

import numpy as np
import pytest
from scipy import stats

from evaluation.results.published import Entry
from evaluation.results.reading import read_result
from evaluation.statistics.comparison import Uncertainty
from evaluation.statistics.ranking import rank
from evaluation.statistics.ranking_columns import contest_of, finished, gather
from tests.evaluation.metrics.problems import as_version_2, as_version_3
from tests.evaluation.tables.test_table import document
from tests.refusals import refusal

NAMES = ('dcn_tiny', 'halo_tiny', 'pvt_tiny', 'swin_tiny')
RESAMPLES = 400


def detector(folder, name, score, **changes):
    """Return a result of a detector on all images of COCO; `changes` replace keys of the file."""
    metrics = {key: value / 2 for key, value in document()['metrics'].items()}
    metrics |= {'box_AP': score, 'mask_AP': None if score is None else score / 2}
    content = as_version_3(as_version_2(document(name, metrics=metrics, initialization='released')))
    content |= changes
    content['checkpoint'] = {**content['checkpoint'], 'weights_sha256': json.dumps([name, changes])}
    file = folder / f'{len([*folder.iterdir()])}.json'
    file.write_text(json.dumps(content))
    return read_result(file)


def classifier(folder, name, score):
    """Return a result of a classifier."""
    content = as_version_3(
        as_version_2(document(name, task='imagenet', metrics={'top1': score, 'top5': 90}))
    )
    file = folder / f'{name}.json'
    file.write_text(json.dumps(content))
    return read_result(file)


def drawn_of(results, noise=0.1, seed=0):
    """Return resamples with independent noise of each figure."""
    random = np.random.default_rng(seed)
    return {
        result.path: Uncertainty(
            result.path,
            (result.data_sha256, result.dataset),
            None,
            {},
            {
                name: value + noise * random.standard_normal(RESAMPLES)
                for name, value in result.metrics.items()
                if value is not None
            },
        )
        for result in results
    }


@pytest.fixture
def two_columns(tmp_path):
    """Detectors from two starts; the first and the last contestant change places."""
    scores = {'released': (44, 43, 42, 41), 'scratch': (31, 33, 32, 34)}
    return [
        detector(tmp_path, name, score, initialization=start)
        for start, column in scores.items()
        for name, score in zip(NAMES, column, strict=True)
    ]


def ranked(results, metrics=(), by_seed=False, published=(), **noise):
    contest = contest_of(gather(finished(results), metrics, by_seed))
    return rank(contest, drawn_of(contest.results, **noise), published)


def published_entry(name, value):
    return Entry(name, 'mask_rcnn_coco_1x', 'unified', 'a paper', {'box_ap': value})


def reversals(ranking, pair):
    names = ranking.contestants
    return {(names[each.better], names[each.worse]) for each in pair.reversals}


class TestRank:
    def test_ranks_and_tau(self, two_columns):
        found = ranked(two_columns)
        scratch, pretrained = found.columns
        # By mean rank, then by name.
        assert found.contestants == ('halo_tiny', 'dcn_tiny', 'swin_tiny', 'pvt_tiny')
        assert pretrained.ranks.tolist() == [2, 1, 4, 3]
        assert scratch.ranks.tolist() == [2, 4, 1, 3]
        assert pretrained.scores.tolist() == [43, 44, 41, 42]
        assert [each.title for each in found.columns] == [
            'Mask R-CNN, scratch, box AP',
            'Mask R-CNN, pretrained, box AP',
        ]
        (pair,) = found.pairs
        expected = stats.kendalltau(scratch.scores, pretrained.scores).statistic
        assert pair.agreement.tau == pytest.approx(expected)

    def test_reversals_beyond_chance(self, two_columns):
        found = ranked(two_columns)
        # All but halo and pvt, which keep their order.
        assert reversals(found, found.pairs[0]) == {
            ('halo_tiny', 'dcn_tiny'),
            ('pvt_tiny', 'dcn_tiny'),
            ('swin_tiny', 'dcn_tiny'),
            ('swin_tiny', 'halo_tiny'),
            ('swin_tiny', 'pvt_tiny'),
        }
        assert all(0 < each.p_value <= 0.05 for each in found.pairs[0].reversals)

    def test_no_reversal_within_the_noise(self, two_columns):
        found = ranked(two_columns, noise=10)
        assert found.pairs[0].reversals == ()
        assert found.columns[0].low.tolist() == [1, 1, 1, 1]
        assert found.columns[0].high.tolist() == [4, 4, 4, 4]
        assert found.pairs[0].agreement.high == 1

    def test_probabilities(self, two_columns):
        ranking = ranked(two_columns, noise=1)
        dcn, halo, swin = map(ranking.contestants.index, ('dcn_tiny', 'halo_tiny', 'swin_tiny'))
        found = ranking.columns[1]
        expected = stats.norm.cdf(1 / np.sqrt(2))
        # Four standard errors of a share of 400.
        assert found.better[dcn, halo] == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(RESAMPLES))
        assert found.better[swin, dcn] == pytest.approx(1 - stats.norm.cdf(3 / np.sqrt(2)), abs=0.05)

    def test_ties_of_shares_count_half(self, tmp_path):
        """Resamples of accuracies are often equal, and their mean is not shifted."""
        results = [classifier(tmp_path, name, 60) for name in NAMES]
        contest = contest_of(gather(finished(results)))
        drawn = drawn_of(contest.results)
        random = np.random.default_rng(0)
        for result in contest.results:
            # Tenths that are not exact in binary, with a mean off the score.
            drawn[result.path].samples['top1'] = 59.9 + 0.1 * random.integers(0, 2, RESAMPLES)
        samples = [drawn[runs[0].path].samples['top1'] for runs in contest.columns[0].runs.values()]
        better = rank(contest, drawn).columns[0].better
        for one, other in ((0, 1), (1, 3)):
            difference = np.round(samples[one] - samples[other], 6)
            expected = (difference > 0).mean() + (difference == 0).mean() / 2
            assert better[one, other] == pytest.approx(expected, abs=1e-12)

    def test_equal_means_over_seeds_are_ties(self, tmp_path):
        """Means of the same figures in another order differ by rounding."""
        figures = (0.1, 0.2, 0.3)
        orders = [figures, figures[::-1], (0.2, 0.3, 0.1), (0.3, 0.1, 0.2)]
        results = [
            detector(tmp_path, name, 40 + figure, seed=seed)
            for name, order in zip(NAMES, orders, strict=True)
            for seed, figure in enumerate(order)
        ]
        assert ranked(results).columns[0].ranks.tolist() == [1, 1, 1, 1]

    def test_bias_of_resamples_does_not_matter(self, two_columns):
        contest = contest_of(gather(two_columns))
        drawn = drawn_of(contest.results)
        moved = drawn[contest.columns[0].runs['dcn_tiny'][0].path].samples
        moved['box_AP'] -= 50
        found = rank(contest, drawn)
        dcn, swin = map(found.contestants.index, ('dcn_tiny', 'swin_tiny'))
        assert found.columns[0].better[dcn, swin] == 1


class TestResamples:
    def test_same_images_are_resampled_together(self, two_columns):
        contest = contest_of(gather(two_columns, ['box_AP', 'mask_AP']))
        drawn = drawn_of(contest.results)
        for each in drawn.values():
            each.samples['mask_AP'] = each.samples['box_AP'] / 2
        found = rank(contest, drawn).columns
        assert found[1].samples == pytest.approx(found[0].samples / 2)

    def test_different_images_are_resampled_independently(self, tmp_path):
        """`uncertainties` draws equally for all data with as many images."""
        common = np.random.default_rng(0).standard_normal(RESAMPLES)
        results = [
            detector(tmp_path, name, 40, initialization=start, data={'sha256': start})
            for start in ('scratch', 'released')
            for name in NAMES
        ]
        contest = contest_of(gather(results))
        drawn = drawn_of(results)
        for each in drawn.values():
            each.samples['box_AP'] = 40 + common
        first, second = (each.samples[:, 0] for each in rank(contest, drawn).columns)
        # Four standard errors.
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(RESAMPLES)

    def test_seeds_are_resampled(self, tmp_path):
        """Variance of a mean over seeds: that of the images, plus that of seeds over their number."""
        scores = (40, 43, 46)
        results = [
            detector(tmp_path, name, score, seed=seed)
            for name in NAMES
            for seed, score in enumerate(scores)
        ]
        (column,) = ranked(results, noise=0.01).columns
        assert column.seeds == 3
        assert column.scores == pytest.approx([43] * 4)
        expected = np.std(scores, ddof=1) / np.sqrt(3)
        assert column.samples.std(0) == pytest.approx(expected, rel=0.15)

    def test_too_many_undefined(self, two_columns):
        contest = contest_of(gather(two_columns))
        drawn = drawn_of(contest.results)
        drawn[contest.results[0].path].samples['box_AP'][:30] = np.nan
        assert 'undefined in 30 of 400 resamples' in refusal(rank, contest, drawn)


class TestColumns:
    def test_seeds_as_columns(self, tmp_path):
        results = [
            detector(tmp_path, name, 40 + place * (1 - 2 * seed), seed=seed)
            for place, name in enumerate(NAMES)
            for seed in range(2)
        ]
        found = ranked(results, by_seed=True)
        assert [each.title for each in found.columns] == [
            'Mask R-CNN, seed 0, box AP',
            'Mask R-CNN, seed 1, box AP',
        ]
        assert found.pairs[0].agreement.tau == -1
        assert len(ranked(results).columns) == 1

    def test_missing_contestants_and_small_columns_are_left_out(self, two_columns, tmp_path):
        more = [
            detector(tmp_path, 'convnext_tiny', 50),
            detector(tmp_path, 'swin_tiny', 50, test_time_augmentation=True),
            detector(tmp_path, 'nat_tiny', 50, epoch=3),
        ]
        found = ranked([*two_columns, *more])
        assert sorted(found.contestants) == list(NAMES)
        assert len(found.columns) == 2
        one, other = found.cautions
        assert one.startswith('convnext_tiny is left out')
        assert other.startswith('The column "Mask R-CNN, pretrained, TTA, box AP" is left out')

    def test_contestants_that_differ_in_training(self, two_columns, tmp_path):
        more = [detector(tmp_path, 'nat_tiny', 50, batch_size=8, initialization=start)
                for start in ('released', 'scratch')]  # fmt: skip
        found = ranked([*two_columns, *more])
        assert len(found.cautions) == 2
        assert 'contestants differ in batch size' in found.cautions[0]

    def test_metric_of_some_tasks(self, two_columns):
        assert len(gather(two_columns, ['mask_AP'])) == 2
        assert {each.metric for each in gather(two_columns, ['mask_AP'])} == {'mask_AP'}


class TestPublished:
    def test_column_without_interval(self, two_columns):
        entries = [
            published_entry(name, value) for name, value in zip(NAMES[:3], (40, 42, 41), strict=True)
        ]
        found = ranked(two_columns, published=entries)
        (column,) = [each for each in found.columns if each.is_published]
        assert dict(zip(found.contestants, column.ranks.tolist(), strict=True)) == {
            'dcn_tiny': 3,
            'halo_tiny': 1,
            'pvt_tiny': 2,
            'swin_tiny': 0,
        }
        # Only pretrained results are comparable with a figure, but both columns are compared with it.
        pairs = [each for each in found.pairs if each.second == 2]
        assert [each.contestants for each in pairs] == [3, 3]
        pairs.reverse()
        expected = stats.kendalltau((44, 43, 42), (40, 42, 41)).statistic
        assert pairs[0].agreement.tau == pytest.approx(expected)
        assert np.isnan(pairs[0].agreement.low)
        assert reversals(found, pairs[0]) == {('dcn_tiny', 'halo_tiny'), ('dcn_tiny', 'pvt_tiny')}

    def test_too_few_figures_are_no_column(self, two_columns):
        entries = [published_entry(name, 40) for name in NAMES[:2]]
        assert len(ranked(two_columns, published=entries).columns) == 2


class TestRefused:
    def test_fewer_than_three_contestants(self, two_columns):
        few = [each for each in two_columns if each.contestant.name in NAMES[:2]]
        said = refusal(lambda: contest_of(gather(few)))
        assert '2 of 2 contestants are in all columns; a ranking needs 3' in said

    def test_different_contestants_in_each_column(self, two_columns, tmp_path):
        results = [
            detector(tmp_path, f'{start}{name}', 40, initialization=start)
            for start in ('scratch', 'released')
            for name in NAMES
        ]
        assert '0 of 8 contestants' in refusal(lambda: contest_of(gather(results)))

    def test_different_annotations_in_a_column(self, tmp_path):
        results = [detector(tmp_path, name, 40, data={'sha256': name}) for name in NAMES]
        contest = contest_of(gather(results))
        records = {'images': np.arange(3), 'classes': np.arange(2)}
        evidence = type('Records', (), records)()
        said = refusal(contest.check, lambda result: evidence)
        assert 'were evaluated on different annotations' in said

    def test_two_experiments_of_a_contestant(self, two_columns, tmp_path):
        config = {'name': 'mask_rcnn_dcn_tiny', 'sha256': 'c1', 'text': ''}
        other = detector(tmp_path, 'dcn_tiny', 50, config=config)
        said = refusal(gather, [*two_columns, other])
        assert 'different experiments of dcn_tiny' in said
        assert str(other.path) in said

    def test_unknown_metric(self, two_columns):
        said = refusal(gather, two_columns, ['box_ap'])
        assert "--metric 'box_ap': no result has this metric; did you mean box_AP?" in said

    def test_undefined_score(self, tmp_path):
        results = [detector(tmp_path, name, None if name == NAMES[0] else 40) for name in NAMES]
        contest = contest_of(gather(results))
        assert 'has no box_AP (null)' in refusal(contest.check, lambda result: None)

    def test_one_image(self, tmp_path):
        contest = contest_of(gather([detector(tmp_path, name, 40, images=1) for name in NAMES]))
        assert 'needs at least 2' in refusal(contest.check, lambda result: None)
