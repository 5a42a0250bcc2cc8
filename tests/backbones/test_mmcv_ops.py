import importlib.util
import inspect
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from backbones import mmcv_ops

mmcv_ops.install()

import mmcv.ops  # noqa: E402

pytestmark = pytest.mark.skipif(
    hasattr(sys.modules['mmcv._ext'], '__file__'), reason='mmcv is compiled here'
)

DEVICES = [
    'cpu',
    pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')),
]
on_devices = pytest.mark.parametrize('device', DEVICES)
SOURCE = Path(mmcv_ops.__file__)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_boxes(count, size=40.0):
    corner = torch.rand(count, 2) * size
    return torch.cat([corner, corner + 5 + torch.rand(count, 2) * size / 2], dim=1)


def strided(*shape, dtype=torch.float32):
    """Return a tensor of zeros whose elements are not adjacent in memory."""
    return torch.zeros(*shape, 2, dtype=dtype)[..., 0]


# Installation


def test_installing_twice_keeps_the_module():
    before = sys.modules['mmcv._ext']
    assert mmcv_ops.using_stand_in() is True
    assert mmcv_ops.install() is True
    assert sys.modules['mmcv._ext'] is before


def test_stand_in_behaves_like_a_module():
    spec = importlib.util.find_spec('mmcv._ext')
    assert spec.name == 'mmcv._ext'
    module = sys.modules['mmcv._ext']
    assert isinstance(module, ModuleType)
    assert inspect.getmodule(module.nms) is mmcv_ops
    for name in ('__file__', '__path__', '__wrapped__', '_private'):
        assert not hasattr(module, name)


FRESH = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location('mmcv_ops', sys.argv[1])
mmcv_ops = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mmcv_ops)
assert not mmcv_ops.using_stand_in()
assert mmcv_ops.install() and mmcv_ops.using_stand_in()
assert 'mmcv' not in sys.modules
del sys.modules['mmcv._ext']
try:
    import mmcv.ops
except ModuleNotFoundError as error:
    assert error.name == 'mmcv._ext', error
else:
    raise SystemExit('mmcv.ops needs no stand-in')
assert mmcv_ops.install()
import mmcv.ops
from mmengine.utils.dl_utils.misc import mmcv_full_available
assert mmcv_full_available()
"""


def test_install_works_before_and_after_mmcv_is_imported():
    subprocess.run([sys.executable, '-c', FRESH, str(SOURCE)], check=True)


def test_compiled_extension_on_the_path_wins(monkeypatch, tmp_path):
    (tmp_path / '_ext.py').touch()
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    monkeypatch.setattr(mmcv.__spec__, 'submodule_search_locations', [str(tmp_path)])
    assert mmcv_ops.install() is False
    assert mmcv_ops.using_stand_in() is False
    assert 'mmcv._ext' not in sys.modules


def test_loaded_extension_wins(monkeypatch):
    compiled = ModuleType('mmcv._ext')
    monkeypatch.setitem(sys.modules, 'mmcv._ext', compiled)
    assert mmcv_ops.install() is False
    assert sys.modules['mmcv._ext'] is compiled


def test_nothing_is_installed_without_mmcv(monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    monkeypatch.setitem(sys.modules, 'mmcv', None)
    assert mmcv_ops.install() is False
    assert 'mmcv._ext' not in sys.modules


@pytest.mark.parametrize('name', ['mmdet.structures.mask', 'mmseg.utils'])
def test_install_after_mmdet_or_mmseg_warns(monkeypatch, name):
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    monkeypatch.delitem(sys.modules, 'mmcv.ops')
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    with pytest.warns(RuntimeWarning, match=rf'{name}.* import backbones before'):
        assert mmcv_ops.install() is True


@pytest.mark.parametrize(
    'call',
    [
        lambda: mmcv.ops.nms_match(torch.rand(3, 5), 0.5),
        lambda: mmcv.ops.SoftmaxFocalLoss(2.0, 0.25)(torch.rand(2, 3), torch.tensor([0, 1])),
        lambda: mmcv.ops.RoIAlign(2, pool_mode='max')(torch.rand(1, 1, 4, 4), torch.zeros(1, 5)),
        lambda: mmcv.ops.RoIPool(2)(torch.rand(1, 1, 4, 4), torch.zeros(1, 5)),
    ],
    ids=['nms_match', 'softmax_focal_loss', 'roi_align', 'roi_pool'],
)
def test_absent_operator_is_named_with_the_remedy(call, request):
    with pytest.raises(RuntimeError, match=r'pip install.* onedl-mmcv$') as raised:
        call()
    assert request.node.callspec.id in str(raised.value)
    assert '\n' not in str(raised.value)


def test_environment_report_names_the_stand_in():
    assert 'torchvision' in mmcv.ops.get_compiler_version()
    assert 'torchvision' in mmcv.ops.get_compiling_cuda_version()


# Non-maximum suppression


def exact_iou(a, b, offset):
    """Return the intersection over union of integer boxes, without rounding."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    union = sum(areas) - width * height
    return Fraction(width * height, union) if union else Fraction(0)


