"""Names of stages and heads, and what a reader gets to see."""

import pytest
import torch

from mmkdfuse.structures import (
    NetworkOutput,
    Step,
    TapKeys,
    Taps,
    head_named,
    stage_key,
    stage_number,
)

HEADS = ('branch1', 'branch2', 'main')


def resolved(num_stages=4, heads=HEADS, **taps):
    return Taps(**taps).resolved(num_stages, heads, 'MyLoss')


@pytest.mark.parametrize(
    ('names', 'numbers'),
    [
        ((), []),
        (2, [2]),
        ((3, 1), [3, 1]),
        (-1, [4]),
        ((-4, -2), [1, 3]),
        ('stage3', [3]),
        (('stage1', 2, -1), [1, 2, 4]),
        ([1, 2], [1, 2]),
        ('all', [1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize('at', ['', '.before_activation', '.after_activation'])
def test_stages_are_named_by_number_from_either_end_or_name(names, numbers, at):
    field = at.removeprefix('.') or 'stages'
    assert resolved(**{field: names}) == TapKeys(maps=tuple(f'stage{n}{at}' for n in numbers))


@pytest.mark.parametrize('kind', ['logits', 'features'])
@pytest.mark.parametrize(
    ('names', 'heads'),
    [
        ((), ()),
        ('main', ('main',)),
        ('branch2', ('branch2',)),
        ('last_branch', ('branch2',)),
        (('main', 'branch1'), ('main', 'branch1')),
        (['last_branch', 'main'], ('branch2', 'main')),
        ('all', HEADS),
    ],
)
def test_heads_are_named_one_by_one_or_all(kind, names, heads):
    assert resolved(**{kind: names}) == TapKeys(**{kind: heads})


def test_the_last_branch_is_that_of_every_network():
    assert resolved(heads=('branch1', 'main'), logits='last_branch').logits == ('branch1',)
    four = tuple(f'branch{number}' for number in range(1, 5))
    assert resolved(heads=(*four, 'main'), logits='last_branch').logits == ('branch4',)


def test_all_fields_come_together_and_other_maps_pass_as_they_are():
    found = resolved(
        stages=1, before_activation=-1, after_activation=2, features='main', logits='all', maps='x'
    )
    maps = ('stage1', 'stage4.before_activation', 'stage2.after_activation', 'x')
    assert found == TapKeys(maps, ('main',), HEADS)
    assert resolved(maps=('aligned1', 'aligned2')).maps == ('aligned1', 'aligned2')


def test_all_follows_the_network():
    assert resolved(2, stages='all').maps == ('stage1', 'stage2')
    assert resolved(5, stages=-1).maps == ('stage5',)
    assert resolved(heads=('main',), logits='all').logits == ('main',)


@pytest.mark.parametrize('stage', [0, 5, -5, 'stage0', 'stage5', 'layer2', 'stage', 'stage-1', 1.0])
@pytest.mark.parametrize('field', ['stages', 'before_activation', 'after_activation'])
def test_stages_that_do_not_exist_are_refused(field, stage):
    with pytest.raises(ValueError) as error:
        resolved(**{field: (stage,)})
    assert str(error.value) == (
        f'MyLoss: stage={stage!r} must be from 1 to 4, the stages of this network, or from -1, its '
        "last, to -4, or a name such as 'stage1'."
    )


@pytest.mark.parametrize('head', ['branch3', 'Main', '', 'all'])
def test_heads_that_do_not_exist_are_refused(head):
    with pytest.raises(ValueError) as error:
        resolved(logits=(head,))
    assert str(error.value) == (
        f'MyLoss: {head!r} is no head of this network, expected one of {HEADS}.'
    )


def test_a_network_without_branches_has_no_last_one():
    with pytest.raises(ValueError, match="MyLoss: 'last_branch' is no head of this network"):
        resolved(heads=('main',), features='last_branch')
    assert head_named('main', ('main',), 'MyLoss') == 'main'


def test_numbers_and_keys_of_stages():
    assert [stage_number(s, 3, 'x') for s in (1, 3, -1, -3, 'stage2')] == [1, 3, 3, 1, 2]
    assert stage_key(2, '') == 'stage2'


def test_a_union_names_everything_once_in_the_order_of_the_readers():
    first = TapKeys(('stage2', 'stage1'), ('main',), ('main', 'branch1'))
    second = TapKeys(('stage1', 'stage3'), (), ('branch2', 'main'))
    both = first | second
    assert both == TapKeys(
        ('stage2', 'stage1', 'stage3'), ('main',), ('main', 'branch1', 'branch2')
    )
    assert first | TapKeys() == TapKeys() | first == first
    assert first | first == first
    assert (second | first).maps == ('stage1', 'stage3', 'stage2')


@pytest.mark.parametrize('kind', ['maps', 'features', 'logits'])
def test_taps_of_nothing_are_false(kind):
    assert not TapKeys() and not resolved()
    assert TapKeys(**{kind: ('x',)})


@pytest.fixture
def output():
    maps = {
        'stage1': torch.full((2, 3, 4, 4), 1.0),
        'stage3': torch.full((2, 6, 1, 1), 3.0),
        'stage3.before_activation': torch.full((2, 6, 1, 1), -3.0),
        'stage1.after_activation': torch.full((2, 6, 1, 1), 1.5),
        'aligned1': torch.zeros(1),
    }
    features = {'main': torch.ones(2, 6)}
    logits = {'branch1': torch.zeros(2, 5), 'main': torch.ones(2, 5)}
    return NetworkOutput(3, maps, features, logits, 'MyLoss')


def test_an_output_is_read_by_the_same_names(output):
    assert output.stage(1) is output.stage('stage1') is output.stage(-3) is output.maps['stage1']
    assert output.stage(-1) is output.map('stage3')
    assert output.before_activation(-1) is output.maps['stage3.before_activation']
    assert output.after_activation('stage1') is output.maps['stage1.after_activation']
    assert output.stages == (output.stage(1), output.stage(3))
    assert output.logits is output.logits_of('main') and output.feature is output.feature_of('main')
    assert output.logits_of('branch1') is output.head_logits['branch1']


@pytest.mark.parametrize(
    ('read', 'what'),
    [
        (lambda o: o.stage(2), "reads the map 'stage2'"),
        (lambda o: o.stage('stage2'), "reads the map 'stage2'"),
        (lambda o: o.stage(-2), "reads the map 'stage2'"),
        (lambda o: o.before_activation(1), "reads the map 'stage1.before_activation'"),
        (lambda o: o.after_activation(-1), "reads the map 'stage3.after_activation'"),
        (lambda o: o.map('aligned2'), "reads the map 'aligned2'"),
        (lambda o: o.logits_of('branch2'), "reads the logits of head 'branch2'"),
        (lambda o: o.feature_of('branch1'), "reads the feature of head 'branch1'"),
    ],
)
def test_what_was_not_asked_for_is_refused_with_what_was(output, read, what):
    with pytest.raises(RuntimeError, match=f'^MyLoss {what}, which its `reads` do not') as error:
        read(output)
    there = {'map': 'stage1, stage3, ', 'log': 'branch1, main.', 'fea': 'main.'}[what[10:13]]
    assert there in str(error.value) and str(error.value).endswith('.')


def test_of_nothing_there_is_nothing():
    empty = NetworkOutput(3, {}, {}, {})
    assert empty.stages == ()
    for read in ('logits', 'feature'):
        with pytest.raises(RuntimeError, match='this part reads the .* they ask for none.'):
            getattr(empty, read)


@pytest.mark.parametrize('stage', [0, 4, 'stage4', 'x'])
def test_an_output_knows_how_many_stages_there_are(output, stage):
    with pytest.raises(ValueError, match=f'MyLoss: stage={stage!r} must be from 1 to 3'):
        output.stage(stage)


def test_a_reader_sees_what_its_taps_name_and_no_more(output):
    seen = output.seen_by(TapKeys(('stage3', 'aligned1'), (), ('main',)), 'Other')
    assert list(seen.maps) == ['stage3', 'aligned1'] and seen.stages == (output.stage(3),)
    assert (list(seen.head_features), list(seen.head_logits)) == ([], ['main'])
    assert seen.stage(-1) is output.stage(-1)
    with pytest.raises(RuntimeError, match="^Other reads the map 'stage1'"):
        seen.stage(1)
    with pytest.raises(RuntimeError, match="^Other reads the logits of head 'branch1'"):
        seen.logits_of('branch1')
    with pytest.raises(RuntimeError, match="^Other reads the feature of head 'main'"):
        assert seen.feature is None


def test_a_step_is_narrowed_for_student_and_teachers(output):
    images, labels = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    step = Step(images, labels, None, 3, 10, output, (output, output))
    taps = TapKeys(maps=('stage1',)), [TapKeys(logits=('main',)), TapKeys()]
    seen = step.seen_by(*taps, 'Other')
    assert (seen.images, seen.targets, seen.indices) == (images, labels, None)
    assert (seen.epoch, seen.max_epochs, seen.num_views) == (3, 10, 1)
    assert list(seen.student.maps) == ['stage1'] and not seen.student.head_logits
    first, second = seen.teachers
    assert list(first.head_logits) == ['main'] and not first.maps
    assert not (second.maps or second.head_logits or second.head_features)
    with pytest.raises(ValueError, match='zip'):
        step.seen_by(taps[0], taps[1][:1], 'Other')
