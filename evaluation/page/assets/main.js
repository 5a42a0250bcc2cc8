// Puts the parts together.

function buildSections() {
  const links = [...document.querySelectorAll('main section')].map((section) => {
    const title = section.querySelector('h2').textContent;
    return element('a', { href: `#${section.id}`, text: title });
  });
  byId('sections').append(...links);
}

byId('explored').hidden = false;
buildSections();
buildFilters();
buildTable();
buildDetails();
buildCost();
buildDifferences();
buildClasses();
buildErrors();
buildTraining();
buildReceptiveField();
buildInvariance();
buildRobustness();
buildPictures();
choose(oneOfEachMixer(DATA.runs.filter((run) => run.selected)));
followTheme();
loadPlotly();