def greedy_nms(boxes, scores, threshold, offset):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(exact_iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


@st.composite
def scored_boxes(draw):
    corner, side = st.integers(0, 6), st.integers(0, 6)
    box = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), corner, corner, side, side)
    boxes = draw(st.lists(box, max_size=12))
    scores = draw(st.permutations(range(len(boxes))))
    return boxes, scores


@given(scored_boxes(), st.integers(1, 9), st.sampled_from([0, 1]))
@settings(max_examples=200, deadline=None)
def test_nms_is_greedy(case, tenths, offset):
    boxes, scores = case
    tensors = torch.tensor(boxes).reshape(-1, 4).float(), torch.tensor(scores).float()
    dets, kept = mmcv.ops.nms(*tensors, tenths / 10, offset=offset)
    assert kept.tolist() == greedy_nms(boxes, scores, Fraction(tenths, 10), offset)
    assert kept.dtype == torch.int64
    assert torch.equal(dets, torch.cat([tensors[0], tensors[1][:, None]], 1)[kept])


@on_devices
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('offset', [0, 1])
def test_nms_supports_other_dtypes(device, dtype, offset):
    boxes = torch.randint(0, 30, (40, 4))
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.randperm(40)
    expected = greedy_nms(boxes.tolist(), scores.tolist(), Fraction(1, 2), offset)
    tensors = boxes.to(device, dtype), scores.to(device, dtype)
    _, kept = mmcv.ops.nms(*tensors, 0.5, offset=offset)
    assert kept.device == tensors[0].device
    assert kept.tolist() == expected


def test_nms_filters_and_limits():
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9], [0, 0, 9, 8], [40, 0, 49, 9]])
    scores = torch.tensor([0.7, 0.9, 0.8, 0.2])
    _, kept = mmcv.ops.nms(boxes, scores, 0.5, score_threshold=0.3, max_num=1)
    assert kept.tolist() == [1]
    _, kept = mmcv.ops.nms(boxes, scores, 0.5, score_threshold=0.3)
    assert kept.tolist() == [1, 2]


@on_devices
def test_batched_nms_suppresses_within_classes_only(device):
    boxes, scores = random_boxes(60), torch.randperm(60) / 60
    classes = torch.randint(0, 3, (60,))
    expected = []
    for label in range(3):
        members = (classes == label).nonzero().flatten()
        expected += members[mmcv.ops.nms(boxes[members], scores[members], 0.4)[1]].tolist()
    expected.sort(key=lambda i: -scores[i])
    arguments = (tensor.to(device) for tensor in (boxes, scores, classes))
    dets, kept = mmcv.ops.batched_nms(*arguments, {'type': 'nms', 'iou_threshold': 0.4})
    assert kept.tolist() == expected
    assert len(expected) < 60
    torch.testing.assert_close(dets.cpu()[:, :4], boxes[expected])


def soft_nms_by_definition(boxes, scores, threshold, sigma, min_score, method, offset):
    """Return chosen indices and decayed scores, computed in plain Python."""
    left, chosen = dict(enumerate(scores)), []
    while left:
        best = max(left, key=left.get)
        chosen.append((best, left.pop(best)))
        for i in left:
            iou = float(exact_iou(boxes[best], boxes[i], offset))
            if method == 'gaussian':
                left[i] *= math.exp(-(iou**2) / sigma)
            elif iou >= threshold:
                left[i] *= 1 - iou if method == 'linear' else 0
        left = {i: score for i, score in left.items() if score >= min_score}
    return [i for i, _ in chosen], [score for _, score in chosen]


