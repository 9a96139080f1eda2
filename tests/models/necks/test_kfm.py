"""KFM against eqs. 1-5 of the paper written out, and against SimAM."""

import math

import pytest
import torch

from mmkdfuse.models import KFM


def maps_of(n, shape=(2, 3, 4, 5), seed=0, scale=1.0, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    return [offset + scale * torch.randn(shape, generator=generator) for _ in range(n)]


def loop_over_elements(maps):
    """Eqs. 1-5 in Python numbers, one element (i, j, k) of one image after the other."""
    n, (images, channels, height, width) = len(maps), maps[0].shape
    fused = torch.zeros(maps[0].shape, dtype=torch.float64)
    for image in range(images):
        f = [feature_map[image].tolist() for feature_map in maps]
        for i in range(channels):
            places = [(j, k) for j in range(height) for k in range(width)]
            a = {(j, k): sum(f[p][i][j][k] for p in range(n)) / n for j, k in places}
            mean = sum(a.values()) / (height * width)
            m = {place: (a[place] - mean) ** 2 for place in places}
            v = sum(m.values()) / (height * width - 1)
            for j, k in places:
                exponent = m[j, k] / (4 * v + 4 * 1e-4) + 0.5
                am = 1 / (1 + math.exp(-exponent))
                fused[image, i, j, k] = sum(am * f[p][i][j][k] for p in range(n)) / n
    return fused


def equations(maps):
    """Eqs. 1-5 on whole tensors of any precision, differentiated by autograd."""
    a = sum(maps) / len(maps)
    m = (a - a.mean(dim=(2, 3), keepdim=True)) ** 2
    v = m.sum(dim=(2, 3), keepdim=True) / (a.shape[2] * a.shape[3] - 1)
    am = torch.sigmoid(m / (4 * v + 4e-4) + 0.5)
    return sum(am * feature_map for feature_map in maps) / len(maps)


def simam(x, regulariser=1e-4):
    """SimAM: every value weighed by the sigmoid of its inverse energy."""
    mean = x.mean(dim=(-2, -1), keepdim=True)
    variance = x.var(dim=(-2, -1), correction=1, keepdim=True)
    energy = 4 * (variance + regulariser) / ((x - mean) ** 2 + 2 * variance + 2 * regulariser)
    return torch.sigmoid(1 / energy) * x


@pytest.mark.parametrize('n', [1, 2, 3])
def test_equals_a_loop_over_the_equations(n):
    maps = maps_of(n)
    torch.testing.assert_close(KFM()(maps).double(), loop_over_elements(maps), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize('n', [1, 2, 3])
def test_equals_simam_of_the_mean_map(n):
    maps = maps_of(n, (2, 4, 6, 6))
    expected = simam(sum(maps) / n)
    torch.testing.assert_close(KFM()(maps), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('n', [1, 2, 3])
@pytest.mark.parametrize('scale', [1e-3, 1.0, 100.0])
def test_gradients_equal_autograd_of_the_equations(n, scale):
    maps = maps_of(n, (2, 3, 3, 4), scale=scale, offset=0.3 * scale)
    cotangent = maps_of(1, (2, 3, 3, 4), seed=1)[0]
    exact = [m.double().requires_grad_() for m in maps]
    ours = [m.clone().requires_grad_() for m in maps]
    expected = torch.autograd.grad(equations(exact), exact, cotangent.double())
    found = torch.autograd.grad(KFM()(ours), ours, cotangent)
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient.double(), reference, rtol=2e-5, atol=2e-5)


def test_gradient_equals_finite_differences():
    """Independent of autograd: the slope along random directions."""
    maps, step = maps_of(2, (1, 2, 3, 3)), 1e-6
    directions, (cotangent,) = maps_of(2, (1, 2, 3, 3), seed=1), maps_of(1, (1, 2, 3, 3), seed=2)
    ours = [m.clone().requires_grad_() for m in maps]
    (KFM()(ours) * cotangent).sum().backward()
    slope = sum((m.grad * d).sum() for m, d in zip(ours, directions, strict=True))

    def value(sign):
        moved = [
            m.double() + sign * step * d.double() for m, d in zip(maps, directions, strict=True)
        ]
        return (loop_over_elements(moved) * cotangent).sum()

    difference = (value(1) - value(-1)) / (2 * step)
    torch.testing.assert_close(slope.double(), difference, rtol=5e-5, atol=1e-5)


def test_eps_is_four_times_in_the_denominator():
    maps = maps_of(1)
    mean = maps[0].mean(dim=(2, 3), keepdim=True)
    square = (maps[0] - mean) ** 2
    variance = square.sum(dim=(2, 3), keepdim=True) / 19
    expected = torch.sigmoid(square / (4 * variance + 4 * 0.5) + 0.5) * maps[0]
    torch.testing.assert_close(KFM(eps=0.5)(maps), expected, rtol=1e-5, atol=1e-6)


def test_has_no_parameters_and_leaves_its_input_alone():
    maps = maps_of(3)
    before = [m.clone() for m in maps]
    kfm = KFM()
    kfm(maps)
    assert not list(kfm.parameters()) and not list(kfm.buffers())
    assert all(torch.equal(a, b) for a, b in zip(maps, before, strict=True))


def test_the_order_of_the_maps_is_irrelevant():
    a, b, c = maps_of(3)
    torch.testing.assert_close(KFM()([a, b, c]), KFM()([c, a, b]), rtol=1e-6, atol=1e-6)


def test_one_map_needs_gradient_and_the_other_not():
    a, b = maps_of(2)
    a.requires_grad_()
    KFM()([a, b]).sum().backward()
    assert a.grad is not None and b.grad is None


def test_statistics_of_bf16_maps_are_in_float32():
    # The spacing of bf16 numbers around 100 is 0.5: its own mean and variance would be nonsense.
    noise = torch.randint(-1, 2, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    maps = [(100 + 0.5 * noise).bfloat16(), (100 - noise).bfloat16()]
    fused = KFM()(maps)
    assert fused.dtype == torch.bfloat16
    expected = equations([m.double() for m in maps]).bfloat16()
    torch.testing.assert_close(fused, expected, rtol=2**-8, atol=0)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_gradients_keep_the_precision_of_the_maps(dtype):
    maps = [m.to(dtype).requires_grad_() for m in maps_of(2)]
    KFM()(maps).float().square().sum().backward()
    exact = [m.detach().double().requires_grad_() for m in maps]
    equations(exact).square().sum().backward()
    for ours, reference in zip(maps, exact, strict=True):
        assert ours.grad.dtype == dtype
        torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=0.03, atol=0.01)


def test_autocast_changes_nothing():
    maps = maps_of(2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = KFM()(maps)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, KFM()(maps))


def slices_of_larger(maps):
    """The same values, every second image and all but the last column of larger maps."""
    larger = [torch.zeros(2 * m.shape[0], *m.shape[1:3], m.shape[3] + 1) for m in maps]
    for place, m in zip(larger, maps, strict=True):
        place[::2, :, :, :-1] = m
    return [place[::2, :, :, :-1] for place in larger]


LAYOUTS = {
    'contiguous': lambda maps: [m.clone() for m in maps],
    'channels-last': lambda maps: [m.to(memory_format=torch.channels_last) for m in maps],
    'mixed': lambda maps: [maps[0].to(memory_format=torch.channels_last), *maps[1:]],
    'slices': slices_of_larger,
    'transposed': lambda maps: [m.transpose(2, 3).contiguous().transpose(2, 3) for m in maps],
}


@pytest.mark.parametrize('n', [1, 2, 3])
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('expanded_gradient', [False, True])
def test_every_layout_gives_the_equations(n, layout, expanded_gradient):
    maps = maps_of(n, (4, 3, 4, 5))
    cotangent = maps_of(1, (4, 3, 4, 5), seed=1)[0]
    if expanded_gradient:
        cotangent = torch.ones(()).expand(cotangent.shape)
    exact = [m.double().requires_grad_() for m in maps]
    ours = [m.detach().requires_grad_() for m in LAYOUTS[layout](maps)]
    value, fused = equations(exact), KFM()(ours)
    torch.testing.assert_close(fused.double(), value, rtol=1e-6, atol=1e-6)
    expected = torch.autograd.grad(value, exact, cotangent.double())
    found = torch.autograd.grad(fused, ours, cotangent)
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-6, atol=1e-6)


def test_channels_last_maps_stay_channels_last():
    maps = [
        m.to(memory_format=torch.channels_last).requires_grad_() for m in maps_of(2, (2, 8, 4, 4))
    ]
    fused = KFM()(maps)
    gradients = torch.autograd.grad(fused, maps, torch.ones_like(fused))
    for result in (fused, *gradients):
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_gradients_under_autocast():
    """Maps in bf16, as convolutions give them: both passes in float32, rounded once at the end."""
    cotangent = maps_of(1, seed=1)[0].bfloat16()

    def gradients(convert):
        maps = [convert(m.bfloat16()).requires_grad_() for m in maps_of(2)]
        with torch.autocast('cpu', dtype=torch.bfloat16):
            fused = KFM()(maps)
            return torch.autograd.grad(fused, maps, cotangent.to(fused.dtype))

    for half, full in zip(
        gradients(lambda m: m.detach()), gradients(lambda m: m.float()), strict=True
    ):
        assert half.dtype == torch.bfloat16
        assert torch.equal(half, full.bfloat16())


def test_maps_of_different_precision():
    a, b = maps_of(2)
    a, b = a.bfloat16().requires_grad_(), b.requires_grad_()
    fused = KFM()([a, b])
    fused.sum().backward()
    assert (fused.dtype, a.grad.dtype, b.grad.dtype) == (a.dtype, a.dtype, b.dtype)
    assert torch.equal(b.grad.bfloat16(), a.grad)


@pytest.mark.parametrize('n', [1, 2, 3])
def test_first_and_second_derivatives_in_float64(n):
    maps = [m.double().requires_grad_() for m in maps_of(n, (2, 2, 2, 3))]

    def fuse(*maps):
        return KFM()(maps)

    assert fuse(*maps).dtype == torch.float64
    assert torch.autograd.gradcheck(fuse, maps)
    assert torch.autograd.gradgradcheck(fuse, maps)


@pytest.mark.parametrize('n', [1, 2, 3])
def test_only_the_maps_are_kept_for_the_backward_pass(n):
    """They are the outputs of layers that keep them too, so the fusion costs no memory."""
    maps = [m.requires_grad_() for m in maps_of(n)]
    kept = set()

    def pack(tensor):
        kept.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        fused = KFM()(maps)
    assert fused.requires_grad
    assert kept == {m.data_ptr() for m in maps}


@pytest.mark.parametrize('batched', ['first', 'second', 'both'])
def test_function_transforms(batched):
    """Gradients of every image of a stack, at once and one after the other."""
    a, b = maps_of(2, (5, 1, 2, 3, 3))
    dims = (None if batched == 'second' else 0, None if batched == 'first' else 0)
    a, b = a if dims[0] == 0 else a[0], b if dims[1] == 0 else b[0]

    def loss(a, b):
        return KFM()([a, b]).square().sum()

    found = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=dims)(a, b)
    for index in range(5):
        one = [m if dim is None else m[index] for m, dim in zip((a, b), dims, strict=True)]
        one = [m.clone().requires_grad_() for m in one]
        expected = torch.autograd.grad(equations(one).square().sum(), one)
        for gradients, reference in zip(found, expected, strict=True):
            torch.testing.assert_close(gradients[index], reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('n', [1, 2])
def test_it_is_captured_as_one_graph(n):
    maps = [m.requires_grad_() for m in maps_of(n)]
    (cotangent,) = maps_of(1, seed=1)
    compiled = torch.compile(KFM(), backend='aot_eager', fullgraph=True)
    fused, expected = compiled(maps), KFM()(maps)
    torch.testing.assert_close(fused, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(fused, maps, cotangent),
        torch.autograd.grad(expected, maps, cotangent),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize('value', [0.0, 3.0, -2e4])
def test_constant_maps_are_weighed_alike_everywhere(value):
    """M = 0 leaves sigmoid(0.5) as mask, and no gradient through it."""
    maps = [torch.full((1, 2, 3, 3), value, requires_grad=True) for _ in range(2)]
    fused = KFM()(maps)
    fused.sum().backward()
    mask = 1 / (1 + math.exp(-0.5))
    torch.testing.assert_close(fused, torch.full_like(fused, mask * value))
    torch.testing.assert_close(maps[0].grad, torch.full_like(fused, mask / 2))


def test_a_single_spike_stays_finite():
    spike = torch.zeros(1, 1, 8, 8)
    spike[..., 3, 3] = 1e6
    spike.requires_grad_()
    fused = KFM()([spike])
    fused.sum().backward()
    # Of one value S among 64: v = S^2 / 64 and M = (63/64)^2 S^2, so M / 4v = 63^2 / (4 * 64).
    expected = 1e6 / (1 + math.exp(-(63**2 / (4 * 64) + 0.5)))
    torch.testing.assert_close(fused[0, 0, 3, 3].item(), expected, rtol=1e-6, atol=0)
    assert torch.isfinite(spike.grad).all()


@pytest.mark.parametrize(
    ('maps', 'sentence'),
    [
        ([], 'maps must be a non-empty list'),
        (torch.zeros(2, 3, 4, 4), 'maps must be a non-empty list'),
        ([torch.zeros(1, 2, 1, 1)], r'size 1x1 .* H\*W-1.*fuse=.none.'),
        ([torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 3)], r'one shape .*\(1, 2, 4, 3\)'),
        ([torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4)], r'one shape .*\(1, 3, 4, 4\)'),
        ([torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 4, 4)], r'one shape .*\(2, 2, 4, 4\)'),
        ([torch.zeros(2, 4, 4)], r'\(N, C, H, W\)'),
    ],
)
def test_refused_maps_are_named(maps, sentence):
    with pytest.raises(ValueError, match=f'KFM: .*{sentence}'):
        KFM()(maps)


@pytest.mark.parametrize('eps', [0, -1e-4, float('nan')])
def test_refused_eps_is_named(eps):
    with pytest.raises(ValueError, match=f'eps={eps} must be positive'):
        KFM(eps=eps)
