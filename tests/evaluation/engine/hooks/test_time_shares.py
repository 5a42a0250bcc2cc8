"""Time is assigned to the right phase, by a clock that only the parts themselves advance."""

import functools
import time

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from evaluation.engine.hooks import time_shares
from evaluation.engine.hooks.time_shares import (
    PHASES,
    Stopwatch,
    TimeSharesHook,
    Watched,
    describe_shares,
    innermost_heads,
    render_shares,
)
from evaluation.engine.hooks.time_shares import time_shares as shares_of


class Clock:
    """A clock that advances only on request."""

    now = 0.0

    def pass_by(self, seconds):
        self.now += seconds

    def __deepcopy__(self, memo):
        return self


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time_shares, 'perf_counter', lambda: clock.now)
    return clock


@pytest.fixture
def stopwatch(clock):
    return Stopwatch(lambda: None)


class TestStopwatch:
    def test_inner_phases_are_not_counted_twice(self, clock, stopwatch):
        with stopwatch.loop('train'):
            clock.pass_by(1)
            with stopwatch.phase('losses'):
                clock.pass_by(2)
                with stopwatch.phase('backbone'):
                    clock.pass_by(4)
                clock.pass_by(8)
            clock.pass_by(16)
        assert stopwatch.seconds == {'train': {'data': 17, 'losses': 10, 'backbone': 4}}

    def test_nested_loops(self, clock, stopwatch):
        with stopwatch.loop('train'):
            clock.pass_by(1)
            with stopwatch.loop('val'):
                clock.pass_by(2)
                with stopwatch.phase('backbone'):
                    clock.pass_by(4)
            clock.pass_by(8)
        assert stopwatch.seconds == {'train': {'data': 9}, 'val': {'data': 2, 'backbone': 4}}

    def test_every_loop_starts_at_zero(self, clock, stopwatch):
        for seconds in (1, 2):
            with stopwatch.loop('val'):
                clock.pass_by(seconds)
        assert stopwatch.seconds == {'val': {'data': 2}}

    def test_nothing_outside_of_loops(self, clock, stopwatch):
        with stopwatch.phase('backbone'):
            clock.pass_by(1)
        with stopwatch.loop('train'):
            clock.pass_by(2)
        clock.pass_by(4)
        stopwatch.book()
        assert stopwatch.seconds == {'train': {'data': 2}}

    def test_after_an_error(self, clock, stopwatch):
        def fail():
            with stopwatch.phase('heads'):
                clock.pass_by(2)
                raise ValueError

        with stopwatch.loop('train'):
            with pytest.raises(ValueError):  # noqa: PT011
                fail()
            clock.pass_by(1)
        assert stopwatch.seconds == {'train': {'data': 1, 'heads': 2}}

    def test_waits_for_the_device_between_phases(self, clock):
        """Work that starts in a phase counts for that phase, even if it ends later."""
        waiting = []

        def synchronize():
            while waiting:
                clock.pass_by(waiting.pop())

        stopwatch = Stopwatch(synchronize)
        with stopwatch.loop('train'):
            with stopwatch.phase('backbone'):
                waiting.append(4)
            with stopwatch.phase('heads'):
                clock.pass_by(1)
        assert stopwatch.seconds['train']['backbone'] == 4
        assert stopwatch.seconds['train']['heads'] == 1


class Part(nn.Module):
    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, x):
        self.clock.pass_by(self.seconds)
        return x


def test_real_seconds():
    stopwatch = Stopwatch(lambda: None)
    with stopwatch.loop('train'), stopwatch.phase('backbone'):
        time.sleep(0.05)
    assert stopwatch.seconds['train']['backbone'] >= 0.05


class TestWatched:
    def test_everything_is_restored(self, clock, stopwatch):
        part, watched = Part(clock, 1), Watched(stopwatch)
        own = functools.partial(part.forward)
        part.other = own
        attributes = dict(vars(part))
        watched.watch_module(part, 'backbone')
        watched.watch(part, 'other', 'neck')
        assert vars(part) != attributes
        watched.restore()
        assert vars(part) == attributes
        assert part.other is own

    def test_arguments_and_results_are_passed_on(self, stopwatch):
        watched = Watched(stopwatch)
        part = type('Part', (), {'add': lambda self, a, *, b: a + b})()
        watched.watch(part, 'add', 'backbone')
        assert part.add(1, b=2) == 3

    def test_direct_calls_of_forward(self, clock, stopwatch):
        """Heads of mmseg call their `forward` directly, which bypasses the hooks of the module."""
        part, watched = Part(clock, 3), Watched(stopwatch)
        watched.watch_module(part, 'heads')
        with stopwatch.loop('test'):
            part.forward(0)
            part(0)
        assert stopwatch.seconds['test']['heads'] == 6

    def test_compiled_module(self, clock, stopwatch):
        """The stopwatch stays outside of the compiled code."""
        part, watched = Part(clock, 3), Watched(stopwatch)
        part._compiled_call_impl = lambda x: Part.forward(part, x)
        watched.watch_module(part, 'backbone')
        assert 'forward' not in vars(part)
        with stopwatch.loop('test'):
            part(0)
        assert stopwatch.seconds['test']['backbone'] == 3