@on_devices
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
def test_soft_nms_follows_its_definition(device, method, offset):
    boxes = torch.randint(0, 40, (50, 4))
    boxes[:, 2:] += boxes[:, :2]
    scores = (torch.randperm(50) + 1) / 51
    expected, expected_scores = soft_nms_by_definition(
        boxes.tolist(), scores.tolist(), 0.3, 0.4, 0.2, method, offset
    )
    assert 5 < len(expected) < 45
    dets, kept = mmcv.ops.soft_nms(
        boxes.float().to(device),
        scores.to(device),
        iou_threshold=0.3,
        sigma=0.4,
        min_score=0.2,
        method=method,
        offset=offset,
    )
    assert kept.tolist() == expected
    torch.testing.assert_close(dets[:, :4].cpu(), boxes[expected].float())
    torch.testing.assert_close(dets[:, 4].cpu(), torch.tensor(expected_scores))


def test_soft_nms_writes_into_the_rows_passed():
    boxes, scores = random_boxes(20), torch.rand(20)
    whole = torch.full((20, 10), 7.0)
    dets = whole[:, ::2]
    kept = sys.modules['mmcv._ext'].softnms(boxes, scores, dets, 0.3, 0.5, 0.1, 2, 0)
    assert torch.equal(dets[: len(kept), :4], boxes[kept])
    assert (dets[len(kept) :] == 7).all()
    assert (whole[:, 1::2] == 7).all()
    assert dets[0, 4] == scores.max()


def test_soft_nms_always_keeps_its_first_choice():
    boxes = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6]])
    dets, kept = mmcv.ops.soft_nms(boxes, torch.tensor([0.1, 0.2]), min_score=0.5)
    assert kept.tolist() == [1]
    assert dets.shape == (1, 5)


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_of_points_decays_nothing(method):
    boxes = torch.tensor([[3.0, 1, 3, 1]]).repeat(3, 1)
    scores = torch.tensor([0.5, 0.9, 0.4])
    dets, kept = mmcv.ops.soft_nms(boxes, scores, method=method)
    assert kept.tolist() == [1, 0, 2]
    assert torch.equal(dets[:, 4], scores[kept])


@on_devices
def test_suppression_of_no_boxes(device):
    boxes, scores = torch.zeros(0, 4, device=device), torch.zeros(0, device=device)
    for function in (mmcv.ops.nms, mmcv.ops.soft_nms):
        dets, kept = function(boxes, scores, 0.5)
        assert dets.shape == (0, 5)
        assert kept.shape == (0,)
        assert kept.dtype == torch.int64


# Pooling of regions


def bilinear(image, y, x):
    """Interpolate (H, W) between pixels; zero outside."""
    height, width = image.shape
    y0, x0 = math.floor(y), math.floor(x)
    value = 0.0
    for row in (y0, y0 + 1):
        for column in (x0, x0 + 1):
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                value += weight * float(image[row, column])
    return value


def roi_align_by_loops(features, rois, size, scale, ratio, aligned):
    shift = 0.5 if aligned else 0.0
    height, width = features.shape[2:]
    output = torch.zeros(len(rois), features.shape[1], *size, dtype=torch.float64)

    def sample(image, y, x):
        # RoIAlign repeats the border for one pixel and is zero beyond that.
        if not (-1 <= y <= height and -1 <= x <= width):
            return 0.0
        return bilinear(image, min(max(y, 0), height - 1), min(max(x, 0), width - 1))

    for k, (index, x1, y1, x2, y2) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (value * scale - shift for value in (x1, y1, x2, y2))
        spans = [y2 - y1, x2 - x1] if aligned else [max(y2 - y1, 1), max(x2 - x1, 1)]
        steps = [span / bins for span, bins in zip(spans, size, strict=True)]
        counts = [ratio or math.ceil(step) for step in steps]
        for c, i, j in torch.cartesian_prod(*map(torch.arange, output.shape[1:])).tolist():
            values = [
                sample(
                    features[int(index), c],
                    y1 + (i + (a + 0.5) / counts[0]) * steps[0],
                    x1 + (j + (b + 0.5) / counts[1]) * steps[1],
                )
                for a in range(counts[0])
                for b in range(counts[1])
            ]
            output[k, c, i, j] = sum(values) / max(len(values), 1)
    return output


