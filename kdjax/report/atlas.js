'use strict';
(() => {
  const field = (id) => document.getElementById(id);
  const [search, family, status, shown] = ['search', 'family', 'status', 'shown'].map(field);
  const fold = (text) => text.toLowerCase().normalize('NFKD').replace(/\s+/g, ' ');
  const rows = [...document.querySelectorAll('#rows > li')].map((row) => ({
    row, text: fold(row.textContent), family: row.dataset.family, status: row.dataset.status.split(' '),
  }));

  const filter = () => {
    const words = fold(search.value).split(' ').filter(Boolean);
    let count = 0;
    for (const { row, text, family: f, status: s } of rows) {
      const keep = words.every((w) => text.includes(w)) && (!family.value || f === family.value)
        && (!status.value || s.includes(status.value));
      row.hidden = !keep;
      count += keep;
    }
    shown.textContent = count === rows.length ? `${count} systems` : `${count} of ${rows.length} systems`;
  };

  const remember = () => {
    const state = new URLSearchParams();
    for (const f of [search, family, status]) if (f.value) state.set(f.id, f.value);
    try { history.replaceState(null, '', `#${state}`); } catch { /* some browsers refuse it for local files */ }
  };

  const restore = () => {
    if (/^#s\d+$/.test(location.hash)) return;
    const state = new URLSearchParams(location.hash.slice(1));
    for (const f of [search, family, status]) f.value = state.get(f.id) ?? '';
    filter();
  };

  field('controls').addEventListener('submit', (event) => event.preventDefault());
  for (const f of [search, family, status]) f.addEventListener('input', () => { filter(); remember(); });
  addEventListener('hashchange', restore);
  restore();
})();