class Numbers(Dataset):
    """Five samples that take 0.5 s each to load."""

    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.clock.pass_by(0.5)
        return torch.full((3,), float(index))


class Preprocessor(nn.Module):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self, data, training=False):
        self.clock.pass_by(0.25)
        return {'inputs': torch.stack(data)}

    def cast_data(self, data):
        return data


class RegionHeads(nn.Module):
    """A module that only groups heads."""

    def __init__(self, clock):
        super().__init__()
        self.box_extractor, self.box_head = Part(clock, 16), Part(clock, 32)

    def forward(self, x):
        return self.box_head.forward(self.box_extractor(x))


class Network(BaseModel):
    """Backbone 4 s, neck 8 s, heads 48 s, the rest of a step 2 s."""

    def __init__(self, clock):
        super().__init__(Preprocessor(clock))
        self.clock = clock
        self.backbone, self.neck = Part(clock, 4), Part(clock, 8)
        self.roi_head = RegionHeads(clock)
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, inputs, mode):
        self.clock.pass_by(2)
        found = self.roi_head(self.neck(self.backbone(inputs)))
        return {'loss': (found * self.weight).sum()} if mode == 'loss' else list(found)


class Augmented(BaseTTAModel):
    """Two views; merging takes 128 s."""

    def test_step(self, data):
        views = [self.module.test_step(data) for _ in range(2)]
        self.module.clock.pass_by(128)
        return views[0]

    def merge_preds(self, data_samples_list):
        return data_samples_list


