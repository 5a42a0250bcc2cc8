"""From folders of runs to a report."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.report.analyses import load_analyses
from evaluation.report.data import Sources, page_data
from evaluation.report.evidence import weigh
from evaluation.report.html import render_page
from evaluation.report.pictures import gather_pictures
from evaluation.report.problems import Problems
from evaluation.report.runs import gather_runs
from evaluation.report.speeds import load_speeds
from evaluation.results.published import Entry
from evaluation.results.reading import load_results
from evaluation.statistics.bootstrap import RESAMPLES

TITLE = 'Dense Mixer Bench'


def build_page(
    folders: Sequence[Path],
    published: Sequence[Entry],
    title: str = TITLE,
    images: int = 0,
    resamples: int = RESAMPLES,
) -> bytes:
    """A report of all that is found at any depth below some folders.

    Args:
        folders: work dirs.
        published: figures to compare with.
        title: of the page.
        images: how many images each model is run on to show its predictions; 0 for none.
        resamples: of the images of evaluations that have evidence, for intervals; 0 for none.

    Raises:
        UserError: a folder is missing, none holds a result, or a result is malformed. What else is
            malformed is left out, with a warning and a line on the page.
    """
    problems = Problems()
    runs = gather_runs(load_results(folders))
    sources = Sources(
        runs=runs,
        published=published,
        speeds=load_speeds(folders, problems),
        analyses=load_analyses(folders, problems),
        pictures=gather_pictures(runs, images, problems) if images else None,
        evidence=weigh(runs, resamples, problems),
        problems=problems,
    )
    return render_page(page_data(sources, title))
