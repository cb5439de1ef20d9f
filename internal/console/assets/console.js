// Every deed works without this script. It only fetches parts of a page that
// change by themselves again, while somebody looks at them.
'use strict';
(() => {
  const policy = window.trustedTypes
    ? trustedTypes.createPolicy('console', {createHTML: text => text})
    : {createHTML: text => text};
  const parser = new DOMParser();
  const refresh = async () => {
    const regions = document.querySelectorAll('[data-live]');
    if (regions.length === 0 || document.hidden) return;
    if (document.activeElement && document.activeElement.closest('[data-live]')) return;
    let answer;
    try {
      answer = await fetch(location.href, {headers: {Accept: 'text/html'}, redirect: 'error'});
    } catch {
      return; // the next round tries again
    }
    if (!answer.ok) return;
    const page = parser.parseFromString(policy.createHTML(await answer.text()), 'text/html');
    for (const region of regions) {
      const fresh = page.getElementById(region.id);
      if (fresh && fresh.textContent !== region.textContent) region.replaceWith(document.adoptNode(fresh));
    }
  };
  const seconds = Number(document.querySelector('[data-live]')?.dataset.live || 0);
  if (seconds > 0) setInterval(refresh, seconds * 1000);
  // A form that was changed is not left by accident.
  for (const form of document.querySelectorAll('form[data-guard]')) {
    let changed = false;
    form.addEventListener('input', () => { changed = true; });
    form.addEventListener('submit', () => { changed = false; });
    addEventListener('beforeunload', event => { if (changed) event.preventDefault(); });
  }
})();