class Metric(BaseMetric):
    """64 s per image, and 1024 s at the end."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def process(self, data_batch, data_samples):
        self.clock.pass_by(64)
        self.results.append(0)

    def compute_metrics(self, results):
        self.clock.pass_by(1024)
        return {'found': len(results)}


class SlowHook(Hook):
    """4096 s before and after every step of any loop."""

    def __init__(self, clock):
        self.clock = clock

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.clock.pass_by(4096)

    def _after_iter(self, runner, batch_idx, data_batch=None, outputs=None, mode='train'):
        self.clock.pass_by(4096)


class Optimizer(torch.optim.SGD):
    def __init__(self, parameters, clock):
        super().__init__(parameters, lr=0.1)
        self.clock = clock

    def step(self, closure=None):
        self.clock.pass_by(512)
        return super().step(closure)


@pytest.fixture
def make_runner(clock, tmp_path, request):
    def loader(**more):
        return {
            'dataset': Numbers(clock),
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'batch_size': 1,
            'num_workers': 0,
            **more,
        }

    def make(model, hooks):
        name = f'{request.node.name}{len(list(tmp_path.iterdir()))}'
        return Runner(
            model=model,
            work_dir=str(tmp_path / name),
            train_dataloader=loader(),
            train_cfg={'by_epoch': True, 'max_epochs': 2, 'val_interval': 1},
            optim_wrapper={'optimizer': Optimizer(model.parameters(), clock)},
            val_dataloader=loader(),
            val_cfg={},
            val_evaluator=[Metric(clock)],
            test_dataloader=loader(),
            test_cfg={},
            test_evaluator=[Metric(clock)],
            custom_hooks=hooks,
            default_hooks={'checkpoint': None, 'logger': None, 'timer': None},
            experiment_name=name,
            log_level='ERROR',
        )

    return make


EVALUATED = {
    'data': 5 * 0.5,
    'preprocessing': 5 * 0.25,
    'backbone': 5 * 4,
    'neck': 5 * 8,
    'heads': 5 * 48,
    'post-processing': 5 * 2,
    'metric': 5 * 64,
    'evaluation': 1024,
    'hooks': 5 * 4096,
}


def seconds(hook):
    return {loop: described['seconds'] for loop, described in hook.shares().items()}


class TestRuns:
    def test_training_with_evaluations(self, clock, make_runner):
        hook = TimeSharesHook()
        make_runner(Network(clock), [hook, SlowHook(clock)]).train()
        trained = {
            'data': 10 * 0.5,
            'preprocessing': 10 * 0.25,
            'backbone': 10 * 4,
            'neck': 10 * 8,
            'heads': 10 * 48,
            'losses': 10 * 2,
            'backward': 0,
            'optimizer': 10 * 512,
            'hooks': 10 * 2 * 4096,
        }
        assert seconds(hook) == {'train': trained, 'val': EVALUATED}
        assert {loop: it['iterations'] for loop, it in hook.shares().items()} == {'train': 10, 'val': 5}

    def test_test(self, clock, make_runner):
        hook = TimeSharesHook()
        make_runner(Network(clock), [SlowHook(clock), hook]).test()
        assert seconds(hook) == {'test': EVALUATED}

    def test_augmented_test(self, clock, make_runner):
        hook = TimeSharesHook()
        make_runner(Augmented(Network(clock)), [hook]).test()
        twice = {'preprocessing', 'backbone', 'neck', 'heads'}
        expected = {phase: (1 + (phase in twice)) * taken for phase, taken in EVALUATED.items()}
        expected |= {'post-processing': 5 * (2 * 2 + 128), 'hooks': 0}
        assert seconds(hook) == {'test': expected}

    def test_backward(self, clock, make_runner):
        hook, model = TimeSharesHook(), Network(clock)
        model.weight.register_hook(lambda gradient: clock.pass_by(256))
        make_runner(model, [hook]).train()
        assert seconds(hook)['train']['backward'] == 10 * 256

    def test_changes_no_weight_and_restores_everything(self, clock, make_runner):
        watched, plain = Network(clock), Network(clock)
        attributes = {name: set(vars(module)) for name, module in watched.named_modules()}
        runner = make_runner(watched, [TimeSharesHook()])
        runner.train()
        make_runner(plain, []).train()
        assert torch.equal(watched.weight, plain.weight)
        assert not torch.equal(watched.weight, torch.ones(3))
        assert {name: set(vars(module)) for name, module in watched.named_modules()} == attributes
        assert 'call_hook' not in vars(runner)
        assert 'run' not in vars(runner.train_loop)
        assert 'backward' not in vars(runner.optim_wrapper)

    def test_figures_of_the_result(self, clock, make_runner):
        class Reader(Hook):
            priority = 'LOWEST'

            def after_val_epoch(self, runner, metrics=None):
                read.append(shares_of(runner))

        read = []
        make_runner(Network(clock), [TimeSharesHook(), Reader()]).train()
        make_runner(Network(clock), [Reader()]).train()
        first, second, *without = read
        assert without == [None, None]
        # Each evaluation alone, and the training so far.
        assert first['val']['seconds'] == second['val']['seconds']
        assert first['val']['iterations'] == second['val']['iterations'] == 5
        assert [it['train']['iterations'] for it in (first, second)] == [5, 10]
        assert first['train']['seconds']['backbone'] == 5 * 4
        for described in (*first.values(), *second.values()):
            assert sum(described['shares'].values()) == pytest.approx(1)
            assert described['shares'].keys() == described['seconds'].keys()
            assert list(described['seconds']) == [p for p in PHASES if p in described['seconds']]


class TestHeads:
    def test_containers_are_not_heads(self, clock):
        heads = RegionHeads(clock)
        assert innermost_heads(heads) == [heads.box_extractor, heads.box_head]

    def test_parts_of_a_head_are_not_separate(self):
        head = nn.Module()
        head.conv_seg, head.loss_decode = nn.Conv2d(1, 1, 1), nn.Identity()
        assert innermost_heads(head) == [head]


def test_table():
    described = describe_shares({'data': 1.0, 'heads': 3.0}, iterations=4)
    assert described['shares'] == {'data': 0.25, 'heads': 0.75}
    lines = render_shares('val', described).splitlines()
    assert lines[0] == '### Time of 4 steps (val)'
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if line[:1] == '|']
    assert rows[0] == ['Phase', 'ms per step', 'share (%)']
    assert rows[2:] == [
        ['data', '250.0', '25.0'],
        ['heads', '750.0', '75.0'],
        ['all', '1000.0', '100.0'],
    ]
