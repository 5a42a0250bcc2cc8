// Build the page.

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
buildSection('cost', costContent);
buildSection('differences', differencesContent);
buildRanking();
buildSection('classes', classesContent);
buildSection('errors', errorsContent);
buildSection('calibration', calibrationContent);
buildSection('training', trainingContent);
buildSection('erf', receptiveFieldContent);
buildSection('invariance', invarianceContent);
buildSection('robustness', robustnessContent);
buildSection('pictures', picturesContent);
choose(oneOfEachMixer(DATA.runs.filter((run) => run.selected)));
followTheme();
loadPlotly();