ROIS = torch.tensor(
    [
        [0, 3.0, 2.0, 14.5, 11.0],
        [1, -6.0, 1.0, 7.0, 30.0],  # beyond the borders
        [1, 4.25, 4.25, 4.75, 5.0],  # smaller than a pixel
        [0, 8.0, 6.0, 8.0, 6.0],  # a point
    ]
)


@on_devices
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_averages_samples(device, aligned, ratio):
    features = torch.randn(2, 2, 7, 9)
    layer = mmcv.ops.RoIAlign((2, 3), 0.5, ratio, aligned=aligned)
    result = layer(features.to(device), ROIS.to(device))
    expected = roi_align_by_loops(features, ROIS, (2, 3), 0.5, ratio, aligned)
    torch.testing.assert_close(result.cpu(), expected.float())


POOL_ROIS = torch.cat(
    [
        ROIS,
        torch.tensor(
            [
                [0, 40.0, 2.0, 50.0, 8.0],  # outside
                [0, 9.0, 2.0, 6.0, 8.0],  # x1 and x2 swapped
                [1, 0.0, 0.0, 17.0, 13.0],  # the whole image
            ]
        ),
    ]
)


LAYERS = [
    mmcv.ops.RoIAlign((2, 3), 0.5, 2),
    mmcv.ops.RoIAlign((2, 3), 0.5, 0, aligned=False),
]
LAYER_IDS = ['align', 'align-legacy']
pooling_layers = pytest.mark.parametrize('layer', LAYERS, ids=LAYER_IDS)


@on_devices
@pooling_layers
def test_pooling_gradients(layer, device):
    features = torch.randn(2, 2, 7, 9, dtype=torch.float64, device=device, requires_grad=True)
    rois = POOL_ROIS.to(device, torch.float64)
    # Atomic additions on a GPU happen in any order.
    assert torch.autograd.gradcheck(lambda x: layer(x, rois), features, nondet_tol=1e-9)


@on_devices
@pooling_layers
def test_pooling_no_regions(layer, device):
    features = torch.randn(2, 3, 7, 9, device=device, requires_grad=True)
    result = layer(features, torch.zeros(0, 5, device=device))
    assert result.shape == (0, 3, 2, 3)
    result.sum().backward()
    assert (features.grad == 0).all()


@pooling_layers
def test_pooling_ignores_memory_layout(layer):
    features = torch.randn(2, 3, 7, 9, requires_grad=True)
    rois = POOL_ROIS.t().contiguous().t()
    results = []
    for tensor in (features, features.to(memory_format=torch.channels_last)):
        result = layer(tensor, rois)
        # A gradient of stride zero.
        (grad,) = torch.autograd.grad(result.sum(), features)
        results.append((result, grad))
    torch.testing.assert_close(results[0], results[1])
    assert not rois.is_contiguous()


@on_devices
@pooling_layers
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('rois_dtype', [torch.float32, None])
def test_pooling_in_half_precision_rounds_once(layer, device, dtype, rois_dtype):
    features = torch.randn(2, 3, 7, 9, device=device).to(dtype).requires_grad_()
    rois = POOL_ROIS.to(device, rois_dtype or dtype)
    with torch.autocast(device, dtype):
        result = layer(features, rois)
    assert result.dtype == dtype
    (grad,) = torch.autograd.grad(result.float().square().sum(), features)
    exact_features = features.detach().float().requires_grad_()
    exact = layer(exact_features, rois.float())
    assert torch.equal(result, exact.to(dtype))
    (exact_grad,) = torch.autograd.grad(exact, exact_features, 2 * result.float())
    torch.testing.assert_close(grad, exact_grad.to(dtype))


# Focal loss


def focal_loss_by_formula(logits, target, gamma, alpha, weight):
    """Equation 5 of arXiv 1708.02002, class by class, (N, C)."""
    p = torch.sigmoid(logits)
    is_target = F.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
    p_t = torch.where(is_target, p, 1 - p)
    alpha_t = torch.where(is_target, alpha, 1 - alpha)
    factor = torch.cat([weight, torch.ones(1, dtype=weight.dtype)])[target]
    return -alpha_t * (1 - p_t) ** gamma * torch.log(p_t) * factor[:, None]


