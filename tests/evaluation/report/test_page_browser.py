"""The page in a real browser, opened from a file without a network."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.report.analyses_and_speeds import load_analyses
from evaluation.report.image_evidence import ImageFindings
from evaluation.report.ranking_section import ranking_section
from evaluation.report.report_page import Sources, build_page, page_data, render_page
from evaluation.report.reported_runs import Problems, gather_runs
from evaluation.results.published import load_published
from evaluation.results.reading import load_results
from evaluation.statistics.comparison import Uncertainty
from tests.commands import ROOT
from tests.evaluation.report.matrix import document, write_analyses, write_run

playwright = pytest.importorskip('playwright.sync_api')

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason='no Chromium or Chrome on PATH')

HOSTILE = '<img src=x onerror=alert(1)><b>bold</b>&lt;i&gt;'
PIXEL = (
    'data:image/png;base64,'
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
)
# Detectors in the order of the table, with their box AP. One was also evaluated during training.
DETECTORS = {'dcn_tiny': 9.5, 'halo_tiny epoch 12/12': 41.5, 'swin_tiny': 43.0, 'dcn_small': 45.0}


CALIBRATION = {
    'value': 12.34,
    'low': 10.0,
    'high': 15.0,
    'bins': [
        {'share': 0.75, 'confidence': 0.25, 'outcome': 0.125},
        {'share': 0.25, 'confidence': 0.875, 'outcome': 0.5},
    ],
}
# The first contestant is the worst from scratch and the best pretrained.
RANKED = ('dcn', HOSTILE, 'swin')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    for name, value in DETECTORS.items():
        backbone = name.split()[0]
        mixer, scale = backbone.split('_')
        write_run(folder / backbone, document('mask_rcnn', mixer, scale, value), lines=40)
        write_analyses(folder / backbone, f'{backbone}mask_rcnn')
    write_run(folder / 'early', document(mixer='halo', value=30.0, epoch=3))
    write_run(folder / 'upernet', document('upernet', 'swin', 'tiny', 50.0))
    return folder


@pytest.fixture(scope='module')
def file(folder):
    """Page of these runs, with predictions of the detectors on two images."""
    runs = gather_runs(load_results([folder]))
    group = runs[0].group
    images = [
        {
            'name': name,
            'truth': PIXEL,
            'size': [1, 1],
            'truthText': '1 object',
            'predictions': {
                run.key: {'image': PIXEL, 'text': f'{run.label} on {name}', 'correct': None}
                for run in runs
                if run.group == group
            },
        }
        for name in ('first.jpg', 'second.jpg')
    ]
    problems = Problems()
    sources = Sources(
        runs,
        load_published(),
        analyses=load_analyses([folder], problems),
        pictures={'groups': {group: {'images': images}}, 'missing': []},
        problems=problems,
    )
    return write(folder / 'report.html', render_page(page_data(sources, 'A title')))


@pytest.fixture(scope='module')
def alike_file(tmp_path_factory):
    """Page of 14 seeds of one model (3 from scratch), 3 baselines and 3 mixers unknown to the suite."""
    folder = tmp_path_factory.mktemp('alike')
    for number in range(14):
        start = {'initialization': 'scratch'} if number > 10 else {}
        run = folder / f'seed_{number:02}'
        content = document(value=40 + number / 10, classes=30, seed=number, **start)
        content['checkpoint'] = {**content['checkpoint'], 'weights_sha256': f'seed {number}'}
        write_run(run, content, lines=40)
        write_analyses(run, f'seed {number}')
    for backbone in ('resnet50', 'resnet101', 'vit'):
        write_run(folder / backbone, document(backbone=backbone, mixer=None, scale=None), lines=40)
    for mixer in ('focal', 'hornet', 'van'):
        write_run(folder / mixer, document(mixer=mixer, backbone=f'{mixer}_tiny'), lines=40)
    runs = gather_runs(load_results([folder]))
    evidence = ImageFindings(
        errors={run.key: {'box': {'missed': 1.0}} for run in runs},
        calibration={run.key: {'box_LaECE': CALIBRATION} for run in runs},
        differences=[difference(runs[0], runs[1], metric) for metric in ('box_AP', 'mask_AP')],
    )
    sources = Sources(runs, analyses=load_analyses([folder], Problems()), evidence=evidence)
    return write(folder / 'report.html', render_page(page_data(sources, 'x')))


def difference(one, other, metric):
    return {
        'group': one.group,
        'a': {'name': one.label, 'runs': [one.key]},
        'b': {'name': other.label, 'runs': [other.key]},
        'metric': metric,
        'difference': {'value': 0.02, 'low': -0.01, 'high': 0.05},
        'printed': {'value': '+0.02', 'low': '−0.01', 'high': '+0.05'},
        'toldApart': False,
        'sentence': f'{metric} in words',
    }


@pytest.fixture(scope='module')
def hostile_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hostile')
    for number, mixer in enumerate(('halo', HOSTILE)):
        content = document(mixer='halo', value=40.0 + number)
        content |= {'mixer': mixer, 'backbone': mixer, 'dataset': HOSTILE}
        content['config'] = {'name': HOSTILE, 'text': f'{HOSTILE}\n'}
        content['per_class'] = {'box_AP': {HOSTILE: 10.0 + number}}
        write_run(folder / str(number), content, lines=3)
    return write(folder / 'report.html', build_page([folder], [], HOSTILE, 0))


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


@pytest.fixture(scope='module')
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a file; the page object collects console messages, errors and requests."""
    contexts = []

    def visit(file, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.requests = [], []
        page.on('console', lambda message: page.complaints.append(message.text))
        page.on('pageerror', lambda error: page.complaints.append(str(error)))
        page.on('dialog', lambda dialog: page.complaints.append(dialog.message))
        page.on('request', lambda request: page.requests.append(request.url))
        page.goto(file.as_uri())
        page.locator('html[data-plots=ready]').wait_for(state='attached')
        return page

    yield visit
    for context in contexts:
        context.close()


def names(page):
    return page.locator('#table tbody tr:visible button.name').all_inner_texts()


def until(page, condition):
    """Wait until a condition holds, up to 20 seconds."""
    for _ in range(200):
        if condition():
            return True
        page.wait_for_timeout(100)
    return False


def all_drawn(page):
    return page.locator('.js-plotly-plot').count() == page.locator('.chart').count()


def width_of(page):
    return page.evaluate('document.documentElement.scrollWidth')


def scroll_through(page):
    """Scroll through the page so that all plots are drawn."""
    for y in range(0, page.evaluate('document.documentElement.scrollHeight'), 600):
        page.evaluate(f'scrollTo(0, {y})')
        page.wait_for_timeout(60)


def test_works_from_a_file_without_errors_or_network(visit, file):
    page = visit(file)
    scroll_through(page)
    assert until(page, lambda: all_drawn(page))
    assert page.locator('.chart').count() > 5
    assert page.complaints == []
    outside = [url for url in page.requests if not url.startswith(('data:', 'blob:'))]
    assert outside == [file.as_uri()]


def test_headings_sort_with_pointer_and_keyboard(visit, file):
    page = visit(file)
    by_value = sorted(DETECTORS, key=DETECTORS.get, reverse=True)
    heading = page.locator('th[data-column="box_AP"]')
    assert names(page) == [*DETECTORS]
    heading.locator('button').click()
    assert names(page) == by_value
    assert heading.get_attribute('aria-sort') == 'descending'
    heading.locator('button').press('Enter')
    assert names(page) == by_value[::-1]
    assert heading.get_attribute('aria-sort') == 'ascending'
    by_name = page.locator('th[data-column="label"]')
    by_name.locator('button').press('Space')
    assert names(page) == sorted(DETECTORS)
    assert heading.get_attribute('aria-sort') == 'none'


def test_filters(visit, file):
    page = visit(file)
    page.get_by_role('searchbox').fill('tiny dcn')
    assert names(page) == ['dcn_tiny']
    page.get_by_role('searchbox').fill('nothing like this')
    assert 'No run matches' in page.locator('#shown').inner_text()
    page.get_by_role('searchbox').fill('')
    toggle = page.locator('#filters').get_by_role('button', name='dcn')
    toggle.click()
    assert toggle.get_attribute('aria-pressed') == 'false'
    assert names(page) == ['halo_tiny epoch 12/12', 'swin_tiny']
    toggle.click()
    page.get_by_label('1 earlier or older evaluations').check()
    assert len(names(page)) == len(DETECTORS) + 1
    page.get_by_label('Task').select_option('UperNet on ADE20K val')
    assert names(page) == ['swin_tiny']
    assert page.locator('th[data-column="box_AP"]').is_hidden()
    assert page.locator('th[data-column="mIoU"]').is_visible()
    page.get_by_label('Task').select_option('All tasks')
    assert len(names(page)) == len(DETECTORS) + 2
    assert page.complaints == []


def test_details_show_the_source_of_figures(visit, file, folder):
    page = visit(file)
    button = page.locator('#table').get_by_role('button', name='swin_tiny', exact=True)
    button.press('Enter')
    dialog = page.get_by_role('dialog')
    text = dialog.inner_text()
    result = folder / 'swin_tiny/20260101_120000/epoch_12/result.json'
    for fact in (str(result), 'a1' * 32, 'c3' * 20, '2.11.0', 'H100', '43', '12.5', 'erf.json'):
        assert fact in text
    dialog.locator('summary').click()
    assert "type='mask_rcnn'" in dialog.locator('pre').inner_text()
    page.keyboard.press('Escape')
    assert dialog.is_hidden()
    assert button.evaluate('element => element === document.activeElement')
    button.click()
    dialog.get_by_role('button', name='Close').click()
    assert dialog.is_hidden()


def test_selected_runs_are_compared(visit, file):
    page = visit(file)
    page.get_by_role('button', name='none', exact=True).click()
    assert 'Select runs' in page.locator('#classes').inner_text()
    page.get_by_label('compare dcn_small').check()
    assert page.locator('#classes .key li').all_inner_texts() == ['dcn_small']
    scroll_through(page)
    assert until(page, lambda: page.locator('#classes .trace.bars').count() == 2)
    assert page.locator('#erf figure').count() == 4
    page.get_by_role('button', name='all shown').click()
    assert page.locator('#erf figure').count() == 4 * len(DETECTORS)


def looks(page, selector, name):
    """Return an attribute of all traces in a section, by plot."""
    plots = f'#{selector} .js-plotly-plot'
    return page.locator(plots).evaluate_all(f'all => all.map(plot => plot.data.map(each => {name}))')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_similar_runs_look_different(visit, alike_file, scheme):
    page = visit(alike_file, color_scheme=scheme)
    page.get_by_role('button', name='all shown').click()
    marks = page.locator('#table .mark').evaluate_all('all => all.map(mark => mark.outerHTML)')
    assert len(marks) == len(set(marks)) == 20
    page.get_by_role('searchbox').fill('swin_tiny')
    scroll_through(page)
    assert until(page, lambda: all_drawn(page))
    (lines,) = looks(page, 'training', '[each.line.color, each.line.dash].join()')
    assert len(lines) == len(set(lines)) == 12
    pattern = '[each.marker.color, each.marker.pattern.shape, each.marker.pattern.bgcolor].join()'
    for bars in looks(page, 'classes', pattern):
        assert len(bars) == len(set(bars)) == 12
    # The key matches the plot.
    strokes = page.locator('#training .key .sample path').evaluate_all(
        'all => all.map(e => [e.getAttribute("stroke"), e.getAttribute("stroke-dasharray")].join())'
    )
    assert [each.replace('none', 'solid') for each in strokes] == lines


def test_unknown_mixers_have_different_colors(visit, alike_file):
    page = visit(alike_file)
    page.get_by_role('searchbox').fill('focal')
    assert names(page) == ['focal_tiny']
    page.get_by_role('searchbox').fill('')
    colors = [
        page.locator('#filters button', has_text=mixer).locator('.swatch').evaluate(
            'e => getComputedStyle(e).backgroundColor'
        )
        for mixer in ('focal', 'hornet', 'van', 'swin', 'baseline')
    ]  # fmt: skip
    assert len(set(colors)) == 5


@pytest.mark.parametrize(
    ('section', 'runs'),
    [('classes', 20), ('errors', 20), ('calibration', 20), ('training', 20), ('robustness', 14)],
)
def test_omitted_runs_are_mentioned(visit, alike_file, section, runs):
    page = visit(alike_file)
    page.get_by_role('button', name='all shown').click()
    place = page.locator(f'#{section}')
    assert place.locator('.problem').all_inner_texts() == [
        f'The first 12 of {runs} runs are drawn; select fewer, or filter.'
    ]
    assert place.locator('.key li').count() == 12
    page.get_by_role('searchbox').fill('seed_0')
    assert place.locator('.problem').count() == 0
    assert place.locator('.key li').count() == 10


def test_reliability_diagram(visit, alike_file):
    page = visit(alike_file)
    page.get_by_role('button', name='none', exact=True).click()
    page.get_by_label('compare focal_tiny').check()
    assert page.locator('#calibration td.number').all_inner_texts() == ['12.3 (10.0 to 15.0)']
    scroll_through(page)
    assert until(page, lambda: all_drawn(page))
    assert looks(page, 'calibration', '[each.x, each.y]') == [
        [[[0, 1], [0, 1]], [[0.25, 0.875], [0.125, 0.5]]]
    ]
    assert page.complaints == []


FOCUSED = '(e => [e.tagName, e.closest("section")?.id, e.previousElementSibling?.textContent, e.value])'


def test_choosing_by_keyboard_keeps_the_focus(visit, alike_file):
    page = visit(alike_file)
    page.get_by_role('button', name='all shown').click()
    chosen = []
    for index in range(page.locator('#explored select').count()):
        select = page.locator('#explored select').nth(index)
        options = select.locator('option').evaluate_all('all => all.map(option => option.value)')
        if len(options) == 1:
            continue
        before = select.evaluate(FOCUSED)
        select.focus()
        page.keyboard.press('ArrowDown')
        after = page.evaluate(f'{FOCUSED}(document.activeElement)')
        assert after[:3] == before[:3]
        assert after[3] == options[options.index(before[3]) + 1]
        chosen.append(before[1])
    assert sorted(chosen) == ['classes', 'classes', 'cost', 'cost', 'differences', 'training']
    box = page.locator('#classes').get_by_label('all 30 classes')
    box.press('Space')
    assert box.is_checked()
    assert box.evaluate('element => element === document.activeElement')
    assert page.complaints == []


def test_removed_button_leaves_the_focus_in_its_section(visit, file):
    page = visit(file)
    page.get_by_role('button', name='none', exact=True).click()
    page.locator('#erf').get_by_role('button').press('Enter')
    assert page.locator('#erf figure').count() > 0
    assert page.evaluate('document.activeElement.closest("section").id') == 'erf'


def published_families(page):
    """Return the families whose published figures the plot of accuracy against cost draws."""
    return page.evaluate(
        """() => {
          const place = document.querySelector('#cost .chart');
          place.scrollIntoView();
          const own = (place.data ?? []).filter((trace) => trace.legendgroup === 'published');
          return [...new Set(own.filter((trace) => !trace.showlegend).map((trace) => trace.name))];
        }"""
    )


def test_published_results_can_be_switched_off(visit, file):
    page = visit(file)
    families = {'unified', 'resnet', 'swin', 'internimage', 'vmamba', 'moganet', 'mlla'}
    shown = lambda: set(published_families(page)) - {'published'}  # noqa: E731
    assert until(page, lambda: shown() == families)
    group = page.locator('#cost [aria-label="Published results"]').first
    assert set(group.get_by_role('button').all_inner_texts()) == families
    button = group.get_by_role('button', name='vmamba', exact=True)
    button.press('Enter')
    assert until(page, lambda: shown() == families - {'vmamba'})
    assert button.get_attribute('aria-pressed') == 'false'
    assert button.evaluate('element => element === document.activeElement')
    group.get_by_label('published results').uncheck()
    assert until(page, lambda: not shown() and page.locator('#cost .chart .scatterlayer').count() > 0)
    assert group.get_by_role('button').count() == 0
    group.get_by_label('published results').check()
    assert until(page, lambda: shown() == families - {'vmamba'})
    # A hidden mixer or scale hides its published figures.
    page.locator('#filters').get_by_role('button', name='swin', exact=True).click()
    assert until(page, lambda: shown() == families - {'vmamba', 'swin'})
    assert page.complaints == []


def test_no_switches_without_published_results(visit, alike_file):
    page = visit(alike_file)
    assert page.locator('[aria-label="Published results"]').count() == 0


def test_differences_are_printed_as_in_their_sentences(visit, alike_file):
    page = visit(alike_file)
    page.get_by_role('button', name='all shown').click()
    cells = page.locator('#differences tbody td').all_inner_texts()
    assert cells == ['+0.02', '−0.01 to +0.05', 'box_AP in words']


@pytest.fixture(scope='module')
def ranking_file(tmp_path_factory):
    """Page of three detectors whose order from scratch is opposite to that of pretrained ones."""
    folder = tmp_path_factory.mktemp('ranking')
    for start, sign in (('scratch', 1), ('released', -1)):
        for place, name in enumerate(RANKED):
            content = document(
                mixer=name, backbone=name, value=40.0 + sign * place, initialization=start
            )
            write_run(folder / f'{start}{place}', content)
    runs = gather_runs(load_results([folder]))
    random = np.random.default_rng(0)
    drawn = {
        run.key: Uncertainty(
            run.result.path,
            (run.result.data_sha256,),
            SimpleNamespace(images=np.arange(9), classes=np.arange(3)),
            {},
            {'box_AP': run.result.metrics['box_AP'] + 0.01 * random.standard_normal(200)},
        )
        for run in runs
    }
    problems = Problems()
    evidence = ImageFindings(ranking=ranking_section(runs, drawn, (), problems))
    assert problems.messages == []
    sources = Sources(runs, evidence=evidence)
    return write(folder / 'report.html', render_page(page_data(sources, 'x')))


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_ranking(visit, ranking_file, scheme):
    page = visit(ranking_file, color_scheme=scheme)
    section = page.locator('#ranking')
    section.scroll_into_view_if_needed()
    assert until(page, lambda: section.locator('.js-plotly-plot').count() == 1)
    ranks, taus = section.locator('table').all()
    assert ranks.locator('tbody th').all_inner_texts() == sorted(RANKED)
    cells = ranks.locator('tbody tr').first.locator('td').all_inner_texts()
    first = sorted(RANKED)[0]
    places = [len(RANKED) - RANKED.index(first), 1 + RANKED.index(first)]
    assert [cell.split()[0] for cell in cells] == [str(place) for place in places]
    assert taus.locator('td strong').all_inner_texts() == ['−1.00', '−1.00']
    assert section.locator('li', has_text='and worse in B').count() == 3
    assert HOSTILE in section.inner_text()
    assert page.locator('img').count() == 0
    assert page.complaints == []
    assert section.evaluate('each => each.scrollWidth <= innerWidth')


def test_browsing_images(visit, file):
    page = visit(file)
    viewer = page.get_by_role('group', name='Images of')
    position = viewer.locator('output')
    assert position.inner_text() == '1 of 2: first.jpg'
    viewer.get_by_role('button', name='next').click()
    assert position.inner_text() == '2 of 2: second.jpg'
    assert viewer.get_by_text('dcn_tiny on second.jpg').is_visible()
    viewer.focus()
    page.keyboard.press('ArrowRight')
    assert position.inner_text() == '1 of 2: first.jpg'
    page.keyboard.press('ArrowLeft')
    assert position.inner_text() == '2 of 2: second.jpg'
    page.keyboard.press('Home')
    assert position.inner_text() == '1 of 2: first.jpg'
    viewer.get_by_role('button', name='dcn_tiny').click()
    assert viewer.get_by_text('dcn_tiny on first.jpg').count() == 0
    assert viewer.get_by_text('swin_tiny on first.jpg').is_visible()


def test_first_tab_stop_skips_to_the_table(visit, file):
    page = visit(file)
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.className') == 'skip'
    page.keyboard.press('Enter')
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.closest("#runs") !== null')


def test_names_are_always_text(visit, hostile_file):
    page = visit(hostile_file)
    scroll_through(page)
    page.get_by_role('button', name='all shown').click()
    scroll_through(page)
    assert until(page, lambda: all_drawn(page))
    page.locator('#table button.name').nth(1).click()
    assert page.complaints == []
    assert page.locator('img[src=x], [onerror]').count() == 0
    assert page.locator('h1').inner_text() == HOSTILE
    assert HOSTILE in page.get_by_role('dialog').inner_text()
    # In plots too, Plotly must not interpret names as markup.
    ticks = page.locator('#classes .ytick text')
    assert ticks.first.text_content().startswith(HOSTILE[:20])
    assert page.locator('#explored svg a, #explored svg tspan[style*="bold"]').count() == 0


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_nothing_is_wider_than_the_screen(visit, file, scheme):
    page = visit(file, color_scheme=scheme, viewport={'width': 1366, 'height': 800})
    page.get_by_label('Task').select_option('All tasks')
    scroll_through(page)
    for width in (1366, 768, 360):
        page.set_viewport_size({'width': width, 'height': 800})
        assert until(page, lambda most=width: width_of(page) <= most)
    paper = rgb(page.evaluate('getComputedStyle(document.body).backgroundColor'))
    assert (paper[0] < 60) == (scheme == 'dark')
    # The plot is redrawn for each width; elements removed from the page have no color.
    inks = iter(lambda: ink_of_ticks(page), None)
    assert until(page, lambda: '(' in (ink := next(inks)) and (rgb(ink)[0] > 180) == (scheme == 'dark'))


def ink_of_ticks(page):
    return page.locator('#cost .xtick text').first.evaluate('e => getComputedStyle(e).fill')


def rgb(text):
    return [float(part) for part in text[text.index('(') + 1 : -1].split(',')]


def test_prints_on_white_without_controls(visit, file):
    page = visit(file, color_scheme='dark')
    page.emulate_media(media='print', color_scheme='dark')
    assert until(page, lambda: all_drawn(page))
    assert rgb(page.evaluate('getComputedStyle(document.body).backgroundColor'))[0] > 240
    assert page.locator('#filters').is_hidden()
    assert page.locator('#table').is_visible()
    # All plots were drawn in dark ink, although none was scrolled to.
    inks = page.locator('.xtick text').evaluate_all('all => all.map(e => getComputedStyle(e).fill)')
    assert inks
    assert all(rgb(ink)[0] < 80 for ink in inks)
    page.emulate_media(media='screen')
    content = page.pdf(format='A4')
    assert content.startswith(b'%PDF')
    assert content.count(b'/Type /Page') > 2


def test_marks_are_visible_on_paper(visit, alike_file):
    page = visit(alike_file, color_scheme='dark')
    mark = page.locator('#table tr', has_text='resnet50').locator('.mark path')
    assert mark.get_attribute('fill') == '#e4e8ee'
    page.emulate_media(media='print', color_scheme='dark')
    assert until(page, lambda: mark.get_attribute('fill') == '#000000')
    page.emulate_media(media='screen', color_scheme='dark')
    assert until(page, lambda: mark.get_attribute('fill') == '#e4e8ee')


def dominated(point, others):
    return any(
        other['cost'] <= point['cost']
        and other['value'] >= point['value']
        and (other['cost'] < point['cost'] or other['value'] > point['value'])
        for other in others
    )


POINTS = st.lists(
    st.fixed_dictionaries({'cost': st.integers(1, 6), 'value': st.integers(0, 6)}), max_size=12
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=POINTS)
def test_pareto_front_has_all_points_that_are_not_dominated(browser_page, points):
    source = (ROOT / 'evaluation/report/assets/pareto.js').read_text()
    front = browser_page.evaluate(f'points => {{ {source}\nreturn paretoFront(points); }}', points)
    naive = [point for point in points if not dominated(point, points)]
    key = lambda point: (point['cost'], point['value'])  # noqa: E731
    assert sorted(front, key=key) == sorted(naive, key=key)
    assert [point['cost'] for point in front] == sorted(point['cost'] for point in front)


MARKS = st.lists(
    st.fixed_dictionaries({'x': st.integers(0, 40), 'y': st.integers(0, 40)}), min_size=2, max_size=20
)
SIDES = {'left': (-1, 0), 'right': (1, 0), 'top': (0, -1), 'bottom': (0, 1)}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(marks=MARKS)
def test_names_cover_neither_marks_nor_each_other(browser_page, marks):
    width, height, reach, text_width, text_height = 800, 400, 7, 50, 12
    source = (ROOT / 'evaluation/report/assets/names.js').read_text()
    places = browser_page.evaluate(
        f"""marks => {{ {source}
          for (const mark of marks) mark.name = 'eightlet';
          const found = placesOfNames(marks, marks, {{ width: {width}, height: {height} }});
          return marks.map((mark) => found.get(mark) ?? null); }}""",
        marks,
    )
    assert any(places)
    columns = [[mark[axis] for mark in marks] for axis in 'xy']
    (left, right), (low, high) = ((min(column), max(column)) for column in columns)
    centers = [
        (
            width * (0.05 + 0.9 * (mark['x'] - left) / (right - left or 1)),
            height * (0.95 - 0.9 * (mark['y'] - low) / (high - low or 1)),
        )
        for mark in marks
    ]
    boxes = []
    for (x, y), place in zip(centers, places, strict=True):
        if place is None:
            continue
        across, down = (sum(SIDES.get(word, (0, 0))[axis] for word in place.split()) for axis in (0, 1))
        x += across * (text_width / 2 + reach)
        y += down * (text_height / 2 + reach)
        # A pixel less on each side than the name takes.
        boxes.append((x - 23, x + 23, y - 5, y + 5))
        assert x - 23 >= 0
        assert x + 23 <= width
    marks_boxes = [(x - 6, x + 6, y - 6, y + 6) for x, y in centers]
    for index, box in enumerate(boxes):
        for other in (*marks_boxes, *boxes[:index]):
            assert box[1] <= other[0] or other[1] <= box[0] or box[3] <= other[2] or other[3] <= box[2]


@pytest.fixture(scope='module')
def browser_page(browser):
    page = browser.new_page()
    yield page
    page.close()
