"""Tables of a finished check."""

import copy

from evaluation.gpu_check.summary import END, START, has_failures, render, write_docs
from tests.refusals import refusal


def outcome(check, status='passed', reason='', **figures):
    return {
        'check': check,
        'status': status,
        'seconds': 1.0,
        'figures': figures,
        'reason': reason,
        'traceback': '',
    }


def row(fraction):
    return {
        'milliseconds': 12.0,
        'images_per_second': 667.0,
        'fraction_of_peak': fraction,
        'memory_bytes': 3 * 2**30,
        'first_pass_seconds': 9.0,
    }


def kernel(registers, spilled, shared):
    return {'registers': registers, 'spilled': spilled, 'shared': shared}


SAMPLING = {
    'milliseconds': 1.0,
    'plain_milliseconds': 3.5,
    'speedup': 3.5,
    'fraction_of_copy_bandwidth': 0.5,
}
CONTENT = {
    'version': 1,
    'created': '2026-01-01T00:00:00+00:00',
    'device': 'cuda:0',
    'quick': False,
    'stages': [
        {
            'name': 'environment',
            'seconds': 2.0,
            'problem': '',
            'outcomes': [
                outcome('device and versions', name='H100', versions={'torch': '2.11.0'}),
                outcome('matrix products in bf16', side=8192, teraflops=711.0),
                outcome('copies', bytes=1, gigabytes_per_second=2345.0),
            ],
        },
        {
            'name': 'training',
            'seconds': 70.4,
            'problem': 'ran over its limit of 1:10',
            'outcomes': [
                outcome(
                    'mask_rcnn, swin, fp32',
                    first_loss=5.0,
                    last_loss=2.5,
                    seconds_per_step=0.25,
                    memory_bytes=2**31,
                ),
                outcome('mask_rcnn, swin, fp16', 'FAILED', 'the loss does not fall: 1, then 2'),
                outcome('mask_rcnn, swin, bf16', 'skipped', '--amp needs a GPU'),
            ],
        },
        {
            'name': 'memory',
            'seconds': 10.0,
            'problem': '',
            'outcomes': [outcome('mask_rcnn, swin, fp32', measured=2**31, predicted=3 * 2**29)],
        },
        {
            'name': 'speed',
            'seconds': 30.0,
            'problem': '',
            'outcomes': [
                outcome(
                    'backbones, training, bf16, 8 images',
                    convnext_tiny=row(0.5),
                    dcn_tiny=row(0.2),
                    **{'timm:convnext_tiny': row(0.1)},
                ),
                outcome(
                    'dcnv3 against plain sampling',
                    implementation='triton',
                    forward=SAMPLING,
                    training=SAMPLING,
                ),
            ],
        },
        {
            'name': 'kernels',
            'seconds': 20.0,
            'problem': '',
            'outcomes': [
                outcome('sm_100', **{'dcnv3_forward, bf16': {'forward': kernel(52, 0, 256)}}),
                outcome(
                    'sm_90',
                    **{
                        'dcnv3_forward, bf16': {'forward': kernel(48, 8, 256)},
                        'dcnv3_forward, fp32': {'forward': kernel(40, 0, 128)},
                    },
                ),
            ],
        },
    ],
}


def flex_outcome(name, is_adopted):
    passes = {'milliseconds': 3.0, 'flex_milliseconds': 2.0, 'speedup': 1.5}
    figures = {'forward': passes, 'training': passes}
    stages = {'stage 1': figures, 'stage 2': figures}
    return outcome(f'FlexAttention, {name}', least_speedup=1.5, is_adopted=is_adopted, **stages)


def cells(text, start):
    """Return the cells of every row that starts with a text."""
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.split('\n')]
    return [row[1:] for row in rows if row[0].replace('\\', '').startswith(start)]


def test_tables():
    text = render(CONTENT)
    assert 'H100; torch 2.11.0.' in text
    assert 'bf16 711' in text
    assert 'Copies: 2350 GB/s' in text
    assert cells(text, 'training') == [['1', '1', '1', '70', 'ran over its limit of 1:10']]
    assert 'mask_rcnn, swin, fp16: the loss does not fall: 1, then 2' in text
    assert cells(text, 'mask_rcnn, swin, fp32') == [['5', '2.5', '250', '2.00', '1.50']]


def test_figures_beside_targets():
    text = render(CONTENT)
    training = ', training, bf16, 8 images: fraction of the peak'
    assert cells(text, 'convnext_tiny' + training) == [['0.50', '0.45', 'met']]
    assert cells(text, 'dcn_tiny' + training) == [['0.20', '0.25', 'missed']]
    assert cells(text, 'timm:convnext_tiny' + training) == []
    assert cells(text, 'dcnv3, forward: speedup') == [['3.50', '3.00', 'met']]
    assert cells(text, 'dcnv3, training: speedup') == [['3.50', '4.00', 'missed']]
    assert cells(text, 'dcnv3, forward: fraction') == [['0.50', '0.60', 'missed']]
    assert 'Targets' not in render({**CONTENT, 'quick': True})


def test_kernels_have_a_row_for_each_dtype():
    text = render(CONTENT)
    assert cells(text, 'Call') == [['Kernel', 'Dtype', 'sm_90', 'sm_100']]
    assert cells(text, 'dcnv3_forward') == [
        ['forward', 'bf16', '48 / 8 / 256', '52 / 0 / 256'],
        ['forward', 'fp32', '40 / 0 / 128', ''],
    ]
    assert 'Kernels: ' not in render({**CONTENT, 'stages': CONTENT['stages'][:3]})


def test_attention_beside_flex_attention():
    assert 'FlexAttention' not in render(CONTENT)
    content = copy.deepcopy(CONTENT)
    skipped = outcome('FlexAttention, skipped', 'skipped', 'needs Triton')
    both = [flex_outcome('halo', True), flex_outcome('nat', False), skipped]
    content['stages'][-2]['outcomes'] += both
    text = render(content)
    for stage in ('stage 1', 'stage 2'):
        times = ['3', '2', '3', '2', '1.50']
        assert cells(text, f'halo, {stage}') == [[*times, 'FlexAttention']]
        assert cells(text, f'nat, {stage}') == [[*times, 'ours']]
    assert cells(text, 'skipped') == []
    assert 'Attention' not in render({**content, 'quick': True}).replace('FlexAttention, skipped', '')


def test_failures_decide_the_exit_status():
    assert has_failures(CONTENT)
    good = copy.deepcopy(CONTENT)
    good['stages'][1]['outcomes'].pop(1)
    assert has_failures(good)
    good['stages'][1]['problem'] = ''
    assert not has_failures(good)


def test_tables_go_between_the_markers_of_a_page(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{START}\nold\n{END}\nafter\n')
    for _ in range(2):
        write_docs(CONTENT, page)
        text = page.read_text()
        assert text == f'before\n{START}\n{render(CONTENT)}{END}\nafter\n'
    page.write_text('nothing\n')
    assert 'has no <!-- gpu check -->' in refusal(write_docs, CONTENT, page)