TARGET = torch.tensor([0, 3, 2, 4, 1, 4])  # of 4 classes: 4 is background


@on_devices
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_focal_loss_follows_its_formula(device, weighted, reduction):
    logits = 3 * torch.randn(6, 4, dtype=torch.float64)
    weight = torch.rand(4, dtype=torch.float64) + 0.5
    factor = weight if weighted else torch.ones_like(weight)
    reference = logits.clone().requires_grad_()
    expected = focal_loss_by_formula(reference, TARGET, 1.5, 0.3, factor)
    if reduction != 'none':
        expected = expected.sum() / (6 if reduction == 'mean' else 1)
    layer = mmcv.ops.SigmoidFocalLoss(1.5, 0.3, weight.float() if weighted else None, reduction)
    tested = logits.float().to(device).requires_grad_()
    result = layer.to(device)(tested, TARGET.to(device))
    torch.testing.assert_close(result.cpu(), expected.float())
    (expected_grad,) = torch.autograd.grad(expected.sum(), reference)
    (grad,) = torch.autograd.grad(result.sum(), tested)
    torch.testing.assert_close(grad.cpu(), expected_grad.float())


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_focal_loss_gradient(gamma):
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(4, dtype=torch.float64)
    for reduction in ('sum', 'mean'):
        layer = mmcv.ops.SigmoidFocalLoss(gamma, 0.25, weight, reduction)
        assert torch.autograd.gradcheck(lambda x, layer=layer: layer(x, TARGET), logits)


def test_focal_loss_of_extreme_logits():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    # A logit that is wrong by 200 has -log(p) = 200, with slope 1.
    loss = mmcv.ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, 'none')
    torch.testing.assert_close(loss, torch.tensor([[0.75 * 200, 0.25 * 200]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75, -0.25]]))


def test_focal_loss_in_bfloat16():
    logits = torch.randn(6, 4).bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        loss = mmcv.ops.sigmoid_focal_loss(logits, TARGET, 2.0, 0.25, None, 'none')
    exact = mmcv.ops.sigmoid_focal_loss(logits.float(), TARGET, 2.0, 0.25, None, 'none')
    assert torch.equal(loss, exact.bfloat16())
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    (exact_grad,) = torch.autograd.grad(exact.sum(), logits)
    assert torch.equal(grad, exact_grad)


def test_focal_loss_of_no_rows():
    logits = torch.zeros(0, 4, requires_grad=True)
    target = torch.zeros(0, dtype=torch.long)
    loss = mmcv.ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, torch.ones(4), 'sum')
    loss.backward()
    assert loss == 0
    assert logits.grad.shape == (0, 4)


# Calling convention: results replace the content of buffers, gradients are added to it


def test_results_replace_the_content_of_strided_buffers():
    extension = sys.modules['mmcv._ext']
    features, logits = torch.randn(2, 2, 7, 9), torch.randn(6, 4)
    aligned, loss = strided(7, 2, 2, 3).fill_(5), strided(6, 4)
    slope = strided(6, 4)
    none = torch.zeros(0)
    extension.roi_align_forward(features, POOL_ROIS, aligned, none, none, 2, 3, 0.5, 2, 1, True)
    extension.sigmoid_focal_loss_forward(logits, TARGET, none, loss, 2.0, 0.25)
    extension.sigmoid_focal_loss_backward(logits, TARGET, none, slope, 2.0, 0.25)
    assert torch.equal(aligned, LAYERS[0](features, POOL_ROIS))
    expected = focal_loss_by_formula(logits, TARGET, 2.0, 0.25, torch.ones(4))
    torch.testing.assert_close(loss, expected)
    assert slope.abs().min() > 0


def test_pooling_gradients_are_added_to_strided_buffers():
    extension, none = sys.modules['mmcv._ext'], torch.zeros(0)
    features = torch.randn(2, 2, 7, 9, requires_grad=True)
    grad_output, buffer = torch.randn(7, 2, 2, 3), strided(2, 2, 7, 9).fill_(3)
    arguments = (grad_output, POOL_ROIS, none, none, buffer, 2, 3, 0.5, 2, 1, True)
    extension.roi_align_backward(*arguments)
    (gradient,) = torch.autograd.grad(LAYERS[0](features, POOL_ROIS), features, grad_output)
    torch.testing.assert_close(buffer, 3 + gradient)
